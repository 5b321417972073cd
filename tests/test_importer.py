"""Importing: others' records of an index, kept with their evidence and held against what is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import snapshots
from snapshots import file
from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.indexes.importer import import_index
from torchlock.indexes.snapshot import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

NAME = "torch-2.2.2+cpu-cp311-cp311-linux_x86_64.whl"
HEX = Digest.of(NAME.encode()).hex
RECORD = {
    "filename": NAME,
    "url": "http://host.test/whl/cpu/torch.whl",
    "index": "cpu",
    "sha256": HEX,
    "sources": 3,
    "confirmed": True,
    "requires_dist": [
        "filelock",
        'nvidia-nccl-cu12 ==2.19.3 ; platform_system == "Linux"',
        "opt-einsum==3.3 ; extra == 'opt-einsum'",
        "jinja2 ; python_version > '3' and extra == 'dynamo'",
    ],
    "requires_python": ">=3.8.0",
    "requires_evidence": "confirmed-by-lockfiles",
}
UNKNOWN = {"requires_dist": None, "requires_evidence": None}


def facts(folder: Path, *records: Any, **more: Any) -> Path:
    """Write a file of facts."""
    path = folder / "facts.json"
    path.write_text(json.dumps({"as_of": "2025-07-09", "files": records, **more}))
    return path


def imported(folder: Path, snapshot: Snapshot, *records: Any) -> dict[str, int]:
    """Import records of the index `cpu` as `pytorch-cpu`."""
    return import_index(facts(folder, *records), "cpu", "pytorch-cpu", snapshot)


def test_a_record_is_kept_with_its_evidence_and_without_its_address(tmp_path: Path) -> None:
    """Who says so and how it is known stay; the address does not."""
    snapshot = Snapshot(tmp_path / "index")
    assert imported(tmp_path, snapshot, RECORD) == {"torch": 1}
    page = Snapshot(tmp_path / "index").page("pytorch-cpu", "torch")
    assert page is not None
    found = page.files[NAME]
    assert found.sha256 == Digest(HEX)
    assert found.requires_python == ">=3.8.0"
    assert found.evidence == {
        "as-of": "2025-07-09",
        "sources": 3,
        "confirmed": True,
        "requires-dist": "confirmed-by-lockfiles",
    }
    assert found.metadata is not None
    assert list(found.metadata.requires_dist) == RECORD["requires_dist"]
    assert found.metadata.provides_extra == ("dynamo", "opt-einsum")
    assert b"host.test" not in snapshot.path("pytorch-cpu", "torch").read_bytes()


def test_an_unknown_list_of_requirements_is_not_an_empty_one(tmp_path: Path) -> None:
    """A record without `requires_dist` has no metadata: that is read from the wheel when it is needed."""
    snapshot = Snapshot(tmp_path / "index")
    imported(tmp_path, snapshot, {**RECORD, **UNKNOWN}, {**RECORD, "filename": NAME.replace("2.2.2", "2.3.0")})
    page = snapshot.page("pytorch-cpu", "torch")
    assert page is not None
    assert page.files[NAME].metadata is None
    assert "requires-dist" not in page.files[NAME].evidence


def test_other_indexes_and_other_files_are_passed_over(tmp_path: Path) -> None:
    """Only the named index's wheels that torchlock could lock are taken."""
    others = [{**RECORD, "index": "cu121"}, {**RECORD, "filename": "torch-2.2.2+cpu-cp38-cp38-linux_x86_64.whl"}]
    assert imported(tmp_path, Snapshot(tmp_path / "index"), RECORD, *others) == {"torch": 1}


def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    """The same facts give the same bytes."""
    imported(tmp_path, Snapshot(tmp_path / "index"), RECORD)
    before = Snapshot(tmp_path / "index").path("pytorch-cpu", "torch").read_bytes()
    imported(tmp_path, Snapshot(tmp_path / "index"), RECORD)
    assert Snapshot(tmp_path / "index").path("pytorch-cpu", "torch").read_bytes() == before


