"""Digests: parsed once, written one way, taken of bytes, files and JSON."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from torchlock.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_digest_is_written_and_read_as_sha256_and_64_digits() -> None:
    """Writing and parsing are each other's inverse."""
    assert str(Digest.of(b"")) == f"sha256:{EMPTY}"
    assert Digest.parse(f"sha256:{EMPTY}") == Digest.of(b"")


@pytest.mark.parametrize(
    "text",
    [
        EMPTY,
        f"sha512:{EMPTY}",
        f"md5:{EMPTY}",
        f"SHA256:{EMPTY}",
        f"sha256:{EMPTY.upper()}",
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY}\n",
        f"sha256: {EMPTY}",
        f"sha256:{'٣' * 64}",
        "",
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    """Another algorithm, upper case, a wrong length, other digits or a line end are refused."""
    with pytest.raises(ValueError, match="not a sha256"):
        Digest.parse(text)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_files_digest_is_that_of_all_its_bytes(tmp_path: Path, size: int) -> None:
    """Sizes around the block of 1 MiB lose nothing."""
    data = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(data[:size])
    assert Digest.of_file(path).hex == hashlib.sha256(data[:size]).hexdigest()


def test_the_digest_of_json_is_that_of_its_canonical_form() -> None:
    """Sorted keys, no spaces, UTF-8: the order of a dict and tuples for lists do not matter, values do."""
    assert Digest.of_json({"b": (1, "é"), "a": None}) == Digest.of('{"a":null,"b":[1,"é"]}'.encode())
    assert Digest.of_json({"b": [1, "é"], "a": None}) == Digest.of_json({"a": None, "b": (1, "é")})
    assert Digest.of_json({"a": 1}) != Digest.of_json({"a": "1"})


def test_digests_sort_and_compare_as_values() -> None:
    """Two digests of the same bytes are one key, and lists of them have one order."""
    one, two = Digest("0" * 64), Digest("1" * 64)
    assert sorted({two, one, Digest("0" * 64)}) == [one, two]
