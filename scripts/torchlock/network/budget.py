"""How much patience there is with a network, and the account of what was spent of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from torchlock.errors import NetworkError
from torchlock.network.transport import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlock.reporter import Reporter

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of all that goes over a network; times in seconds, sizes in bytes, rate in bytes a second."""

    tries: int = 5
    budget: float = 90.0
    pause: float = 0.5
    longest_pause: float = 15.0
    connect: float = 15.0
    read: float = 30.0
    redirects: int = 5
    rate: int = 1024
    rate_window: float = 20.0
    small: int = 64 << 20
    large: int = 16 << 30
    block: int = 64 << 10


class Budget:
    """Tries and seconds for one job; `renew` it when the job has moved on, set `stop` to end its pauses."""

    def __init__(self, limits: Limits, reporter: Reporter, stop: threading.Event | None = None) -> None:
        self._limits = limits
        self._reporter = reporter
        self._stop = stop or threading.Event()
        self.renew()

    def renew(self) -> None:
        """Start again with all tries and seconds."""
        self._tries = 0
        self._since = time.monotonic()

    def spend(self, error: TransientError) -> None:
        """Wait before the next try, or raise NetworkError where nothing is left to spend."""
        limits = self._limits
        self._tries += 1
        pause = min(max(error.wait, limits.pause * 2 ** (self._tries - 1)), limits.longest_pause)
        spent = time.monotonic() - self._since
        if self._tries >= limits.tries or spent + pause > limits.budget or self._stop.is_set():
            times = "once" if self._tries == 1 else f"{self._tries} times"
            remedy = error.remedy or "the same again later, or another index with MIRROR="
            raise NetworkError(error.where, f"{error.found} ({times} in {spent:.0f} s)", error.expected, remedy)
        self._reporter.note(f"{error.where}: {error.found}; trying again in {pause:.1f} s")
        self._stop.wait(pause)

    def run(self, job: Callable[[], T]) -> T:
        """Do a job until it ends without a TransientError, or the budget is spent."""
        while True:
            try:
                return job()
            except TransientError as error:
                self.spend(error)