def test_what_the_index_said_itself_stays(tmp_path: Path) -> None:
    """Size, time, yanking and metadata of a recorded file are kept; what it lacks is filled."""
    other = NAME.replace("2.2.2", "2.3.0")
    known = file(NAME, ["own"], upload_time="2024-03-27T00:00:00Z", yanked="", evidence={"sha256": "computed"})
    bare = file(other, None, sha256=None, size=9)
    snapshot = snapshots.write(tmp_path / "index", known, bare, index="pytorch-cpu")
    imported(tmp_path, snapshot, RECORD, {**RECORD, "filename": other})
    page = snapshot.page("pytorch-cpu", "torch")
    assert page is not None
    first, second = page.files[NAME], page.files[other]
    assert (first.size, first.upload_time, first.yanked) == (1000, "2024-03-27T00:00:00Z", "")
    assert first.metadata == known.metadata
    assert first.evidence["sha256"] == "computed"
    assert first.evidence["sources"] == 3
    assert (second.size, second.sha256) == (9, Digest(HEX))
    assert second.metadata is not None


def test_a_contradiction_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Other bytes under a known name: both hashes are told, and no page changes, not even one before it."""
    snapshot = snapshots.write(tmp_path / "index", file(NAME), index="pytorch-cpu")
    before = snapshot.path("pytorch-cpu", "torch").read_bytes()
    first = {**RECORD, "filename": "alpha-1.0-py3-none-any.whl"}
    with pytest.raises(SnapshotError) as caught:
        imported(tmp_path, snapshot, first, {**RECORD, "sha256": "1" * 64})
    assert str(caught.value) == (f"pytorch-cpu: {NAME}: imported sha256:{'1' * 64}; expected sha256:{HEX}, as recorded")
    assert snapshot.path("pytorch-cpu", "torch").read_bytes() == before
    assert snapshot.pages() == [("pytorch-cpu", "torch")]


def test_a_file_twice_with_other_facts_is_refused(tmp_path: Path) -> None:
    """The last one does not win in silence."""
    snapshot = Snapshot(tmp_path / "index")
    with pytest.raises(SnapshotError, match="is there twice, with different records"):
        imported(tmp_path, snapshot, RECORD, {**RECORD, "sha256": "1" * 64})
    assert imported(tmp_path, snapshot, RECORD, RECORD) == {"torch": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"as_of": "x", "files": 5}',
        '{"as_of": "x", "files": [5]}',
        '{"as_of": "x", "files": [{"index": "cpu", "filename": 5}]}',
        json.dumps({"files": [RECORD]}),
        json.dumps({"as_of": "x", "files": [{**RECORD, "sha256": "short"}]}),
        json.dumps({"as_of": "x", "files": [{**RECORD, "requires_dist": 5}]}),
        "[" * 100_000,
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with the file, it is one SnapshotError that names it."""
    path = tmp_path / "facts.json"
    path.write_text(text)
    with pytest.raises(SnapshotError, match=r"facts\.json: not a file of index records"):
        import_index(path, "cpu", "pytorch-cpu", Snapshot(tmp_path / "index"))


def test_a_file_without_a_wheel_for_us_is_refused(tmp_path: Path) -> None:
    """A wrong SOURCE= imports nothing, and says so."""
    with pytest.raises(SnapshotError, match="holds no wheel of index 'cpv' that torchlock locks for; try: SOURCE=cpu"):
        import_index(facts(tmp_path, RECORD), "cpv", "pytorch-cpu", Snapshot(tmp_path / "index"))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """The path is named with the system's words."""
    with pytest.raises(SnapshotError, match=r"absent\.json: cannot be read: No such file or directory"):
        import_index(tmp_path / "absent.json", "cpu", "pytorch-cpu", Snapshot(tmp_path / "index"))
