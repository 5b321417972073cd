"""Facts that were read before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.facts.cache import Cache
from torchlock.facts.facts import Facts, Module

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = Digest.of(b"a wheel")
FACTS = Facts(modules=(Module(path="a.so", numpy="1", kind="elf"),), glibc="2.17")
TEXT = """\
{
 "facts": {
  "glibc": "2.17",
  "modules": [
   {
    "kind": "elf",
    "numpy": "1",
    "path": "a.so"
   }
  ]
 },
 "schema": 1
}
"""


def test_facts_are_kept_by_digest(tmp_path: Path) -> None:
    """One file for each artifact, the same bytes every time, written once."""
    cache = Cache(root=tmp_path / "facts")
    assert cache.get(DIGEST) is None
    assert cache.put(DIGEST, FACTS)
    assert (tmp_path / "facts" / f"{DIGEST.hex}.json").read_text(encoding="utf-8") == TEXT
    assert cache.get(DIGEST) == FACTS
    assert not cache.put(DIGEST, FACTS)
    assert [path.name for path in (tmp_path / "facts").iterdir()] == [f"{DIGEST.hex}.json"]


def test_facts_of_an_older_schema_are_read_anew(tmp_path: Path) -> None:
    """They are as good as absent, and put replaces them."""
    cache = Cache(root=tmp_path)
    cache.path(DIGEST).write_text('{"facts": {"old": 1}, "schema": 0}', encoding="utf-8")
    assert cache.get(DIGEST) is None
    assert cache.put(DIGEST, FACTS)
    assert cache.get(DIGEST) == FACTS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[" * 100_000, "not JSON ("),
        ("[]", "not an object of `schema` 1 and `facts`"),
        ('{"facts": {}, "schema": 2}', "not an object of `schema` 1 and `facts`"),
        ('{"facts": {"cuda": 12}, "schema": 1}', "cuda: not a string"),
        (TEXT.replace('"2.17"', '"2.17", "more": 1'), "'more': an unknown key"),
        (" " * (5 << 20), f"more than {4 << 20} bytes"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, found: str) -> None:
    """Never taken for facts, never passed over; the message names the file and what mends it."""
    cache = Cache(root=tmp_path / "facts")
    cache.root.mkdir()
    cache.path(DIGEST).write_text(text, encoding="utf-8")
    with pytest.raises(SnapshotError) as caught:
        cache.get(DIGEST)
    assert str(caught.value).startswith(f"facts/{DIGEST.hex}.json: {found}")
    assert str(caught.value).endswith(f"; expected facts; try: rm {DIGEST.hex}.json, and again")
