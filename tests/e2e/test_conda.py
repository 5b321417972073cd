"""The conda locks, made again and used as a user of conda-lock does: on loopback alone, by the real tools."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import recorded
from e2e.project import environment, loopback_only
from torchlock.conda import adapter, document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PROFILES = ("torch2.2-cuda", "torch2.2-mps", "torch2.4-cpu", "torch2.4-cuda", "torch2.4-mps")
RUNS = 200
_LOCK = """
import argparse, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1] + "/scripts")
from torchlock.commands import conda
from torchlock.reporter import Silent
from torchlock.workspace import Settings, Workspace
workspace = Workspace(Path(sys.argv[1]), Settings(offline=True), Silent())
raise SystemExit(conda.lock_conda(workspace, argparse.Namespace(profiles=sys.argv[2:])))
"""


def run(command: Sequence[object], folder: Path, *, prefix: Sequence[str] = (), status: int = 0) -> str:
    """Return what a command printed; it must end with `status`."""
    words = [*prefix, *map(str, command)]
    done = subprocess.run(
        words, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project without its conda locks."""
    for name in ("environments", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "lockfiles" / "index", tmp_path / "lockfiles" / "index")
    return tmp_path


def sums(root: Path, profile: str) -> dict[str, str]:
    """Return the digest of each file of a profile's conda lock."""
    folder = root / "lockfiles" / profile
    paths = [*folder.glob("conda-*"), *folder.glob("conda/*")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_six_locks_from_nothing(project: Path, say: Callable[[str], None]) -> None:
    """With loopback as its only network, torchlock writes all conda locks as they are committed: six environments."""
    prefix = loopback_only()
    begun = time.monotonic()
    output = run([sys.executable, "-c", _LOCK, project], project, prefix=prefix)
    say(f"{time.monotonic() - begun:6.1f} s  six conda locks (loopback only)")
    assert len(output.splitlines()) == 6
    for profile in PROFILES:
        assert sums(project, profile) == sums(ROOT, profile)
        assert "conda-lock.yml" in sums(ROOT, profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_conda_lock_reads_its_own_file(tmp_path: Path, profile: str) -> None:
    """The real conda-lock renders the committed lock, and finds its input unchanged without solving."""
    prefix = loopback_only()
    folder = tmp_path / profile
    shutil.copytree(ROOT / "lockfiles" / profile / "conda", folder / "conda")
    shutil.copy(ROOT / "lockfiles" / profile / "conda-lock.yml", folder)
    before = (folder / "conda-lock.yml").read_bytes()
    lock = document.CondaLock.from_yaml(before, "conda-lock.yml")
    tool = [sys.executable, "-I", "-m", "conda_lock"]
    run([*tool, "render", "--kind", "explicit", "conda-lock.yml"], folder, prefix=prefix)
    for platform in lock.platforms:
        lines = (folder / f"conda-{platform}.lock").read_text().splitlines()
        assert {line for line in lines if "://" in line} == {
            f"{item.url}#{item.md5}" for item in lock.packages(platform)
        }
    never = tmp_path / "conda"
    never.write_text('#!/bin/sh\n[ "$1" = --version ] && echo conda 99\n')
    never.chmod(0o755)
    check = [*tool, "lock", "--check-input-hash", "--conda", never, "--lockfile", "conda-lock.yml"]
    virtual = ["--virtual-package-spec", "conda/virtual-packages.yml"]
    output = run([*check, *virtual], folder, prefix=prefix)
    assert "Spec hash already locked for" in output
    assert (folder / "conda-lock.yml").read_bytes() == before


def test_update_moves_one_package(tmp_path: Path, project: Path) -> None:
    """`conda-lock lock --update numpy` moves NumPy and nothing else, though a newer Python is recorded by then."""
    prefix = loopback_only()
    folder = project / "lockfiles" / "torch2.4-mps"
    line = project / "environments" / "torch2.4.yaml"
    line.write_text(line.read_text().replace('numpy: "2.1.3"', 'numpy: "2.1.2"'))
    index = project / "lockfiles" / "index" / "conda" / "conda-forge" / "osx-arm64.json"
    whole = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in whole if not line.startswith('  "python-3.11.15-')))
    run([sys.executable, "-c", _LOCK, project, "torch2.4-mps"], project, prefix=prefix)
    index.write_text("".join(whole))
    before = document.read(folder / "conda-lock.yml", project)
    versions = {item.name: item.version for item in before.all_packages}
    assert (versions["numpy"], versions["python"]) == ("2.1.2", "3.11.14")
    source = folder / "conda" / "environment.yml"
    source.write_text(source.read_text().replace("numpy 2.1.2", "numpy 2.1.*"))
    channels = tmp_path / "published"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/scripts'); from pathlib import Path\n"
        "from torchlock.conda.channels import Channels\n"
        "Channels(Path(sys.argv[1]) / 'lockfiles/index/conda').publish("
        "Path(sys.argv[2]), ['conda-forge'], ['osx-arm64'], loose=False)"
    )
    run([sys.executable, "-c", code, project, channels], project)
    alias = ["env", f"CONDA_CHANNEL_ALIAS={channels.as_uri()}"]
    tool = [*alias, sys.executable, "-I", "-m", "conda_lock", "lock", "--conda", adapter.launcher(tmp_path)]
    paths = ["--lockfile", "conda-lock.yml", "--virtual-package-spec", "conda/virtual-packages.yml"]
    run([*tool, *paths, "--update", "numpy"], folder, prefix=prefix)
    text = (folder / "conda-lock.yml").read_text()
    urls = {line.strip() for line in text.splitlines() if line.strip().startswith("url: https:")}
    known = {f"url: {item.url}" for item in before.all_packages}
    assert len(urls) == len(known)
    assert [item.rpartition("/")[2] for item in sorted(known - urls)] == ["numpy-2.1.2-py311h6de8079_0.conda"]
    assert [item.rpartition("/")[2].partition("-py")[0] for item in sorted(urls - known)] == ["numpy-2.1.3"]


