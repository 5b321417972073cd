"""Committed images: manifest and config beside their lock, the very bytes that a registry holds, and their check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import ImageError, StaleError
from torchlock.images import build, config, difference, image, inputs
from torchlock.images.image import Image
from torchlock.images.known import Knowledge, Known
from torchlock.layers.layer import Blob
from torchlock.locks import lock as locks
from torchlock.oci.descriptor import CONFIG, PLATFORMS
from torchlock.oci.document import LIMIT, parsed
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.images.inputs import Inputs
    from torchlock.oci.blobs import Blobs
    from torchlock.reporter import Reporter

FOLDER = "image"
MANIFEST_FILE, CONFIG_FILE = "manifest.json", "config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """An image as it was committed; `where` is its manifest's place, manifest and config agree with each other."""

    where: str
    profile: str
    image: Image
    manifest: Manifest
    config: Config

    @property
    def labels(self) -> Mapping[str, str]:
        """What the image says of itself."""
        return self.manifest.annotations

    @property
    def known(self) -> dict[Digest, Known]:
        """What it tells of its layers; nothing where they were made by another recipe."""
        if self.labels.get(image.RECIPE_LABEL) != str(inputs.RECIPE):
            return {}
        platform, python = self.labels[f"{config.OWN}.platform"], self.labels[f"{config.OWN}.python"]
        minor = ".".join(python.split(".")[:2])
        found = {}
        for layer, diff_id in zip(self.manifest.layers, self.config.diff_ids, strict=True):
            if content := layer.annotations.get(image.CONTENT):
                said = json.loads(layer.annotations.get(image.LICENCES, "{}"))
                blob = Blob(digest=layer.digest, size=layer.size, diff_id=diff_id)
                found[inputs.key(content, platform, minor)] = Known(blob=blob, licences=said)
        return found


def folder(root: Path, profile: str, platform: str) -> Path:
    """Return where the image of a profile on a platform is committed."""
    return locks.folder(root, profile, platform) / FOLDER


def read(root: Path, profile: str, platform: str) -> Committed | None:
    """Return a committed image, or None where there is none; raise ImageError where its files contradict each other."""
    place = folder(root, profile, platform)
    if not place.exists():
        return None
    where = place.relative_to(root).as_posix()
    data = [_bytes(place / name, f"{where}/{name}", profile) for name in (MANIFEST_FILE, CONFIG_FILE)]
    if foreign := sorted({item.name for item in place.iterdir()} - {MANIFEST_FILE, CONFIG_FILE}):
        raise ImageError(where, f"torchlock did not write {', '.join(foreign)}", f"{MANIFEST_FILE}, {CONFIG_FILE}")
    found = Committed(
        where=f"{where}/{MANIFEST_FILE}",
        profile=profile,
        image=Image(manifest=data[0], config=data[1], platform=PLATFORMS[platform]),
        manifest=Manifest.from_json(data[0], f"{where}/{MANIFEST_FILE}"),
        config=Config.from_json(data[1], f"{where}/{CONFIG_FILE}"),
    )
    _agree(found, where, platform)
    return found


def everything(root: Path) -> dict[Digest, Known]:
    """Return what all committed images tell of their layers; an image that is broken tells nothing."""
    found: dict[Digest, Known] = {}
    for place in sorted((root / "lockfiles").glob(f"*/*/{FOLDER}")):
        try:
            item = read(root, place.parent.parent.name, place.parent.name)
        except (ImageError, KeyError, ValueError):
            continue
        found = {**(item.known if item else {}), **found}
    return found


def write(root: Path, profile: str, platform: str, made: Image) -> bool:
    """Commit an image; return False where it is there already."""
    place = folder(root, profile, platform)
    changed = [
        files.write_atomic(place / name, data)
        for name, data in ((CONFIG_FILE, made.config), (MANIFEST_FILE, made.manifest))
    ]
    return any(changed)


def check(root: Path, wanted: Inputs) -> Committed | None:
    """Return the committed image of these inputs, made again here without a wheel; None where none is committed.

    Raise ImageError where it is not what these inputs give, and before that StaleError where it was made from others.
    """
    found = read(root, wanted.lock.profile, wanted.lock.platform)
    if found is None:
        return None
    if moved := why_stale(found, wanted):
        raise StaleError(found.where, moved, f"{wanted.digest()}", f"make image-{found.profile}")
    made = build.recalled(wanted, Knowledge(given=found.known))
    if made != found.image:
        what = difference.summary(difference.between(found.image, made))
        _broken(found.where, f"is not what its inputs give: {what}", str(made.digest), found.profile)
    return found


