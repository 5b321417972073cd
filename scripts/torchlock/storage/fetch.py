"""Fetching: what a lock names is brought into the store, in parallel, resumed, and verified while it comes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import NetworkError, StoreError
from torchlock.indexes import simple
from torchlock.network.transport import TransientError, redact
from torchlock.reporter import Silent
from torchlock.storage.crew import Crew, StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pypi_simple import DistributionPackage

    from torchlock.locks.lock import Artifact
    from torchlock.network.budget import Budget
    from torchlock.network.remote import Remote
    from torchlock.reporter import Reporter
    from torchlock.storage.store import Partial, Store

# What is accepted of a file whose size is not known, in bytes; the largest wheel known is under 4 GB.
UNSIZED = 16 << 30

_PROGRESS = 0.1
_RENEWAL = 1 << 20
_AS = (" as locked", " at most")
_MIRROR = "MIRROR=<address of an index that has it>"


class Fetcher:
    """Bring artifacts into the store, from folders of wheels or each from its own index."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each of its own kind
        self,
        store: Store,
        remote: Remote,
        addresses: Mapping[str, str],
        wheelhouses: Sequence[Path] = (),
        reporter: Reporter | None = None,
        workers: int = 8,
    ) -> None:
        self.store = store
        self._remote = remote
        self._addresses = addresses
        self._wheelhouses = wheelhouses
        self._reporter = reporter or Silent()
        self._workers = workers

    def fetch(self, artifacts: Iterable[Artifact], arrived: Callable[[Artifact, Path], None] | None = None) -> None:
        """Return when all artifacts are verified in the store; raise the first failure and stop the others.

        `arrived` is called on a worker thread for each artifact as soon as its bytes are verified. What was
        received of an artifact that failed or was interrupted is kept, and resumed the next time.
        """
        wanted = {artifact.sha256: artifact for artifact in artifacts}
        order = sorted(wanted.values(), key=lambda item: (item.size is not None, -(item.size or 0), item.filename))
        self.store.room(sum(max(0, (item.size or 0) - self.store.received(item)) for item in order))

        def job(artifact: Artifact, stop: threading.Event) -> Callable[[], None] | None:
            path = self._one(artifact, stop)
            return None if arrived is None else partial(arrived, artifact, path)

        Crew(job, self._remote.hang_up).run(order, self._workers)

    def link(self, artifacts: Iterable[Artifact], folder: Path) -> None:
        """Make a folder hold exactly these artifacts, by hard link (by copy where there are none)."""
        wanted = {artifact.filename: artifact for artifact in artifacts}
        guard = self.store.root / "locks" / f"{Digest.of(str(folder.resolve()).encode()).hex}.lock"
        with self.store.guarded(sum(artifact.size or 0 for artifact in wanted.values())):
            folder.mkdir(parents=True, exist_ok=True)
            with files.exclusive(guard, self._reporter):
                for path in list(folder.iterdir()):
                    if path.name not in wanted and path.name != ".gitignore":
                        files.remove(path)
                for artifact in wanted.values():
                    self._link(artifact, folder / artifact.filename)
                files.fsync_folder(folder)

    def _link(self, artifact: Artifact, target: Path) -> None:
        source = self.store.get(artifact)
        if source is None:
            raise StoreError(self.store.root, f"{artifact.filename} is not there", "", "make fetch-<profile>")
        if target.is_file() and not target.is_symlink():
            if target.samefile(source) or Digest.of_file(target) == artifact.sha256:
                return
        else:
            files.remove(target)
        staged = target.with_name(f"{files.TEMPORARY}{target.name}")
        try:
            files.link_or_copy(source, staged)
            files.publish(staged, target)
        finally:
            staged.unlink(missing_ok=True)

    def _one(self, artifact: Artifact, stop: threading.Event) -> Path:
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
            if received.whole:
                return self.store.publish(artifact, received)
            for folder in self._wheelhouses:
                if (folder / artifact.filename).is_file():
                    return self.store.copy(artifact, folder / artifact.filename, received)
            self.store.room((artifact.size or 0) - received.size)
            url = self._found(artifact, self._remote.budget(stop)).url
            _Download(artifact, url, received, stop).run(self._remote, self._reporter)
            return self.store.publish(artifact, received)

    def _found(self, artifact: Artifact, budget: Budget) -> DistributionPackage:
        """Return the file's entry on its own index; refuse one that is not there or has another sha256."""
        where = f"index {artifact.index}: {artifact.filename}"
        root = self._addresses.get(artifact.index)
        if not self._addresses:
            remedy = "WHEELHOUSE=<a folder that has it>, or the same without OFFLINE=1"
            raise NetworkError(where, "neither in the store nor in a wheelhouse, and no index may be asked", "", remedy)
        if root is None:
            known = ", ".join(sorted(self._addresses))
            raise NetworkError(where, "this index has no address", f"one of {known}", "name it in environments/")
        try:
            listed = simple.listing(self._remote, root, artifact.project, budget)
        except NetworkError as error:
            raise NetworkError(where, f"{error.where}: {error.found}", error.expected, error.remedy) from error
        for item in listed:
            if item.filename == artifact.filename:
                self._judge(artifact, item, where)
                return item
        page = redact(simple.address(root, artifact.project))
        raise NetworkError(where, f"not listed at {page} (moved or removed)", "", _MIRROR)

    def _judge(self, artifact: Artifact, item: DistributionPackage, where: str) -> None:
        """Refuse a file that was replaced on its index; note one that was yanked."""
        listed = item.digests.get("sha256", "").lower()
        if listed and listed != artifact.sha256.hex:
            found = f"listed with sha256:{listed}, so it was replaced"
            raise NetworkError(where, found, f"{artifact.sha256} as locked", _MIRROR)
        if item.is_yanked:
            reason = f" ({item.yanked_reason})" if item.yanked_reason else ""
            self._reporter.note(f"{where} was yanked{reason}; it is still fetched, as locked")


