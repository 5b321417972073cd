"""Verbs of conda: lock with conda-lock, record the channels anew, import them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock.conda import document, locking
from torchlock.conda.channels import Channels
from torchlock.errors import CondaError, TorchlockError
from torchlock.files import exclusive, sweep

if TYPE_CHECKING:
    import argparse

    from torchlock.conda.locking import Locker, Made
    from torchlock.profiles.conda import CondaProfile
    from torchlock.workspace import Workspace

# The one name that a package has otherwise in conda channels.
_NAMES = {"torch": "pytorch"}


def lock_conda(workspace: Workspace, options: argparse.Namespace) -> int:
    """Solve the conda part of profiles from the recorded channels, and write the locks: all of them or none."""
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        return _lock(workspace, options, None)


def update_conda(workspace: Workspace, options: argparse.Namespace) -> int:
    """Record the channels anew over the network, then lock; with --pkg only that package moves."""
    if workspace.settings.offline:
        raise TorchlockError("update", "reads the channels over the network", "OFFLINE= unset", "make lock OFFLINE=1")
    from torchlock.conda import recording  # noqa: PLC0415 - rattler is loaded where it is needed, and nowhere else

    pkg: str | None = getattr(options, "pkg", None)
    moving = _NAMES.get(pkg, pkg) if pkg else None
    root: str = getattr(options, "channels", None) or recording.ROOT
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        for name, count in recording.refresh(root, _profiles(workspace, ()), _channels(workspace), moving).items():
            print(f"{name}: {count} packages recorded")
        return _lock(workspace, options, moving)


def import_channels(workspace: Workspace, options: argparse.Namespace) -> int:
    """Take what the profiles reach of a folder of recorded channels into the snapshot, with the evidence of each."""
    from torchlock.conda import recording  # noqa: PLC0415 - rattler is loaded where it is needed, and nowhere else

    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        found = recording.import_channels(Path(options.facts), _profiles(workspace, ()), _channels(workspace))
    for name, count in found.items():
        print(f"{name}: {count} packages imported")
    return 0


def _profiles(workspace: Workspace, names: tuple[str, ...]) -> list[CondaProfile]:
    """Return the conda part of the named profiles, of all without a name; only a named one must have it."""
    found = [workspace.catalogue.find(name) for name in names] or list(workspace.catalogue.profiles.values())
    for item in found:
        if names and item.conda is None:
            expected = f"conda: under variants.{item.variant}"
            raise CondaError(f"{item.source}: {item.name}", "has no conda environment", expected)
    return [item.conda for item in found if item.conda is not None]


def _channels(workspace: Workspace) -> Channels:
    return Channels(workspace.root / "lockfiles" / "index" / "conda")


def _lock(workspace: Workspace, options: argparse.Namespace, moving: str | None) -> int:
    channels = _channels(workspace)
    locker = locking.Locker(channels=channels, rules=workspace.rules, conda=getattr(options, "conda", None))
    wanted = [item for item in _chosen(workspace, options) if moving is None or _has(workspace, item, moving)]
    for item in wanted:
        sweep(document.path(workspace.root, item.profile).parent)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(lambda item: _make(workspace, locker, item, moving), wanted))
    for done in made:
        state = "written" if locking.write(done, workspace.root) else "unchanged"
        for platform in done.lock.platforms:
            packages = done.lock.packages(platform)
            loose = [found.name for found in packages if not found.constrained]
            marked = [f"not known what {', '.join(loose)} may not stand beside"] if loose else []
            parts = [f"{len(packages)} conda packages", done.lock.solver, state, *marked]
            print(f"{done.lock.profile} {platform}: {', '.join(parts)}")
    return 0


def _chosen(workspace: Workspace, options: argparse.Namespace) -> list[CondaProfile]:
    """Return what is to be locked; a profile is locked as a whole, also where one of its platforms is named."""
    platform = workspace.settings.platform
    found = [workspace.catalogue.find(name).conda for name in options.profiles] or _profiles(workspace, ())
    return [item for item in found if item and platform in {None, *(target.platform for target in item.targets)}]


def _has(workspace: Workspace, profile: CondaProfile, name: str) -> bool:
    """Tell whether a profile's lock has a package; conda-lock would move all of them for one that it has not."""
    known = document.read(document.path(workspace.root, profile.profile), workspace.root)
    return any(item.name == name for item in known.all_packages)


def _make(workspace: Workspace, locker: Locker, profile: CondaProfile, moving: str | None) -> Made:
    if moving is None:
        return locker.make(profile)
    return locker.make(profile, (moving,), document.path(workspace.root, profile.profile).read_bytes())
