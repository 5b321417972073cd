"""A lock (PEP 751) held against what is installed: versions, completeness, and torch's build."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks.result import Failed, expect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What tools put into an environment by themselves.
INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv"})


class LockUnreadable(Exception):  # noqa: N818 - a refusal of the input
    """The file that was named is not a lock that can be read here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedSet:
    """The packages of a lock: normalised name to version; `digest` is of the file's bytes."""

    digest: str
    versions: Mapping[str, str]


def normal(name: str) -> str:
    """Return a project's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _toml(data: bytes) -> dict[str, Any]:
    for name in ("tomllib", "tomli"):  # the first is in Python 3.11 and later
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            found: dict[str, Any] = module.loads(data.decode("utf-8"))
        except ValueError as error:
            raise LockUnreadable(f"not TOML in UTF-8: {error}") from error
        return found
    raise LockUnreadable("reading a lock needs Python 3.11, or the package tomli")


def read(path: Path) -> LockedSet:
    """Read the packages of a `pylock.toml`; raise LockUnreadable where it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LockUnreadable(error.strerror or str(error)) from error
    packages = _toml(data).get("packages")
    if not isinstance(packages, list) or not packages:
        raise LockUnreadable("no packages in it: not a pylock.toml (PEP 751)")
    versions: dict[str, str] = {}
    for place, package in enumerate(packages):
        name, version = (package.get(key) for key in ("name", "version")) if isinstance(package, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(version, str):
            raise LockUnreadable(f"packages[{place}] has no name or no version")
        if normal(name) in versions:
            raise LockUnreadable(f"packages[{place}]: {name} stands there twice")
        versions[normal(name)] = version
    return LockedSet(digest=f"sha256:{hashlib.sha256(data).hexdigest()}", versions=versions)


def installed() -> dict[str, str]:
    """Return the distributions that this interpreter sees, by normalised name; the first on its path counts."""
    found: dict[str, str] = {}
    for item in importlib.metadata.distributions():
        name = item.metadata["Name"] if item.metadata is not None else None
        if name:
            found.setdefault(normal(name), item.version or "unknown")
    return dict(sorted(found.items()))


def _listed(items: list[str]) -> str:
    return "; ".join(items[:12]) + (f"; and {len(items) - 12} more" if len(items) > 12 else "")


def versions_equal(lock: LockedSet, found: Mapping[str, str]) -> str:
    """Raise Failed unless every package of the lock is installed in its version."""
    wrong = [
        f"{name} is {found.get(name, 'not installed')}, locked {version}"
        for name, version in sorted(lock.versions.items())
        if found.get(name) != version
    ]
    expect(not wrong, f"{len(wrong)} of {len(lock.versions)} packages differ: {_listed(wrong)}")
    return f"{len(lock.versions)} packages"


def nothing_else(lock: LockedSet, found: Mapping[str, str]) -> str:
    """Raise Failed if something is installed that the lock does not name; installers are let pass."""
    extra = [f"{name} {version}" for name, version in found.items() if name not in {*lock.versions, *INSTALLERS}]
    expect(not extra, f"{len(extra)} packages are not in the lock: {_listed(extra)}")
    return "nothing that the lock does not name"


def cuda_of(lock: LockedSet) -> str | None:
    """Return the CUDA release that a lock promises: from torch's local version, or from the runtime's package."""
    local = lock.versions.get("torch", "").partition("+")[2]
    if match := re.fullmatch(r"cu(\d+)(\d)", local):
        return f"{match[1]}.{match[2]}"
    if local:
        return None
    for name, version in lock.versions.items():
        if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name):
            return ".".join(version.split(".")[:2])
    return None


def build_equal(lock: LockedSet, modules: Mapping[str, Any]) -> str:
    """Raise Failed unless the imported modules are the locked ones and torch's build tag is the lock's.

    A wheel of the default index has no local version in its name, though its module says `+cu121`: the locked
    CUDA runtime tells which build it must be.
    """
    for name in ("numpy", "torch"):
        locked = lock.versions.get(name)
        if locked is None:
            raise Failed(f"the lock holds no {name}")
        version = str(modules[name])
        equal = version == locked or ("+" not in locked and version.partition("+")[0] == locked)
        expect(equal, f"{name}.__version__ is {version}, locked {locked}")
    wanted, found = cuda_of(lock), modules["cuda"]
    expect(found == wanted, f"torch was built for CUDA {found}, the lock says {wanted or 'no CUDA'}")
    return f"torch {modules['torch']}, {'CUDA ' + wanted if wanted else 'no CUDA'}"
