"""What the indexes said when they were recorded: one JSON file a project, without any address."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.files import write_atomic
from torchlock.platforms import PLATFORMS, PYTHONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What resolving reads of a wheel's METADATA; `sha256` is that of the whole file, None where that is not known."""

    requires_dist: tuple[str, ...]
    provides_extra: tuple[str, ...] = ()
    sha256: Digest | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One wheel on an index; `size` in bytes, `yanked` the reason (perhaps empty) or None.

    `evidence` says where a record comes from when it was not the index itself; a `sha256` that the index lacks and
    that was computed from the downloaded bytes has `evidence["sha256"] == "computed"`.
    """

    name: str
    sha256: Digest | None = None
    size: int | None = None
    upload_time: str | None = None
    requires_python: str | None = None
    yanked: str | None = None
    metadata: Metadata | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the file as JSON, without what is not known."""
        value: dict[str, Any] = {
            "sha256": self.sha256.hex if self.sha256 else None,
            "size": self.size,
            "upload-time": self.upload_time,
            "requires-python": self.requires_python,
            "yanked": self.yanked,
            "evidence": dict(self.evidence) or None,
        }
        if self.metadata is not None:
            value["requires-dist"] = list(self.metadata.requires_dist)
            value["provides-extra"] = list(self.metadata.provides_extra) or None
            value["metadata-sha256"] = self.metadata.sha256.hex if self.metadata.sha256 else None
        return {key: item for key, item in value.items() if item is not None}

    @classmethod
    def from_dict(cls, name: str, value: Mapping[str, Any]) -> File:
        """Read one file's record; raise KeyError, TypeError or ValueError where it is malformed."""
        metadata = None
        if "requires-dist" in value:
            metadata = Metadata(
                requires_dist=tuple(value["requires-dist"]),
                provides_extra=tuple(value.get("provides-extra", ())),
                sha256=Digest(value["metadata-sha256"]) if "metadata-sha256" in value else None,
            )
        return cls(
            name=name,
            sha256=Digest(value["sha256"]) if "sha256" in value else None,
            size=value.get("size"),
            upload_time=value.get("upload-time"),
            requires_python=value.get("requires-python"),
            yanked=value.get("yanked"),
            metadata=metadata,
            evidence=value.get("evidence", {}),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One project on one index: its wheels by file name."""

    index: str
    project: str
    files: Mapping[str, File]

    def to_json(self) -> bytes:
        """Return the page as it is stored: one line a file, sorted."""
        lines = [f"  {json.dumps(name)}: {json.dumps(self.files[name].to_dict())}" for name in sorted(self.files)]
        named = json.dumps({"schema": SCHEMA, "index": self.index, "project": self.project})
        head = f'{named[:-1]}, "files": {{'
        return "\n".join([head, ",\n".join(lines), "}}", ""]).encode()


class Snapshot:
    """The recorded pages under one folder, read once each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pages: dict[tuple[str, str], Page | None] = {}

    def path(self, index: str, project: str) -> Path:
        """Return where a page is stored."""
        return self.root / index / f"{project}.json"

    def page(self, index: str, project: str) -> Page | None:
        """Return a recorded page, or None where nothing was recorded."""
        key = (index, project)
        if key not in self._pages:
            path = self.path(index, project)
            self._pages[key] = _read(path, index, project) if path.is_file() else None
        return self._pages[key]

    def write(self, page: Page) -> bool:
        """Store a page; return False where nothing changed."""
        self._pages[page.index, page.project] = page
        return write_atomic(self.path(page.index, page.project), page.to_json())

    def pages(self) -> list[tuple[str, str]]:
        """Return the index and project of every recorded page, sorted."""
        return sorted((path.parent.name, path.stem) for path in self.root.glob("*/*.json"))


def _read(path: Path, index: str, project: str) -> Page:
    where = f"lockfiles/index/{index}/{project}.json"
    remedy = f"git checkout -- {where}, or make update PKG={project}"
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] > SCHEMA:
            raise SnapshotError(where, f"schema {value['schema']}", f"{SCHEMA} at most", "a newer torchlock")
        if (value["index"], value["project"]) != (index, project):
            raise SnapshotError(where, f"{value['index']}/{value['project']}", f"{index}/{project}", remedy)
        files = {name: File.from_dict(name, item) for name, item in value["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SnapshotError(where, f"not a recorded page ({error})", "JSON as torchlock writes it", remedy) from error
    return Page(index=index, project=project, files=files)


@cache
def parse(filename: str) -> tuple[NormalizedName, Version, frozenset[Tag]] | None:
    """Return the project, version and tags that a wheel's file name states, or None where it is no wheel."""
    try:
        project, version, _, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return project, version, tags


@cache
def _supported() -> frozenset[Tag]:
    return frozenset(tag for item in PLATFORMS.values() for python in PYTHONS for tag in item.tags(python))


def is_supported(filename: str) -> bool:
    """Tell whether a file is a wheel for any platform and Python that torchlock locks for: only those are recorded."""
    parsed = parse(filename)
    return parsed is not None and not _supported().isdisjoint(parsed[2])
