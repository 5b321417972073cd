"""An image's config: what a container runs, as whom, in which environment, and what the image says in labels."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from torchlock.images import application
from torchlock.layers import tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torchlock.locks.lock import Lock
    from torchlock.locks.summary import Summary

USER = "1000:1000"
TITLE = "org.opencontainers.image"
OWN = "dev.torchlock"
CREATED = datetime.fromtimestamp(tar.EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What of a base's config says how its own programs are started is not an image's that is made on it.
_INHERITED = ("StopSignal", "Volumes", "ExposedPorts")


def config(lock: Lock, inherited: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the member `config`: what a container of this image gets; `inherited` is that of the base."""
    kept = {key: inherited[key] for key in _INHERITED if inherited.get(key)}
    return {
        **kept,
        "User": USER,
        "Env": [f"{name}={value}" for name, value in environment(lock.facts, inherited).items()],
        "Entrypoint": [application.PYTHON, "-IS", application.ENTRY],
        "WorkingDir": f"/{application.HOME}",
        "Labels": {**(inherited.get("Labels") or {}), **labels},
    }


def environment(facts: Summary, inherited: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables in their order: the base's first, with our own in their places or after them.

    HOME, USER and LOGNAME stand for the line of /etc/passwd that a numeric user lacks (getpass and torch's compiler
    ask for it); PYTHONUNBUFFERED keeps the last lines of a container that is killed.
    """
    found = dict(item.partition("=")[::2] for item in inherited.get("Env") or ())
    found["PATH"] = f"/{application.ENVIRONMENT}/bin:{found.get('PATH') or _PATH}"
    found |= {"HOME": f"/{application.HOME}", "USER": "user", "LOGNAME": "user"}
    found |= {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    if facts.cuda is not None:
        found |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
        found["NVIDIA_REQUIRE_CUDA"] = requirement(facts.cuda, facts.driver)
    return found


def requirement(cuda: str, driver: str | None) -> str:
    """Return what NVIDIA's runtimes hold against the host before a container starts; a comma means "and".

    A build runs on any driver of its major CUDA release (minor-version compatibility). libnvidia-container compares
    both numbers; the newer toolkit, where it reads the variable at all, leaves `driver` out, and wants versions without
    leading zeros for `cuda`.
    """
    major = f"cuda>={cuda.partition('.')[0]}.0"
    return f"{major},driver>={driver}" if driver else major


def tag(lock: Lock, variant: str) -> str:
    """Return the tag by which people may call the image, such as `2.2.2-1.26.4-cuda`; nothing trusts it."""
    versions = {artifact.project: artifact.version.partition("+")[0] for artifact in lock.artifacts}
    return "-".join(item for item in (versions.get("torch"), versions.get("numpy"), variant) if item)


def labels(facts: Mapping[str, Any], *, tag: str, base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the labels: those of OCI's annotations, and our own under `dev.torchlock`."""
    build = f"CUDA {facts['cuda']}" if facts["cuda"] else "the CPU"
    found = {
        f"{TITLE}.title": facts["profile"],
        f"{TITLE}.description": f"torch {facts['torch']} for {build}, numpy {facts['numpy']}, Python {facts['python']}",
        f"{TITLE}.version": tag,
        f"{TITLE}.licenses": facts["licences"],
        f"{TITLE}.created": CREATED,
        **{f"{TITLE}.base.{key}": value for key, value in base.items()},
        **{f"{OWN}.{key}": facts[key] for key in ("lock", "profile", "platform", "torch", "numpy", "cuda", "python")},
        **{f"{OWN}.{key}": value for key, value in own.items()},
    }
    return {key: value for key, value in found.items() if value}


def history(base: int, rows: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return one entry for each layer: those of the base, counted, then the others by name and what they hold."""
    below = [("the base", f"layer {number + 1} of {base}") for number in range(base)]
    above = [(f"torchlock: {name}", text) for name, text in rows]
    return [{"created": CREATED, "created_by": by, "comment": text} for by, text in below + above]
