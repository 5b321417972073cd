"""conda packages on their way into the store: from their channel or its mirror, resumed, verified while they come."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.errors import CondaError, NetworkError
from torchlock.network.transport import TransientError, redact
from torchlock.storage.crew import Crew, StoppedError
from torchlock.storage.store import Store

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torchlock.digest import Digest
    from torchlock.locks.lock import Artifact
    from torchlock.network.budget import Budget
    from torchlock.network.remote import Remote
    from torchlock.reporter import Reporter
    from torchlock.storage.store import Partial

FOLDER = "conda"
# What is accepted of a package whose size is not known, in bytes; the largest known is under 2 GB.
UNSIZED = 16 << 30

_PROGRESS = 0.1
_RENEWAL = 1 << 20
_MIRROR = "MIRROR=<channel>=<address of a mirror that has it>"


class PackageStore(Store):
    """The packages of the store, in a folder of their own: `conda/<2 hex>/<sha256>`, whole and read-only, or absent."""

    def path(self, digest: Digest) -> Path:
        """Return where a package lies if it is there."""
        return self.root / FOLDER / digest.hex[:2] / digest.hex


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirrors:
    """The addresses that stand in for those of channels: a lock names the real ones."""

    addresses: Mapping[str, str]

    def of(self, url: str) -> str:
        """Return where to fetch what a lock knows under a URL."""
        for channel, mirror in sorted(self.addresses.items(), key=lambda item: -len(item[0])):
            if url.startswith(f"{channel.rstrip('/')}/"):
                return mirror.rstrip("/") + url[len(channel.rstrip("/")) :]
        return url


class PackageFetcher:
    """Bring packages into the store; without `remote` nothing is fetched that is not there."""

    def __init__(
        self, store: PackageStore, remote: Remote | None, mirrors: Mirrors, reporter: Reporter, workers: int = 8
    ) -> None:
        self.store = store
        self._remote = remote
        self._mirrors = mirrors
        self._reporter = reporter
        self._workers = workers

    def fetch(self, wanted: Iterable[tuple[Artifact, str]]) -> dict[Artifact, Path]:
        """Return the verified file of each artifact, by its URL in the lock; the first failure stops the others.

        What was received of an artifact that failed or was interrupted is kept, and resumed the next time.
        """
        order = sorted(wanted, key=lambda item: (item[0].size is not None, -(item[0].size or 0), item[0].filename))
        self.store.room(sum(max(0, (item.size or 0) - self.store.received(item)) for item, _ in order))
        found: dict[Artifact, Path] = {}

        def job(item: tuple[Artifact, str], stop: threading.Event) -> None:
            found[item[0]] = self._one(*item, stop)

        Crew(job, self._remote.hang_up if self._remote else lambda: None).run(order, self._workers)
        return found

    def _one(self, artifact: Artifact, url: str, stop: threading.Event) -> Path:
        """Return the verified file of an artifact, fetching it where it is missing."""
        path = self.store.get(artifact)
        if path is not None:
            return path
        with self.store.receiving(artifact) as received:
            if stop.is_set():
                raise StoppedError
            path = self.store.get(artifact)
            if path is not None:
                return path
            if not received.whole:
                if self._remote is None:
                    remedy = "the same without OFFLINE=1"
                    raise CondaError(artifact.filename, "not in the store, and no channel may be asked", "", remedy)
                self.store.room((artifact.size or 0) - received.size)
                transfer = _Transfer(self._mirrors.of(url), artifact, received, stop)
                transfer.run(self._remote, self._reporter)
            return self.store.publish(artifact, received)


class _Transfer:
    """One package on its way: goes on where a connection broke, and never past its size plus one."""

    def __init__(self, url: str, artifact: Artifact, received: Partial, stop: threading.Event) -> None:
        self._url, self._artifact, self._received, self._stop = url, artifact, received, stop
        self._limit = UNSIZED if artifact.size is None else artifact.size
        self._farthest = received.size

    def run(self, remote: Remote, reporter: Reporter) -> None:
        """Receive until the bytes are the lock's; refuse others, but what was resumed is first fetched anew."""
        budget, received = remote.budget(self._stop), self._received
        fresh = received.size == 0
        while not received.whole:
            try:
                self._connect(remote, budget, reporter)
            except TransientError as error:
                if self._stop.is_set():
                    raise StoppedError from None
                budget.spend(error)
                fresh = fresh and received.size == 0
                continue
            if received.whole:
                return
            found = str(received.digest)
            received.restart()
            if fresh:
                raise self._refusal(found, f"{self._artifact.sha256} as locked")
            fresh = True
            reporter.note(f"{redact(self._url)}: what was resumed is wrong; started again")

    def _connect(self, remote: Remote, budget: Budget, reporter: Reporter) -> None:
        """Append what one connection brings."""
        received, name = self._received, self._artifact.filename
        with remote.stream(self._url, received.size, budget) as body:
            if body.start != received.size:
                received.restart()
            size = self._artifact.size or body.total
            if body.total is not None and (body.total > self._limit or body.total != size):
                raise self._refusal(f"{body.total} bytes", f"{self._limit} as locked")
            said = 0.0
            for block in body.blocks:
                self._append(block, budget)
                if time.monotonic() - said > _PROGRESS:
                    said = time.monotonic()
                    reporter.progress(name, received.size, size)
        if self._stop.is_set():
            raise StoppedError
        if received.size < (size or 0):
            raise TransientError(redact(self._url), f"the body ended after {received.size} of {size} bytes")
        reporter.progress(name, received.size, received.size)

    def _append(self, block: bytes, budget: Budget) -> None:
        """Take a block, up to the lock's size plus one; new ground renews the budget."""
        if self._stop.is_set():
            raise StoppedError
        received = self._received
        received.write(block[: self._limit + 1 - received.size])
        if received.size > self._limit:
            received.restart()
            raise self._refusal(f"more than {self._limit} bytes", f"{self._limit} as locked")
        if received.size >= self._farthest + _RENEWAL:
            self._farthest = received.size
            budget.renew()

    def _refusal(self, found: str, expected: str) -> NetworkError:
        return NetworkError(redact(self._url), found, expected, _MIRROR)
