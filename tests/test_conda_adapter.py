"""The executable that conda-lock calls, called as conda-lock does: a process of its own, on a small channel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from recorded import WORLD, call, record, subdir
from torchlock.conda import adapter

if TYPE_CHECKING:
    from pathlib import Path

CREATE = ("create", "--prefix", "/nowhere/prefix", "--dry-run", "--json", "--override-channels", "--channel", "main")
VIRTUAL = {"CONDA_OVERRIDE_GLIBC": "2.28", "CONDA_OVERRIDE_CUDA": "", "CONDA_OVERRIDE_LINUX": "5.10"}


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """Return the executable, beside the channels that it is told of by `environment`."""
    recorded.recorded(tmp_path).publish(tmp_path / "channels", ["main"], ["linux-64"], loose=False)
    return adapter.launcher(tmp_path)


def environment(conda: Path, **more: str) -> dict[str, str]:
    """Return what conda-lock sets."""
    alias = (conda.parent / "channels").as_uri()
    return {"CONDA_SUBDIR": "linux-64", "CONDA_CHANNEL_ALIAS": alias, **VIRTUAL, **more}


def chosen(answer: Any) -> dict[str, str]:
    """Return name -> version and build of what an answer fetches."""
    return {item["name"]: f"{item['version']} {item['build']}" for item in answer["actions"]["FETCH"]}


def test_name(conda: Path) -> None:
    """The kind of a conda is told by its file name, and this one is neither mamba nor micromamba."""
    assert not conda.name.endswith("micromamba")
    assert not conda.name.startswith("mamba")
    assert call(conda, "--version", environment={}) == ("conda 24.11.0\n", 0)


def test_create(conda: Path) -> None:
    """A fresh solve answers every package, with its real address and both hashes, in FETCH and LINK."""
    answer, status = call(
        conda, *CREATE, "python 3.11.*", "pytorch 2.4.* cpu*", "numpy 2.1.3", environment=environment(conda)
    )
    assert status == 0
    assert chosen(answer) == {
        "libblas": "3.11.0 2_mkl",
        "libtorch": "2.4.1 cpu_0",
        "numpy": "2.1.3 py311_0",
        "python": "3.11.9 h1_0",
        "pytorch": "2.4.1 cpu_py311_0",
    }
    blas, wanted = answer["actions"]["FETCH"][0], WORLD[6]
    assert blas["url"] == f"https://conda.anaconda.org/main/linux-64/{wanted.filename}"
    assert (blas["sha256"], blas["md5"], blas["fn"]) == (wanted.sha256.hex, wanted.value["md5"], wanted.filename)
    assert blas["depends"] == []
    assert [item["name"] for item in answer["actions"]["LINK"]] == sorted(chosen(answer))
    assert "sha256" not in answer["actions"]["LINK"][0]


def test_virtual(conda: Path) -> None:
    """Virtual packages come from the settings or from conda-lock's channel of them, and never from this machine."""
    cuda = (*CREATE, "pytorch 2.4.1 cuda120*")
    answer, status = call(conda, *cuda, environment=environment(conda))
    assert status == 1
    assert "__cuda" in answer["message"]
    answer, status = call(conda, *cuda, environment=environment(conda, CONDA_OVERRIDE_CUDA="12.1"))
    assert (status, chosen(answer)["libtorch"]) == (0, "2.4.1 cuda120_0")
    fake = conda.parent / "fake-repodata"
    for name in ("linux-64", "noarch"):
        (fake / name).mkdir(parents=True)
        packages = (
            {}
            if name == "noarch"
            else {
                f"{item}.tar.bz2": {
                    "name": item,
                    "version": "12.1",
                    "build": "0",
                    "build_number": 0,
                    "package_type": "virtual_system",
                }
                for item in ("__cuda", "__glibc")
            }
        )
        (fake / name / "repodata.json").write_text(json.dumps({"info": {"subdir": name}, "packages": packages}))
    bare = {key: value for key, value in environment(conda).items() if "OVERRIDE" not in key}
    answer, status = call(conda, *CREATE, "--channel", fake.as_uri(), "pytorch 2.4.1 cuda120*", environment=bare)
    assert (status, chosen(answer)["libtorch"]) == (0, "2.4.1 cuda120_0")
    assert not any(name.startswith("__") for name in chosen(answer))


