"""Tar headers as other tools write them (ustar, pax, GNU long names), read strictly, one entry at a time."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Take = Callable[[int], bytes]

BLOCK = 512

_KINDS = {b"0": "file", b"\0": "file", b"1": "hardlink", b"2": "link", b"5": "folder"}
_SPECIAL = {b"3": "the character device", b"4": "the block device", b"6": "the named pipe", b"S": "the sparse file"}
_LONG = {b"L": "path", b"K": "linkpath"}
# POSIX, GNU, and what was before them; only the first has a prefix, up to byte 500, and nothing more.
_USTAR = b"ustar\00000"
_MAGICS = (_USTAR, b"ustar  \0", bytes(8))
_NUMBERS = ("size", "mode", "uid", "gid", "mtime")
_FIELDS = {
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "devmajor": (329, 8),
    "devminor": (337, 8),
}
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_DECIMAL = re.compile(r"(-?[0-9]{1,20})(\.[0-9]*)?")
_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
# What pax may say of an entry; the keywords of vendors hold extended attributes, and are not looked into.
_KNOWN = {"path", "linkpath", "size", "uid", "gid", "mtime"}
_IGNORED = re.compile(r"(uname|gname|atime|ctime|comment|hdrcharset|charset)|(SCHILY|LIBARCHIVE|MSWINDOWS|RHT)\..+")
_EXTENDED, _NAME = 1 << 20, 4096


class HeaderError(Exception):
    """Raised where a header cannot be read in one way only; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a header says of one entry; `path` and `target` are as it spells them, `size` is in bytes."""

    path: str
    kind: str
    mode: int
    size: int
    target: str
    uid: int
    gid: int
    mtime: int


def read(take: Take) -> Header | None:
    """Read the next entry's headers, or None at the block of zeros that ends a tar; raise HeaderError.

    `take(n)` gives the next n bytes.
    """
    extended: dict[str, str] = {}
    seen: set[bytes] = set()
    while any(block := take(BLOCK)):
        _check(block)
        kind = block[156:157]
        if kind in (b"x", b"g", *_LONG):
            if kind in seen:
                raise HeaderError("two extended headers of one kind before one entry")
            seen.add(kind)
            data = _content(take, _number(block, "size"))
            found = _pax(data) if kind in (b"x", b"g") else {_LONG[kind]: _name(data.removesuffix(b"\0"))}
            if kind == b"g" and found:
                raise HeaderError(f"a global header that sets {', '.join(sorted(found))}")
            extended = found | extended if kind in _LONG else extended | found
        elif kind in _KINDS:
            return _header(block, _KINDS[kind], extended)
        else:
            raise HeaderError(f"{_SPECIAL.get(kind, f'an entry of the type {kind!r},')} {_path(block, extended)!r}")
    if seen:
        raise HeaderError("an extended header without an entry")
    return None


def _check(block: bytes) -> None:
    if _octal(block[148:156]) != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
        raise HeaderError("a header whose checksum is wrong")
    if block[257:265] not in _MAGICS or any(block[500 if block[257:265] == _USTAR else 345 :]):
        raise HeaderError("a header of an unknown dialect")
    for name in _FIELDS:
        _number(block, name)


def _header(block: bytes, kind: str, extended: Mapping[str, str]) -> Header:
    path, target = _path(block, extended), extended.get("linkpath")
    if target is None:
        target = _text(block[157:257])
    numbers = {name: _decimal(extended, name) if name in extended else _number(block, name) for name in _NUMBERS}
    if kind != "folder" and path.endswith("/"):
        raise HeaderError(f"{path!r} is a {kind}, and its name ends like a folder's")
    if numbers["size"] < 0 or (kind != "file" and numbers["size"]):
        raise HeaderError(f"{path!r} is a {kind} of {numbers['size']} bytes")
    target = target if kind in ("link", "hardlink") else ""
    return Header(path=path, kind=kind, target=target, **{**numbers, "mode": numbers["mode"] & 0o7777})


def _path(block: bytes, extended: Mapping[str, str]) -> str:
    if "path" in extended:
        return extended["path"]
    prefix, name = _text(block[345:500]), _text(block[:100])
    return f"{prefix}/{name}" if prefix else name


def _content(take: Take, size: int) -> bytes:
    if not 0 < size <= _EXTENDED:
        raise HeaderError(f"an extended header of {size} bytes")
    return take(size + -size % BLOCK)[:size]


def _pax(data: bytes) -> dict[str, str]:
    """Return the records of an extended header that say something about a path."""
    found: dict[str, str] = {}
    seen = set()
    while data:
        match = _LENGTH.match(data)
        size = int(match[1]) if match else 0
        record, data = data[:size], data[size:]
        raw, equals, value = record[len(match[0]) if match else 0 : -1].partition(b"=")
        key = raw.decode("utf-8", "replace")
        if len(record) != size or not record.endswith(b"\n") or not equals:
            raise HeaderError("an extended header that cannot be read")
        if key in seen or not (key in _KNOWN or _IGNORED.fullmatch(key)):
            raise HeaderError(f"an extended header that says {'twice' if key in seen else 'the unknown'} {key[:80]!r}")
        seen.add(key)
        if key in _KNOWN:
            found[key] = _name(value)
    return found


def _name(data: bytes) -> str:
    """Return a name that is long or not in ASCII."""
    if not 0 < len(data) <= _NAME:
        raise HeaderError(f"a name of {len(data)} bytes")
    return _text(data, whole=True)


def _text(data: bytes, *, whole: bool = False) -> str:
    data = data if whole else data.partition(b"\0")[0]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise HeaderError(f"the name {data[:80]!r}, which is not UTF-8") from error
    if not text.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in text):
        raise HeaderError(f"the name {text[:80]!r}, which holds a control character")
    return text


def _number(block: bytes, name: str) -> int:
    start, size = _FIELDS[name]
    field = block[start : start + size]
    if field[0] in (0x80, 0xFF):  # GNU: base 256, positive or negative
        return int.from_bytes(field[field[0] == 0x80 :], "big", signed=field[0] == 0xFF)
    return _octal(field)


def _octal(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise HeaderError(f"the number {field!r}")
    return int(match[1] or b"0", 8)


def _decimal(extended: Mapping[str, str], name: str) -> int:
    match = _DECIMAL.fullmatch(extended[name])
    if match is None:
        raise HeaderError(f"the {name} {extended[name][:80]!r}")
    return int(match[1])
