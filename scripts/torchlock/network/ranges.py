"""Random access to a remote file by HTTP ranges (RFC 9110 section 14), with a cache of blocks."""

from __future__ import annotations

import io
import re
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol

from torchlock.errors import NetworkError
from torchlock.network.transport import redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import requests

    from torchlock.network.budget import Budget

_CACHED = 256
_MOST = 64


class Ranges(Protocol):
    """What gives one range of a remote file."""

    def range(
        self, url: str, wanted: str, budget: Budget
    ) -> AbstractContextManager[tuple[requests.Response, Iterator[bytes]]]:
        """Ask for `first-last` or `-count`."""

    def budget(self) -> Budget:
        """Return a fresh budget."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentRange:
    """The header Content-Range: [start, stop) of total bytes (None where the server does not say)."""

    start: int
    stop: int
    total: int | None

    @classmethod
    def of(cls, text: str | None) -> ContentRange | None:
        """Read the header; None where it is absent or makes no sense."""
        match = re.fullmatch(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", (text or "").strip(), re.IGNORECASE)
        if not match:
            return None
        start, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if last < start or (total is not None and last >= total):
            return None
        return cls(start=start, stop=last + 1, total=total)


class _Raw(io.RawIOBase):
    """The unbuffered file: whole blocks by range, or a local copy where the server has no ranges."""

    def __init__(self, ranges: Ranges, url: str, block: int, limit: int) -> None:
        self._ranges, self._url, self._block, self._limit = ranges, url, block, limit
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._position = 0
        self._copy: BinaryIO | None = None
        self._tag: str | None = None
        self.size = self._open()

    def _open(self) -> int:
        """Ask for the tail, where a wheel has its directory, and learn the size; then for the head if that fails."""
        for wanted in (f"-{self._block}", f"0-{self._block - 1}"):
            budget = self._ranges.budget()
            size = budget.run(partial(self._opened, wanted, budget))
            if size is not None:
                return size
        raise self._refusal("no range of it to be had", "206 or 200 in answer to a range")

    def _opened(self, wanted: str, budget: Budget) -> int | None:
        with self._ranges.range(self._url, wanted, budget) as (response, blocks):
            if response.status_code == 200:
                return self._download(blocks)
            if response.status_code == 206:
                return self._first(response, blocks, tail=wanted.startswith("-"))
            return None

    def _first(self, response: requests.Response, blocks: Iterator[bytes], *, tail: bool) -> int:
        ranged = ContentRange.of(response.headers.get("Content-Range"))
        if ranged is None or ranged.total is None:
            raise self._refusal("a partial answer without a Content-Range and size", "bytes first-last/size")
        start = max(0, ranged.total - self._block) if tail else 0
        if (ranged.start, ranged.stop) != (start, min(ranged.total, start + self._block)):
            raise self._refusal(f"answered from byte {ranged.start} to {ranged.stop}", f"from byte {start}")
        self._tag = response.headers.get("ETag")
        data = self._exactly(blocks, ranged.stop - ranged.start)
        first = -(-start // self._block)
        self._keep(first, data[first * self._block - start :], ranged.total)
        return ranged.total

    def _download(self, blocks: Iterator[bytes]) -> int:
        """Keep the whole file, for a server that ignores ranges."""
        if self._copy is None:
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._copy.seek(0)
        size = 0
        for block in blocks:
            size += self._copy.write(block)
            if size > self._limit:
                raise self._refusal(f"more than {self._limit} bytes, and no ranges", "a smaller file")
        return size

    def _exactly(self, blocks: Iterator[bytes], count: int) -> bytes:
        data = bytearray()
        for block in blocks:
            data += block
            if len(data) > count:
                break
        if len(data) != count:
            raise self._refusal(f"{len(data)} bytes in a range of {count}", "as many as its Content-Range says")
        return bytes(data)

    def _keep(self, first: int, data: bytes, size: int) -> None:
        """Cut data that starts at block `first` into blocks; a block that is not whole is left out."""
        for number in range(first, first + -(-len(data) // self._block)):
            piece = data[(number - first) * self._block :][: self._block]
            if len(piece) == min(self._block, size - number * self._block):
                self._cache[number] = piece
                self._cache.move_to_end(number)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    def _load(self, number: int, wanted: int) -> None:
        """Fetch up to `wanted` absent blocks from `number` on, in one request."""
        count = 1
        while count < min(wanted, _MOST) and number + count not in self._cache:
            count += 1
        start, stop = number * self._block, min(self.size, (number + count) * self._block)
        budget = self._ranges.budget()
        budget.run(partial(self._loaded, start, stop, budget))

    def _loaded(self, start: int, stop: int, budget: Budget) -> None:
        with self._ranges.range(self._url, f"{start}-{stop - 1}", budget) as (response, blocks):
            ranged = ContentRange.of(response.headers.get("Content-Range"))
            if response.status_code != 206 or ranged is None or (ranged.start, ranged.stop) != (start, stop):
                raise self._refusal("another range than the one asked for", f"bytes {start}-{stop - 1}")
            if ranged.total not in {None, self.size} or response.headers.get("ETag") != self._tag:
                raise self._refusal("the file changed while it was read", "one file", "the same again")
            self._keep(start // self._block, self._exactly(blocks, stop - start), self.size)

    def _refusal(self, found: str, expected: str, remedy: str = "") -> NetworkError:
        return NetworkError(redact(self._url), found, expected, remedy)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a seek before the file's start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        count = min(len(buffer), max(0, self.size - self._position))
        if count == 0:
            return 0
        if self._copy is not None:
            self._copy.seek(self._position)
            data = self._copy.read(count)
        else:
            number, skip = divmod(self._position, self._block)
            if number not in self._cache:
                self._load(number, -(-(skip + count) // self._block))
            data = self._cache[number][skip : skip + count]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
        super().close()


class RangeFile(io.BufferedReader):
    """A remote file as a binary file: `read`, `seek` and `tell` as on disk, and `size` in bytes."""

    def __init__(self, ranges: Ranges, url: str, *, block: int, limit: int) -> None:
        raw = _Raw(ranges, url, block, limit)
        self.size = raw.size
        super().__init__(raw, buffer_size=block)