def test_unsatisfiable(conda: Path) -> None:
    """What cannot be solved ends with 1 and the solver's own words."""
    answer, status = call(conda, *CREATE, "numpy 9.9", environment=environment(conda))
    assert status == 1
    assert answer["message"] == "Cannot solve the request because of: No candidates were found for numpy ==9.9.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--json"), "torchlock-conda: create without --dry-run or --file"),
        (("remove", "--json"), "torchlock-conda: no command 'remove'"),
        (("create", "--dry-run", "--frobnicate"), "torchlock-conda: unrecognized arguments: --frobnicate"),
        ((*CREATE[:-1], "other", "numpy"), "the channel other: is not recorded"),
        (
            (*CREATE[:-1], "https://host.test/main", "numpy"),
            "the channel https://host.test/main: found https://host.test/main, which is no folder",
        ),
        ((*CREATE, "numpy 1 2 3"), "the spec: found 'numpy 1 2 3'"),
    ],
)
def test_refused(conda: Path, arguments: tuple[str, ...], message: str) -> None:
    """What conda-lock does not ask is refused, and so is a channel that is not on this disk."""
    answer, status = call(conda, *arguments, environment=environment(conda))
    assert status == 1
    assert answer["message"].startswith(message)


def test_told(conda: Path) -> None:
    """`info` and `config` say where packages lie: where conda-lock said so."""
    answer, status = call(conda, "info", "--json", environment=environment(conda, CONDA_PKGS_DIRS="/x/pkgs"))
    assert (answer["pkgs_dirs"], answer["platform"], status) == (["/x/pkgs"], "linux-64", 0)
    answer, _ = call(conda, "config", "--json", "list", "pkgs_dirs", environment={"CONDA_PKGS_DIRS": "/x/pkgs"})
    assert answer["pkgs_dirs"] == ["/x/pkgs"]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Return a prefix in which conda-lock says what is installed: not the newest of anything."""
    meta = tmp_path / "prefix" / "conda-meta"
    meta.mkdir(parents=True)
    installed = ("python 3.11.9 h1_0", "numpy 2.1.2 py311_0", "libblas 3.9.0 1_mkl")
    for text in installed:
        item = record(text)
        entry = {key: item.value[key] for key in ("name", "version", "build", "md5", "sha256")}
        channel = "https://conda.anaconda.org/main/linux-64"
        value = {**entry, "channel": channel, "fn": item.filename, "subdir": "linux-64", "build_number": 0}
        (meta / f"{item.name}.json").write_text(json.dumps(value))
    return meta.parent


def test_list(conda: Path, prefix: Path) -> None:
    """`list` gives what is installed, as conda lists it."""
    answer, status = call(conda, "list", "--no-pip", "-p", str(prefix), "--json", environment=environment(conda))
    assert status == 0
    assert [(item["name"], item["version"], item["dist_name"]) for item in answer] == [
        ("libblas", "3.9.0", "libblas-3.9.0-1_mkl"),
        ("numpy", "2.1.2", "numpy-2.1.2-py311_0"),
        ("python", "3.11.9", "python-3.11.9-h1_0"),
    ]


def test_update(conda: Path, prefix: Path) -> None:
    """An update moves the named package and no other: newer ones of the rest stay where they are."""
    rest = ("--override-channels", "--channel", "main", "-p", str(prefix), "--json", "--dry-run")
    answer, status = call(conda, "install", *rest, "numpy 2.*", environment=environment(conda))
    assert (status, chosen(answer)) == (0, {"numpy": "2.1.3 py311_0"})
    assert [item["name"] for item in answer["actions"]["LINK"]] == ["numpy"]
    answer, _ = call(conda, "update", *rest, "python 3.*", environment=environment(conda))
    assert answer["actions"] == {"FETCH": [], "LINK": []}


def test_isolated(conda: Path, tmp_path: Path) -> None:
    """The user's Python settings and modules do not reach it."""
    (tmp_path / "rattler.py").write_text("raise SystemExit('not this one')")
    more = environment(conda, PYTHONPATH=str(tmp_path), PYTHONSTARTUP="/nowhere", PYTHONWARNINGS="error")
    answer, status = call(conda, *CREATE, "numpy 2.1.3 py311_0", environment=more)
    assert (status, chosen(answer)["numpy"]) == (0, "2.1.3 py311_0")


def test_strict(tmp_path: Path) -> None:
    """A channel of lower priority is not looked at for a name that a higher one has, unless the spec names it."""
    first, second = record("numpy 1.26.4 0"), record("numpy 2.1.3 0")
    base = "https://conda.anaconda.org/"
    channels = recorded.recorded(tmp_path, subdir([first], "first"), subdir([second], "second"))
    channels.publish(tmp_path / "channels", ["first", "second"], ["linux-64"], loose=False)
    conda = adapter.launcher(tmp_path)
    both = ("--channel", "first", "--channel", "second")
    answer, _ = call(conda, *CREATE[:-2], *both, "numpy", environment=environment(conda))
    assert [item["url"] for item in answer["actions"]["FETCH"]] == [f"{base}first/linux-64/{first.filename}"]
    answer, _ = call(conda, *CREATE[:-2], *both, "second::numpy", environment=environment(conda))
    assert [item["version"] for item in answer["actions"]["FETCH"]] == ["2.1.3"]
