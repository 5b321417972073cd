"""Bytes on their way into a partial file: resumed where a connection broke, never past their size plus one byte."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torchlock.network.transport import TransientError
from torchlock.storage.crew import StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from torchlock.digest import Digest
    from torchlock.errors import TorchlockError
    from torchlock.network.budget import Budget
    from torchlock.network.remote import Body
    from torchlock.reporter import Reporter
    from torchlock.storage.store import Partial

    Opened: TypeAlias = Callable[[int], AbstractContextManager[Body]]
    Refusal: TypeAlias = Callable[[str | Digest, int | Digest], TorchlockError]

# What is accepted of a file whose size is not known, in bytes; the largest wheel known is under 4 GB.
UNSIZED = 16 << 30
# How often progress is told, in seconds, and how much new ground renews a budget, in bytes.
PROGRESS = 0.1
RENEWAL = 1 << 20


class Reception:
    """An artifact that is being received; `where` is its place in messages, `task` its name in progress.

    `opened` gives a body from an offset on, or from 0. `refusal` makes an error of what was found, a size in words or
    a digest, and what was expected, the largest size or the digest.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each of its own kind
        self,
        received: Partial,
        opened: Opened,
        refusal: Refusal,
        *,
        where: str,
        task: str,
        reporter: Reporter,
        stop: threading.Event,
        budget: Budget,
    ) -> None:
        self._received, self._opened, self._refusal = received, opened, refusal
        self._where, self._task, self._reporter, self._stop = where, task, reporter, stop
        self._budget = budget
        self._size = received.artifact.size
        self._limit = UNSIZED if self._size is None else self._size
        self._farthest = received.size
        self._came = 0

    def run(self) -> int:
        """Receive until the bytes are the artifact's, and return how many came.

        Refuse others, but what was resumed is first fetched anew; raise StoppedError where `stop` is set.
        """
        received = self._received
        fresh = received.size == 0
        while not received.whole:
            try:
                self._connect()
            except TransientError as error:
                if self._stop.is_set():
                    raise StoppedError from None
                self._budget.spend(error)
                fresh = fresh and received.size == 0
                continue
            if received.whole:
                break
            found = received.digest
            received.restart()
            if fresh:
                raise self._refusal(found, received.artifact.sha256)
            fresh = True
            self._reporter.note(f"{self._where}: what was resumed is wrong; started again")
        return self._came

    def _connect(self) -> None:
        """Append what one connection brings."""
        received = self._received
        with self._opened(received.size) as body:
            if body.start != received.size:
                received.restart()
            size = body.total if self._size is None else self._size
            if body.total is not None and (body.total > self._limit or body.total != size):
                raise self._refusal(f"{body.total} bytes", self._limit)
            said = 0.0
            for block in body.blocks:
                self._append(block)
                if time.monotonic() - said > PROGRESS:
                    said = time.monotonic()
                    self._reporter.progress(self._task, received.size, size)
        if self._stop.is_set():
            raise StoppedError
        if received.size < (size or 0):
            raise TransientError(self._where, f"the body ended after {received.size} of {size} bytes")
        self._reporter.progress(self._task, received.size, received.size)

    def _append(self, block: bytes) -> None:
        """Take a block, up to the artifact's size plus one; new ground renews the budget."""
        if self._stop.is_set():
            raise StoppedError
        received = self._received
        block = block[: self._limit + 1 - received.size]
        received.write(block)
        self._came += len(block)
        if received.size > self._limit:
            received.restart()
            raise self._refusal(f"more than {self._limit} bytes", self._limit)
        if received.size >= self._farthest + RENEWAL:
            self._farthest = received.size
            self._budget.renew()
