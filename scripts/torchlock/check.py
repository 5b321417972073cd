"""The check of one lock, offline: sound, still its profile's and its snapshot's, and its renderings are its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from torchlock.digest import Digest
from torchlock.errors import LockError, StaleError
from torchlock.gate import waivers
from torchlock.locks import render
from torchlock.locks.lock import FILE, WHEELS, Artifact, Lock, folder, read
from torchlock.platforms import PLATFORMS

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.locks.summary import Summary
    from torchlock.profiles.profile import Catalogue, Target

# From a lock to the digest of what its snapshot offers for it now.
SnapshotDigest = Callable[[Lock], Digest]
# From an index alias, a project and a file name to the hash and size in the snapshot, None where it has no such file.
Recorded = Callable[[str, str, str], tuple[Digest | None, int | None] | None]
# From a lock to the summary of the recorded facts of its artifacts.
FactsOf = Callable[[Lock], "Summary"]

IMAGE = "image"
# What lies beside the folders of the platforms of a profile: its index of images, and its conda lock with its own.
INDEX = "image-index.json"
CONDA = re.compile(r"conda|conda-lock\.yml|conda-[a-z]+-[a-z0-9]+\.lock")
# What lies beside the folders of the profiles under `lockfiles/`.
SHARED = frozenset(("index", "frozen", "matrix.json", "MATRIX.md"))


def check(
    target: Target, root: Path, snapshot_digest_of: SnapshotDigest, artifact_of: Recorded, facts_of: FactsOf
) -> Lock:
    """Return the lock of a target, read strictly and compared with all that it comes from and that comes from it.

    Raise LockError where something is broken, and only then StaleError, where a lock is missing or its profile or
    snapshot has moved: a broken lock is never called stale.
    """
    place = folder(root, target.profile, target.platform)
    where = (place / FILE).relative_to(root).as_posix()
    lock = read(place / FILE, root)
    for name, found, expected in (
        ("profile", lock.profile, target.profile),
        ("platform", lock.platform, target.platform),
    ):
        if found != expected:
            _broken(f"{where}: tool.torchlock.{name}", repr(found), repr(expected), target)
    recorded = [artifact_of(artifact.index, artifact.project, artifact.filename) for artifact in lock.artifacts]
    for number, (artifact, known) in enumerate(zip(lock.artifacts, recorded, strict=True)):
        if known is not None:
            _same(artifact, known, f"{where}: packages[{number}].wheels[0]", target)
    _rendering(lock, place, root)
    _foreign(place, root)
    facts = facts_of(lock)
    _facts(lock, facts, f"{where}: tool.torchlock.facts", target)
    _fresh(lock, target, where, snapshot_digest_of)
    if lock.facts != facts:
        news = ", ".join(sorted({*lock.facts.unread} - {*facts.unread})) or "the drivers of environments/compat.yaml"
        raise StaleError(where, f"{news}: recorded since this was locked", remedy=f"make lock-{target.profile}")
    for number, (artifact, known) in enumerate(zip(lock.artifacts, recorded, strict=True)):
        if known is None:
            found = f"the snapshot of {artifact.index} has no {artifact.filename}"
            _broken(f"{where}: packages[{number}].wheels[0]", found, "a recorded file", target)
    _answers(lock, target, where)
    return lock


def check_folder(root: Path, catalogue: Catalogue) -> None:
    """Raise LockError that names everything under `lockfiles/` that belongs to no profile and platform."""
    wanted = {(target.profile, target.platform) for item in catalogue.profiles.values() for target in item.targets}
    conda = {item.name for item in catalogue.profiles.values() if item.conda is not None}
    profiles = {profile for profile, _ in wanted}
    found = []
    for profile in _names(root / "lockfiles"):
        if profile not in profiles | SHARED:
            found.append(f"lockfiles/{profile}")
        elif profile not in SHARED:
            names = {name for name in _names(root / "lockfiles" / profile) if (profile, name) not in wanted} - {INDEX}
            names -= {name for name in names if profile in conda and CONDA.fullmatch(name)}
            found += [f"lockfiles/{profile}/{name}" for name in sorted(names)]
    if found:
        text = ", ".join(found)
        raise LockError(text, "no profile asks for it", "a profile under environments/", f"git rm -r {' '.join(found)}")


def environment(platform: str, python: str) -> dict[str, str]:
    """Return the values of markers on a platform: those of CPython's first release of a minor version."""
    values = dict(part.replace("'", "").split(" == ") for part in PLATFORMS[platform].marker.split(" and "))
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[values["sys_platform"]]
    return {
        **values,
        "os_name": "nt" if system == "Windows" else "posix",
        "platform_system": system,
        "platform_release": "",
        "platform_version": "",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": "",
    }


