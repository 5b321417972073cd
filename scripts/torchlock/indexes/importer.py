"""Importing: records of an index that others compiled, taken into the snapshot with their evidence."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.indexes.snapshot import File, Metadata, Page, is_supported, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.indexes.snapshot import Snapshot

_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([A-Za-z0-9._-]+)['\"]")


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
    except OSError as error:
        raise SnapshotError(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"not a file of index records ({type(error).__name__}: {str(error)[:200]})"
        raise SnapshotError(path, found, "JSON with as_of and files") from error
    if not files:
        raise SnapshotError(path, f"holds no wheel of index {source!r} that torchlock locks for", remedy="SOURCE=cpu")
    pages: dict[str, dict[str, File]] = defaultdict(dict)
    for file in files:
        parsed = parse(file.name)
        known = pages[str(parsed[0]) if parsed else ""].setdefault(file.name, file)
        if known != file:
            raise SnapshotError(path, f"{file.name} is there twice, with different records", "one")
    for page in [_merged(snapshot, index, project, found) for project, found in pages.items()]:
        snapshot.write(page)
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
    return tuple(sorted({extra for text in requires for extra in _EXTRA.findall(text.partition(";")[2])}))


def _merged(snapshot: Snapshot, index: str, project: str, found: Mapping[str, File]) -> Page:
    """Return a project's page with the imported records; what an index itself said of a file stays."""
    page = snapshot.page(index, project) or Page(index=index, project=project, files={})
    merged = dict(page.files)
    for name, file in found.items():
        known = merged.get(name, file)
        if known.sha256 not in {None, file.sha256}:
            raise SnapshotError(f"{index}: {name}", f"imported {file.sha256}", f"{known.sha256}, as recorded")
        merged[name] = replace(
            known,
            sha256=file.sha256,
            requires_python=known.requires_python or file.requires_python,
            metadata=known.metadata or file.metadata,
            evidence={**known.evidence, **file.evidence},
        )
    return replace(page, files=merged)
