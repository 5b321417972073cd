"""Pulling: what a tag names is learnt once; from then on everything goes by digest, and is verified while it comes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.errors import ImageError
from torchlock.oci.descriptor import LAYERS, MANIFESTS
from torchlock.oci.document import LIMIT, shown
from torchlock.oci.manifest import Config, Index, Manifest
from torchlock.registry.client import Client
from torchlock.registry.documents import document
from torchlock.registry.download import download
from torchlock.storage.crew import Crew

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from torchlock.digest import Digest
    from torchlock.oci.blobs import Blobs
    from torchlock.oci.descriptor import Descriptor, Platform
    from torchlock.registry.reference import Reference
    from torchlock.reporter import Reporter

WORKERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """What was pulled: the index or manifest asked for, the manifests with all their blobs, and what came for it."""

    top: Descriptor
    manifests: tuple[Descriptor, ...]
    received: int
    present: int


def pull(  # noqa: PLR0913 - what it works with, each of its own kind
    reference: Reference,
    blobs: Blobs,
    *,
    expected: Digest | None = None,
    platform: Platform | None = None,
    client: Client | None = None,
    reporter: Reporter | None = None,
) -> Pulled:
    """Bring an image into `blobs`, each blob verified by digest and size; return what it is.

    Of an index, the manifest of `platform` is pulled, or each one where none is named. A tag is resolved once; with
    `expected` it must be that digest. Raise RegistryError for what the registry does, ImageError for what the image is.
    """
    if client is None:
        with closing(Client(reference, reporter=reporter)) as made:
            return pull(reference, blobs, expected=expected, platform=platform, client=made)
    top = document(client, reference, blobs, expected)
    manifests = _manifests(client, top, blobs, platform)
    wanted: dict[Digest, Descriptor] = {}
    for descriptor in manifests:
        where = str(client.repository.at(descriptor.digest))
        manifest = Manifest.from_json(blobs.read(descriptor), where)
        _readable(manifest, where)
        for blob in (manifest.config, *manifest.layers):
            if wanted.setdefault(blob.digest, blob).size != blob.size:
                raise ImageError(where, f"two sizes of {blob.digest}", "one")
    received, present = fetch(client, wanted.values(), blobs)
    for descriptor in manifests:
        _consistent(descriptor, blobs, str(client.repository.at(descriptor.digest)), platform)
    return Pulled(top=top, manifests=manifests, received=received, present=present)


def fetch(client: Client, descriptors: Iterable[Descriptor], blobs: Blobs, workers: int = WORKERS) -> tuple[int, int]:
    """Bring blobs into `blobs`, several at once; return how many bytes came, and how many blobs were here.

    The largest goes first. The first failure stops the others. What was received is kept, and resumed the next time.
    """
    order = sorted({item.digest: item for item in descriptors}.values(), key=lambda item: (-item.size, item.digest))
    blobs.room(sum(max(0, item.size - blobs.received(item)) for item in order))
    came: list[int] = []

    def job(descriptor: Descriptor, stop: threading.Event) -> None:
        came.append(download(client, descriptor, blobs, stop))

    Crew(job, client.hang_up).run(order, workers)
    return sum(came), came.count(0)


def _manifests(client: Client, top: Descriptor, blobs: Blobs, platform: Platform | None) -> tuple[Descriptor, ...]:
    """Return the manifests that are wanted, brought into `blobs`."""
    if top.media_type in MANIFESTS:
        return (top,)
    where = str(client.repository.at(top.digest))
    index = Index.from_json(blobs.read(top), where)
    wanted = index.manifests if platform is None else (index.of(platform, where),)
    for item in wanted:
        place = client.repository.at(item.digest)
        found = document(client, place, blobs)
        if (found.media_type, found.size) != (item.media_type, item.size):
            raise ImageError(
                place,
                f"{shown(found.media_type)} of {found.size} bytes",
                f"{shown(item.media_type)} of {item.size} bytes, as its index says",
            )
        if found.media_type not in MANIFESTS:
            raise ImageError(place, "an index within an index", "a manifest")
    return wanted


def _readable(manifest: Manifest, where: str) -> None:
    """Refuse an image with a layer or config that cannot be read here, before its blobs are fetched."""
    if manifest.image and manifest.config.size > LIMIT:
        raise ImageError(f"{where}: config.size", f"{manifest.config.size} bytes", f"at most {LIMIT}")
    for number, layer in enumerate(manifest.layers if manifest.image else ()):
        if layer.media_type not in LAYERS:
            zstd = ", which torchlock does not unpack" if layer.media_type.endswith("zstd") else ""
            found = f"{shown(layer.media_type)}{zstd}"
            raise ImageError(f"{where}: layers[{number}]", found, "a layer of tar or tar+gzip")


def _consistent(descriptor: Descriptor, blobs: Blobs, where: str, platform: Platform | None) -> None:
    """Refuse an image whose config is of another platform, or names other layers than its manifest."""
    manifest = Manifest.from_json(blobs.read(descriptor), where)
    if not manifest.image:
        return
    config = Config.from_json(blobs.read(manifest.config), f"{where}: config")
    if len(config.diff_ids) != len(manifest.layers):
        found = f"{len(config.diff_ids)} diff_ids in the config"
        raise ImageError(where, found, f"{len(manifest.layers)}, one for each layer")
    wanted = platform or descriptor.platform
    if wanted is not None and (config.os, config.architecture) != (wanted.os, wanted.architecture):
        raise ImageError(where, f"an image for {config.platform}", str(wanted))