def _same(artifact: Artifact, known: tuple[Digest | None, int | None], place: str, target: Target) -> None:
    sha256, size = known
    if sha256 != artifact.sha256:
        found = f"{artifact.filename} has {artifact.sha256} here and {sha256 or 'no hash'} in the snapshot"
        _broken(f"{place}.hashes.sha256", found, "the same in both", target)
    if size != artifact.size:
        found = f"{artifact.filename} has {artifact.size} bytes here and {size} in the snapshot"
        _broken(f"{place}.size", found, "the same in both", target)


def _facts(lock: Lock, facts: Summary, place: str, target: Target) -> None:
    """Refuse a lock that says other facts than are recorded; what was unread then, and drivers, may be newer."""
    if lost := sorted({*facts.unread} - {*lock.facts.unread}):
        found = f"the facts of {', '.join(lost)} are here, but not under lockfiles/index/facts"
        _broken(place, found, "both", target)
    if lock.facts.unread != facts.unread:
        return
    here, recorded = lock.facts.to_dict(), facts.to_dict()
    for key in sorted({*here, *recorded} - {"driver", "driver-release"}):
        if here.get(key) != recorded.get(key):
            _broken(f"{place}.{key}", repr(here.get(key)), f"{recorded.get(key)!r}, as recorded", target)


def _rendering(lock: Lock, place: Path, root: Path) -> None:
    path = place / render.REQUIREMENTS
    where, remedy = path.relative_to(root).as_posix(), f"make lock-{lock.profile}"
    try:
        found = path.read_bytes()
    except FileNotFoundError as error:
        raise LockError(where, "is missing", f"the rendering of {FILE}", remedy) from error
    except OSError as error:
        raise LockError(where, f"cannot be read: {error.strerror}", remedy=remedy) from error
    if found != render.requirements(lock):
        raise LockError(where, f"is not what {FILE} renders to", "the same bytes", remedy)


def _foreign(place: Path, root: Path) -> None:
    names = set(_names(place)) - {FILE, render.REQUIREMENTS, WHEELS, IMAGE}
    if names:
        where, text = place.relative_to(root).as_posix(), ", ".join(sorted(names))
        known = f"{FILE}, {render.REQUIREMENTS}, {WHEELS}/ and {IMAGE}/ alone"
        raise LockError(where, f"torchlock did not write {text}", known, f"move {text} elsewhere")


def _names(path: Path) -> list[str]:
    """Return what a folder holds, but for hidden files: what a killed process or a desktop left, and file locks."""
    return sorted(item.name for item in path.iterdir() if not item.name.startswith(".")) if path.is_dir() else []


def _fresh(lock: Lock, target: Target, where: str, snapshot_digest_of: SnapshotDigest) -> None:
    remedy = f"make lock-{target.profile}"
    if lock.profile_digest != target.digest():
        found = f"{target.source} has changed since this was locked ({lock.profile_digest})"
        raise StaleError(where, found, str(target.digest()), remedy)
    digest = snapshot_digest_of(lock)
    if lock.snapshot_digest != digest:
        found = f"the index snapshot has changed since this was locked ({lock.snapshot_digest})"
        raise StaleError(where, found, str(digest), remedy)


def _answers(lock: Lock, target: Target, where: str) -> None:
    """Refuse a lock that claims to come from this profile and does not give what it asks for."""
    if lock.python != target.python:
        _broken(f"{where}: tool.torchlock.python", repr(lock.python), repr(target.python), target)
    values = environment(target.platform, target.python)
    if lock.exceptions != waivers(target, lock.artifacts):
        _broken(f"{where}: tool.torchlock.exceptions", "not the profile's", f"those of {target.source}", target)
    locked = {artifact.project: artifact for artifact in lock.artifacts}
    for text in target.requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate(values):
            continue
        artifact = locked.get(canonicalize_name(wanted.name))
        if artifact is None or not wanted.specifier.contains(artifact.version, prereleases=True):
            found = f"{wanted.name} is missing" if artifact is None else f"{artifact.project} {artifact.version}"
            _broken(f"{where}: packages", found, f"{text}, as {target.source} asks", target)
    for number, artifact in enumerate(lock.artifacts):
        alias = target.index_of(artifact.project)
        if artifact.index != alias:
            place = f"{where}: packages[{number}].tool.torchlock.index"
            _broken(place, repr(artifact.index), f"{alias!r}, as {target.source} asks", target)


def _broken(where: str, found: str, expected: str, target: Target) -> NoReturn:
    raise LockError(where, found, expected, f"make lock-{target.profile}")
