"""A registry's image as a base: its manifest, config and layers by digest, and every layer's tar read strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.base.packages import UPDATE, BaseLock, Layer
from torchlock.errors import ImageError
from torchlock.layers.reading import entries
from torchlock.oci.descriptor import PLATFORMS
from torchlock.oci.manifest import Config, Index, Manifest
from torchlock.registry.client import Client
from torchlock.registry.documents import document
from torchlock.registry.pull import fetch, pull

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlock.base.declaration import RegistryBase
    from torchlock.base.workshop import Workshop

_VERSION = "PYTHON_VERSION"


def update(base: RegistryBase, platform: str, workshop: Workshop) -> BaseLock:
    """Bring a declared image here, and return its lock; raise ImageError where it is not what is declared."""
    workshop.online(f"the base {base.name}")
    blobs, wanted = workshop.blobs, base.manifests[platform]
    client = Client(base.image, reporter=workshop.reporter)
    where = str(base.image)
    listed = Index.from_json(blobs.read(document(client, base.image, blobs)), where).of(PLATFORMS[platform], where)
    if listed.digest != wanted:
        raise ImageError(
            f"docker/base.yaml: {base.name}", f"{wanted} for {platform}", f"{listed.digest}, as {where} says"
        )
    pulled = pull(base.image.at(wanted), blobs, platform=PLATFORMS[platform], client=client, reporter=workshop.reporter)
    where = str(base.image.at(wanted))
    manifest = Manifest.from_json(blobs.read(pulled.top), where)
    config = Config.from_json(blobs.read(manifest.config), f"{where}: config")
    layers = tuple(
        Layer(descriptor=item, diff_id=diff_id) for item, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    environment = dict(str(item).partition("=")[::2] for item in config.config.get("Env") or ())
    if (said := environment.get(_VERSION, base.version)) != base.version:
        raise ImageError(where, f"{_VERSION}={said}", f"{base.version}, as docker/base.yaml says")
    _examine(base, layers, workshop)
    return BaseLock(
        base=base.name,
        platform=platform,
        declared=base.digest(platform),
        layers=layers,
        python=base.python,
        version=base.version,
        config=config.config,
    )


def obtain(base: RegistryBase, lock: BaseLock, workshop: Workshop) -> None:
    """Bring the locked layers here that are missing; raise ImageError for one whose tar is not the locked one."""
    missing = [item for item in lock.layers if workshop.blobs.get(item.descriptor) is None]
    if not missing:
        return
    workshop.online(f"the base {base.name}")
    workshop.reporter.note(f"fetching {len(missing)} layers of {base.image}")
    client = Client(base.image, reporter=workshop.reporter)
    fetch(client, [item.descriptor for item in missing], workshop.blobs)
    for item in missing:
        _read(item, workshop)


def _examine(base: RegistryBase, layers: Iterable[Layer], workshop: Workshop) -> None:
    """Read all layers; refuse an image without the declared interpreter."""
    path = base.python.lstrip("/")
    found = [path in _read(item, workshop) for item in layers]
    if not any(found):
        raise ImageError(f"the base {base.name}", f"no {base.python} in it", "the declared interpreter", UPDATE)


def _read(item: Layer, workshop: Workshop) -> set[str]:
    """Return the paths of a layer, whose tar must have the locked digest."""
    path = workshop.blobs.path(item.descriptor.digest)
    return {entry.path for entry in entries(path, item.descriptor.media_type, item.diff_id)}
