"""A ZIP archive that can be read in one way only: strict where `zipfile` is lax."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, cast

from isal import isal_zlib

from torchlock.errors import WheelError
from torchlock.wheels.names import conflicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 1 << 20
INPUT = 256 << 10
# What `zipfile` raises for bytes that are no ZIP; NotImplementedError is a RuntimeError.
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, struct.error, EOFError)
REMEDY = "do not install this file; choose another version, or report it to the package's authors"

# APPNOTE.TXT 6.3.10: 4.3.7 local header, 4.3.9 data descriptor, 4.3.14 and 4.3.15 ZIP64 end, 4.3.16 end.
_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_DESCRIPTORS = {
    12: struct.Struct("<3L"),
    16: struct.Struct("<4x3L"),
    20: struct.Struct("<L2Q"),
    24: struct.Struct("<4xL2Q"),
}
_LOCAL_MAGIC, _DESCRIPTOR_MAGIC = b"PK\x03\x04", b"PK\x07\x08"
_END_MAGIC, _END64_MAGIC, _LOCATOR64_MAGIC = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_RATIO, _RATIO_FLOOR = 50, 64 << 20
_IsalError = cast("type[Exception]", isal_zlib.error)  # its stub says instance


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive: `compressed_size` bytes at `offset`, raw deflate or stored, give `size` bytes."""

    name: str
    method: int
    crc: int
    size: int
    compressed_size: int
    offset: int
    mode: int

    @property
    def executable(self) -> bool:
        """Tell whether anyone may execute it."""
        return bool(self.mode & 0o111)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """The files of a ZIP, in the order of their bytes; folders are implied by their names."""

    where: str
    file: BinaryIO
    members: Mapping[str, Member]

    @classmethod
    def read(cls, file: BinaryIO, where: str) -> Archive:
        """Read the whole structure of a ZIP; raise WheelError that lists every ambiguity found."""
        end, count = _end(file, where)
        try:
            with zipfile.ZipFile(file) as reader:
                infos = sorted(reader.infolist(), key=lambda info: info.header_offset)
        except UNREADABLE as error:
            raise WheelError(where, f"its central directory cannot be read ({error})", remedy=REMEDY) from error
        issues = [] if len(infos) == count else [f"{len(infos)} entries where its end record says {count}"]
        issues += conflicts(info.orig_filename for info in infos)
        for info in infos:
            issues += [f"{info.orig_filename!r} {issue}" for issue in _entry(info)]
        members, found = _layout(file, infos, end)
        issues += found
        total, packed = sum(m.size for m in members), sum(m.compressed_size for m in members)
        if total > _RATIO_FLOOR and total > _MAX_RATIO * packed:
            issues.append(f"its {packed} bytes claim to hold {total}, more than {_MAX_RATIO}:1")
        if issues:
            raise WheelError(where, listing(issues), "a ZIP that can be read in one way only", REMEDY)
        return cls(where=where, file=file, members={m.name: m for m in members if not m.name.endswith("/")})

    def blocks(self, member: Member) -> Iterator[bytes]:
        """Yield a file's bytes in blocks of at most 1 MiB; raise WheelError where they are not what its header says."""
        total, crc = 0, 0
        for block in self._stored(member) if member.method == zipfile.ZIP_STORED else self._inflated(member):
            total += len(block)
            if total > member.size:
                raise WheelError(self.where, f"{member.name!r} holds more than its {member.size} bytes", remedy=REMEDY)
            crc = isal_zlib.crc32(block, crc)
            yield block
        if total != member.size:
            raise WheelError(self.where, f"{member.name!r} holds {total} bytes, not {member.size}", remedy=REMEDY)
        if crc != member.crc:
            raise WheelError(self.where, f"{member.name!r} has the CRC {crc:08x}, not {member.crc:08x}", remedy=REMEDY)

    def bytes_of(self, member: Member, limit: int = 64 << 20) -> bytes:
        """Return a small file's bytes; raise WheelError where it is larger than `limit`."""
        if member.size > limit:
            raise WheelError(self.where, f"{member.name!r} holds {member.size} bytes", f"at most {limit}", REMEDY)
        return b"".join(self.blocks(member))

    def _stored(self, member: Member) -> Iterator[bytes]:
        self.file.seek(member.offset)
        left = member.compressed_size
        while left:
            block = self.file.read(min(left, BLOCK))
            if not block:
                return
            left -= len(block)
            yield block

    def _inflated(self, member: Member) -> Iterator[bytes]:
        stream = isal_zlib.decompressobj(-15)
        self.file.seek(member.offset)
        left = member.compressed_size
        try:
            while not stream.eof:
                data = stream.unconsumed_tail or self.file.read(min(left, INPUT))
                left -= 0 if stream.unconsumed_tail else len(data)
                block = stream.decompress(data, BLOCK)
                if block:
                    yield block
                elif not data:
                    break
        except _IsalError as error:
            raise WheelError(self.where, f"{member.name!r} cannot be inflated ({error})", remedy=REMEDY) from error
        if not stream.eof or left or stream.unused_data:
            raise WheelError(self.where, f"{member.name!r} is not one whole deflate stream", remedy=REMEDY)


