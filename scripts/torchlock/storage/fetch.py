"""Fetching: what a lock names is brought into the store, in parallel, resumed, and verified while it comes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import NetworkError, StoreError
from torchlock.indexes import simple
from torchlock.network.transport import redact
from torchlock.reporter import Silent
from torchlock.storage.crew import Crew
from torchlock.storage.reception import Reception

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
            path = self.store.obtain(artifact, stop, partial(self._fill, artifact, stop))
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

    def _fill(self, artifact: Artifact, stop: threading.Event, received: Partial) -> Path:
        """Copy an artifact from a wheelhouse, or fetch it from its index; return its verified file."""
        for folder in self._wheelhouses:
            if (folder / artifact.filename).is_file():
                return self.store.copy(artifact, folder / artifact.filename, received)
        self.store.room((artifact.size or 0) - received.size)
        url = self._found(artifact, self._remote.budget(stop)).url
        where, budget = redact(url), self._remote.budget(stop)

        def refusal(found: str | Digest, expected: int | Digest) -> NetworkError:
            bound = "at most" if artifact.size is None and isinstance(expected, int) else "as locked"
            return NetworkError(where, str(found), f"{expected} {bound}", _MIRROR)

        Reception(
            received,
            lambda offset: self._remote.stream(url, offset, budget),
            refusal,
            where=where,
            task=artifact.filename,
            reporter=self._reporter,
            stop=stop,
            budget=budget,
        ).run()
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
