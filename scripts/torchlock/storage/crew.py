"""A crew: threads that work through a list, where the first failure or an interruption stops them all promptly."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

# How long a thread that waits for the network is waited for at the end, in seconds.
PATIENCE = 2.0
# A signal that arrives just before an endless wait would not be seen until it ends: look up so often, in seconds.
GLANCE = 0.1


class StoppedError(Exception):
    """Raised by a job that gives way because another one failed."""


class Crew(Generic[T]):
    """Run `job(item, stop)` for each item; a job looks at `stop` often, and `wake` ends what it waits for.

    A job returns what is left to do for its item that is not to be abandoned half-way (or None).
    """

    def __init__(
        self, job: Callable[[T, threading.Event], Callable[[], None] | None], wake: Callable[[], None]
    ) -> None:
        self._job, self._wake = job, wake
        self._stop, self._over = threading.Event(), threading.Event()
        self._guard = threading.Lock()
        self._failure: BaseException | None = None
        self._queue: deque[T] = deque()
        self._running: set[threading.Thread] = set()
        self._finishing: set[threading.Thread] = set()

    def run(self, items: Iterable[T], workers: int) -> None:
        """Return when every job is done; raise the first failure, after the other threads have stopped.

        A thread that still waits for the network after two seconds is left behind; it writes nothing any more.
        """
        self._queue.extend(items)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(workers, len(self._queue)))]
        self._running.update(threads)
        if not threads:
            return
        try:
            for thread in threads:
                thread.start()
            while not self._over.wait(GLANCE):
                pass
        finally:
            self._end(threads)
        if self._failure is not None:
            raise self._failure

    def _end(self, threads: list[threading.Thread]) -> None:
        """Stop the threads: those that finish an item are waited for, the others not for long."""
        self._stop.set()
        until = time.monotonic() + PATIENCE
        for thread in threads:
            while thread.is_alive() and (thread in self._finishing or time.monotonic() < until):
                if self._failure is not None or not self._over.is_set():
                    self._wake()
                thread.join(0.05)

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while (item := self._next()) is not None:
                rest = self._job(item, self._stop)
                if rest is not None and not self._stop.is_set():
                    self._finishing.add(me)
                    rest()
                    self._finishing.discard(me)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in `run`
            with self._guard:
                if self._failure is None and not isinstance(error, StoppedError):
                    self._failure = error
            self._over.set()
        finally:
            with self._guard:
                self._finishing.discard(me)
                self._running.discard(me)
                if not self._running:
                    self._over.set()

    def _next(self) -> T | None:
        with self._guard:
            return self._queue.popleft() if self._queue and not self._stop.is_set() else None