def listing(issues: Sequence[str], most: int = 8) -> str:
    """Join issues on one line, the first few in words and the rest as a count."""
    more = [f"and {len(issues) - most} more"] if len(issues) > most else []
    return "; ".join([*issues[:most], *more])


def _end(file: BinaryIO, where: str) -> tuple[int, int]:
    """Return start and count of the central directory; raise WheelError unless the end records are the last bytes."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    data = file.read(_END.size)
    if len(data) < _END.size or not data.startswith(_END_MAGIC) or not data.endswith(b"\0\0"):
        found = "it does not end in a ZIP end record: it is truncated, or something follows"
        raise WheelError(where, found, "a whole ZIP and nothing else", REMEDY)
    fields: tuple[int, ...] = _END.unpack(data)[1:7]
    at = size - _END.size
    file.seek(max(0, at - _LOCATOR64.size))
    locator = file.read(min(at, _LOCATOR64.size))
    if locator.startswith(_LOCATOR64_MAGIC):
        at, fields = _end64(file, where, at, locator, fields)
    disk, first_disk, here, count, length, start = fields
    if disk or first_disk or here != count:
        raise WheelError(where, "it is a part of a ZIP on several disks", "one file", REMEDY)
    if start + length != at:
        raise WheelError(where, "its end record does not follow its central directory", "no other bytes", REMEDY)
    return start, count


def _end64(file: BinaryIO, where: str, at: int, locator: bytes, narrow: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Read the ZIP64 end record before `at`; raise WheelError unless the plain one says the same."""
    _, _, offset, disks = _LOCATOR64.unpack(locator)
    expected = at - _LOCATOR64.size - _END64.size
    file.seek(max(0, expected))
    record = file.read(_END64.size)
    if disks > 1 or offset != expected or not record.startswith(_END64_MAGIC):
        raise WheelError(where, "its ZIP64 end record is not where its locator says", remedy=REMEDY)
    _, rest, _, _, *wide = _END64.unpack(record)
    escapes = (_FULL16, _FULL16, _FULL16, _FULL16, _FULL32, _FULL32)
    agree = all(a in (b, escape) for a, b, escape in zip(narrow, wide, escapes, strict=True))
    if rest != _END64.size - 12 or not agree:
        raise WheelError(where, "its two end records disagree", remedy=REMEDY)
    return offset, tuple(wide)


