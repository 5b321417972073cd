"""Where facts come from: read once from the store or by range, kept by sha256, and never made up."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import wheels
from servers import JSON, Notes, Site, reset, serving, status
from torchlock.digest import Digest
from torchlock.errors import SnapshotError, WheelError
from torchlock.facts import read
from torchlock.facts.cache import Cache
from torchlock.facts.facts import Facts
from torchlock.gate.source import Source
from torchlock.indexes.record import Recorder
from torchlock.indexes.snapshot import File, Page, Snapshot
from torchlock.locks.lock import Artifact
from torchlock.network.remote import Limits, Remote
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = Limits(tries=2, budget=5, pause=0.001, longest_pause=0.01, connect=2, read=2)
# A torch wheel says in its version module which CUDA it was built for; nothing need be compiled for that.
FILES = {"torch/version.py": "cuda: Optional[str] = '12.1'\n"}
FACTS = Facts(cuda="12.1")


class Place:
    """A wheel on an index, and folders for the snapshot, the facts and the store."""

    def __init__(self, root: Path, site: Site) -> None:
        self.root, self.site, self.notes = root, site, Notes()
        self.wheel = wheels.make(root / "made", FILES, name="torch", version="2.2.2")
        self.mirror = site.index({self.wheel.name: self.wheel.read_bytes()}, kind=JSON)
        self.cache = Cache(root=root / "facts")
        self.store = Store(root / "store", self.notes)

    def artifact(self, **changes: Any) -> Artifact:
        """Return the wheel as a lock names it."""
        values = {
            "project": "torch",
            "version": "2.2.2",
            "filename": self.wheel.name,
            "sha256": Digest.of_file(self.wheel),
            "size": self.wheel.stat().st_size,
            "upload_time": None,
            "index": "pypi",
        }
        return Artifact(**{**values, **changes})

    def source(self, *, online: bool = True, **roots: str) -> Source:
        """Return a source of a fresh process."""
        remote = Remote(self.notes, LIMITS)
        recorder = Recorder(Snapshot(self.root / "index"), remote, roots or {"pypi": self.mirror}, self.notes)
        return Source(self.cache, self.notes, self.store, recorder if online else None)

    @property
    def asked(self) -> int:
        """How many requests the index has seen."""
        return len(self.site.seen)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Run an index for one test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serving() as site:
        yield Place(tmp_path, site)


def test_facts_are_read_by_range_once_and_kept(place: Place) -> None:
    """A second process, offline and without the index, has them by the sha256."""
    source = place.source()
    assert source(place.artifact()) == FACTS
    asked = place.asked
    assert source(place.artifact()) == FACTS
    assert place.asked == asked
    assert [path.name for path in place.cache.root.iterdir()] == [f"{place.artifact().sha256.hex}.json"]
    assert place.source(online=False)(place.artifact()) == FACTS
    assert not (place.root / "store").exists(), "nothing was fetched"


def test_the_store_is_asked_before_the_index(place: Place) -> None:
    """What was fetched is not asked for again."""
    place.store.add(place.artifact(), place.wheel)
    assert place.source()(place.artifact()) == FACTS
    assert place.asked == 0


def test_damaged_bytes_in_the_store_are_not_read(place: Place) -> None:
    """They are set aside, and the index is asked."""
    path = place.store.add(place.artifact(), place.wheel)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    assert place.source()(place.artifact()) == FACTS
    assert place.asked > 0


def test_offline_what_is_not_here_is_not_known(place: Place) -> None:
    """It is no error, nor kept: the next run may read it."""
    assert place.source(online=False)(place.artifact()) is None
    assert not place.cache.root.exists()
    assert place.source()(place.artifact()) == FACTS


def test_an_index_that_does_not_answer_is_asked_once(place: Place) -> None:
    """All that would come from it is unread, and each file is said once; the others are read."""
    page = "/simple/torch/"
    place.site.script(page, reset, forever=True)
    source = place.source(
        pypi=place.mirror, other=place.site.index({place.wheel.name: place.wheel.read_bytes()}, root="/o/")
    )
    second = place.artifact(filename="torch-2.3.0-py3-none-any.whl", sha256=Digest.of(b"second"))
    assert source(place.artifact()) is None
    asked = place.site.asked(page)
    assert asked == LIMITS.tries
    assert source(second) is None
    assert source(place.artifact()) is None
    assert place.site.asked(page) == asked
    said = [text for text in place.notes.notes if "its facts are not read" in text]
    assert [text.partition(":")[0] for text in said] == [place.wheel.name, second.filename]
    assert source(place.artifact(index="other")) is None, "the same bytes were just found unreadable"
    assert (
        place.source(other=place.site.index({place.wheel.name: place.wheel.read_bytes()}, root="/o/"))(
            place.artifact(index="other")
        )
        == FACTS
    )


def test_one_missing_file_says_nothing_about_its_index(place: Place) -> None:
    """A refusal of one wheel leaves the others readable."""
    gone = wheels.make(place.root / "made", name="gone")
    place.mirror = place.site.index({path.name: path.read_bytes() for path in (gone, place.wheel)}, kind=JSON)
    path = next(name for name in place.site.files if name.endswith(gone.name))
    place.site.script(path, status(404), forever=True)
    source = place.source()
    assert source(place.artifact(project="gone", filename=gone.name, sha256=Digest.of_file(gone))) is None
    assert source(place.artifact()) == FACTS


def test_a_file_that_is_no_longer_listed_is_unread(place: Place) -> None:
    """An older file of a project may be gone; the lock says that its facts are not known."""
    assert place.source()(place.artifact(filename="torch-2.2.1-py3-none-any.whl", sha256=Digest.of(b"old"))) is None


def test_other_bytes_under_the_name_are_an_alarm(place: Place) -> None:
    """Facts of other bytes are never taken for those of the locked ones, nor for unread."""
    file = File(name=place.wheel.name, sha256=Digest.of(b"recorded"), size=1)
    Snapshot(place.root / "index").write(Page(index="pypi", project="torch", files={file.name: file}))
    with pytest.raises(SnapshotError, match="other bytes under the same file name"):
        place.source()(place.artifact(sha256=Digest.of(b"recorded")))
    assert not place.cache.root.exists()


def test_a_damaged_wheel_is_refused(place: Place) -> None:
    """A lock never holds a wheel that cannot be opened."""
    place.mirror = place.site.index({place.wheel.name: b"no wheel" * 100}, kind=JSON)
    with pytest.raises(WheelError, match=place.wheel.name):
        place.source()(place.artifact())


def test_threads_that_want_the_same_facts_read_them_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven locks are made at once, and share most of their wheels."""
    reads, barrier = [], threading.Barrier(4)
    real = read.of_wheel

    def counted(file: Any, name: str) -> Facts:
        reads.append(name)
        return real(file, name)

    monkeypatch.setattr(read, "of_wheel", counted)
    source = place.source()

    def ask(_: int) -> Facts | None:
        barrier.wait()
        return source(place.artifact())

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) == {FACTS}
    assert reads == [place.wheel.name]
