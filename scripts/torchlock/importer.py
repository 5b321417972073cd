"""Importing: records of an index that others compiled, taken into the snapshot with their evidence."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.snapshot import File, Metadata, Page, is_supported, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.snapshot import Snapshot


def import_index(path: Path, source: str, index: str, snapshot: Snapshot) -> dict[str, int]:
    """Take the records of one source index into the pages of `index`; return wheels per project.

    The file is JSON: `as_of` and `files`, each with `filename`, `index`, `sha256`, `requires_dist` (absent where not
    known), `requires_python`, `sources` (how many independent places gave the sha256) and `requires_evidence`. All of
    that which says how a record is known is kept; addresses are not. A record that contradicts the snapshot is
    refused: SnapshotError.
    """
    try:
        document = json.loads(path.read_bytes())
        records = [item for item in document["files"] if item["index"] == source and is_supported(item["filename"])]
        files = [_file(item, document["as_of"]) for item in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(path, f"not a file of index records ({error})", "JSON with as_of and files") from error
    if not files:
        raise SnapshotError(path, f"holds no wheel of index {source!r} that torchlock locks for", remedy="SOURCE=cpu")
    pages: dict[str, dict[str, File]] = defaultdict(dict)
    for file in files:
        parsed = parse(file.name)
        pages[str(parsed[0]) if parsed else ""][file.name] = file
    for project, found in pages.items():
        _merge(snapshot, index, project, found)
    return {project: len(found) for project, found in sorted(pages.items())}


def _file(item: Mapping[str, Any], as_of: str) -> File:
    requires = item.get("requires_dist")
    evidence = {"as-of": as_of, "sources": item["sources"], "confirmed": item["confirmed"]}
    if requires is not None:
        evidence["requires-dist"] = item["requires_evidence"]
    return File(
        name=item["filename"],
        sha256=Digest(item["sha256"]),
        requires_python=item.get("requires_python"),
        metadata=None
        if requires is None
        else Metadata(requires_dist=tuple(requires), provides_extra=_extras(requires)),
        evidence=evidence,
    )


def _extras(requires: list[str]) -> tuple[str, ...]:
    """Return the extras that requirements name in their markers (`extra == 'x'`), sorted."""
    found = {
        part.split("==")[1].strip(" '\")") for text in requires for part in text.split(" and ") if "extra ==" in part
    }
    return tuple(sorted(found))


def _merge(snapshot: Snapshot, index: str, project: str, found: Mapping[str, File]) -> None:
    page = snapshot.page(index, project) or Page(index=index, project=project, files={})
    merged = dict(page.files)
    for name, file in found.items():
        known = merged.get(name)
        if known is not None and known.sha256 not in {None, file.sha256}:
            raise SnapshotError(f"{index}: {name}", f"imported sha256 {file.sha256}", f"{known.sha256}, as recorded")
        merged[name] = file if known is None or known.metadata is None else replace(known, evidence=file.evidence)
    snapshot.write(replace(page, files=merged))
