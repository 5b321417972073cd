"""Verbs of locks: list, resolve, record anew, import, compare."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import diff
from torchlock.commands.conda import lock_conda, update_conda
from torchlock.conda import difference, document
from torchlock.conda.document import CondaLock
from torchlock.errors import StaleError, TorchlockError
from torchlock.files import exclusive, sweep
from torchlock.gate import remarks
from torchlock.indexes import importer
from torchlock.indexes.server import LoopbackIndex, serve
from torchlock.locks.lock import Lock
from torchlock.resolve import locking

if TYPE_CHECKING:
    import argparse

    from torchlock.gate import Gate
    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace


# What RESOLVER= calls the resolver of conda packages.
CONDA_LOCK = "conda-lock"


def profiles(workspace: Workspace, options: argparse.Namespace) -> int:
    """List the profiles, their platforms and the state of their locks."""
    rows = [("PROFILE", "PLATFORM", "REQUIRES", "LOCK")]
    rows += [
        (target.profile, target.platform, ", ".join(target.requirements), _state(workspace, target))
        for target in workspace.targets(options.profiles)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def make_all(workspace: Workspace, options: argparse.Namespace) -> int:
    """Resolve, and write the locks of wheels and of conda packages: of each kind all or, where one is refused, none."""
    status = 0 if workspace.settings.resolver == CONDA_LOCK else make_wheels(workspace, options)
    return status or (lock_conda(workspace, options) if _conda(workspace) else 0)


def _conda(workspace: Workspace) -> bool:
    """Tell whether conda locks are asked for: one resolver alone is one kind of lock alone."""
    return workspace.settings.resolver in {None, CONDA_LOCK}


def make_wheels(workspace: Workspace, options: argparse.Namespace) -> int:
    """Resolve, and write the locks of wheels: all or, where one is refused, none."""
    targets, gate = workspace.targets(options.profiles), workspace.gate
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter), serve() as index:
        for folder in (*workspace.snapshot.root.glob("*"), *(workspace.lock_path(target).parent for target in targets)):
            sweep(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(lambda target: _make_lock(workspace, index, target, gate), targets))
        for item in made:
            state = "written" if locking.write(item, workspace.root) else "unchanged"
            who = " and ".join(item.resolvers) + (" agree" if len(item.resolvers) > 1 else " alone")
            parts = [f"{len(item.artifacts)} packages", who, state, *remarks(item)]
            print(f"{item.profile} {item.platform}: {', '.join(parts)}")
    return 0


def _make_lock(workspace: Workspace, index: LoopbackIndex, target: Target, gate: Gate) -> Lock:
    view = workspace.view(target)
    try:
        previous = workspace.lock(target)
    except TorchlockError:
        previous = None
    return locking.make(view, index.add(view), workspace.settings.resolver, gate, previous)


def update(workspace: Workspace, options: argparse.Namespace) -> int:
    """Record the indexes and the channels anew (one package's pages with --pkg), then lock."""
    if workspace.settings.offline:
        raise TorchlockError("update", "reads the indexes over the network", "OFFLINE= unset", "make lock OFFLINE=1")
    status = 0 if workspace.settings.resolver == CONDA_LOCK else _update_wheels(workspace, options)
    return max(status, update_conda(workspace, options) if _conda(workspace) else 0)


def _update_wheels(workspace: Workspace, options: argparse.Namespace) -> int:
    pages = [page for page in workspace.snapshot.pages() if options.pkg in {None, page[1]}]
    if not pages:
        raise TorchlockError("lockfiles/index", f"holds no page of {options.pkg}", remedy="make lock")
    failed = []
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        for name, project in pages:
            try:
                workspace.recorder.refresh(name, project)
            except TorchlockError as error:
                failed.append(error)
    status = make_wheels(workspace, options)
    for why in failed:
        print(f"torchlock: kept as it was recorded: {why}", file=sys.stderr)
    return 1 if failed else status


def import_index(workspace: Workspace, options: argparse.Namespace) -> int:
    """Take recorded facts of an index into the snapshot, with the evidence of each record."""
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        found = importer.import_index(Path(options.facts), options.source, options.index, workspace.snapshot)
    for project, count in found.items():
        print(f"{options.index}: {project}: {count} wheels imported")
    return 0


def _state(workspace: Workspace, target: Target) -> str:
    try:
        found = workspace.check(target)
    except StaleError:
        return "stale" if workspace.lock_path(target).exists() else "none"
    except TorchlockError as error:
        return f"broken: {error}"
    return ", ".join(["good", *remarks(found)])


def show_diff(workspace: Workspace, options: argparse.Namespace) -> int:
    """Say what changed in a profile's locks since a revision."""
    revision = options.against or "HEAD"
    found: list[diff.Diff | difference.Diff] = []
    for target in workspace.targets([options.profile]):
        old = Lock.from_toml(*diff.at_revision(workspace.root, revision, workspace.lock_path(target)))
        found.append(diff.diff(old, workspace.lock(target)))
    if workspace.settings.platform is None and workspace.catalogue.find(options.profile).conda is not None:
        path = document.path(workspace.root, found[0].new.profile)
        earlier = CondaLock.from_yaml(*diff.at_revision(workspace.root, revision, path))
        found.append(difference.diff(earlier, document.read(path, workspace.root)))
    if options.json:
        print(json.dumps([item.to_json() for item in found], indent=2, sort_keys=True))
    else:
        print("\n\n".join("\n".join(item.lines()) for item in found))
    return 0
