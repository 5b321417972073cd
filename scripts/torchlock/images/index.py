"""The index of a profile's images: one reference that gives every platform its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock import files
from torchlock.errors import ImageError, StaleError
from torchlock.images import committed
from torchlock.oci.descriptor import PLATFORMS
from torchlock.oci.manifest import Index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlock.images.committed import Committed
    from torchlock.profiles.profile import Profile

FILE = "image-index.json"
# What is said of one platform alone is left to its manifest.
_COMMON = (
    "org.opencontainers.image.title",
    "org.opencontainers.image.version",
    "org.opencontainers.image.created",
    "dev.torchlock.profile",
    "dev.torchlock.torch",
    "dev.torchlock.numpy",
)


def index(images: Sequence[Committed]) -> bytes:
    """Return the OCI index over images of one profile, in the order of their platforms' names."""
    ordered = sorted(images, key=lambda item: str(item.image.platform))
    shared = {
        key: ordered[0].labels[key]
        for key in _COMMON
        if len({item.labels.get(key) for item in ordered}) == 1 and key in ordered[0].labels
    }
    return Index(manifests=tuple(item.image.descriptor() for item in ordered), annotations=shared).to_json()


def path(root: Path, profile: str) -> Path:
    """Return where the index of a profile is committed."""
    return root / "lockfiles" / profile / FILE


def expected(root: Path, profile: Profile) -> bytes | None:
    """Return the index that a profile must have: None for one of a single platform, or without a committed image."""
    platforms = [target.platform for target in profile.targets if target.platform in PLATFORMS]
    found = [item for name in platforms if (item := committed.read(root, profile.name, name)) is not None]
    return index(found) if len(platforms) > 1 and found else None


def write(root: Path, profile: Profile) -> bool:
    """Write the index of a profile's committed images; return whether that changed anything."""
    wanted, place = expected(root, profile), path(root, profile.name)
    if wanted is None:
        there = place.exists()
        files.remove(place)
        return there
    return files.write_atomic(place, wanted)


def check(root: Path, profile: Profile) -> None:
    """Raise StaleError where the index is missing or of other images, ImageError where it should not be there."""
    wanted, place = expected(root, profile), path(root, profile.name)
    where, remedy = place.relative_to(root).as_posix(), f"make image-{profile.name}"
    found = place.read_bytes() if place.is_file() else None
    if found is not None and wanted is None:
        raise ImageError(where, "an index of no image", "the index of committed images", remedy)
    if found != wanted:
        what = "is missing" if found is None else "is not of the images that are committed"
        raise StaleError(where, what, "the index of the committed images", remedy)
