"""Clones of the project, and running their Makefile as a person would."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from torchlock.locks.lock import FILE, Artifact, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
HOST = "linux-64"

# What `make test-e2e` sets for its own children, and settings of torchlock that a person may have.
_FOREIGN = ("MAKE", "MFLAGS", "TORCHLOCK_", "VIRTUAL_ENV", "PYTEST_")
_TAIL = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One finished command; `output` holds both streams in the order in which they were written."""

    command: str
    status: int
    output: str
    seconds: float

    def tail(self) -> str:
        """Return the last lines of the output, for a failure's message."""
        return "\n".join(self.output.splitlines()[-_TAIL:])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what `make` and torchlock put there, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, **(extra or {})}


def start(command: Sequence[object], *, folder: Path, extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command in a session of its own, so that all of it can be killed at once."""
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=environment(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a command and all that it started (signal 9), and wait for its end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """Run commands to their end; `say` takes one line for each, and `close` kills those that still run."""

    say: Callable[[str], None]
    running: set[subprocess.Popen[str]] = field(default_factory=set)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.running:
            kill(process)

    def run(
        self,
        command: Sequence[object],
        *,
        folder: Path,
        status: int | None = 0,
        seconds: float = 900,
        extra: Mapping[str, str] | None = None,
        shown: str = "",
    ) -> Result:
        """Return the finished command; fail the test where it ends otherwise than with `status` (None: any)."""
        shown = shown or shlex.join(str(word) for word in command)
        begun = time.monotonic()
        process = start(command, folder=folder, extra=extra)
        self.running.add(process)
        try:
            output, _ = process.communicate(timeout=seconds)
        except BaseException:
            kill(process)
            process.communicate()
            raise
        finally:
            self.running.discard(process)
        result = Result(command=shown, status=process.returncode, output=output, seconds=time.monotonic() - begun)
        self.say(f"{result.seconds:6.1f} s  {shown}")
        if status is not None and result.status != status:
            pytest.fail(f"{shown}: exit status {result.status}, expected {status}\n{result.tail()}", pytrace=False)
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Clone:
    """A clone of the project; `variables` are given to every `make` in it."""

    folder: Path
    runner: Runner
    variables: Mapping[str, str | Path] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """Return `make` with words such as `env-cuda` and `OFFLINE=1`, and the variables that they do not set."""
        own = {word.partition("=")[0] for word in words}
        given = [f"{name}={value}" for name, value in self.variables.items() if name not in own]
        return ["make", *words, *given]

    def make(self, *words: str, prefix: Sequence[str] = (), status: int | None = 0, seconds: float = 900) -> Result:
        """Run `make` in the clone."""
        command = [*prefix, *self.command(*words)]
        shown = shlex.join(["make", *words]) + (" (loopback only)" if prefix else "")
        return self.runner.run(command, folder=self.folder, status=status, seconds=seconds, shown=shown)

    def git(self, *words: str) -> str:
        """Return what git says in the clone."""
        return git(self.folder, *words)

    def lock(self, profile: str, platform: str) -> Path:
        """Return the folder of a lock."""
        return self.folder / "lockfiles" / profile / platform

    def locks(self) -> list[tuple[str, str]]:
        """Return the profile and the platform of every committed lock."""
        found = sorted((self.folder / "lockfiles").glob("*/*/pylock.toml"))
        return [(path.parent.parent.name, path.parent.name) for path in found]

    def artifacts(self, profile: str, platform: str) -> tuple[Artifact, ...]:
        """Return what a lock names."""
        return read(self.lock(profile, platform) / FILE, self.folder).artifacts

    def python(self, profile: str) -> Path:
        """Return the interpreter of an environment."""
        return self.folder / "envs" / profile / "bin" / "python"

    @property
    def tools(self) -> Path:
        """The folder of the tool's own commands: `python`, `pip`, `uv`."""
        return self.folder / ".venv" / "bin"


def git(folder: Path, *words: str) -> str:
    """Return what git says in a folder; raise where it fails."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout


def copy_head(target: Path, say: Callable[[str], None]) -> None:
    """Clone the committed HEAD of this checkout; `TORCHLOCK_E2E_DIRTY=1` adds what is not committed, as a commit."""
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target))
    dirty = git(ROOT, "status", "--porcelain", "--untracked-files=all").splitlines()
    head = git(target, "rev-parse", "--short", "HEAD").strip()
    if not dirty:
        say(f"testing commit {head}")
    elif not os.environ.get("TORCHLOCK_E2E_DIRTY"):
        say(f"testing commit {head}; {len(dirty)} uncommitted changes of the checkout are NOT in it")
    else:
        say(f"testing commit {head} and {len(dirty)} uncommitted changes of the checkout")
        _add_changes(target)


def _add_changes(target: Path) -> None:
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        (target / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git(target, "add", "--all")
    author = ("-c", "user.name=e2e", "-c", "user.email=e2e@localhost")
    git(target, *author, "commit", "--quiet", "--message", "uncommitted")


def not_run(reason: str) -> NoReturn:
    """Report the test as not run: the summary names it and the reason (conftest.py prints them)."""
    pytest.skip(reason)


def loopback_only() -> list[str]:
    """Return a command prefix that runs the rest in a network namespace whose only interface is loopback."""
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if sys.platform != "linux" or missing:
        not_run(f"no network namespaces here ({', '.join(missing) or sys.platform})")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", *user, "sh", "-c", 'ip link set lo up && exec "$@"', "loopback-only"]
