"""The nearest version that would pass: read to pass, with few reads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

import snapshots
from torchlock.errors import WheelError
from torchlock.facts.facts import Facts
from torchlock.gate.neighbour import Neighbour, Search, first
from torchlock.indexes.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlock.locks.lock import Artifact

GOOD, BAD = Facts(glibc="2.1"), Facts(glibc="2.9")
VERSIONS = ("1.0", "1.1", "1.2", "1.10", "2.0rc1", "2.0", "2.0+cpu", "3.0")


class Shelf:
    """Facts by version, and what was asked for."""

    def __init__(self, good: Iterable[str], unread: Iterable[str] = (), broken: Iterable[str] = ()) -> None:
        self.good, self.unread, self.broken = set(good), set(unread), set(broken)
        self.asked: list[str] = []

    def __call__(self, artifact: Artifact) -> Facts | None:
        """Return the facts of a version."""
        self.asked.append(artifact.version)
        if artifact.version in self.broken:
            raise WheelError(artifact.filename, "is damaged")
        if artifact.version in self.unread:
            return None
        return GOOD if artifact.version in self.good else BAD


def nearest(root: Path, shelf: Shelf, version: str, versions: Iterable[str] = VERSIONS) -> Neighbour:
    """Search a snapshot that has these versions."""
    snapshot = snapshots.write(root, *(snapshots.file(f"a-{item}-py3-none-any.whl") for item in versions))
    return Search(View(snapshot, snapshots.target()), shelf).nearest("a", version, lambda facts: facts == GOOD)


def test_the_next_newer_version_is_preferred(tmp_path: Path) -> None:
    """Versions are compared as versions, and each file is asked for once it is needed."""
    shelf = Shelf({"1.0", "1.10", "2.0", "3.0"})
    assert nearest(tmp_path, shelf, "1.1") == Neighbour(version="1.10", unread=())
    assert "1.0" not in shelf.asked


def test_an_older_version_where_no_newer_one_passes(tmp_path: Path) -> None:
    """The newest of the older ones that pass."""
    assert nearest(tmp_path, Shelf({"1.0", "1.1"}), "2.0").version == "1.1"


def test_older_versions_are_not_always_looked_at(tmp_path: Path) -> None:
    """A build for a newer NumPy is not older: reading those would be for nothing."""
    shelf = Shelf({"1.0"})
    snapshot = snapshots.write(tmp_path, *(snapshots.file(f"a-{item}-py3-none-any.whl") for item in VERSIONS))
    search = Search(View(snapshot, snapshots.target()), shelf)
    assert search.nearest("a", "1.2", lambda facts: facts == GOOD, older=False).version is None
    assert {"1.0", "1.1"}.isdisjoint(shelf.asked)


def test_none(tmp_path: Path) -> None:
    """Where nothing passes, nothing is named."""
    assert nearest(tmp_path, Shelf(()), "2.0") == Neighbour(version=None, unread=())
    assert nearest(tmp_path / "b", Shelf({"1.0"}), "1.0", ["1.0"]) == Neighbour(version=None, unread=())


def test_builds_of_one_kind_and_finals_for_finals(tmp_path: Path) -> None:
    """A build with a local version is no answer for one without, nor a pre-release for a final."""
    shelf = Shelf({"2.0rc1", "2.0+cpu"})
    assert nearest(tmp_path, shelf, "1.10").version is None
    assert {"2.0rc1", "2.0+cpu"}.isdisjoint(shelf.asked)
    assert nearest(tmp_path, Shelf({"2.0rc1"}), "1.1a1").version == "2.0rc1"


def test_what_cannot_be_read_is_named_and_never_the_answer(tmp_path: Path) -> None:
    """Unread versions are said; a broken wheel does not end the search."""
    assert nearest(tmp_path, Shelf((), unread=VERSIONS), "1.10").unread == ("2.0", "3.0", "1.2", "1.1", "1.0")
    assert nearest(tmp_path, Shelf({"1.10", "2.0", "3.0"}, broken={"1.2"}), "1.1").version == "1.10"


def test_only_wheels_that_the_target_may_take(tmp_path: Path) -> None:
    """A version that has no wheel for this platform and Python, or a yanked one, is no answer."""
    snapshot = snapshots.write(
        tmp_path,
        snapshots.file("a-1.0-py3-none-any.whl"),
        snapshots.file("a-2.0-cp39-cp39-win32.whl"),
        snapshots.file("a-3.0-py3-none-any.whl", yanked="bad"),
        snapshots.file("a-4.0-py3-none-any.whl", sha256=None),
        snapshots.file("a-5.0-py3-none-any.whl"),
    )
    shelf = Shelf({"2.0", "3.0", "4.0", "5.0"})
    search = Search(View(snapshot, snapshots.target()), shelf)
    assert search.nearest("a", "1.0", lambda facts: facts == GOOD) == Neighbour(version="5.0", unread=("4.0",))
    assert shelf.asked == ["5.0"]


@given(some.integers(0, 60), some.integers(0, 60))
def test_few_are_asked_about(size: int, start: int) -> None:
    """Of n items about 2·log2(n) are asked about, near ones first, and the first good one is found."""
    asked: list[str] = []

    def good(item: str) -> bool:
        asked.append(item)
        return int(item) >= start

    found = first([str(number) for number in range(size)], good)
    assert found == (str(start) if start < size else None)
    assert len(asked) <= 2 * max(size, 1).bit_length() + 1
    if start == 0 and size:
        assert asked == ["0"]


def _seen(asked: dict[str, bool], start: int, item: str) -> bool:
    return asked.setdefault(item, int(item) >= start)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 9])
def test_the_one_before_the_answer_was_seen_to_fail(count: int) -> None:
    """That is what makes it the nearest."""
    for start in range(1, count):
        asked: dict[str, bool] = {}
        items = [str(number) for number in range(count)]
        first(items, partial(_seen, asked, start))
        assert asked[str(start)]
        assert asked[str(start - 1)] is False
