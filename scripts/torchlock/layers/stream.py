"""A gzip stream of many members, none of them made by a compressor: deflate copied, and stored blocks."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Protocol

from isal import isal_zlib

from torchlock.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable


BLOCK = 1 << 20

# RFC 1952: deflate, no flags, no time, no extra flags, an unknown system.
HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_TAIL = struct.Struct("<2L")
# RFC 1951, 3.2.4: a stored block, last or not, with its length and the complement.
_STORED = struct.Struct("<B2H")
_LARGEST = 0xFFFF


class Sink(Protocol):
    """Takes bytes in order."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take all of some bytes."""


class Stream:
    """The compressed side of a layer: gathers small pieces, hashes and counts what it gives its sink.

    `progress` is told the bytes given so far.
    """

    def __init__(self, sink: Sink, progress: Callable[[int], None] | None = None) -> None:
        self._sink, self._progress = sink, progress
        self._state = hashlib.sha256()
        self._parts: list[bytes | memoryview] = []
        self._waiting = 0
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of everything given to the sink."""
        return Digest(self._state.hexdigest())

    def put(self, data: bytes | memoryview) -> None:
        """Append bytes as they are."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Give the sink what has been gathered."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._waiting = [], 0
        if data:
            self._state.update(data)
            self._sink.write(data)
            self.size += len(data)
            if self._progress is not None:
                self._progress(self.size)

    def end(self, crc: int, size: int) -> None:
        """End a member whose bytes have this CRC and size."""
        self.put(_TAIL.pack(crc, size & 0xFFFFFFFF))

    def stored(self, data: bytes) -> None:
        """Append a member of stored blocks."""
        self.put(HEAD)
        Blocks(self, len(data)).put(data)
        self.end(isal_zlib.crc32(data), len(data))


class Blocks:
    """The stored blocks of a member of `size` bytes, cut at the same places however the bytes arrive."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._left = size
        self._room = 0

    def put(self, data: bytes) -> None:
        """Append bytes, in all no more than promised."""
        view = memoryview(data)
        while view:
            if not self._room:
                self._room = min(_LARGEST, self._left)
                self._stream.put(_STORED.pack(self._room == self._left, self._room, self._room ^ _LARGEST))
            part = view[: self._room]
            self._stream.put(part)
            self._room -= len(part)
            self._left -= len(part)
            view = view[len(part) :]
