"""OCI image layouts (image layout specification 1.0): folders of manifests, configs and layers, swapped in whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci.descriptor import INDEXES, MANIFESTS
from torchlock.oci.document import LIMIT, canonical, parsed, refuse, shown, take
from torchlock.oci.manifest import Index, Manifest
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torchlock.oci.blobs import Blobs
    from torchlock.oci.descriptor import Descriptor
    from torchlock.reporter import Reporter

VERSION = "1.0.0"
MARKER = "oci-layout"
INDEX_FILE = "index.json"
REF_NAME = "org.opencontainers.image.ref.name"

_DEPTH = 3


def write(folder: Path, descriptors: Sequence[Descriptor], blobs: Blobs, reporter: Reporter | None = None) -> None:
    """Make a folder the layout of these manifests or indexes, and of all that they name.

    Blobs are hard-linked where the file system has links; they must lie in `blobs`, verified when they came there.
    An annotation `org.opencontainers.image.ref.name` on a descriptor is the tag that other tools know it by.
    The folder changes whole or not at all, but for an instant without it.
    """
    staging = folder.with_name(f"{files.TEMPORARY}{folder.name}.new")
    old = folder.with_name(f"{files.TEMPORARY}{folder.name}.old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    guard = blobs.root / "locks" / f"{Digest.of(str(folder.resolve()).encode()).hex}.lock"
    with files.exclusive(guard, reporter or Silent()):
        files.remove(staging)
        if old.exists() and not folder.exists():
            old.rename(folder)  # killed between two renames
        try:
            _fill(staging, descriptors, blobs)
            files.remove(old)
            if folder.exists():
                folder.rename(old)
            staging.rename(folder)
            files.fsync_folder(folder.parent)
        finally:
            files.remove(staging)
        files.remove(old)


def read(folder: Path) -> Index:
    """Return a layout's index, read strictly; raise ImageError where the folder is no layout."""
    where = folder / MARKER
    marker = parsed(_small(where), str(where))
    version = take(marker, "imageLayoutVersion", str, f"{where}: ")
    if version != VERSION:
        refuse(f"{where}: imageLayoutVersion", shown(version), VERSION)
    return Index.from_json(_small(folder / INDEX_FILE), str(folder / INDEX_FILE))


def path(folder: Path, descriptor: Descriptor) -> Path:
    """Return where a layout has a blob; raise ImageError where it is absent or has another size."""
    found = folder / "blobs" / "sha256" / descriptor.digest.hex
    if not found.is_file():
        refuse(str(found), "is missing", f"{descriptor.size} bytes")
    if (size := found.stat().st_size) != descriptor.size:
        refuse(str(found), f"{size} bytes", f"{descriptor.size} bytes")
    return found


def content(folder: Path, descriptor: Descriptor) -> bytes:
    """Return the verified bytes of a layout's manifest, config or other small blob."""
    found = path(folder, descriptor)
    data = _small(found)
    if (digest := Digest.of(data)) != descriptor.digest:
        refuse(str(found), str(digest), str(descriptor.digest))
    return data


def verify(folder: Path) -> list[Descriptor]:
    """Read every blob that a layout names and return them, once each; refuse the first that is absent or damaged."""
    found: dict[Digest, Descriptor] = {}
    for top in read(folder).manifests:
        for descriptor in closure(top, lambda item: content(folder, item), str(folder)):
            if descriptor.digest in found and found[descriptor.digest].size == descriptor.size:
                continue
            blob = path(folder, descriptor)
            if (digest := Digest.of_file(blob)) != descriptor.digest:
                refuse(str(blob), str(digest), str(descriptor.digest))
            found[descriptor.digest] = descriptor
    return list(found.values())


def closure(
    top: Descriptor, content: Callable[[Descriptor], bytes], where: str, depth: int = _DEPTH
) -> Iterator[Descriptor]:
    """Yield a manifest's or index's descriptor after all that it names; `content` gives a document's verified bytes."""
    if top.media_type in INDEXES:
        if not depth:
            refuse(where, f"indexes nested deeper than {_DEPTH} levels", "an index of manifests")
        index = Index.from_json(content(top), f"{where}: {top.digest}")
        for item in index.manifests:
            yield from closure(item, content, where, depth - 1)
    elif top.media_type in MANIFESTS:
        manifest = Manifest.from_json(content(top), f"{where}: {top.digest}")
        yield from (*manifest.layers, manifest.config)
    else:
        refuse(f"{where}: {top.digest}", shown(top.media_type), " or ".join(sorted(INDEXES | MANIFESTS)))
    yield top


def _fill(staging: Path, descriptors: Sequence[Descriptor], blobs: Blobs) -> None:
    folder = staging / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for top in descriptors:
        for descriptor in closure(top, blobs.read, str(blobs.root)):
            source, target = blobs.get(descriptor, verify=False), folder / descriptor.digest.hex
            if source is None:
                raise ImageError(blobs.root, f"{descriptor.digest} is not there", f"{descriptor.size} bytes")
            if not target.exists():
                files.link_or_copy(source, target)
    files.write_atomic(staging / MARKER, canonical({"imageLayoutVersion": VERSION}))
    files.write_atomic(staging / INDEX_FILE, Index(manifests=tuple(descriptors)).to_json())
    for inner in (folder, folder.parent, staging):
        files.fsync_folder(inner)


def _small(file: Path) -> bytes:
    """Return a small file's bytes; raise ImageError where it cannot be read or is not small."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LIMIT + 1)
    except OSError as error:
        refuse(str(file), str(error.strerror or error), "an OCI image layout")
    if len(data) > LIMIT:
        refuse(str(file), f"has more than {LIMIT} bytes", f"at most {LIMIT}")
    return data
