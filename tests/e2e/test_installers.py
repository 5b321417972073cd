"""The committed locks in the hands of plain pip and plain uv, offline, with the wheels that `make fetch-<p>` left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from e2e.project import HOST, not_run
from torchlock.files import remove
from torchlock.platforms import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.conftest import Built
    from e2e.project import Clone, Runner

pytestmark = pytest.mark.e2e

LOCKS = [
    *(("torch2.2-cpu", platform) for platform in ("linux-64", "linux-aarch64", "osx-64", "win-64")),
    *(("torch2.4-cpu", platform) for platform in ("linux-64", "linux-aarch64", "win-64")),
    *((f"torch{line}-mps", "osx-arm64") for line in ("2.2", "2.4")),
]
PYTHON = "3.11"


@pytest.fixture
def scratch(work: Path) -> Iterator[Path]:
    """Return an empty folder on the file system of the store, removed with all that was installed there."""
    folder = work / "scratch"
    remove(folder)
    folder.mkdir()
    yield folder
    remove(folder)


def _offline(scratch: Path) -> dict[str, str]:
    """Return settings that keep this machine's own from pip and uv, and leave them no network."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(scratch / "uv-cache"),
    }


def _fetch(clone: Clone, profile: str, platform: str) -> Path:
    """Return the folder of a lock whose wheels were fetched; a lock whose index cannot be reached is "not run"."""
    done = clone.make(f"fetch-{profile}", f"PLATFORM={platform}", status=None)
    if done.status == 0:
        return clone.lock(profile, platform)
    said = next((line for line in done.output.splitlines() if line.startswith("torchlock: ")), "")
    if (profile, platform) in {("torch2.2-cpu", HOST), ("torch2.4-cpu", HOST)} and "pytorch-cpu" in said:
        assert re.search(r"torch-[\d.]+(\+|%2B)cpu-", said), done.tail()
        assert not list((clone.lock(profile, platform) / "wheels").glob("torch-*"))
        not_run(f"its index cannot be reached from here: {said}")
    pytest.fail(f"{done.command}: exit status {done.status}\n{done.tail()}", pytrace=False)


@pytest.mark.parametrize("name", ["torch22", "torch24"])
def test_cuda_locks_install_with_pip_and_uv(
    name: str, request: pytest.FixtureRequest, scratch: Path, runner: Runner
) -> None:
    """Pip accepts every hash of a CUDA lock's `requirements.txt`, and what uv makes of its `pylock.toml` runs."""
    built: Built = request.getfixturevalue(name)
    clone, settings = built.clone, _offline(scratch)
    folder = _fetch(clone, built.profile, HOST)
    venv = scratch / "venv"
    runner.run([clone.tools / "uv", "venv", "--quiet", "--python", built.python, venv], folder=scratch, extra=settings)
    python = venv / "bin" / "python"

    pip = [clone.tools / "python", "-m", "pip", "--python", python, "install", "--dry-run", "--require-hashes"]
    command = [*pip, "--find-links", "wheels", "-r", "requirements.txt"]
    said = runner.run(command, folder=folder, extra=settings).output
    assert _would_install(said) == _names(clone, built.profile, HOST)

    uv = [clone.tools / "uv", "pip", "sync", "--quiet", "--link-mode", "hardlink", "--python", python, "pylock.toml"]
    runner.run(uv, folder=folder, extra=settings)
    smoke = [python, clone.folder / "scripts" / "smoke.py", "--json"]
    runner.run(smoke, folder=scratch)


@pytest.mark.parametrize(("profile", "platform"), LOCKS, ids=["-".join(words) for words in LOCKS])
def test_other_locks_install_with_pip_and_uv(
    profile: str, platform: str, pristine: Clone, scratch: Path, runner: Runner
) -> None:
    """For a platform that is not this machine's, pip accepts every hash and uv unpacks every wheel of the lock."""
    settings = _offline(scratch)
    folder = _fetch(pristine, profile, platform)
    tags = sorted({tag.platform for tag in PLATFORMS[platform].tags(PYTHON)} - {"any"})
    flags = ["--only-binary", ":all:", "--python-version", PYTHON, *(f"--platform={tag}" for tag in tags)]
    # pip would ask for what the wheels require on this machine: it evaluates markers for the Python that runs it.
    pip = [pristine.tools / "python", "-m", "pip", "install", "--dry-run", "--require-hashes", "--no-deps", *flags]
    command = [*pip, "--target", scratch / "pip", "--find-links", "wheels", "-r", "requirements.txt"]
    said = runner.run(command, folder=folder, extra=settings, shown=f"pip install --dry-run for {platform}").output
    assert _would_install(said) == _names(pristine, profile, platform)

    uv = [pristine.tools / "uv", "pip", "sync", "--link-mode", "hardlink", "--python-version", PYTHON]
    command = [*uv, "--python-platform", PLATFORMS[platform].uv, "--target", scratch / "uv", "pylock.toml"]
    runner.run(command, folder=folder, extra=settings)
    there = {_normal(path.name.rpartition(".")[0]) for path in (scratch / "uv").glob("*.dist-info")}
    assert there == _names(pristine, profile, platform)
    remove(folder / "wheels")


def _names(clone: Clone, profile: str, platform: str) -> set[str]:
    """Return `project-version` of all that a lock names."""
    return {f"{item.project}-{item.version}" for item in clone.artifacts(profile, platform)}


def _normal(name: str) -> str:
    """Return `project-version` with the project's name normalized."""
    project, _, version = name.rpartition("-")
    return f"{re.sub('[-_.]+', '-', project).lower()}-{version}"


def _would_install(said: str) -> set[str]:
    lines = [line for line in said.splitlines() if line.startswith("Would install ")]
    assert lines, said
    return {_normal(word) for word in lines[-1].removeprefix("Would install ").split()}
