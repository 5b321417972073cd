"""A layer: pieces put in order, and written as a gzipped tar whose bytes no clock, user or compressor decides."""

from __future__ import annotations

import hashlib
import posixpath
import zipfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from torchlock.digest import Digest
from torchlock.errors import ImageError, WheelError
from torchlock.layers import tar
from torchlock.layers.stream import BLOCK, HEAD, Blocks, Sink, Stream
from torchlock.wheels.archive import REMEDY, Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from torchlock.wheels.archive import Member
    from torchlock.wheels.description import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A file that lies packed in the wheel at `path`; `where` is the wheel's name, `row` what its RECORD promises."""

    path: Path
    where: str
    member: Member
    row: Row

    @property
    def sha256(self) -> Digest | None:
        """The digest of its bytes, unless RECORD gives a longer one."""
        return Digest(urlsafe_b64decode(f"{self.row.hash}=").hex()) if self.row.algorithm == "sha256" else None

    def content(self) -> bytes:
        """Return a small file's bytes; raise WheelError where they are not what header and RECORD say."""
        with self.path.open("rb", buffering=0) as file:
            return b"".join(self.blocks(cast("BinaryIO", file)))

    def blocks(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield its bytes from the open wheel in blocks of at most 1 MiB; raise WheelError as `content` does."""
        state = hashlib.new(self.row.algorithm)
        for block in Archive(where=self.where, file=file, members={}).blocks(self.member):
            state.update(block)
            yield block
        if urlsafe_b64encode(state.digest()).rstrip(b"=").decode() != self.row.hash:
            found = f"{self.member.name!r} does not have the {self.row.algorithm} in RECORD"
            raise WheelError(self.where, found, "a RECORD that is true", REMEDY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One entry of a layer and its bytes: none for folders and links."""

    entry: tar.Entry
    content: bytes | Packed | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A layer as it was written: digest and size of the gzip, and the digest of the tar within."""

    digest: Digest
    size: int
    diff_id: Digest


def folder(path: str, mode: int = 0o755) -> Piece:
    """Return a folder."""
    return Piece(entry=tar.Entry(path=path, kind="folder", mode=mode))


def file(path: str, data: bytes, *, executable: bool = False) -> Piece:
    """Return a file of our own."""
    return Piece(entry=tar.Entry(path=path, mode=0o755 if executable else 0o644, size=len(data)), content=data)


def link(path: str, target: str) -> Piece:
    """Return a symbolic link."""
    return Piece(entry=tar.Entry(path=path, kind="link", mode=0o777, target=target))


def arranged(pieces: Iterable[Piece]) -> list[Piece]:
    """Sort pieces by path, add the folders above them, and drop what comes twice with the same bytes.

    A folder that is given prevails over one that is only implied. Raise ImageError where one path is two things.
    """
    found: dict[str, Piece] = {}
    for piece in pieces:
        path = piece.entry.path
        known = found.setdefault(path, piece)
        if known is not piece and not _same(known, piece):
            raise ImageError(path, "two different things in one layer", "one owner for each path")
    for path in list(found):
        above = posixpath.dirname(path)
        while above and above not in found:
            found[above] = folder(above)
            above = posixpath.dirname(above)
    return [found[path] for path in sorted(found)]


def write(
    pieces: Sequence[Piece], sink: Sink, *, known: Blob | None = None, progress: Callable[[int], None] | None = None
) -> Blob:
    """Write a layer of arranged pieces, every packed file checked by CRC, size and RECORD; memory stays below 30 MB.

    With `known`, a blob that is already trusted, nothing is inflated: the bytes only have to be that blob's.
    `progress` is told the bytes written so far. Raise WheelError for a wheel that is damaged and ImageError for
    another blob than the known one; what the sink has taken by then is of no use.
    """
    with ExitStack() as stack:
        writer = _Writer(Stream(sink, progress), stack, known)
        for piece in _in_order(pieces):
            writer.add(piece)
        made = writer.finish()
    if known is not None and made != known:
        found = f"{made.digest} ({made.size} bytes)"
        raise ImageError(_name(pieces), found, f"the known {known.digest} ({known.size} bytes)")
    return made


class _Writer:
    """Both sides of a layer: the gzip that is written, and the digest of the tar within it."""

    def __init__(self, stream: Stream, stack: ExitStack, known: Blob | None) -> None:
        self._stream, self._stack, self._known = stream, stack, known
        self._plain = hashlib.sha256()
        self._pending = bytearray()
        self._open: dict[Path, BinaryIO] = {}

    def add(self, piece: Piece) -> None:
        """Write one entry: its header, its bytes, and the zeros that fill the last block."""
        self._own(tar.header(piece.entry))
        if isinstance(piece.content, bytes):
            self._own(piece.content)
        elif piece.content is not None:
            self._packed(piece.content)
        self._own(tar.padding(piece.entry.size))
        if len(self._pending) >= BLOCK:
            self._flush()

    def finish(self) -> Blob:
        """Write the end; return what was written."""
        self._own(tar.END)
        self._flush()
        self._stream.flush()
        diff_id = Digest(self._plain.hexdigest()) if self._known is None else self._known.diff_id
        return Blob(digest=self._stream.digest, size=self._stream.size, diff_id=diff_id)

    def _own(self, data: bytes) -> None:
        self._pending += data
        if self._known is None:
            self._plain.update(data)

    def _flush(self) -> None:
        if self._pending:
            self._stream.stored(bytes(self._pending))
            self._pending.clear()

    def _packed(self, packed: Packed) -> None:
        """Write a wheel's file as a member of its own; one without bytes takes none."""
        member, source = packed.member, self._wheel(packed.path)
        if member.size:
            self._flush()
            self._stream.put(HEAD)
        if self._known is not None:
            self._copy(member, source)
        elif member.size and member.method != zipfile.ZIP_STORED:
            for block in packed.blocks(cast("BinaryIO", _Tee(source, self._stream))):
                self._plain.update(block)
        else:
            stored = Blocks(self._stream, member.size)
            for block in packed.blocks(source):
                self._plain.update(block)
                stored.put(block)
        if member.size:
            self._stream.end(member.crc, member.size)

    def _copy(self, member: Member, source: BinaryIO) -> None:
        """Write a file's packed bytes and look at none."""
        stored = Blocks(self._stream, member.size) if member.method == zipfile.ZIP_STORED else self._stream
        source.seek(member.offset)
        left = member.compressed_size if member.size else 0
        while left and (data := source.read(min(left, BLOCK))):
            left -= len(data)
            stored.put(data)

    def _wheel(self, path: Path) -> BinaryIO:
        if path not in self._open:
            self._open[path] = self._stack.enter_context(cast("BinaryIO", path.open("rb", buffering=0)))
        return self._open[path]


class _Tee:
    """A wheel that gives a stream, as they are, the bytes that are read of it: what was checked is what is written."""

    def __init__(self, source: BinaryIO, stream: Stream) -> None:
        self.seek, self._read, self._stream = source.seek, source.read, stream

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._stream.put(data)
        return data


def _same(one: Piece, other: Piece) -> bool:
    """Tell whether two pieces are the same in all but the wheel they come from, and whether anyone may execute it."""
    first, second = one.entry, other.entry
    if (first.kind, first.size, first.target) != (second.kind, second.size, second.target):
        return False
    return first.mode == second.mode if first.kind != "file" else _digest(one) == _digest(other)


def _digest(piece: Piece) -> Digest | None:
    content = piece.content
    if isinstance(content, Packed):
        return content.sha256 or Digest.of(content.content())
    return Digest.of(content) if content is not None else None


def _in_order(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give pieces on; raise ImageError where one is out of order, has no folder, or other bytes than it says."""
    last, folders = "", {""}
    for piece in pieces:
        entry, content = piece.entry, piece.content
        if entry.path <= last:
            raise ImageError(entry.path, f"it comes after {last!r}", "the pieces of a layer in order, each path once")
        if posixpath.dirname(entry.path) not in folders:
            raise ImageError(entry.path, "its folder is not in the layer", "every folder above a path before it")
        size = content.member.size if isinstance(content, Packed) else len(content or b"")
        if size != entry.size or (entry.kind == "file") != (content is not None):
            raise ImageError(entry.path, f"a {entry.kind} of {entry.size} bytes with {size}", "the size of its bytes")
        if entry.kind == "folder":
            folders.add(entry.path)
        last = entry.path
        yield piece


def _name(pieces: Iterable[Piece]) -> str:
    """Return what a layer is called in a message: the wheels that it holds."""
    wheels = sorted({piece.content.where for piece in pieces if isinstance(piece.content, Packed)})
    more = f" and {len(wheels) - 3} more wheels" if len(wheels) > 3 else ""
    return f"the layer of {', '.join(wheels[:3]) or 'our own files'}{more}"
