"""conda packages on their way into the store: from their channel or its mirror, resumed, verified while they come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torchlock.errors import CondaError, NetworkError
from torchlock.network.transport import redact
from torchlock.storage.crew import Crew
from torchlock.storage.reception import Reception
from torchlock.storage.store import Store

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torchlock.digest import Digest
    from torchlock.locks.lock import Artifact
    from torchlock.network.remote import Remote
    from torchlock.reporter import Reporter
    from torchlock.storage.store import Partial

FOLDER = "conda"

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
            found[item[0]] = self.store.obtain(item[0], stop, partial(self._fill, *item, stop))

        Crew(job, self._remote.hang_up if self._remote else lambda: None).run(order, self._workers)
        return found

    def _fill(self, artifact: Artifact, url: str, stop: threading.Event, received: Partial) -> Path:
        """Fetch an artifact from its channel or its mirror; return its verified file."""
        remote = self._remote
        if remote is None:
            remedy = "the same without OFFLINE=1"
            raise CondaError(artifact.filename, "not in the store, and no channel may be asked", "", remedy)
        self.store.room((artifact.size or 0) - received.size)
        address, budget = self._mirrors.of(url), remote.budget(stop)
        where = redact(address)
        Reception(
            received,
            lambda offset: remote.stream(address, offset, budget),
            lambda found, expected: NetworkError(where, str(found), f"{expected} as locked", _MIRROR),
            where=where,
            task=artifact.filename,
            reporter=self._reporter,
            stop=stop,
            budget=budget,
        ).run()
        return self.store.publish(artifact, received)
