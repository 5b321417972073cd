"""The bytes of one compiled file: formats, links, and the marks of NumPy's C-API."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import binaries
from torchlock.errors import WheelError
from torchlock.facts.binary import Links, Mark, kind, links, mark

LINKED = {"libc.so.6": ["GLIBC_2.17", "GLIBC_2.2.5"], "libstdc++.so.6": ["GLIBCXX_3.4.19"]}
WHOLE = binaries.elf(binaries.PLAIN_1, needed=["libcudart.so.12", "libc.so.6"], versions=LINKED)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (binaries.PLAIN_1, Mark(how="plain", numpy="1")),
        (binaries.PLAIN_2, Mark(how="plain", numpy="2")),
        (binaries.SIZED_1, Mark(how="sized", numpy="1")),
        (binaries.SIZED_2, Mark(how="sized", numpy="2")),
        (binaries.SIZED_OPEN, Mark(how="sized", numpy="")),
        (binaries.PYBIND11_1, Mark(how="late", numpy="1")),
        (binaries.PYBIND11_2, Mark(how="late", numpy="2")),
        (binaries.RUST_1, Mark(how="late", numpy="1")),
        (binaries.RUST_2, Mark(how="late", numpy="2")),
        (binaries.PLAIN_1 + binaries.PYBIND11_1, Mark(how="plain", numpy="1")),
        (binaries.PLAIN_2 + binaries.PYBIND11_2, Mark(how="plain", numpy="2")),
        (binaries.PLAIN_2 + binaries.PYBIND11_1, Mark(how="late", numpy="1")),
        (binaries.PLAIN_2 + binaries.SIZED_1, Mark(how="plain", numpy="2")),
        (binaries.NANOBIND, None),
        (binaries.MEMORYVIEWS, None),
        (b"\0_ARRAY_API\0", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("shell", [binaries.elf(), binaries.MACHO, binaries.PE])
def test_every_kind_of_module_tells_its_generation(shell: bytes, marks: bytes, expected: Mark | None) -> None:
    """C, Cython, pybind11 and Rust leave different marks, the same ones in every format; nanobind leaves none."""
    assert mark(shell + marks) == expected


def test_formats_are_told_by_their_first_bytes() -> None:
    """ELF, Mach-O (of one or of several architectures) and PE; a linker's script is none of them."""
    assert kind(WHOLE) == "elf"
    assert kind(binaries.MACHO) == kind(b"\xca\xfe\xba\xbe" + bytes(8)) == "macho"
    assert kind(binaries.PE) == "pe"
    assert kind(b"INPUT(libfoo.so)") is kind(b"") is None


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_links_are_read_of_any_word_size_and_order(wide: bool, order: str) -> None:
    """The SONAMEs in their order, the symbol versions sorted."""
    data = binaries.elf(needed=["libcudart.so.12", "libc.so.6"], versions=LINKED, wide=wide, order=order)
    versions = ("GLIBCXX_3.4.19", "GLIBC_2.17", "GLIBC_2.2.5")
    assert links(data, "x") == Links(needed=("libcudart.so.12", "libc.so.6"), versions=versions)


def test_links_of_a_real_library() -> None:
    """What `readelf` says of this Python's own binary, or of a library that it loaded, is what is read."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has ELF files of its own")
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123 - not a file on a disk
        path = next(line.split()[-1] for line in maps if "/libc.so.6" in line or "/libc-2" in line)
    with open(path, "rb") as file:  # noqa: PTH123
        found = links(file.read(), path)
    assert any(name.startswith("ld-linux") for name in found.needed)
    assert "GLIBC_PRIVATE" in found.versions


def test_other_formats_have_no_links() -> None:
    """Nothing is made up for Mach-O and PE."""
    assert links(binaries.MACHO, "x") == links(binaries.PE, "x") == links(b"", "x") == Links()


def test_a_damaged_elf_file_is_refused() -> None:
    """The message names the file."""
    with pytest.raises(WheelError, match=r"^a\.whl: m\.so: a damaged ELF file \("):
        links(WHOLE[:100], "a.whl: m.so")


@given(st.integers(0, len(WHOLE)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
@example(0, [])
@example(5, [])
@example(40, [])
def test_no_damage_gives_another_exception(end: int, changes: list[tuple[int, int]]) -> None:
    """Cut anywhere, with bytes changed anywhere: it is read, or refused as a WheelError."""
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at % len(data)] = value
    cut = bytes(data[:end])
    mark(cut)
    with suppress(WheelError):
        links(cut, "m.so")
