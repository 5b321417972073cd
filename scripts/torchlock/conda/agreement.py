"""The check of one conda lock, offline: sound, still its profile's and its channels', and all beside it agrees."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NoReturn

from torchlock.conda import document, explicit, gating, locking
from torchlock.conda.channels import NOARCH
from torchlock.errors import CondaError, StaleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torchlock.conda.channels import Channels, Record
    from torchlock.conda.document import CondaLock, Package
    from torchlock.locks.lock import Lock
    from torchlock.profiles.conda import CondaProfile, CondaTarget
    from torchlock.profiles.rules import Rules

# The two packages that both flavours of a profile have, by their names in conda locks and in those of wheels.
SHARED = (("pytorch", "torch"), ("numpy", "numpy"))


def check(profile: CondaProfile, root: Path, channels: Channels, rules: Rules) -> CondaLock:
    """Return the conda lock of a profile, read strictly, and compared with what it comes from and what comes from it.

    Raise CondaError or GateError where something is broken, and only then StaleError, where a lock is missing or its
    profile or channels have moved: a broken lock is never called stale.
    """
    path = document.path(root, profile.profile)
    where = path.relative_to(root).as_posix()
    lock = document.read(path, root)
    if lock.profile != profile.profile:
        _broken(f"{where}: torchlock-profile", repr(lock.profile), repr(profile.profile), profile)
    known = {platform: channels.records(profile.channels, platform) for platform in lock.platforms}
    for item in lock.all_packages:
        record = known[item.platform].get(item.url)
        if record is not None:
            _same(item, record, where, profile)
        else:
            _home(item, channels, where, profile)
    _files(renderings(lock), path.parent, root, "what conda-lock.yml renders to", profile)
    _fresh(lock, profile, channels, where)
    for item in lock.all_packages:
        if item.url not in known[item.platform]:
            found = f"the recorded channels have no {item.filename} for {item.platform}"
            _broken(f"{where}: {item.name} on {item.platform}", found, "a recorded package", profile)
    _files(inputs(profile), path.parent, root, f"what {profile.source} says", profile)
    for target in profile.targets:
        _answers(lock.packages(target.platform), target, where, profile)
        gating.after(target, lock.packages(target.platform), rules)
    return lock


def renderings(lock: CondaLock) -> dict[str, bytes]:
    """Return all explicit lists of a lock, by their names beside it."""
    return {explicit.filename(platform): explicit.render(lock, platform) for platform in lock.platforms}


def inputs(profile: CondaProfile) -> dict[str, bytes]:
    """Return what conda-lock is given for a profile, by their names beside the lock."""
    return {
        document.SOURCE: locking.environment(profile),
        f"{document.INPUTS}/{document.VIRTUAL}": locking.virtual_packages(profile),
    }


def agree(lock: CondaLock, wheels: Iterable[Lock]) -> None:
    """Refuse a conda lock whose torch or NumPy is another version than in a lock of wheels of the same profile."""
    for other in wheels:
        locked = {item.project: item.version.partition("+")[0] for item in other.artifacts}
        for item in lock.packages(other.platform):
            project = dict(SHARED).get(item.name)
            if project is not None and locked.get(project) != item.version:
                where = f"lockfiles/{lock.profile}/{document.FILE}: {item.name} on {other.platform}"
                theirs = f"{locked.get(project, 'none')}, as in lockfiles/{other.profile}/{other.platform}/pylock.toml"
                raise CondaError(where, item.version, theirs, f"make lock-{lock.profile}")


def _same(item: Package, record: Record, where: str, profile: CondaProfile) -> None:
    """Refuse a package that says of itself what its channel does not."""
    place, value = f"{where}: {item.name} on {item.platform}", record.value
    names = sorted(text.partition(" ")[0] for text in value["depends"])
    pairs = (
        ("hash.sha256", str(item.sha256), str(record.sha256)),
        ("hash.md5", item.md5, value.get("md5", item.md5)),
        ("version", item.version, value["version"]),
        ("build", item.build, value["build"]),
        ("dependencies", ", ".join(sorted(item.depends)), ", ".join(dict.fromkeys(names))),
        ("torchlock-without-constrains", str(item.constrained), str(record.constrained)),
    )
    for key, found, expected in pairs:
        if found != expected:
            _broken(f"{place}: {key}", found, f"{expected}, as recorded", profile)


def _home(item: Package, channels: Channels, where: str, profile: CondaProfile) -> None:
    """Refuse a package from elsewhere than the profile's channels."""
    subdirs = [channels.subdir(channel, name) for channel in profile.channels for name in (item.platform, NOARCH)]
    bases = {found.base_url for found in subdirs if found}
    if not item.url.startswith(tuple(bases)):
        found = f"comes from {item.channel}"
        _broken(
            f"{where}: {item.name} on {item.platform}", found, f"the channels {', '.join(profile.channels)}", profile
        )


def _files(wanted: Mapping[str, bytes], folder: Path, root: Path, expected: str, profile: CondaProfile) -> None:
    for name, data in wanted.items():
        where, remedy = (folder / name).relative_to(root).as_posix(), f"make lock-{profile.profile}"
        try:
            found = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise CondaError(where, "is missing", expected, remedy) from error
        except OSError as error:
            raise CondaError(where, f"cannot be read: {error.strerror}", remedy=remedy) from error
        if found != data:
            raise CondaError(where, f"is not {expected}", "the same bytes", remedy)


def _fresh(lock: CondaLock, profile: CondaProfile, channels: Channels, where: str) -> None:
    remedy = f"make lock-{profile.profile}"
    digest = profile.digest()
    if lock.profile_digest != digest:
        found = f"{profile.source} has changed since this was locked ({lock.profile_digest})"
        raise StaleError(where, found, str(digest), remedy)
    names = {platform: [item.name for item in lock.packages(platform)] for platform in lock.platforms}
    digest = channels.digest(profile.channels, names)
    if lock.snapshot_digest != digest:
        found = f"the recorded channels have changed since this was locked ({lock.snapshot_digest})"
        raise StaleError(where, found, str(digest), remedy)


def _answers(packages: Iterable[Package], target: CondaTarget, where: str, profile: CondaProfile) -> None:
    """Refuse a lock that claims to come from this profile and does not give what it asks for."""
    locked = {item.name: item for item in packages}
    for name, version in (("python", f"{target.python}.*"), ("pytorch", target.torch), ("numpy", target.numpy)):
        item = locked.get(name)
        if item is None or not fnmatchcase(item.version, version):
            found = f"{name} {item.version}" if item else f"{name} is missing"
            _broken(f"{where}: package", f"{found} on {target.platform}", f"{version}, as {target.where} asks", profile)
    torch = locked["pytorch"]
    if not fnmatchcase(torch.build, target.build) or torch.channel.rpartition("/")[2] != target.channel:
        found = f"{torch.channel.rpartition('/')[2]}::pytorch {torch.version} {torch.build} on {target.platform}"
        _broken(f"{where}: package", found, f"{target.channel}::{target.build}, as {target.where} asks", profile)


def _broken(where: str, found: str, expected: str, profile: CondaProfile) -> NoReturn:
    raise CondaError(where, found, expected, f"make lock-{profile.profile}")
