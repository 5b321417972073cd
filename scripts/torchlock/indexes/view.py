"""What one target may choose from: the part of a snapshot that is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from torchlock.digest import Digest
from torchlock.errors import SnapshotError, TorchlockError
from torchlock.indexes.snapshot import parse
from torchlock.platforms import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlock.indexes.record import Recorder
    from torchlock.indexes.snapshot import File, Page, Snapshot
    from torchlock.profiles.profile import Target


ONLINE = "the same without OFFLINE=1"


class View:
    """What one target may choose from: every project from its one index, wheels that fit the platform, none yanked.

    With a recorder, what the snapshot lacks is recorded when it is first asked for; without, it is refused.
    `problems` holds what could not be served: a resolver sees only a 404.
    """

    def __init__(self, snapshot: Snapshot, target: Target, recorder: Recorder | None = None) -> None:
        self.snapshot = snapshot
        self.target = target
        self.recorder = recorder
        self.problems: list[TorchlockError] = []
        self._tags = {tag: rank for rank, tag in enumerate(PLATFORMS[target.platform].tags(target.python))}

    def page(self, project: str) -> Page:
        """Return the recorded page of a project; raise SnapshotError where there is none."""
        index = self.target.index_of(project)
        page = self.snapshot.page(index, project)
        if page is None and self.recorder is not None:
            page = self.recorder.page(index, project)
        if page is None:
            raise SnapshotError(f"lockfiles/index/{index}/{project}.json", "not recorded", remedy=ONLINE)
        return page

    def files(self, project: str) -> list[File]:
        """Return a project's wheels that fit, sorted by name."""
        page = self.page(project)
        return [page.files[name] for name in sorted(page.files) if page.files[name].yanked is None and self._fits(name)]

    def best(self, project: str, version: str) -> File:
        """Return the wheel of a version that an installer would take, with its hash and metadata known."""
        return self.known(self.pick(project, version))

    def pick(self, project: str, version: str) -> File:
        """Return the wheel of a version that an installer would take, as it is recorded."""
        files = [file for file in self.files(project) if version_of(file.name) == version]
        if not files:
            where = f"{self.target.profile} on {self.target.platform}"
            raise SnapshotError(where, f"no wheel of {project} {version} for Python {self.target.python} there")
        rank = min(self._rank(file.name) for file in files)
        return max((file for file in files if self._rank(file.name) == rank), key=_build)

    def reason(self) -> str | None:
        """Say which requirement has wheels, but none that this target may take; None where that is not so."""
        return next(filter(None, map(self._unfit, map(Requirement, self.target.requirements))), None)

    def _unfit(self, requirement: Requirement) -> str | None:
        page = self.snapshot.page(self.target.index_of(requirement.name), canonicalize_name(requirement.name))
        names = sorted(page.files) if page and requirement.marker is None else []
        found = [page.files[name] for name in names if page and admits(requirement, version_of(name))]
        fitting = [file for file in found if self._fits(file.name)]
        if not found or any(file.yanked is None for file in fitting):
            return None
        if fitting:
            return f"{requirement}: {fitting[0].name} was yanked ({fitting[0].yanked or 'without a reason'})"
        target, there = self.target, ", ".join(file.name for file in found[:2]) + ", …" * (len(found) > 2)
        return f"{requirement}: no wheel for Python {target.python} on {target.platform}, only {there}"

    def known(self, file: File) -> File:
        """Return a file with its metadata and hash, recorded now if need be."""
        if file.metadata is not None and file.sha256 is not None:
            return file
        project = project_of(file.name)
        index = self.target.index_of(project)
        if self.recorder is None:
            lacks = "metadata" if file.metadata is None else "sha256"
            where = f"lockfiles/index/{index}/{project}.json"
            raise SnapshotError(where, f"the {lacks} of {file.name} is not recorded", remedy=ONLINE)
        return self.recorder.metadata(index, project, file.name)

    def digest(self, projects: Iterable[str]) -> Digest:
        """Return the digest of all that this target could choose from for some projects."""
        return Digest.of_json(
            {name: [[file.name, file.requires_python] for file in self.files(name)] for name in sorted(projects)}
        )

    def _fits(self, filename: str) -> bool:
        parsed = parse(filename)
        return parsed is not None and not self._tags.keys().isdisjoint(parsed[2])

    def _rank(self, filename: str) -> int:
        parsed = parse(filename)
        return min(self._tags[tag] for tag in parsed[2] if tag in self._tags) if parsed else len(self._tags)


def admits(requirement: Requirement, version: str) -> bool:
    """Tell whether a requirement's specifier takes a version, pre-releases too."""
    return requirement.specifier.contains(version, prereleases=True)


def _build(file: File) -> tuple[int, str]:
    """Return a wheel's build tag as installers compare it: of two with the same tags, the higher one is taken."""
    tag = parse_wheel_filename(file.name)[2]
    return tag or (-1, "")


def project_of(filename: str) -> str:
    """Return the project that a recorded wheel's file name states."""
    parsed = parse(filename)
    return str(parsed[0]) if parsed else ""


def version_of(filename: str) -> str:
    """Return the version that a recorded wheel's file name states."""
    parsed = parse(filename)
    return str(parsed[1]) if parsed else ""
