"""Small snapshots and targets to resolve with, recorded from literal dicts: no wheel, no network."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.indexes.snapshot import File, Metadata, Page, Snapshot
from torchlock.platforms import host
from torchlock.profiles.profile import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


def target(*requirements: str, **changes: Any) -> Target:
    """Return a target for this machine and the running Python, with other values where they are given."""
    value = Target(
        profile="demo-cpu",
        line="demo",
        variant="cpu",
        platform=host().name,
        python=RUNNING,
        requirements=tuple(sorted(requirements)),
        indexes={},
        default_index="pypi",
        cuda=None,
        source="environments/demo.yaml",
    )
    return replace(value, **changes)


def file(name: str, requires: Iterable[str] | None = (), **changes: Any) -> File:
    """Return a wheel's record; `requires=None` is one whose metadata is not recorded."""
    metadata = None if requires is None else Metadata(requires_dist=tuple(requires))
    return replace(File(name=name, sha256=Digest.of(name.encode()), size=1000, metadata=metadata), **changes)


def write(root: Path, *files: File, index: str = "pypi") -> Snapshot:
    """Record files on one index, each on the page of its project."""
    snapshot = Snapshot(root)
    pages: dict[str, dict[str, File]] = {}
    for item in files:
        project = item.name.split("-")[0].replace("_", "-")
        pages.setdefault(project, {})[item.name] = item
    for project, found in pages.items():
        snapshot.write(Page(index=index, project=project, files=found))
    return snapshot


def pure(root: Path, projects: Mapping[str, Mapping[str, Iterable[str]]]) -> Snapshot:
    """Record pure wheels: project -> version -> what it requires."""
    return write(
        root,
        *(
            file(f"{project}-{version}-py3-none-any.whl", requires)
            for project, versions in projects.items()
            for version, requires in versions.items()
        ),
    )
