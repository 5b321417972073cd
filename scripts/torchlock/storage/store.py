"""The store: verified artifacts by the sha256 of their bytes, and the partial ones that wait to be finished."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import platformdirs

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import StoreError
from torchlock.reporter import Silent
from torchlock.storage.crew import StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from torchlock.locks.lock import Artifact
    from torchlock.reporter import Reporter

VARIABLE = "TORCHLOCK_STORE"
MARGIN = 16 << 20

_BLOCK = 1 << 20
_ELSEWHERE = f"{VARIABLE}=<a folder that can be written>"
_REMEDIES = {
    errno.ENOSPC: f"free some space, or {VARIABLE}=<a folder on a larger disk>",
    errno.EDQUOT: f"free some space, or {VARIABLE}=<a folder with a larger quota>",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EMFILE: "ulimit -n 1024",
    errno.ENFILE: "close other programs, or raise fs.file-max",
}


class Partial:
    """An `artifact` that is being received: `size` bytes so far, hashed as they come, kept when it is interrupted."""

    def __init__(self, artifact: Artifact, file: BinaryIO) -> None:
        self._file, self.artifact = file, artifact
        self._state = hashlib.sha256()
        self.size = 0
        while block := file.read(_BLOCK):
            self._state.update(block)
            self.size += len(block)
        if artifact.size is not None and self.size > artifact.size:
            self.restart()

    def write(self, block: bytes) -> None:
        """Append bytes."""
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]
        self._state.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget all bytes."""
        self._file.seek(0)
        self._file.truncate()
        self._state = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The sha256 of the bytes so far."""
        return Digest(self._state.hexdigest())

    @property
    def whole(self) -> bool:
        """Whether these are the artifact's bytes."""
        return self.size == (self.size if self.artifact.size is None else self.artifact.size) and (
            self.digest == self.artifact.sha256
        )

    def close(self) -> None:
        """Take no more bytes."""
        self._file.close()


class Store:
    """A folder of artifacts, shared by processes: `wheels/<2 hex>/<sha256>`, whole and read-only, or absent."""

    def __init__(self, root: Path | None = None, reporter: Reporter | None = None) -> None:
        named = os.environ.get(VARIABLE)
        self.root = root or (Path(named) if named else platformdirs.user_cache_path("torchlock"))
        self._reporter = reporter or Silent()

    def path(self, digest: Digest) -> Path:
        """Return where an object lies if it is there."""
        return self.root / "wheels" / digest.hex[:2] / digest.hex

    def get(self, artifact: Artifact, *, verify: bool = True) -> Path | None:
        """Return an artifact's file, or None; with `verify` its bytes are read, and damaged ones set aside first."""
        path = self.path(artifact.sha256)
        with self.guarded(0):
            if not path.is_file():
                return None
            if not verify or self._sound(path, artifact.sha256):
                return path
            return None

    def add(self, artifact: Artifact, source: Path) -> Path:
        """Copy a file into the store, hashing as it is read; refuse other bytes than the artifact's."""
        with self.receiving(artifact) as partial:
            found = self.get(artifact)
            return found or self.copy(artifact, source, partial)

    def copy(self, artifact: Artifact, source: Path, partial: Partial) -> Path:
        """Fill a partial artifact from a file and publish it; refuse a file with other bytes."""
        partial.restart()
        limit = (1 << 62) if artifact.size is None else artifact.size + 1
        with self.guarded(artifact.size or 0), source.open("rb") as file:
            while partial.size < limit and (block := file.read(min(_BLOCK, limit - partial.size))):
                partial.write(block)
        if not partial.whole:
            found, more = partial.digest, "more than " if partial.size == limit else ""
            size = f"{more}{partial.size - bool(more)} bytes"
            partial.restart()
            raise StoreError(
                source,
                f"{found} ({size})" if not more else size,
                f"{artifact.sha256} ({artifact.size or 'any number of'} bytes) as locked",
                "remove the file, or name another WHEELHOUSE=",
            )
        return self.publish(artifact, partial)

    @contextmanager
    def receiving(self, artifact: Artifact) -> Iterator[Partial]:
        """Hold an artifact's lock and its partial file; no other thread or process receives it meanwhile."""
        path = self.root / "partial" / artifact.sha256.hex
        with self.guarded(artifact.size or 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.exclusive(path.with_suffix(".lock"), self._reporter):
                if path.exists():
                    path.chmod(0o644)  # killed just before it was published
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
                with os.fdopen(descriptor, "r+b", buffering=0) as file:
                    partial = Partial(artifact, file)
                    try:
                        yield partial
                    finally:
                        if partial.size == 0:
                            path.unlink(missing_ok=True)

    def obtain(self, artifact: Artifact, stop: threading.Event, fill: Callable[[Partial], Path]) -> Path:
        """Return an artifact's verified file; where it is missing, `fill` completes its partial file and publishes it.

        Raise StoppedError where `stop` is set before it is begun.
        """
        path = self.get(artifact)
        if path is not None:
            return path
        with self.receiving(artifact) as partial:
            if stop.is_set():
                raise StoppedError
            path = self.get(artifact)
            if path is not None:
                return path
            return self.publish(artifact, partial) if partial.whole else fill(partial)

    def publish(self, artifact: Artifact, partial: Partial) -> Path:
        """Make a whole partial artifact an object of the store, durably."""
        if not partial.whole:
            raise StoreError(artifact.filename, str(partial.digest), str(artifact.sha256))
        final = self.path(artifact.sha256)
        with self.guarded(artifact.size or 0):
            if not final.parent.is_dir():
                final.parent.mkdir(parents=True, exist_ok=True)
                files.fsync_folder(final.parent.parent)
            partial.close()
            staged = self.root / "partial" / artifact.sha256.hex
            staged.chmod(0o444)
            files.publish(staged, final)
        return final

    def room(self, needed: int) -> None:
        """Refuse where the disk has less than `needed` bytes and a margin free."""
        free = self._free()
        if free is not None and needed and needed + MARGIN > free:
            raise StoreError(self.root, f"{needed} bytes are needed and {free} are free", "", _REMEDIES[errno.ENOSPC])

    def received(self, artifact: Artifact) -> int:
        """Return how many bytes of an artifact lie here, whole or partial."""
        for path in (self.path(artifact.sha256), self.root / "partial" / artifact.sha256.hex):
            if path.is_file():
                return path.stat().st_size
        return 0

    def _sound(self, path: Path, digest: Digest) -> bool:
        """Read an object; where it is damaged, set it aside unless another process has replaced it meanwhile."""
        before = path.stat()
        found = Digest.of_file(path)
        if found == digest:
            return True
        with files.exclusive(self.root / "partial" / f"{digest.hex}.bad.lock", self._reporter):
            now = path.stat() if path.is_file() else None
            if now is not None and (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns):
                self._set_aside(path, f"damaged: {found}")
        return False

    def _set_aside(self, path: Path, why: str) -> None:
        folder = self.root / "bad"
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while (target := folder / f"{path.name}.{number}").exists():
            number += 1
        path.replace(target)
        where = path.relative_to(self.root).as_posix()
        self._reporter.note(f"store: {where} is {why}; set aside as bad/{target.name}")

    def _free(self) -> int | None:
        folder = self.root
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return None

    @contextmanager
    def guarded(self, needed: int) -> Iterator[None]:
        """Turn what the operating system refuses into a StoreError with the bytes needed and free."""
        try:
            yield
        except OSError as error:
            free = self._free()
            room = f"{needed} bytes are needed and {'an unknown number' if free is None else free} are free"
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise StoreError(self.root, f"{error.strerror or error}; {room}", "", remedy) from error
