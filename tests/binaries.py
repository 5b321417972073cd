"""Compiled files made in code: ELF with a dynamic section, Mach-O and PE by their first bytes, and marks within."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What each kind of module leaves in its file, as found in the real ones of `tests/data/facts.json`.
PLAIN_1 = b"\0numpy.core._multiarray_umath\0_ARRAY_API\0numpy.core.multiarray failed to import\0"
PLAIN_2 = b"\0numpy._core._multiarray_umath\0numpy.core._multiarray_umath\0_ARRAY_API\0"
_SIZED = (
    b"\0__pyx_capi__\0numpy\0dtype\0flatiter\0%.200s.%.200s size changed, may indicate binary incompatibility. Exp\0"
)
SIZED_1 = _SIZED + b"numpy.core.multiarray failed to import\0"
SIZED_2 = _SIZED + b"numpy._core.multiarray failed to import\0"
SIZED_OPEN = _SIZED
PYBIND11_1 = b"\0__pybind11_internals_v4\0numpy.core.multiarray\0_ARRAY_API\0"
PYBIND11_2 = b"\0__pybind11_internals_v5\0numpy._core\0numpy.core\0multiarray\0_ARRAY_API\0"
RUST_1 = b"\0pyo3_runtime.PanicException\0numpy.core.multiarray\0_ARRAY_API\0"
RUST_2 = b"\0pyo3_runtime.PanicException\0numpy._core.multiarraynumpy.core.multiarray\0_ARRAY_API\0"
NANOBIND = b"\0nanobind.nb_func\0numpy\0__array_interface__\0"
MEMORYVIEWS = b"\0__pyx_capi__\0numpy\0size changed, may indicate binary incompatibility\0"
MACHO = b"\xcf\xfa\xed\xfe" + bytes(28)
PE = b"MZ" + bytes(62)
_BASE = 0x10000


def elf(
    marks: bytes = b"",
    *,
    needed: Iterable[str] = (),
    versions: Mapping[str, Iterable[str]] | None = None,
    wide: bool = True,
    order: str = "<",
) -> bytes:
    """Return a shared library: the SONAMEs that it needs, and by library the symbol versions that it needs."""
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        at = len(strings)
        strings.extend(value.encode() + b"\0")
        return at

    tags = [(1, text(name)) for name in needed]
    needs = [(text(name), [text(item) for item in items]) for name, items in (versions or {}).items()]
    records = bytearray()
    for at, (name, items) in enumerate(needs):
        last = at == len(needs) - 1
        records += struct.pack(f"{order}HHIII", 1, len(items), name, 16, 0 if last else 16 + 16 * len(items))
        for place, item in enumerate(items):
            records += struct.pack(f"{order}IHHII", 0, 0, 2, item, 0 if place == len(items) - 1 else 16)
    head, entry = (64, 56) if wide else (52, 32)
    start = head + 2 * entry
    strings_at, records_at = start, start + len(strings)
    tags += [(5, _BASE + strings_at), (10, len(strings))]
    if needs:
        tags += [(0x6FFFFFFE, _BASE + records_at), (0x6FFFFFFF, len(needs))]
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *tag) for tag in [*tags, (0, 0)])
    dynamic_at = records_at + len(records)
    body = bytes(strings + records) + dynamic + marks
    size = start + len(body)
    segments = [(1, 0, _BASE, size), (2, dynamic_at, _BASE + dynamic_at, len(dynamic))]
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    form = "HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"
    header = struct.pack(order + form, 3, 62, 1, 0, head, 0, 0, head, entry, 2, 0, 0, 0)
    packed = b"".join(_segment(*item, wide=wide, order=order) for item in segments)
    return ident + header + packed + body


def _segment(kind: int, offset: int, address: int, size: int, *, wide: bool, order: str) -> bytes:
    if wide:
        return struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, address, address, size, size, 8)
    return struct.pack(f"{order}IIIIIIII", kind, offset, address, address, size, size, 4, 4)