class _Download:
    """One artifact on its way: goes on where a connection broke, never past the lock's size plus one."""

    def __init__(self, artifact: Artifact, url: str, received: Partial, stop: threading.Event) -> None:
        self._artifact, self._url, self._received, self._stop = artifact, url, received, stop
        self._where = redact(url)
        self._farthest = received.size

    def run(self, remote: Remote, reporter: Reporter) -> None:
        """Receive until the bytes are the lock's; refuse others, but what was resumed is first fetched anew."""
        budget, received = remote.budget(self._stop), self._received
        fresh = received.size == 0
        while True:
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
            reporter.note(f"{self._where}: what was resumed is wrong; started again")

    def _connect(self, remote: Remote, budget: Budget, reporter: Reporter) -> None:
        """Append what one connection brings."""
        received, size = self._received, self._artifact.size
        with remote.stream(self._url, received.size, budget) as body:
            if body.start != received.size:
                received.restart()
            if body.total is not None and (body.total > UNSIZED if size is None else body.total != size):
                raise self._refusal(f"{body.total} bytes", f"{UNSIZED if size is None else size}{_AS[size is None]}")
            said = 0.0
            for block in body.blocks:
                self._append(block, budget)
                if time.monotonic() - said > _PROGRESS:
                    said = time.monotonic()
                    reporter.progress(self._artifact.filename, received.size, size or body.total)
        if self._stop.is_set():
            raise StoppedError
        whole = size or body.total or 0
        if received.size < whole:
            raise TransientError(self._where, f"the body ended after {received.size} of {whole} bytes")
        reporter.progress(self._artifact.filename, received.size, received.size)

    def _append(self, block: bytes, budget: Budget) -> None:
        """Take a block, up to the lock's size plus one; new ground renews the budget."""
        if self._stop.is_set():
            raise StoppedError
        received, size = self._received, self._artifact.size
        limit = UNSIZED if size is None else size
        received.write(block[: limit + 1 - received.size])
        if received.size > limit:
            received.restart()
            raise self._refusal(f"more than {limit} bytes", f"{limit}{_AS[size is None]}")
        if received.size >= self._farthest + _RENEWAL:
            self._farthest = received.size
            budget.renew()

    def _refusal(self, found: str, expected: str) -> NetworkError:
        return NetworkError(self._where, found, expected, _MIRROR)