def settle(root: Path, wanted: Inputs, made: Image, blobs: Blobs, reporter: Reporter) -> str:
    """Commit an image where there is none of these inputs; return what became of it, in words.

    Raise ImageError where one of the same inputs is committed and is another, after a note of each difference.
    """
    profile, platform = wanted.lock.profile, wanted.lock.platform
    try:
        found = read(root, profile, platform)
    except ImageError as error:
        reporter.note(f"committed anew: {error}")
        found = None
    moved = why_stale(found, wanted) if found else ""
    if found is None or moved:
        write(root, profile, platform, made)
        return f"committed anew: {moved}" if moved else "committed now"
    if made == found.image:
        return "the committed one"
    lines = difference.between(found.image, made, blobs)
    for line in lines:
        reporter.note(line)
    place = folder(root, profile, platform).relative_to(root).as_posix()
    what = f"the same inputs give {made.digest} here: {difference.summary(lines)}"
    raise ImageError(found.where, what, f"{found.image.digest}", f"rm -r {place}, if this machine is right, and again")


def why_stale(found: Committed, wanted: Inputs) -> str:
    """Say what has moved since an image was made, or nothing."""
    labels = found.labels
    if labels.get(image.INPUTS) == str(wanted.digest()):
        return ""
    if labels.get(f"{config.OWN}.lock") != str(wanted.lock.digest()):
        return "the lock has changed since this image was made"
    if labels.get(f"{config.OWN}.base") != str(wanted.base.digest):
        return "the base has changed since this image was made"
    if labels.get(image.RECIPE_LABEL) != str(inputs.RECIPE):
        return "torchlock makes images in another way since this one was made"
    return "what runs inside images, or the order of their layers, has changed since this one was made"


def _agree(found: Committed, where: str, platform: str) -> None:
    """Refuse an image whose manifest, config and place say different things."""
    manifest, made = found.manifest, found.config
    described = manifest.config
    pairs = (
        ("manifest.json", "its form", manifest.to_json() == found.image.manifest, "canonical JSON"),
        ("config.json", "its form", made.to_json() == found.image.config, "canonical JSON"),
        ("manifest.json: config.mediaType", described.media_type, described.media_type == CONFIG, CONFIG),
        _pair("manifest.json: config.digest", described.digest, Digest.of(found.image.config)),
        _pair("manifest.json: config.size", described.size, len(found.image.config)),
        _pair("config.json: rootfs.diff_ids", len(made.diff_ids), len(manifest.layers)),
        _pair("config.json: history", len(made.history), len(manifest.layers)),
        _pair("config.json: platform", made.platform, PLATFORMS[platform]),
    )
    for place, what, good, expected in pairs:
        if not good:
            _broken(f"{where}/{place}", what, expected, found.profile)
    labels = made.config.get("Labels")
    own = {key: labels[key] for key in manifest.annotations if key in labels} if isinstance(labels, dict) else {}
    if own != dict(manifest.annotations):
        _broken(f"{where}/manifest.json: annotations", "not the labels in config.json", "the same", found.profile)
    for key, expected in (
        (image.LAYERS, image.layers_digest(manifest.layers)),
        (f"{config.OWN}.profile", found.profile),
        (f"{config.OWN}.platform", platform),
    ):
        if own.get(key) != expected:
            _broken(f"{where}/config.json: config.Labels.{key}", repr(own.get(key)), repr(expected), found.profile)


def _pair(place: str, found: object, expected: object) -> tuple[str, str, bool, str]:
    return place, str(found), found == expected, str(expected)


def _bytes(path: Path, where: str, profile: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        _broken(where, f"cannot be read: {error.strerror}", f"{MANIFEST_FILE} and {CONFIG_FILE}", profile)
    if len(data) > LIMIT:
        _broken(where, f"has {len(data)} bytes", f"at most {LIMIT}", profile)
    parsed(data, where)
    return data


def _broken(where: str, found: str, expected: str, profile: str) -> NoReturn:
    raise ImageError(where, found, expected, f"make image-{profile}")
