"""Blobs: verified content of any kind by the sha256 of its bytes, shared by processes, written once."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import filelock

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.locks.lock import Artifact
from torchlock.oci.descriptor import Descriptor
from torchlock.reporter import Silent
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from torchlock.reporter import Reporter
    from torchlock.storage.store import Partial

FOLDER = "sha256"

_WRITING = "writing"
_BUFFER = 1 << 20


class Named(Protocol):
    """What names content: a descriptor, or anything else with a digest and a size."""

    @property
    def digest(self) -> Digest:
        """The sha256 of the bytes."""

    @property
    def size(self) -> int:
        """How many bytes they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What some bytes are called: their digest and their size."""

    digest: Digest
    size: int

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return what bytes are called."""
        return cls(digest=Digest.of(data), size=len(data))

    def descriptor(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Return the descriptor of this content."""
        return Descriptor(media_type=media_type, digest=self.digest, size=self.size, annotations=annotations or {})


class Sink:
    """New content on its way in: takes bytes in order and knows their digest and size so far."""

    def __init__(self, blobs: Blobs, path: Path, file: BinaryIO, *, hashing: bool) -> None:
        self._blobs, self._path, self._file = blobs, path, file
        self._state = hashlib.sha256() if hashing else None
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; return how many."""
        try:
            count = self._file.write(data)
        except OSError:
            with self._blobs.guarded(self.size):
                raise
        if self._state is not None:
            self._state.update(data)
        self.size += count
        return count

    @property
    def digest(self) -> Digest:
        """The sha256 of the bytes so far; a sink that does not hash has none."""
        if self._state is None:
            raise ValueError("this sink does not hash")
        return Digest(self._state.hexdigest())

    def commit(self, expected: Named | None = None) -> Content:
        """Make the bytes a blob, durably; refuse others than expected. Take no more.

        A sink that does not hash believes `expected`: its caller has hashed the very bytes that it wrote.
        """
        digest = self.digest if self._state is not None or expected is None else expected.digest
        found = Content(digest=digest, size=self.size)
        if expected is not None and (found.digest, found.size) != (expected.digest, expected.size):
            raise ImageError(
                "a blob that was written",
                f"{found.digest} ({found.size} bytes)",
                f"{expected.digest} ({expected.size} bytes)",
            )
        with self._blobs.guarded(self.size):
            self._file.close()
        self._blobs.take(self._path, found.digest)
        return found


class _Objects(Store):
    """The store's way with objects, in the folder structure of an OCI layout."""

    def path(self, digest: Digest) -> Path:
        """Return where a blob lies if it is there."""
        return self.root / FOLDER / digest.hex


class Blobs:
    """A folder of blobs, `sha256/<hex>`: whole and read-only, or absent; safe for threads and processes."""

    def __init__(self, root: Path, reporter: Reporter | None = None) -> None:
        self.root = root
        self._reporter = reporter or Silent()
        self._objects = _Objects(root, self._reporter)

    def path(self, digest: Digest) -> Path:
        """Return where a blob lies if it is there."""
        return self._objects.path(digest)

    def get(self, descriptor: Named, *, verify: bool = True) -> Path | None:
        """Return a blob's file, or None; with `verify` its bytes are read, and damaged ones set aside first.

        Raise ImageError where the bytes are sound, but the descriptor's size is not theirs.
        """
        path = self._objects.get(_artifact(descriptor), verify=verify)
        if path is not None and (size := path.stat().st_size) != descriptor.size:
            if not verify and self._objects.get(_artifact(descriptor)) is None:
                return None
            raise ImageError(f"a descriptor of {descriptor.digest}", f"{descriptor.size} bytes", f"{size} bytes")
        return path

    def read(self, descriptor: Named) -> bytes:
        """Return a small blob's bytes, verified; raise ImageError where it is not here."""
        path = self.get(descriptor)
        if path is None:
            raise ImageError(self.root, f"{descriptor.digest} is not there", f"a blob of {descriptor.size} bytes")
        return path.read_bytes()

    def add_bytes(self, data: bytes) -> Content:
        """Keep bytes as a blob; return what they are called."""
        found = Content.of(data)
        if self.get(found) is None:
            with self.writing() as sink:
                sink.write(data)
                sink.commit(found)
        return found

    @contextmanager
    def writing(self, *, hashing: bool = True) -> Iterator[Sink]:
        """Give a sink for content whose digest is learnt by writing it; what is not committed is removed."""
        with self._alive() as path:
            with self.guarded(0):
                file = path.open("wb", buffering=_BUFFER)
            try:
                yield Sink(self, path, file, hashing=hashing)
            finally:
                with suppress(OSError):  # a full disk, met once more while the buffer is emptied
                    file.close()
                path.unlink(missing_ok=True)

    def take(self, staged: Path, digest: Digest) -> None:
        """Make a finished file of this folder a blob, durably, unless the blob is here by now."""
        final = self.path(digest)
        with self.guarded(0):
            if not final.parent.is_dir():
                final.parent.mkdir(parents=True, exist_ok=True)
                files.fsync_folder(self.root)
            staged.chmod(0o444)
            files.publish(staged, final)

    @contextmanager
    def receiving(self, descriptor: Named) -> Iterator[Partial]:
        """Hold a blob's lock and its partial file, to be resumed; no other thread or process receives it meanwhile."""
        with self._objects.receiving(_artifact(descriptor)) as partial:
            yield partial

    def publish(self, descriptor: Named, partial: Partial) -> Path:
        """Make a whole partial a blob, durably; raise StoreError for other bytes than the descriptor's."""
        return self._objects.publish(_artifact(descriptor), partial)

    def room(self, needed: int) -> None:
        """Refuse where the disk has less than `needed` bytes and a margin free."""
        self._objects.room(needed)

    def received(self, descriptor: Named) -> int:
        """Return how many bytes of a blob lie here, whole or partial."""
        return self._objects.received(_artifact(descriptor))

    @contextmanager
    def guarded(self, needed: int) -> Iterator[None]:
        """Turn what the operating system refuses into a StoreError with the bytes needed and free."""
        with self._objects.guarded(needed):
            yield

    @contextmanager
    def _alive(self) -> Iterator[Path]:
        """Give a path of our own, held by a kernel lock; sweep away those whose processes have died."""
        folder = self.root / _WRITING
        with self.guarded(0), files.exclusive(folder / "sweep.lock", Silent()):
            for old in folder.glob(f"{files.TEMPORARY}*.lock"):
                with suppress(filelock.Timeout), filelock.FileLock(old, blocking=False):
                    old.with_suffix("").unlink(missing_ok=True)
                    old.unlink(missing_ok=True)
            path = folder / f"{files.TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
            mine = filelock.FileLock(f"{path}.lock")
            mine.acquire()
        try:
            yield path
        finally:
            mine.release()
            (folder / f"{path.name}.lock").unlink(missing_ok=True)


def _artifact(descriptor: Named) -> Artifact:
    """Name a blob as the store wants its objects named."""
    return Artifact(
        project="",
        version="",
        filename=str(descriptor.digest),
        sha256=descriptor.digest,
        size=descriptor.size,
        upload_time=None,
        index="",
    )
