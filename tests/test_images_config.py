"""What a container gets from an image: user, variables, entry point, labels; and what NVIDIA's runtime is told."""

from __future__ import annotations

import pytest

import locks
from torchlock.images import application, config
from torchlock.locks.summary import Summary

CUDA = Summary(architectures=("sm_80",), cuda="12.1", driver="525.60.13")


def test_a_container_of_a_cpu_image_runs_so() -> None:
    """A numeric user with a home and a name, the environment first on PATH, nothing of the base's commands."""
    inherited = {
        "Env": ["PATH=/usr/local/bin:/usr/bin", "LANG=C", "GPG_KEY=A=B"],
        "Cmd": ["python3"],
        "Entrypoint": ["/bin/sh"],
        "User": "root",
        "WorkingDir": "/root",
        "Labels": {"maker": "someone", "dev.torchlock.lock": "old"},
    }
    assert config.config(locks.make(), inherited, {"dev.torchlock.lock": "new"}) == {
        "User": "1000:1000",
        "Env": [
            "PATH=/opt/torchlock/env/bin:/usr/local/bin:/usr/bin",
            "LANG=C.UTF-8",
            "GPG_KEY=A=B",
            "HOME=/home/user",
            "USER=user",
            "LOGNAME=user",
            "PYTHONUNBUFFERED=1",
        ],
        "Entrypoint": ["/opt/torchlock/env/bin/python", "-IS", "/opt/torchlock/bin/container/__main__.py"],
        "WorkingDir": "/home/user",
        "Labels": {"maker": "someone", "dev.torchlock.lock": "new"},
    }


def test_a_base_without_a_path_gets_dockers() -> None:
    """The default of engines follows the environment's own folder."""
    found = config.environment(Summary(), {})
    assert found["PATH"] == ("/opt/torchlock/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert not [name for name in found if name.startswith("NVIDIA")]


def test_a_cuda_image_asks_for_the_gpu_and_a_driver() -> None:
    """All devices, compute and utility, and the oldest driver of the major CUDA release."""
    found = config.environment(CUDA, {})
    assert {key: value for key, value in found.items() if key.startswith("NVIDIA")} == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.0,driver>=525.60.13",
    }


def met(expression: str, cuda: str, driver: str) -> bool:
    """Judge an expression as libnvidia-container does: a space is "or", a comma is "and", numbers compare by parts."""

    def numbers(text: str) -> tuple[int, ...]:
        assert set(text) <= set("0123456789.")
        return tuple(int(part) for part in text.split("."))

    def holds(rule: str) -> bool:
        name, operator, value = rule.partition(">=")
        assert operator
        return numbers({"cuda": cuda, "driver": driver}[name]) >= numbers(value)

    return any(all(holds(rule) for rule in term.split(",")) for term in expression.split(" "))


@pytest.mark.parametrize(
    ("cuda", "driver", "good"),
    [
        ("12.0", "525.60.13", True),
        ("12.4", "550.54.14", True),
        ("13.0", "580.65.06", True),
        ("12.0", "525.53", False),
        ("11.8", "520.61.05", False),
    ],
)
def test_the_requirement_is_minor_version_compatibility(cuda: str, driver: str, good: bool) -> None:
    """A build for CUDA 12.1 runs where the driver speaks any 12.x, and not below."""
    assert met(config.requirement("12.1", "525.60.13"), cuda, driver) is good


def test_without_a_known_driver_only_cuda_is_required() -> None:
    """The rules name no driver for some releases."""
    assert config.requirement("13.0", None) == "cuda>=13.0"


def test_the_tag_is_made_of_public_versions() -> None:
    """`2.2.2+cpu` holds a sign that no tag may."""
    assert config.tag(locks.make(), "cpu") == "2.2.2-1.26.4-cpu"


def test_labels_are_ocis_and_our_own() -> None:
    """What is not there has no label; the time is the epoch of every file."""
    facts = application.facts(
        locks.make(), "cpu", "3.11.2", {"name": "bookworm", "digest": "x"}, {"numpy": "ISC", "torch": "MIT"}
    )
    assert config.labels(facts, tag="2.2.2-1.26.4-cpu", base={"name": "bookworm"}, own={"inputs": "sha256:1"}) == {
        "org.opencontainers.image.title": "torch2.2-cpu",
        "org.opencontainers.image.description": "torch 2.2.2+cpu for the CPU, numpy 1.26.4, Python 3.11.2",
        "org.opencontainers.image.version": "2.2.2-1.26.4-cpu",
        "org.opencontainers.image.licenses": "ISC AND MIT",
        "org.opencontainers.image.created": "1980-01-01T00:00:00Z",
        "org.opencontainers.image.base.name": "bookworm",
        "dev.torchlock.lock": str(locks.make().digest()),
        "dev.torchlock.profile": "torch2.2-cpu",
        "dev.torchlock.platform": "linux-64",
        "dev.torchlock.torch": "2.2.2+cpu",
        "dev.torchlock.numpy": "1.26.4",
        "dev.torchlock.python": "3.11.2",
        "dev.torchlock.inputs": "sha256:1",
    }


def test_history_names_each_layer() -> None:
    """The base's are counted, the others named with what they hold."""
    assert config.history(1, [("numpy", "numpy 1.26.4")]) == [
        {"created": "1980-01-01T00:00:00Z", "created_by": "the base", "comment": "layer 1 of 1"},
        {"created": "1980-01-01T00:00:00Z", "created_by": "torchlock: numpy", "comment": "numpy 1.26.4"},
    ]
