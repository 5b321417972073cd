"""A long-running tool of Debian's: heard line by line, and ended with all its children when we are interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from torchlock.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# How long a tool may take to remove what it made, in seconds.
PATIENCE = 30.0
_KEPT = 200


def work(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    heard: Callable[[str], None] | None = None,
    contained: bool = False,
) -> tuple[int, list[str]]:
    """Run a tool under umask 022; return its exit status and the last lines that it said.

    It dies with us, however we die. If it is contained, which takes the rights of root, so do all its children, and
    their mounts are gone.
    """
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        remedy = f"apt-get install {'apt' if command[0].startswith('apt') else command[0]}, or a machine that has it"
        raise ImageError(command[0], "is not installed", "Debian's tools, to build a base", remedy)
    bound, inside = _bound(contained=contained)
    lines: deque[str] = deque(maxlen=_KEPT)
    process = subprocess.Popen(
        [*bound, *command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        umask=0o022,
    )
    try:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if heard is not None:
                heard(line.rstrip())
        return process.wait(), list(lines)
    except BaseException:
        _end(process, inside=inside)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


def complaints(lines: Sequence[str], limit: int = 600) -> str:
    """Return what a tool of Debian's complained of, on one line."""
    told = [line[2:].strip() for line in lines if line.startswith("E:")] or [line for line in lines if line][-3:]
    text = "; ".join(dict.fromkeys("".join(letter for letter in line if letter.isprintable()) for line in told))
    return text if len(text) <= limit else f"{text[:limit]} […]"


def _bound(*, contained: bool) -> tuple[list[str], bool]:
    """Return the command that ties a tool's life to ours (util-linux: on every Debian), and if it contains it."""
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    space = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    if not contained or os.geteuid() != 0 or shutil.which("unshare") is None:
        return tied, False
    allowed = subprocess.run([*space, "true"], check=False, capture_output=True).returncode == 0
    return ([*tied, *space], True) if allowed else (tied, False)


def _end(process: subprocess.Popen[str], *, inside: bool) -> None:
    """End a tool and its children: asked first, so that they clean up, but for those that leave nothing outside."""
    for number in (signal.SIGKILL,) if inside else (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        return
