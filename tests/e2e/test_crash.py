"""Killed at any moment, the same command again succeeds."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from e2e.project import kill, start
from torchlock.files import remove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2e.conftest import Built
    from e2e.project import Clone

pytestmark = pytest.mark.e2e

KILLS = 4
FETCH = ("fetch-cpu", "PLATFORM=linux-aarch64")


def _kill_at_random(clone: Clone, words: tuple[str, ...], whole: float, seed: int, say: Callable[[str], None]) -> int:
    """Start a command again and again, kill it within its first `whole` seconds; return how often that hit it."""
    moments = random.Random(seed)  # noqa: S311 - a test's choice of moments
    hits = 0
    for number in range(KILLS):
        wait = whole * (number + moments.random()) / KILLS
        process = start(clone.command(*words), folder=clone.folder)
        try:
            process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            kill(process)
            process.communicate()
            hits += 1
    say(f"kill -9: {hits} of {KILLS} hit `make {' '.join(words)}` within {whole:.1f} s (seed {seed})")
    return hits


def _leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".tmp-*"))


def test_fetch_survives_kill_9(pristine: Clone, work: Path, say: Callable[[str], None]) -> None:
    """After `kill -9` at random moments of a fetch, the same fetch succeeds, with every byte right and nothing left."""
    wheels = pristine.lock("torch2.2-cpu", "linux-aarch64") / "wheels"
    whole = pristine.make(*FETCH, f"STORE={work / 'whole'}").seconds
    remove(wheels)
    store = work / "killed"
    words = (*FETCH, f"STORE={store}")
    assert _kill_at_random(pristine, words, whole, time.time_ns() % 1_000_000, say) > 0

    pristine.make(*words)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.iterdir()}
    wanted = pristine.artifacts("torch2.2-cpu", "linux-aarch64")
    assert found == {artifact.filename: artifact.sha256.hex for artifact in wanted}
    assert _leftovers(store) == _leftovers(wheels) == []
    remove(work / "whole")
    remove(store)


def test_env_survives_kill_9(torch22: Built, work: Path, say: Callable[[str], None]) -> None:
    """After `kill -9` at random moments of a build, the same build succeeds, and nothing half made is left."""
    envs = work / "killed-envs"
    words = ("env-cuda", f"ENVS={envs}")
    whole = torch22.clone.make(*words).seconds
    remove(envs)
    assert _kill_at_random(torch22.clone, words, whole, time.time_ns() % 1_000_000, say) > 0

    torch22.clone.make(*words)
    assert [path.name for path in envs.iterdir() if path.is_dir()] == ["torch2.2-cuda"]
    again = torch22.clone.make(*words)
    assert "is already that of its lock" in again.output
    remove(envs)
