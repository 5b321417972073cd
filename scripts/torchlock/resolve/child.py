"""A resolver's process: in an empty folder, without the user's settings, its words cut to what a person reads."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from torchlock.errors import ResolveError
from torchlock.process import clean_environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlock.profiles.profile import Target

SECONDS = 600.0
# What is kept of a long explanation, in characters: how it begins and what it concludes.
HEAD, TAIL = 900, 300


def answer(
    tool: str, command: Sequence[str], target: Target, folder: Path, extra: Mapping[str, str] | None = None
) -> str:
    """Run a resolver in `folder`, the target's requirements on standard input; return what it prints.

    Raise ResolveError with the resolver's own words and the profile's place.
    """
    where = f"{target.source}: {target.profile} on {target.platform}"
    text = "\n".join([*target.requirements, ""])
    try:
        done = run(command, environment=clean_environment(extra), text=text, seconds=SECONDS, folder=folder)
    except subprocess.TimeoutExpired as error:
        raise ResolveError(where, f"{tool} gave no answer in {SECONDS:g} s", remedy="other pins") from error
    if done.returncode != 0:
        said = words(done.stderr.replace(f"{folder}/", "")) or f"exit status {done.returncode}, without a word"
        raise ResolveError(where, f"{tool}: {said}", remedy="other pins, or make update for newer wheels")
    return done.stdout


def words(text: str) -> str:
    """Return what a resolver said on one line: no traceback, nothing unprintable, not too long."""
    told, traceback, trace = text.partition("Traceback (most recent call last)")
    if traceback and not told.strip():
        told = trace.strip().rpartition("\n")[2]
    line = "".join(letter if letter.isprintable() else " " for letter in told)
    line = " ".join(line.split())
    return line if len(line) <= HEAD + TAIL else f"{line[:HEAD]} […] {line[-TAIL:]}"
