"""Tar headers as a function of path, kind, mode and size: POSIX ustar, with pax records only where ustar ends."""

from __future__ import annotations

from dataclasses import dataclass

from torchlock.errors import ImageError

# 1980-01-01T00:00:00Z, the oldest time that a ZIP can hold: the time of every file, and of the image.
EPOCH = 315532800
BLOCK = 512
END = bytes(2 * BLOCK)

# POSIX.1-2017, pax: ustar Interchange Format.
_KINDS = {"file": b"0", "link": b"2", "folder": b"5"}
_NAME, _PREFIX = 100, 155
_LARGEST = 0o77777777777
_BEFORE_SUM, _SUM = 148, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One path of a layer, relative to the root; `kind` is file, folder or link (then `target` is where it leads)."""

    path: str
    kind: str = "file"
    mode: int = 0o644
    size: int = 0
    target: str = ""

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\0" in self.path:
            raise ImageError("a layer", f"the path {self.path!r}", "one below the root without ., .. or empty parts")
        if parts[-1].startswith(".wh."):
            raise ImageError("a layer", f"the path {self.path!r}", "no name that starts by .wh.: to engines it removes")
        if self.kind not in _KINDS or (self.kind != "file" and self.size) or (self.kind == "link") != bool(self.target):
            raise ImageError("a layer", f"{self.path!r} is a {self.kind} of {self.size} bytes to {self.target!r}")


def header(entry: Entry) -> bytes:
    """Return everything that stands before an entry's bytes: a multiple of 512 bytes."""
    path = f"{entry.path}/" if entry.kind == "folder" else entry.path
    names, records = _split(path), {}
    if names is None:
        names, records["path"] = (_short(path), b""), path
    target = entry.target.encode()
    if len(target) > _NAME or not entry.target.isascii():
        target, records["linkpath"] = _short(entry.target), entry.target
    size = entry.size
    if size > _LARGEST:
        size, records["size"] = 0, str(entry.size)
    block = _block(names, entry.mode, size, _KINDS[entry.kind], target)
    return _pax(records) + block if records else block


def padding(size: int) -> bytes:
    """Return the zeros that stand after `size` bytes."""
    return bytes(-size % BLOCK)


def _split(path: str) -> tuple[bytes, bytes] | None:
    """Return the fields `name` and `prefix`, or None where they cannot hold the path."""
    if not path.isascii():
        return None
    data = path.encode()
    if len(data) <= _NAME:
        return data, b""
    at = data.rfind(b"/", 0, min(_PREFIX + 1, len(data) - 1))
    return (data[at + 1 :], data[:at]) if at > 0 and len(data) - at - 1 <= _NAME else None


def _short(text: str) -> bytes:
    """Return what a reader that knows no pax sees of a long or non-ASCII path."""
    return text.encode("ascii", "replace")[:_NAME]


def _block(names: tuple[bytes, bytes], mode: int, size: int, kind: bytes, target: bytes = b"") -> bytes:
    """Return one header: owner 0:0 without names, every time the same."""
    name, prefix = names
    head = b"%-100b%07o\x000000000\x000000000\x00%011o\x00%011o\x00" % (b"", mode, size, EPOCH)
    head = name.ljust(_NAME, b"\0") + head[_NAME:]
    tail = kind + target.ljust(_NAME, b"\0") + b"ustar\00000".ljust(72, b"\0") + b"0000000\x000000000\x00"
    tail += prefix.ljust(_PREFIX + 12, b"\0")
    checksum = sum(head) + sum(tail) + _SUM * 0x20
    return head + b"%06o\0 " % checksum + tail


def _pax(records: dict[str, str]) -> bytes:
    """Return an extended header with its records, sorted by keyword."""
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    return _block((b"././@PaxHeader", b""), 0o644, len(data), b"x") + data + padding(len(data))


def _record(key: str, value: str) -> bytes:
    """Return one record, which begins by its own length in decimal digits."""
    rest = f" {key}={value}\n".encode()
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return str(size).encode() + rest
