"""What the indexes said when they were recorded: one JSON file a project, without any address."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
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
# The folder beside those of the indexes that holds the facts of artifacts; no index has this name.
FACTS = "facts"
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("sha256", "metadata-sha256", "upload-time", "requires-python", "yanked"), str),
    **dict.fromkeys(("requires-dist", "provides-extra"), list),
    "size": int,
    "evidence": dict,
}
# What a lock takes as the name of a wheel, too.
_NAME = re.compile(r"[A-Za-z0-9_.+!-]{1,251}\.whl")


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
        """Read one file's record; raise ValueError or TypeError where it is malformed."""
        for key, item in value.items():
            kind = _KINDS.get(key)
            texts = item if kind is list else [item] if kind is str else []
            if type(item) is not kind or not all(map(_is_line, texts)):
                raise TypeError(f"{name}: {key} is {item!r}"[:200])
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


def _is_line(value: object) -> bool:
    return type(value) is str and value.isprintable()


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
        found = [path for path in self.root.glob("*/*.json") if path.parent.name != FACTS]
        return sorted((path.parent.name, path.stem) for path in found)


def _read(path: Path, index: str, project: str) -> Page:
    """Read a page that is byte for byte what `to_json` writes: a key twice or unknown, or another order, is refused."""
    where = f"lockfiles/index/{index}/{project}.json"
    remedy = f"git checkout -- {where}, or make update PKG={project}"
    try:
        data = path.read_bytes()
        value = json.loads(data)
        if type(value["schema"]) is int and value["schema"] > SCHEMA:
            raise SnapshotError(where, f"schema {value['schema']}", f"{SCHEMA} at most", "a newer torchlock")
        if (value["index"], value["project"]) != (index, project):
            raise SnapshotError(where, f"{value['index']}/{value['project']}", f"{index}/{project}", remedy)
        page = Page(index=index, project=project, files=_files(project, value["files"]))
        if page.to_json() != data:
            raise ValueError(_difference(data, page.to_json()))
    except OSError as error:
        raise SnapshotError(where, f"cannot be read: {error.strerror}", remedy=remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"not a recorded page ({type(error).__name__}: {str(error)[:200]})"
        raise SnapshotError(where, found, "JSON as torchlock writes it", remedy) from error
    return page


def _files(project: str, value: Mapping[str, Any]) -> dict[str, File]:
    files = {name: File.from_dict(name, item) for name, item in value.items()}
    for name in files:
        if (parsed := parse(name)) is None or parsed[0] != project:
            raise ValueError(f"{name[:100]!r} is no wheel of {project}")
    return files


def _difference(found: bytes, written: bytes) -> str:
    lines = zip_longest(found.split(b"\n"), written.split(b"\n"))
    number = next(number for number, (one, other) in enumerate(lines, 1) if one != other)
    ends = " (it has CRLF line ends)" if b"\r" in found else ""
    return f"line {number} is not as torchlock writes it{ends}"


@cache
def parse(filename: str) -> tuple[NormalizedName, Version, frozenset[Tag]] | None:
    """Return the project, version and tags that a wheel's file name states, or None where it is no wheel."""
    if not _NAME.fullmatch(filename):
        return None
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
