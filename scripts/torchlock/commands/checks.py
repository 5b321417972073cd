"""The verb that checks everything that is committed against everything that it comes from, offline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torchlock import check
from torchlock.commands import images
from torchlock.commands.conda_env import check_conda
from torchlock.errors import StaleError, TorchlockError
from torchlock.gate import remarks
from torchlock.images import index

if TYPE_CHECKING:
    import argparse

    from torchlock.profiles.conda import CondaProfile
    from torchlock.profiles.profile import Profile, Target
    from torchlock.workspace import Workspace

# What is checked: its name, and what returns remarks on it or raises.
Check = tuple[str, Callable[[], list[str]]]


def check_all(workspace: Workspace, options: argparse.Namespace) -> int:
    """Check profiles, locks, renderings, images and gates against each other, offline: stale is 3, broken 1."""
    errors: list[TorchlockError] = []
    for name, found in _checks(workspace, options.profiles):
        try:
            print(f"{name}: {', '.join(['good', *found()])}")
        except TorchlockError as error:
            errors.append(error)
            print(f"{name}: {'stale' if isinstance(error, StaleError) else 'broken'}: {error}")
    if not options.profiles:
        check.check_folder(workspace.root, workspace.catalogue)
    return max((error.status for error in errors), key=lambda status: status == 1, default=0)


def _checks(workspace: Workspace, names: list[str]) -> list[Check]:
    """List what is to be checked: each target with its image, then what is committed for a whole profile."""
    targets = workspace.targets(names)
    found: list[Check] = [(f"{item.profile} {item.platform}", partial(_target, workspace, item)) for item in targets]
    if workspace.settings.platform is None:
        for name in dict.fromkeys(item.profile for item in targets):
            profile = workspace.catalogue.find(name)
            if profile.conda is not None:
                found.append((f"{name} conda", partial(_conda, workspace, profile.conda)))
            if index.path(workspace.root, name).exists() or index.expected(workspace.root, profile) is not None:
                found.append((f"{name} image index", partial(_index, workspace, profile)))
    return found


def _target(workspace: Workspace, target: Target) -> list[str]:
    """Check a lock, and the image that is committed beside it, if one is."""
    lock = workspace.check(target)
    digest = images.check(workspace, target, lock)
    return [*remarks(lock), *([f"image {digest}"] if digest else [])]


def _conda(workspace: Workspace, profile: CondaProfile) -> list[str]:
    return sorted(check_conda(workspace, profile).platforms)


def _index(workspace: Workspace, profile: Profile) -> list[str]:
    index.check(workspace.root, profile)
    return []
