"""The nearest version of a project that would pass: found by reading the facts of the snapshot's others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from torchlock.errors import TorchlockError
from torchlock.indexes.view import version_of
from torchlock.locks.lock import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torchlock.facts.facts import Facts
    from torchlock.indexes.view import View

# How many versions on either side are looked at; of n, about 2·log2(n) are read.
MOST = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """What was found: the version, None where none passes; `unread` versions could not be looked into."""

    version: str | None
    unread: tuple[str, ...]


class Search:
    """Look among the wheels that a target may choose from; `facts_of` gives None for what cannot be read."""

    def __init__(self, view: View, facts_of: Callable[[Artifact], Facts | None]) -> None:
        self._view = view
        self._facts_of = facts_of

    def nearest(self, project: str, version: str, passes: Callable[[Facts], bool], *, older: bool = True) -> Neighbour:
        """Return the nearest newer version that passes, else (with `older`) the nearest older one.

        It is read to pass. Between it and `version` all are taken to fail, as its own neighbour was read to.
        """
        unread: list[str] = []

        def good(candidate: str) -> bool:
            facts = self._read(project, candidate)
            if facts is None:
                unread.append(candidate)
            return facts is not None and passes(facts)

        here, versions = Version(version), self.versions(project, version)
        above = [str(item) for item in versions if item > here]
        below = [str(item) for item in reversed(versions) if item < here] if older else []
        found = first(above[:MOST], good) or first(below[:MOST], good)
        return Neighbour(version=found, unread=tuple(dict.fromkeys(unread)))

    def versions(self, project: str, like: str) -> list[Version]:
        """Return the versions that fit the target, ascending: builds of one kind, and finals where `like` is one."""
        here = Version(like)
        found = {Version(version_of(file.name)) for file in self._view.files(project)}
        same = [item for item in found if item.local == here.local]
        return sorted(item for item in same if here.is_prerelease or not item.is_prerelease)

    def _read(self, project: str, version: str) -> Facts | None:
        file = self._view.pick(project, version)
        if file.sha256 is None:
            return None
        artifact = Artifact(
            project=project,
            version=version,
            filename=file.name,
            sha256=file.sha256,
            size=file.size,
            upload_time=file.upload_time,
            index=self._view.target.index_of(project),
        )
        try:
            return self._facts_of(artifact)
        except TorchlockError:  # a wheel that nobody should choose
            return None


def first(items: Sequence[str], good: Callable[[str], bool]) -> str | None:
    """Return the first good item where all after a good one are good, asking about few and near ones first."""
    low, at = -1, 0
    while at < len(items) and not good(items[at]):
        if at == len(items) - 1:
            return None
        low, at = at, min(2 * at + 1, len(items) - 1)
    if not items:
        return None
    high = at
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(items[middle]) else (middle, high)
    return items[high]
