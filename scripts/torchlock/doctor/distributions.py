"""Distributions: what is installed in a site's folder, read from its metadata and its names alone."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

COMPILED = re.compile(r"\.(so(\.[0-9.]+)?|pyd|dll|dylib)$")
_INFO = (".dist-info", ".egg-info")
_METADATA = ("METADATA", "PKG-INFO", "")  # an .egg-info may be the file itself
_VERSION = re.compile(
    r"""^(?:__version__|version|short_version)\s*(?::[^=]+)?=\s*["']([0-9][^"']*)["']""", re.MULTILINE
)
_EGG = re.compile(r"(?P<name>.+?)-(?P<version>[0-9][^-]*)(-py[0-9.]+)?(-.*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One row of a RECORD: the path is relative to the site; `hash` and `size` are empty where RECORD has none."""

    path: str
    hash: str
    size: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """One installed distribution; without a RECORD, `files` is None. `compiled` are paths relative to `site`."""

    project: str
    version: str
    site: Path
    info: str
    installer: str = ""
    requires: tuple[str, ...] = ()
    files: tuple[File, ...] | None = None
    compiled: tuple[str, ...] = field(default=())

    @property
    def named(self) -> str:
        """Return name and version in words."""
        return f"{self.project} {self.version}".strip()

    @property
    def metadata(self) -> Path:
        """Return the file that names it."""
        return self.site / self.info / "METADATA"

    @property
    def tops(self) -> tuple[str, ...]:
        """Return the names that it brings to the top level, those with compiled files."""
        names = dict.fromkeys(path.partition("/")[0] for path in self.compiled)
        return tuple(name.partition(".")[0] for name in names if not name.endswith((".libs", ".dylibs")))


def read(sites: Iterable[Path]) -> tuple[Distribution, ...]:
    """Return everything that is installed, in the order in which Python looks; a folder without metadata, too."""
    return tuple(item for site in sites for item in _site(site))


def first(found: Iterable[Distribution]) -> Mapping[str, Distribution]:
    """Return by project what an import finds: the first place counts, and there what the files themselves say."""
    chosen: dict[str, Distribution] = {}
    for item in found:
        other = chosen.setdefault(item.project, item)
        if other is not item and other.site == item.site and _belongs(item) and not _belongs(other):
            chosen[item.project] = item
    return chosen


def stated(distribution: Distribution) -> tuple[str, str] | None:
    """Return the file of a package that states a version, and that version, read as text; None where none does."""
    top = distribution.project.replace("-", "_")
    for name in ("version.py", "_version.py", "__init__.py"):
        match = _VERSION.search(_text(distribution.site / top / name))
        if match:
            return f"{top}/{name}", match[1]
    return None


def _belongs(item: Distribution) -> bool:
    version = stated(item)
    return version is not None and version[1].partition("+")[0] == item.version.partition("+")[0]


def _site(site: Path) -> Iterator[Distribution]:
    names = sorted(path.name for path in site.iterdir())
    known = [_distribution(site, name) for name in names if name.endswith(_INFO)]
    owners: dict[str, list[int]] = {}
    for number, item in enumerate(known):
        for file in item.files or ():
            owners.setdefault(file.path, []).append(number)
    bare = {top: number for number, item in enumerate(known) if item.files is None for top in _tops(site, item)}
    compiled: dict[int, list[str]] = {}
    strays: dict[str, list[str]] = {}
    for path in _compiled(os.fspath(site), ""):
        top = path.partition("/")[0]
        numbers = owners.get(path) or ([bare[_plain(top)]] if _plain(top) in bare else [])
        for number in numbers:
            compiled.setdefault(number, []).append(path)
        if not numbers:
            strays.setdefault(top, []).append(path)
    for number, item in enumerate(known):
        yield replace(item, compiled=tuple(compiled.get(number, ())))
    for top, paths in sorted(strays.items()):
        yield from _stray(site, top, paths, known)


def _stray(site: Path, top: str, paths: Sequence[str], known: Sequence[Distribution]) -> Iterator[Distribution]:
    """Give a package without metadata; files beside those of a known package are not one of their own."""
    name = canonicalize_name(top.partition(".")[0])
    if not any(item.project == name for item in known):
        yield Distribution(project=name, version="", site=site, info="", compiled=tuple(paths))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name.partition(".")[0]).lower()


def _tops(site: Path, item: Distribution) -> set[str]:
    listed = _text(site / item.info / "top_level.txt").split()
    return {_plain(name) for name in (*listed, item.project)}


def _compiled(root: str, folder: str) -> Iterator[str]:
    """Give the compiled files below a folder, relative to the site."""
    try:
        entries = sorted(os.scandir(f"{root}/{folder}"), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _compiled(root, path)
        elif COMPILED.search(entry.name):
            yield path


def _distribution(site: Path, info: str) -> Distribution:
    place = site / info
    text = next((found for name in _METADATA if (found := _text(place / name if name else place))), "")
    head: dict[str, list[str]] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, separator, value = line.partition(":")
        if separator and not line[0].isspace():
            head.setdefault(key.lower(), []).append(value.strip())
    match = _EGG.fullmatch(info.rpartition(".")[0])
    name, version = (match["name"], match["version"]) if match else (info.rpartition(".")[0], "")
    return Distribution(
        project=canonicalize_name(head.get("name", [name])[0]),
        version=head.get("version", [version])[0],
        site=site,
        info=info,
        installer=_text(place / "INSTALLER").strip(),
        requires=tuple(head.get("requires-dist", ())),
        files=_record(place / "RECORD"),
    )


def _record(path: Path) -> tuple[File, ...] | None:
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == 3]
    except (OSError, csv.Error):
        return None
    return tuple(File(path=os.path.normpath(row[0]).replace(os.sep, "/"), hash=row[1], size=row[2]) for row in rows)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
