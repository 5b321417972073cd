"""Locking again, offline, from what is committed: the same bytes."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.project import HOST, environment, loopback_only, not_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.project import Clone, Runner

pytestmark = pytest.mark.e2e

# An address that is set apart for documentation (RFC 5737): without a route to it, no packet leaves.
_PROBE = """
import json, socket
with socket.socket() as probe:
    probe.settimeout(5)
    print(json.dumps([[name for _, name in socket.if_nameindex()], probe.connect_ex(("192.0.2.1", 443))]))
"""


def _forget_own(clone: Clone) -> None:
    """Remove the locks of this machine's platform and every rendering: only resolving brings them back."""
    for profile, platform in clone.locks():
        (clone.lock(profile, platform) / "requirements.txt").unlink()
        if platform == HOST:
            (clone.lock(profile, platform) / "pylock.toml").unlink()


def _assert_committed(clone: Clone) -> None:
    """Fail unless the lock files are those of the commit, with nothing beside them."""
    assert clone.git("diff", "--stat", "--", "lockfiles") == ""
    assert clone.git("status", "--porcelain", "--", "lockfiles") == ""


def test_the_committed_locks_cover_both_lines(clone: Clone) -> None:
    """Every variant of both lines is locked for every platform that has it."""
    cpu = ("linux-64", "linux-aarch64", "win-64")
    assert set(clone.locks()) == {
        *(("torch2.2-cpu", platform) for platform in (*cpu, "osx-64")),
        *(("torch2.4-cpu", platform) for platform in cpu),
        *((f"torch{line}-cuda", "linux-64") for line in ("2.2", "2.4")),
        *((f"torch{line}-mps", "osx-arm64") for line in ("2.2", "2.4")),
    }


def test_lock_needs_no_network(pristine: Clone, runner: Runner) -> None:
    """With loopback as its only network, `make lock OFFLINE=1` leaves every lock as it is committed."""
    prefix = loopback_only()
    command = [*prefix, pristine.tools / "python", "-c", _PROBE]
    probe = runner.run(command, folder=pristine.folder, shown="connect to 192.0.2.1 (loopback only)")
    assert json.loads(probe.output) == [["lo"], errno.ENETUNREACH]

    pristine.make("lock", "OFFLINE=1", prefix=prefix)
    _assert_committed(pristine)
    pristine.make("check", prefix=prefix)


def test_lock_makes_the_same_bytes_from_nothing(pristine: Clone) -> None:
    """With loopback as its only network and its own locks gone, `make lock OFFLINE=1` writes them as committed."""
    prefix = loopback_only()
    _forget_own(pristine)
    assert pristine.git("diff", "--stat", "--", "lockfiles") != ""
    pristine.make("lock", "OFFLINE=1", prefix=prefix)
    _assert_committed(pristine)


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
def test_another_python_locks_the_same_bytes(version: str, new_clone: Callable[[str], Clone]) -> None:
    """Torchlock writes the same locks whichever Python it runs on itself."""
    python = _find(version)
    if python is None:
        not_run(f"no Python {version} on this machine")
    clone = new_clone(f"python{version}")
    _forget_own(clone)
    clone.make("lock", "OFFLINE=1", f"PYTHON3={python}")
    assert f"Python {version}." in clone.runner.run([clone.tools / "python", "-VV"], folder=clone.folder).output
    _assert_committed(clone)
    shutil.rmtree(clone.folder / ".venv")


def _find(version: str) -> Path | None:
    """Return a Python of a version that can make virtual environments, from PATH or where pyenv keeps them."""
    found = shutil.which(f"python{version}")
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}"))
    for path in [*([Path(found)] if found else []), *kept]:
        command = [str(path), "-c", "import ensurepip, venv"]
        if subprocess.run(command, capture_output=True, check=False, env=environment()).returncode == 0:
            return path
    return None
