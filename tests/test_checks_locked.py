"""A lock is held against what is installed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from checks import locked
from checks.locked import LockedSet, LockUnreadable
from checks.result import Failed

if TYPE_CHECKING:
    from pathlib import Path

LOCK = """
lock-version = "1.0"
created-by = "torchlock"
[[packages]]
name = "numpy"
version = "1.26.4"
[[packages]]
name = "Nvidia_CUDA.runtime-cu12"
version = "12.1.105"
[[packages]]
name = "torch"
version = "2.2.2"
"""


def lock_of(**versions: str) -> LockedSet:
    """Return a lock; underscores in names stand for hyphens."""
    return LockedSet(digest="sha256:0", versions={name.replace("_", "-"): text for name, text in versions.items()})


def test_packages_are_read_by_their_normal_name(tmp_path: Path) -> None:
    """Names are normalised, and the digest is of the file's bytes."""
    path = tmp_path / "pylock.toml"
    path.write_text(LOCK)
    found = locked.read(path)
    assert found.versions == {"numpy": "1.26.4", "nvidia-cuda-runtime-cu12": "12.1.105", "torch": "2.2.2"}
    assert found.digest == f"sha256:{hashlib.sha256(LOCK.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packages = 1", "no packages in it: not a pylock.toml (PEP 751)"),
        ("packages = []", "no packages in it: not a pylock.toml (PEP 751)"),
        ("[[packages]]\nname = 'a'", "packages[0] has no name or no version"),
        ("packages = [1]", "packages[0] has no name or no version"),
        (LOCK + '[[packages]]\nname = "NumPy"\nversion = "2"', "packages[3]: NumPy stands there twice"),
        ("packages = [", "not TOML in UTF-8"),
    ],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no lock is refused with the place."""
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    with pytest.raises(LockUnreadable) as caught:
        locked.read(path)
    assert str(caught.value).startswith(message)


def test_installed_names_this_environment() -> None:
    """The distributions of the running interpreter are found by their normal names."""
    found = locked.installed()
    assert found["pytest"] == pytest.__version__
    assert list(found) == sorted(found)


def test_versions_must_be_equal() -> None:
    """A package that is missing or has another version is named with both versions."""
    lock = lock_of(numpy="1.26.4", torch="2.2.2", sympy="1.13")
    assert locked.versions_equal(lock, {"numpy": "1.26.4", "torch": "2.2.2", "sympy": "1.13"}) == "3 packages"
    with pytest.raises(Failed) as caught:
        locked.versions_equal(lock, {"numpy": "2.0.2", "torch": "2.2.2"})
    assert str(caught.value) == (
        "2 of 3 packages differ: numpy is 2.0.2, locked 1.26.4; sympy is not installed, locked 1.13"
    )


def test_nothing_else_may_be_installed() -> None:
    """A package that the lock does not name is a failure; installers are let pass."""
    lock = lock_of(numpy="1.26.4")
    assert locked.nothing_else(lock, {"numpy": "1.26.4", "pip": "26"}) == "nothing that the lock does not name"
    with pytest.raises(Failed, match=r"^1 packages are not in the lock: tqdm 4\.1$"):
        locked.nothing_else(lock, {"numpy": "1.26.4", "tqdm": "4.1"})


@pytest.mark.parametrize(
    ("lock", "cuda"),
    [
        (lock_of(torch="2.2.2+cu121"), "12.1"),
        (lock_of(torch="2.2.2+cu118"), "11.8"),
        (lock_of(torch="2.2.2+cpu", nvidia_cuda_runtime_cu12="12.1.105"), None),
        (lock_of(torch="2.2.2", nvidia_cuda_runtime_cu12="12.1.105"), "12.1"),
        (lock_of(torch="2.13.0", nvidia_cuda_runtime="13.0.96"), "13.0"),
        (lock_of(torch="2.2.2"), None),
    ],
)
def test_a_lock_promises_a_cuda_release(lock: LockedSet, cuda: str | None) -> None:
    """The CUDA release comes from torch's local version, else from the runtime's package."""
    assert locked.cuda_of(lock) == cuda


@pytest.mark.parametrize(
    ("torch", "cuda", "message"),
    [
        ("2.2.2+cpu", None, "torch.__version__ is 2.2.2+cpu, locked 2.2.2+cu121"),
        ("2.2.2+cu121", "11.8", "torch was built for CUDA 11.8, the lock says 12.1"),
        ("2.2.1+cu121", "12.1", "torch.__version__ is 2.2.1+cu121, locked 2.2.2+cu121"),
    ],
)
def test_the_build_must_be_the_locked_one(torch: str, cuda: str | None, message: str) -> None:
    """The imported torch must have the lock's version, local part included, and its CUDA release."""
    lock = lock_of(torch="2.2.2+cu121", numpy="1.26.4")
    with pytest.raises(Failed) as caught:
        locked.build_equal(lock, {"numpy": "1.26.4", "torch": torch, "cuda": cuda})
    assert str(caught.value) == message


def test_a_build_of_the_default_index_has_its_tag_in_the_module_alone() -> None:
    """PyPI's CUDA build is locked as 2.2.2 and calls itself 2.2.2+cu121: the runtime's package must say the same."""
    lock = lock_of(torch="2.2.2", numpy="1.26.4", nvidia_cuda_runtime_cu12="12.1.105")
    modules = {"numpy": "1.26.4", "torch": "2.2.2+cu121", "cuda": "12.1"}
    assert locked.build_equal(lock, modules) == "torch 2.2.2+cu121, CUDA 12.1"
    with pytest.raises(Failed, match=r"^torch was built for CUDA 12\.1, the lock says no CUDA$"):
        locked.build_equal(lock_of(torch="2.2.2", numpy="1.26.4"), modules)