def _entry(info: zipfile.ZipInfo) -> Iterator[str]:
    """Yield what is wrong with one central directory entry."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        yield "is a symbolic link"
    elif kind and kind != (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        yield "is not a plain file"
    if info.flag_bits & _ENCRYPTED:
        yield "is encrypted"
    if info.compress_type not in _METHODS:
        yield f"is compressed by method {info.compress_type}, not stored (0) or deflated (8)"
    if info.volume:
        yield "lies on another disk"
    if info.file_size and name.endswith("/"):
        yield "is a folder with contents"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        yield f"is stored, yet {info.compress_size} bytes are to give {info.file_size}"
    if not name.isascii() and not info.flag_bits & _UTF8:
        yield "has a name in no declared encoding"
    if _UNICODE_PATH_EXTRA in _extras(info.extra):
        yield "has a second name"


def _extras(data: bytes) -> dict[int, bytes]:
    """Return extra fields by their kind; what cannot be split is left out."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        kind, size = struct.unpack_from("<2H", data)
        found.setdefault(kind, data[4 : 4 + size])
        data = data[4 + size :]
    return found


def _layout(file: BinaryIO, infos: list[zipfile.ZipInfo], end: int) -> tuple[list[Member], list[str]]:
    """Read the local headers of entries sorted by offset, which must fill the file up to `end`."""
    members, issues = [], []
    starts = [*(info.header_offset for info in infos), end]
    if starts[0]:
        issues.append(f"{starts[0]} bytes before its first member")
    for info, (start, following) in zip(infos, pairwise(starts), strict=True):
        file.seek(start)
        header = file.read(min(_LOCAL.size, max(0, end - start)))
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_MAGIC):
            issues.append(f"{info.orig_filename!r} has no local header")
            continue
        *_, name_size, extra_size = _LOCAL.unpack(header)
        rest = file.read(name_size + extra_size)
        offset = start + _LOCAL.size + name_size + extra_size
        file.seek(offset + info.compress_size)
        gap = following - offset - info.compress_size
        tail = file.read(gap) if gap in _DESCRIPTORS else b""
        found = [*_local(info, header, rest), *_following(info, gap, tail)]
        issues += [f"{info.orig_filename!r} {issue}" for issue in found]
        members.append(
            Member(
                name=info.orig_filename,
                method=info.compress_type,
                crc=info.CRC,
                size=info.file_size,
                compressed_size=info.compress_size,
                offset=offset,
                mode=info.external_attr >> 16,
            )
        )
    return members, issues


def _local(info: zipfile.ZipInfo, header: bytes, rest: bytes) -> Iterator[str]:
    """Yield where a local header, and the name and extra fields after it, disagree with the central directory."""
    _, _, flags, method, _, _, crc, packed, size, name_size, _ = _LOCAL.unpack(header)
    name, extras = rest[:name_size], _extras(rest[name_size:])
    if name != info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437"):
        yield "has another name in its local header"
    if (flags, method) != (info.flag_bits, info.compress_type):
        yield "has other flags or another method in its local header"
    if _UNICODE_PATH_EXTRA in extras:
        yield "has a second name in its local header"
    if _FULL32 in (packed, size) and len(extras.get(_ZIP64_EXTRA, b"")) >= 16:
        size, packed = struct.unpack_from("<2Q", extras[_ZIP64_EXTRA])
    if info.flag_bits & _DESCRIPTOR and info.compress_type == zipfile.ZIP_STORED and size != info.file_size:
        yield "is stored without its size in its local header"
    later = info.flag_bits & _DESCRIPTOR and not any((crc, packed, size))
    if (crc, packed, size) != (info.CRC, info.compress_size, info.file_size) and not later:
        yield "has another size or CRC in its local header"


def _following(info: zipfile.ZipInfo, gap: int, tail: bytes) -> Iterator[str]:
    """Yield what is wrong with the bytes between a member and the next: none, or its data descriptor."""
    if gap < 0:
        yield "overlaps what follows it"
    elif not info.flag_bits & _DESCRIPTOR:
        if gap:
            yield f"is followed by {gap} bytes that belong to nothing"
    elif (
        not tail
        or (len(tail) in (16, 24) and not tail.startswith(_DESCRIPTOR_MAGIC))
        or _DESCRIPTORS[gap].unpack(tail) != (info.CRC, info.compress_size, info.file_size)
    ):
        yield "is not followed by its data descriptor"
