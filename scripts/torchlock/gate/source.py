"""Where the facts of an artifact come from: the cache, else the wheel in the store, else its index by range."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING

from torchlock.errors import NetworkError
from torchlock.facts import read
from torchlock.network.transport import StatusError

if TYPE_CHECKING:
    from typing import BinaryIO

    from torchlock.facts.cache import Cache
    from torchlock.facts.facts import Facts
    from torchlock.indexes.record import Recorder
    from torchlock.locks.lock import Artifact
    from torchlock.reporter import Reporter
    from torchlock.storage.store import Store


class Source:
    """Give facts, read once each; without a store or a recorder only those that are cached or there.

    An index that does not answer is asked once: what else would come from it is unread, too. Safe for threads.
    """

    def __init__(
        self, cache: Cache, reporter: Reporter, store: Store | None = None, recorder: Recorder | None = None
    ) -> None:
        self.cache = cache
        self._reporter = reporter
        self._store = store
        self._recorder = recorder
        self._silent: dict[str, NetworkError] = {}
        self._unread: set[str] = set()
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def __call__(self, artifact: Artifact) -> Facts | None:
        """Return the facts of an artifact, or None where its bytes cannot be had; raise WheelError for a bad wheel."""
        with self._lock(artifact.sha256.hex):
            found = self.cache.get(artifact.sha256)
            if found is not None or artifact.sha256.hex in self._unread:
                return found
            try:
                with ExitStack() as stack:
                    file = self._opened(artifact)
                    found = read.of_wheel(stack.enter_context(file), artifact.filename) if file else None
            except NetworkError as error:
                self._reporter.note(f"{artifact.filename}: its facts are not read: {error}")
            if found is None:
                self._unread.add(artifact.sha256.hex)
            else:
                self.cache.put(artifact.sha256, found)
            return found

    def _lock(self, key: str) -> threading.Lock:
        with self._guard:
            return self._locks[key]

    def _opened(self, artifact: Artifact) -> BinaryIO | None:
        path = self._store.get(artifact) if self._store else None
        if path is not None:
            return path.open("rb")
        return self._remote(self._recorder, artifact) if self._recorder else None

    def _remote(self, recorder: Recorder, artifact: Artifact) -> BinaryIO | None:
        """Open a wheel on its index, unless that did not answer before."""
        with self._lock(artifact.index):
            if error := self._silent.get(artifact.index):
                raise NetworkError(error.where, error.found)
            try:
                return recorder.open(artifact.index, artifact.project, artifact.filename)
            except StatusError:
                raise
            except NetworkError as error:
                self._silent[artifact.index] = error
                raise
