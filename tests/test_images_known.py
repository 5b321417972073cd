"""What is known of layers is found again by what they are made from; a damaged memory is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from torchlock.digest import Digest
from torchlock.images.known import Knowledge, Known
from torchlock.layers.layer import Blob

if TYPE_CHECKING:
    from pathlib import Path

KEY = Digest.of(b"key")
KNOWN = Known(
    blob=Blob(digest=Digest.of(b"blob"), size=7, diff_id=Digest.of(b"tar")), licences={"numpy": "BSD-3-Clause"}
)
OTHER = Known(blob=Blob(digest=Digest.of(b"other"), size=8, diff_id=Digest.of(b"other tar")))


def test_what_was_learnt_is_known_to_the_next_process(tmp_path: Path) -> None:
    """It lies in a folder, by key."""
    Knowledge(folder=tmp_path).learn(KEY, KNOWN)
    assert Knowledge(folder=tmp_path).get(KEY) == KNOWN
    assert Knowledge(folder=tmp_path).get(Digest.of(b"another")) is None


def test_what_is_given_counts_before_what_is_remembered(tmp_path: Path) -> None:
    """A committed image knows better than this machine."""
    Knowledge(folder=tmp_path).learn(KEY, OTHER)
    assert Knowledge(given={KEY: KNOWN}, folder=tmp_path).get(KEY) == KNOWN


def test_a_blank_one_knows_nothing_and_learns(tmp_path: Path) -> None:
    """Everything is made anew, for the next time too."""
    blank = Knowledge(given={KEY: KNOWN}, folder=tmp_path, blank=True)
    blank.learn(KEY, OTHER)
    assert blank.get(KEY) is None
    assert Knowledge(folder=tmp_path).get(KEY) == OTHER


@pytest.mark.parametrize("change", ["digest", "size", "diff_id", "licences", "key", "check"])
def test_an_entry_that_was_changed_is_none(tmp_path: Path, change: str) -> None:
    """It carries a digest of itself: another value in any place, and it is forgotten."""
    Knowledge(folder=tmp_path).learn(KEY, KNOWN)
    path = next(tmp_path.iterdir())
    value = json.loads(path.read_bytes())
    value[change] = {"size": 8, "licences": {}}.get(change, str(Digest.of(b"changed")))
    path.write_text(json.dumps(value), encoding="utf-8")
    assert Knowledge(folder=tmp_path).get(KEY) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", b'{"check": 1}'])
def test_an_entry_that_is_damaged_is_none(tmp_path: Path, data: bytes) -> None:
    """Whatever lies there."""
    (tmp_path / f"{KEY.hex}.json").write_bytes(data)
    assert Knowledge(folder=tmp_path).get(KEY) is None


def test_an_entry_under_another_key_is_none(tmp_path: Path) -> None:
    """A file that was renamed tells nothing of the layer whose name it took."""
    Knowledge(folder=tmp_path).learn(KEY, KNOWN)
    other = Digest.of(b"another")
    next(tmp_path.iterdir()).rename(tmp_path / f"{other.hex}.json")
    assert Knowledge(folder=tmp_path).get(other) is None
