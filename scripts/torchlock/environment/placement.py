"""Placement: which file of which wheel goes where in an environment, and putting it there by hard link."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import files
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Collection

    from torchlock.digest import Digest

LINKERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The folders of an environment and its interpreter, relative to its root, with `/`."""

    site: str
    scripts: str
    headers: str
    python: str

    @classmethod
    def of(cls, python: str, platform: str) -> Layout:
        """Return the layout of a virtual environment of a Python such as `3.11` or `3.11.7`."""
        if platform == "win-64":
            return cls(site="Lib/site-packages", scripts="Scripts", headers="Include/site", python="Scripts/python.exe")
        name = f"python{'.'.join(python.split('.')[:2])}"
        return cls(site=f"lib/{name}/site-packages", scripts="bin", headers=f"include/site/{name}", python="bin/python")

    @property
    def posix(self) -> bool:
        """Tell whether its scripts start by a `#!` line."""
        return self.scripts == "bin"

    def folder(self, scheme: str, project: str) -> str:
        """Return the folder of a wheel's scheme; that of `data` is the root itself."""
        if scheme == "headers":
            return f"{self.headers}/{project}"
        return {"scripts": self.scripts, "data": ""}.get(scheme, self.site)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One path of an environment: what owns it, and the hash of its bytes as RECORD writes it."""

    path: str
    owner: str
    hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One file to be linked: from a tree to a path relative to the environment's root, and its size in bytes."""

    source: str
    target: str
    size: int


@dataclass(kw_only=True, slots=True)
class Plan:
    """What several wheels put into one environment: no path is claimed twice with different bytes."""

    links: list[Link] = field(default_factory=list)
    written: dict[str, tuple[bytes, bool]] = field(default_factory=dict)
    records: dict[str, Digest] = field(default_factory=dict)
    _files: dict[str, Claim] = field(default_factory=dict)
    _folders: dict[str, Claim] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return the bytes that the links stand for."""
        return sum(link.size for link in self.links)

    @property
    def claims(self) -> Collection[Claim]:
        """Return every path that was taken, in the order of taking."""
        return self._files.values()

    def claim(self, claim: Claim) -> bool:
        """Take a path for its owner; return False where another wheel brought the same bytes, else raise EnvError."""
        path = claim.path
        if posixpath.normpath(path) != path or path.startswith(("../", "/")) or path in ("..", ".") or "\\" in path:
            raise EnvError(claim.owner, f"the path {path!r} leaves the environment", "one inside it")
        key = _key(path)
        known = self._files.get(key)
        if known is not None and known.path == path and known.hash == claim.hash:
            return False
        if known is not None or (known := self._folders.get(key)) is not None:
            raise _clash(known, claim)
        self._files[key] = claim
        while (key := key.rpartition("/")[0]) and key not in self._folders:
            if key in self._files:
                raise _clash(self._files[key], claim)
            self._folders[key] = claim
        return True


def _key(path: str) -> str:
    """Return what two paths share that a case-insensitive file system, such as the Mac's, takes for one."""
    return path.casefold() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _clash(known: Claim, claim: Claim) -> EnvError:
    if known.path == claim.path:
        found = f"{known.owner} and {claim.owner} both own it, with different bytes"
    elif _key(known.path) == _key(claim.path):
        found = f"{claim.owner} owns it, and {known.owner} owns {known.path}, which differs only by case"
    else:
        found = f"{claim.owner} owns it, and {known.owner} owns {known.path}: one path cannot be file and folder"
    return EnvError(claim.path, found, "one owner for each path", "take one of the two out of the profile")


def carry_out(plan: Plan, prefix: Path) -> bool:
    """Link and write everything that was planned below `prefix`; return whether every file could be linked."""
    root = os.fspath(prefix)
    folders = {posixpath.dirname(path) for path in (*(link.target for link in plan.links), *plan.written)}
    for folder in sorted(folders):
        os.makedirs(f"{root}/{folder}", exist_ok=True)  # noqa: PTH103 - as above
    for target, (data, executable) in plan.written.items():
        path = prefix / target
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
    size = max(1, len(plan.links) // (LINKERS * 16))
    parts = [plan.links[start : start + size] for start in range(0, len(plan.links), size)]
    with ThreadPoolExecutor(LINKERS) as pool:
        try:
            return all([*pool.map(lambda part: _link_all(part, root), parts)])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _link_all(links: list[Link], root: str) -> bool:
    linked = [_link(link.source, f"{root}/{link.target}") for link in links]
    return all(linked)


def _link(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        files.link_or_copy(Path(source), Path(target))
        return False
    return True
