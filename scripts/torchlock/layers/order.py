"""The order of layers, and which wheels share one: fixed rules, so that images share what their locks share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING

from torchlock.errors import ImageError
from torchlock.profiles.document import read, show

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlock.locks.lock import Artifact
    from torchlock.profiles.document import Node

FILE = "docker/layers.yaml"
# A packed wheel of so many bytes has a layer of its own; smaller ones share these many, by name.
LARGE = 256 << 10
BINS = 8

_PATTERN = re.compile(r"[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The wheels of one layer, by project."""

    name: str
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Patterns over project names, the most shared and stable first; what none matches comes after them.

    `bytecode` are the patterns of the projects that get a layer of byte code.
    """

    patterns: tuple[str, ...]
    bytecode: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, where: str = FILE) -> Order:
        """Read the file that gives the order; raise ProfileError where it does not say it plainly."""
        table = read(path, where).table(("order", "bytecode"), ("order",))
        return cls(
            patterns=_patterns(table["order"]),
            bytecode=_patterns(table["bytecode"]) if "bytecode" in table else (),
        )

    def compiles(self, project: str) -> bool:
        """Tell whether a project gets a layer of byte code."""
        return any(fnmatchcase(project, known) for known in self.bytecode)

    def rank(self, project: str) -> int:
        """Return the place of a project's layer: lower comes first."""
        return next((at for at, known in enumerate(self.patterns) if fnmatchcase(project, known)), len(self.patterns))


def _patterns(node: Node) -> tuple[str, ...]:
    """Read a list of patterns, none of which hides behind an earlier one."""
    seen: list[str] = []
    for item in node.items():
        pattern = item.text()
        if not _PATTERN.fullmatch(pattern):
            expected = "a project's name in lower case with '-', in which '*' stands for any letters"
            raise item.error(f"found the pattern {show(pattern)!r}", expected)
        if covering := next((known for known in seen if fnmatchcase(pattern, known)), None):
            raise item.error(f"{pattern!r} is never reached: {covering!r} comes before it", "each pattern once")
        seen.append(pattern)
    return tuple(seen)


def groups(artifacts: Sequence[Artifact], order: Order, room: int) -> list[Group]:
    """Divide wheels into at most `room` layers, in order.

    A large wheel has its own, and so has one whose size its lock does not give; the others share one of 8, chosen by
    the hash of the project's name, so that a bump of one changes one. Where there would be too many, the smallest of
    the large ones join these. Raise ImageError where there is no room even so.
    """
    by_size = sorted(artifacts, key=lambda item: (_size(item), item.project))
    small = sum(_size(item) < LARGE for item in by_size)
    while len(by_size) - small + len(_bins(by_size[:small])) > room:
        small += 1
        if small > len(by_size):
            found = f"{len(_bins(by_size))} of shared ones at least, and there is room for {room}"
            raise ImageError("the layers of the wheels", found, "a base of fewer layers")
    large = sorted(by_size[small:], key=lambda item: (order.rank(item.project), item.project))
    own = [Group(name=item.project, artifacts=(item,)) for item in large]
    return own + _bins(by_size[:small])


def _size(artifact: Artifact) -> float:
    return inf if artifact.size is None else artifact.size


def _bins(artifacts: Sequence[Artifact]) -> list[Group]:
    found: dict[int, list[Artifact]] = {}
    for artifact in sorted(artifacts, key=lambda item: item.project):
        number = sha256(artifact.project.encode()).digest()[0] % BINS
        found.setdefault(number, []).append(artifact)
    return [Group(name=f"small-{number}", artifacts=tuple(found[number])) for number in sorted(found)]