def test_unrecorded_build(project: Path) -> None:
    """A CPU build of torch 2.2.2, which the recorded channel lacks, is an error that says so and what to do."""
    line = project / "environments" / "torch2.2.yaml"
    asked = (
        "    conda:\n      platforms:\n        linux-64: {torch: {channel: pytorch, build: py3.11_cpu_*}}\n  cuda:\n"
    )
    line.write_text(line.read_text().replace("  cuda:\n", asked, 1))
    output = run([sys.executable, "-c", _LOCK, project, "torch2.2-cpu"], project, prefix=loopback_only(), status=1)
    place = next(number for number, text in enumerate(line.read_text().splitlines(), 1) if "py3.11_cpu_*" in text)
    assert output.splitlines()[-1] == (
        f"torchlock.errors.ResolveError: environments/torch2.2.yaml:{place}: variants.cpu.conda.platforms.linux-64: the"
        " channel pytorch is recorded without pytorch 2.2.2 py3.11_cpu_* for linux-64; expected one that"
        " lockfiles/index/conda/pytorch/linux-64.json has: 2.2.2 py3.10_cuda11.8_cudnn8.7.0_0, 2.2.2"
        " py3.11_cuda11.8_cudnn8.7.0_0; try: make update, which records it over the network, or make import-channels"
        " FACTS=… from a folder that has it"
    )


def test_two_hundred_runs(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Of 200 solves, none ends otherwise than well, though rattler can die as Python shuts down."""
    recorded.recorded(tmp_path).publish(tmp_path / "channels", ["main"], ["linux-64"], loose=False)
    conda = adapter.launcher(tmp_path)
    own = {
        "CONDA_SUBDIR": "linux-64",
        "CONDA_CHANNEL_ALIAS": (tmp_path / "channels").as_uri(),
        "CONDA_OVERRIDE_GLIBC": "2.28",
    }
    command = ("create", "--prefix", "/nowhere", "--dry-run", "--json", "--channel", "main", "pytorch 2.4.1 cpu*")
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: recorded.call(conda, *command, environment=own), range(RUNS)))
    say(f"{time.monotonic() - begun:6.1f} s  {RUNS} solves")
    assert [status for _, status in found] == [0] * RUNS
    assert len({json.dumps(answer) for answer, _ in found}) == 1
