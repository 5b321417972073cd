"""A base as images take it: resolved from its lock alone, brought here when its layers are needed, locked anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock import files, platforms
from torchlock.base import debian, packages, remote
from torchlock.base.declaration import FILE, DebianBase, RegistryBase, load
from torchlock.base.packages import PULL, UPDATE, BaseLock
from torchlock.errors import ImageError, StaleError
from torchlock.layers.bytecode import Compiler
from torchlock.oci.descriptor import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.base.workshop import Workshop
    from torchlock.digest import Digest
    from torchlock.oci.descriptor import Descriptor


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseImage:
    """What an image stands on; `layers` are bottom first, each with the digest of its tar.

    `config` is what an image inherits, `digest` that of the base's lock.
    """

    name: str
    platform: str
    layers: tuple[tuple[Descriptor, Digest], ...]
    config: Mapping[str, Any] = field(hash=False)
    python_path: str
    python_version: str
    digest: Digest


def resolve(root: Path, name: str | None, platform: str, workshop: Workshop | None = None) -> BaseImage:
    """Return a base as its lock in the project at `root` says; with a workshop, all its layers are here then.

    Raise StaleError where the declaration has moved since it was locked, ImageError where it cannot be had.
    """
    base, lock = _locked(root, name, platform)
    if workshop is not None:
        if isinstance(base, DebianBase):
            if workshop.blobs.get(lock.layers[0].descriptor) is None:
                debian.build(base, lock, workshop)
        else:
            remote.obtain(base, lock, workshop)
    return _image(lock)


def update(root: Path, name: str | None, platform: str, workshop: Workshop) -> tuple[BaseImage, list[str]]:
    """Lock a base anew, from the newest packages or the declared image; return it, and what has changed in words."""
    declaration = load(root)
    base = _of_platform(declaration.find(name), platform)
    where = declaration.lock_path(base.name, platform)
    made = (
        debian.update(base, platform, workshop)
        if isinstance(base, DebianBase)
        else remote.update(base, platform, workshop)
    )
    try:
        former = packages.read(root / where, where)
    except ImageError:
        former = None
    files.write_atomic(root / where, made.to_json())
    return _image(made), changes(former, made)


def compiler(root: Path, base: BaseImage, workshop: Workshop) -> Compiler:
    """Return the compiler of a base's byte code, which is the same on all platforms: that of this machine's platform.

    Raise ImageError where no Python of the base runs here, or has another version than the image's.
    """
    here = platforms.host().name
    if here not in PLATFORMS:
        found = f"byte code is made by the base's own Python, which does not run on {here}"
        raise ImageError(f"the base {base.name}", found, f"a machine of {' or '.join(PLATFORMS)}", PULL)
    native = resolve(root, base.name, here, workshop)
    if native.python_version != base.python_version:
        found = f"Python {native.python_version} for {here}"
        raise ImageError(f"the base {base.name}", found, f"{base.python_version}, as for {base.platform}", UPDATE)
    paths = [(workshop.blobs.path(item.digest), item.media_type) for item, _ in native.layers]
    return Compiler(paths, native.python_path, native.python_version)


def changes(former: BaseLock | None, made: BaseLock) -> list[str]:
    """Return what is not as it was, a line each."""
    if former is None:
        return [f"{len(made.packages)} packages, Python {made.version}"]
    old, new = ({item.name: item for item in lock.packages} for lock in (former, made))
    said = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            one = before or after
            said.append(f"{name}: {'added' if before is None else 'removed'} ({one.version if one else ''})")
        elif before.identity != after.identity or before.sha256 != after.sha256:
            said.append(f"{name}: {before.version} -> {after.version}")
    if not said and former.layers != made.layers:
        said.append(
            f"the layers are others: {former.layers[0].descriptor.digest} -> {made.layers[0].descriptor.digest}"
        )
    return said


def _locked(root: Path, name: str | None, platform: str) -> tuple[DebianBase | RegistryBase, BaseLock]:
    declaration = load(root)
    base = _of_platform(declaration.find(name), platform)
    where = declaration.lock_path(base.name, platform)
    lock = packages.read(root / where, where)
    if (lock.base, lock.platform) != (base.name, platform):
        raise ImageError(where, f"the lock of {lock.base} for {lock.platform}", f"{base.name} for {platform}", UPDATE)
    if lock.declared != base.digest(platform):
        remedy = f"{UPDATE} BASE={base.name} PLATFORM={platform}"
        raise StaleError(where, f"{FILE} has changed since this was written", "a lock of what is declared", remedy)
    return base, lock


def _of_platform(base: DebianBase | RegistryBase, platform: str) -> DebianBase | RegistryBase:
    if platform not in base.platforms:
        raise ImageError(f"{FILE}: {base.name}", f"it is not for {platform}", f"one of {', '.join(base.platforms)}")
    return base


def _image(lock: BaseLock) -> BaseImage:
    return BaseImage(
        name=lock.base,
        platform=lock.platform,
        layers=tuple((item.descriptor, item.diff_id) for item in lock.layers),
        config=lock.config,
        python_path=lock.python,
        python_version=lock.version,
        digest=lock.digest,
    )
