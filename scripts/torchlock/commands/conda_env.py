"""Verbs of conda environments: build one from its lock and smoke it, tell its drift, check locks, compare flavours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torchlock.conda import agreement, document, flavours, trial
from torchlock.conda.channels import Channels
from torchlock.conda.drift import drift
from torchlock.conda.installation import CondaEnvironments
from torchlock.conda.packages import Mirrors, PackageFetcher, PackageStore
from torchlock.conda.trial import Wishes
from torchlock.errors import CondaError, ProfileError
from torchlock.locks import lock
from torchlock.platforms import host

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from torchlock.conda.document import CondaLock
    from torchlock.profiles.conda import CondaProfile, CondaTarget
    from torchlock.workspace import Workspace

SKIP = "skip"


def make_conda_env(workspace: Workspace, options: argparse.Namespace) -> int:
    """Fetch what is missing, build the conda environment of a profile and smoke it."""
    profile = _profile(workspace, options.profile)
    target = _target(profile)
    found = check_conda(workspace, profile)
    built = environments(workspace, options, profile, target.platform).build(found, target.platform)
    count = len(found.packages(target.platform))
    print(f"{profile.profile}: {count} conda packages of {target.platform} in {_shown(workspace, built)}", flush=True)
    trial.run(built, found, target, _wishes(options), workspace.reporter)
    return 0


def smoke_conda(workspace: Workspace, options: argparse.Namespace) -> int:
    """Run the smoke script in a conda environment that is there already."""
    profile = _profile(workspace, options.profile)
    found = document.read(document.path(workspace.root, profile.profile), workspace.root)
    env = workspace.envs / f"conda-{profile.profile}"
    trial.run(env, found, _target(profile), _wishes(options), workspace.reporter)
    return 0


def drift_conda(workspace: Workspace, options: argparse.Namespace) -> int:
    """Tell how far a conda environment is from its lock; exit status 1 where it is not as locked."""
    profile = _profile(workspace, options.profile)
    env = workspace.envs / f"conda-{profile.profile}"
    if not env.is_dir():
        raise CondaError(
            _shown(workspace, env), "there is no such environment yet", "", f"make conda-env-{profile.profile}"
        )
    found = document.read(document.path(workspace.root, profile.profile), workspace.root)
    moved = drift(env, found, _target(profile).platform, workspace.reporter)
    print(json.dumps(moved.to_json(), indent=2) if options.json else "\n".join(moved.lines()))
    return 1 if moved else 0


def compare_flavours(workspace: Workspace, options: argparse.Namespace) -> int:
    """Show what differs between a profile's wheels and its conda packages, a Markdown table for each platform."""
    for profile in _profiles(workspace, options.profiles):
        found = document.read(document.path(workspace.root, profile.profile), workspace.root)
        for platform in found.platforms:
            records = _channels(workspace).records(profile.channels, platform)
            path = lock.folder(workspace.root, profile.profile, platform) / lock.FILE
            pip = flavours.of_wheels(lock.read(path, workspace.root))
            conda = flavours.of_packages(found.packages(platform), records)
            if options.json:
                row = {"profile": profile.profile, "platform": platform, "pip": pip.to_json(), "conda": conda.to_json()}
                print(json.dumps(row, sort_keys=True))
            else:
                print("\n".join([*flavours.table(f"{profile.profile} on {platform}", pip, conda), ""]))
    return 0


def check_conda(workspace: Workspace, profile: CondaProfile) -> CondaLock:
    """Return the conda lock of a profile that is sound, fresh, passes the gate and agrees with that of its wheels."""
    found = agreement.check(profile, workspace.root, _channels(workspace), workspace.rules)
    wheels = workspace.catalogue.find(profile.profile).targets
    paths = [workspace.lock_path(item) for item in wheels if item.platform in found.platforms]
    agreement.agree(found, [lock.read(path, workspace.root) for path in paths if path.is_file()])
    return found


def environments(
    workspace: Workspace, options: argparse.Namespace, profile: CondaProfile, platform: str
) -> CondaEnvironments:
    """Return where conda environments stand, and the way to build that of a profile."""
    channels = _channels(workspace)
    store = PackageStore(workspace.store.root, workspace.reporter)
    remote = None if workspace.settings.offline else workspace.remote
    mirrors = Mirrors(addresses=_mirrors(workspace.settings.mirror, channels, profile, platform))
    scripts = getattr(options, "scripts", None)
    if scripts not in {None, SKIP}:
        raise ProfileError("SCRIPTS", f"found {scripts!r}", f"{SKIP}, or nothing: then link scripts are refused")
    records = channels.records(profile.channels, platform)
    return CondaEnvironments(
        root=workspace.envs,
        fetcher=PackageFetcher(store, remote, mirrors, workspace.reporter),
        reporter=workspace.reporter,
        skip_scripts=scripts == SKIP,
        sizes={url: item.value["size"] for url, item in records.items() if "size" in item.value},
    )


def _mirrors(text: str | None, channels: Channels, profile: CondaProfile, platform: str) -> dict[str, str]:
    """Read MIRROR: `channel=URL` words; a mirror stands in for the address that the channel's packages are below."""
    found = {}
    for word in (text or "").split():
        channel, separator, url = word.partition("=")
        if not separator or channel not in profile.channels:
            raise ProfileError("MIRROR", f"found {channel!r}", f"one of {', '.join(profile.channels)}, then =<address>")
        for name in (platform, "noarch"):
            subdir = channels.subdir(channel, name)
            if subdir is not None:
                found[subdir.base_url.removesuffix(f"{name}/")] = url
    return found


def _profile(workspace: Workspace, name: str) -> CondaProfile:
    found = workspace.catalogue.find(name)
    if found.conda is None:
        expected = f"conda: under variants.{found.variant}"
        raise CondaError(f"{found.source}: {found.name}", "has no conda environment", expected)
    return found.conda


def _profiles(workspace: Workspace, names: Iterable[str]) -> list[CondaProfile]:
    """Return the conda part of the named profiles, or of all that have one."""
    every = [item.conda for item in workspace.catalogue.profiles.values() if item.conda is not None]
    return [_profile(workspace, name) for name in names] or every


def _target(profile: CondaProfile) -> CondaTarget:
    here = host().name
    for target in profile.targets:
        if target.platform == here:
            return target
    has = ", ".join(target.platform for target in profile.targets)
    found = f"has no conda environment for {here}, the platform of this machine"
    raise CondaError(f"{profile.source}: {profile.profile}", found, f"a machine of {has}")


def _wishes(options: argparse.Namespace) -> Wishes:
    return Wishes(require=options.require, as_json=options.json)


def _channels(workspace: Workspace) -> Channels:
    return Channels(workspace.root / "lockfiles" / "index" / "conda")


def _shown(workspace: Workspace, env: Path) -> str:
    return env.relative_to(workspace.root).as_posix() if env.is_relative_to(workspace.root) else str(env)
