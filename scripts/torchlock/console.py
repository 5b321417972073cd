"""What a person sees while torchlock works: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from types import TracebackType

# Without a terminal, a long task is named again after so many seconds.
_PLAIN_INTERVAL = 10.0


class Terminal:
    """A Reporter that draws on standard error; use it as a context, and standard output stays for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Move a task's bar; a finished one disappears, and without any the terminal is free for a child's output."""
        with self._lock:
            if not self._console.is_terminal:
                self._plain(task, done, total)
                return
            if task not in self._tasks:
                self._bars.start()
                self._tasks[task] = self._bars.add_task(_short(task), total=total)
            self._bars.update(self._tasks[task], completed=done, total=total)
            if done == total:
                self._bars.remove_task(self._tasks.pop(task))
                if not self._tasks:
                    self._bars.stop()

    def _plain(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total:
            if task in self._said:
                self.note(f"{_short(task)}: {_megabytes(done)}, done")
                del self._said[task]
        elif now - self._said.setdefault(task, now) >= _PLAIN_INTERVAL:
            self._said[task] = now
            self.note(f"{_short(task)}: {_megabytes(done)} of {_megabytes(total) if total else '?'}")


def _short(task: str) -> str:
    return task if len(task) <= 44 else f"{task[:43]}…"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
