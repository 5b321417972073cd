"""The bytes of one compiled file: its format, the libraries that it links, and the marks of NumPy's C-API."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.errors import WheelError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

_MACHO = (
    *(b"\xfe\xed\xfa\xce", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe"),
    *(b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"),  # several architectures in one file
)
# The ELF specification (gABI 4.1, chapters 4 and 5) and the Linux Standard Base's symbol versions (LSB 5.0, 10.7.3).
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _VERNEED, _VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF
_MOST = 4096  # entries of any table; the largest known has 60

# What NumPy's headers and their users leave in a module. `import_array` of NumPy 2's headers tries both names, that of
# NumPy 1's only its own; NumPy's Cython declarations hold a message of the same spelling; pybind11 before 2.12 and
# Rust's `numpy` crate before 0.22 look the old name up by themselves, and their successors try the new one first.
_PLAIN = {"2": b"numpy._core._multiarray_umath", "1": b"numpy.core._multiarray_umath"}
_MESSAGE = {"2": b"numpy._core.multiarray failed to import", "1": b"numpy.core.multiarray failed to import"}
_SIZED = (b"flatiter", b"size changed, may indicate binary incompatibility")
_LOOKUP = {"2": b"numpy._core", "1": b"numpy.core.multiarray"}
_TABLE = b"_ARRAY_API"
_PYBIND11, _PYBIND11_LOOKUP = b"pybind11", b"numpy.core.multiarray\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """What a file asks of others: the libraries by SONAME, and the versions of their symbols (`GLIBC_2.17`)."""

    needed: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How a module uses NumPy: `how` is plain (import_array), sized (Cython's size checks alone) or late (by lookup).

    `numpy` is empty where a sized module does not tell for which generation it was built.
    """

    how: str
    numpy: str


def kind(data: bytes | mmap.mmap) -> str | None:
    """Return elf, macho or pe; None for anything else, such as a linker's script."""
    magic = data[:4]
    if magic == b"\x7fELF":
        return "elf"
    if magic in _MACHO:
        return "macho"
    return "pe" if magic[:2] == b"MZ" else None


def mark(data: bytes) -> Mark | None:
    """Return how a module uses NumPy's C-API; None where it does not."""
    if b"numpy" not in data:
        return None
    for numpy, text in _PLAIN.items():
        if text in data:
            # Both in one: what import_array takes does not help what pybind11 looks up.
            old = numpy == "2" and _PYBIND11 in data and _PYBIND11_LOOKUP in data
            return Mark(how="late", numpy="1") if old else Mark(how="plain", numpy=numpy)
    if all(text in data for text in _SIZED):
        return Mark(how="sized", numpy=next((numpy for numpy, text in _MESSAGE.items() if text in data), ""))
    if _TABLE in data:
        for numpy, text in _LOOKUP.items():
            if text in data:
                return Mark(how="late", numpy=numpy)
    return None


def links(data: bytes | mmap.mmap, where: str) -> Links:
    """Read the dynamic section of an ELF file; nothing for other formats, WheelError for a damaged one."""
    if kind(data) != "elf":
        return Links()
    try:
        return _Elf(data).links()
    except (struct.error, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise WheelError(where, f"a damaged ELF file ({error})", "a whole one", "fetch it again") from error


class _Elf:
    """The tables of an ELF file, of either word size and byte order, found through its program headers."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        if data[4:5] not in {b"\1", b"\2"} or data[5:6] not in {b"\1", b"\2"}:
            raise ValueError("neither 32 nor 64 bits")
        self._wide, self._order = data[4] == 2, "<" if data[5] == 1 else ">"
        if self._wide:
            (start,) = self._unpack("Q", 32)
            size, count = self._unpack("HH", 54)
        else:
            (start,) = self._unpack("I", 28)
            size, count = self._unpack("HH", 42)
        if count > _MOST:
            raise ValueError("too many program headers")
        self._segments = [self._segment(start + at * size) for at in range(count)]

    def links(self) -> Links:
        """Return what the dynamic section asks for; nothing where there is none."""
        tags = list(self._tags())
        values = dict(tags)
        if _STRTAB not in values:
            return Links()
        strings = self._offset(values[_STRTAB])
        needed = [self._text(strings + value) for tag, value in tags if tag == _NEEDED]
        versions = list(self._versions(values, strings)) if _VERNEED in values else []
        return Links(needed=tuple(needed), versions=tuple(sorted(set(versions))))

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        if at < 0:
            raise ValueError("a negative offset")
        return struct.unpack_from(self._order + form, self._data, at)

    def _segment(self, at: int) -> tuple[int, int, int, int]:
        """Return a segment's kind, offset, address and size in the file."""
        if self._wide:
            what, _, offset, address, _, size = self._unpack("IIQQQQ", at)
        else:
            what, offset, address, _, size = self._unpack("5I", at)
        return what, offset, address, size

    def _tags(self) -> Iterator[tuple[int, int]]:
        form, step = ("qQ", 16) if self._wide else ("iI", 8)
        for what, offset, _, size in self._segments:
            if what != _DYNAMIC:
                continue
            for at in range(offset, offset + min(size, _MOST * step), step):
                tag, value = self._unpack(form, at)
                if tag == 0:
                    return
                yield tag, value

    def _offset(self, address: int) -> int:
        for what, offset, start, size in self._segments:
            if what == _LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError(f"no segment holds the address {address:#x}")

    def _text(self, at: int) -> str:
        end = self._data.find(b"\0", at, at + _MOST)
        if at < 0 or end < 0:
            raise ValueError("a text without an end")
        return self._data[at:end].decode("utf-8", "backslashreplace")

    def _versions(self, values: dict[int, int], strings: int) -> Iterator[str]:
        """Yield the symbol versions that are needed (the records Verneed and Vernaux)."""
        at = self._offset(values[_VERNEED])
        for _ in range(min(values.get(_VERNEEDNUM, 0), _MOST)):
            _, count, _, first, following = self._unpack("HHIII", at)
            inner = at + first
            for _ in range(min(count, _MOST)):
                _, _, _, name, step = self._unpack("IHHII", inner)
                yield self._text(strings + name)
                inner += step
            at += following
