"""Small locks to test with: values, and real wheels that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import wheels
from torchlock.digest import Digest
from torchlock.errors import LockError
from torchlock.locks import pylock, render
from torchlock.locks.lock import FILE, Artifact, Lock, folder
from torchlock.locks.summary import Summary

if TYPE_CHECKING:
    from pathlib import Path

NUMPY = Artifact(
    project="numpy",
    version="1.26.4",
    filename="numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256=Digest.of(b"numpy"),
    size=18_251_754,
    upload_time="2024-02-05T23:58:36.155264Z",
    index="pypi",
)
TORCH = Artifact(
    project="torch",
    version="2.2.2+cpu",
    filename="torch-2.2.2+cpu-cp311-cp311-linux_x86_64.whl",
    sha256=Digest.of(b"torch"),
    size=None,
    upload_time=None,
    index="pytorch-cpu",
)
FACTS = Summary(glibc="2.17")


def make(**changes: Any) -> Lock:
    """Return a lock of torch 2.2 for CPU on linux-64, with other values where they are given."""
    lock = Lock(
        profile="torch2.2-cpu",
        platform="linux-64",
        python="3.11",
        profile_digest=Digest.of(b"profile"),
        snapshot_digest=Digest.of(b"snapshot"),
        resolvers=("uv", "pip-tools"),
        artifacts=(TORCH, NUMPY),
        facts=FACTS,
    )
    return replace(lock, **changes)


def write(lock: Lock, root: Path) -> Path:
    """Write a lock and its rendering where they belong under `root`, and return their folder."""
    place = folder(root, lock.profile, lock.platform)
    place.mkdir(parents=True, exist_ok=True)
    (place / FILE).write_bytes(lock.to_toml())
    (place / render.REQUIREMENTS).write_bytes(render.requirements(lock))
    return place


def real(root: Path, **changes: Any) -> Path:
    """Write a lock of two wheels that exist, under `wheels/` beside it, and return its folder."""
    target = folder(root, "torch2.2-cpu", changes.get("platform", "linux-64")) / "wheels"
    artifacts = []
    for name, version, tag, index in (
        ("alpha", "1.0", "py3-none-any", "pypi"),
        ("torch", "2.2.2+cpu", "py3-none-any", "pytorch-cpu"),
    ):
        path = wheels.make(target, {f"{name}/__init__.py": "value = 1\n"}, name=name, version=version, tag=tag)
        artifact = Artifact(
            project=name,
            version=version,
            filename=path.name,
            sha256=Digest.of_file(path),
            size=path.stat().st_size if index == "pypi" else None,
            upload_time="2024-02-05T23:58:36.155264Z" if index == "pypi" else None,
            index=index,
        )
        artifacts.append(artifact)
    return write(make(artifacts=tuple(artifacts), **changes), root)


WHERE = "lockfiles/torch2.2-cpu/linux-64/pylock.toml"
TEXT = make().to_toml().decode()


def refused(text: str | bytes) -> str:
    """Return the message with which a lock file is refused."""
    with pytest.raises(LockError) as caught:
        Lock.from_toml(text.encode() if isinstance(text, str) else text, WHERE)
    assert caught.value.status == 1
    return str(caught.value)


def document() -> dict[str, Any]:
    """Return the golden text as a document."""
    return dict(pylock.document(TEXT.encode(), WHERE))


def edited(old: str, new: str, count: int = 1) -> str:
    """Return the golden text with one place changed; fail where that place is not there."""
    assert old in TEXT
    return TEXT.replace(old, new, count)
