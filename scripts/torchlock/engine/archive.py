"""Archives: the tar that `docker load` takes, made from an OCI layout while it is sent, every blob verified."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchlock.errors import ImageError
from torchlock.oci import layout
from torchlock.oci.document import canonical
from torchlock.oci.manifest import Config, Index, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlock.oci.descriptor import Descriptor

_RECORD = 512
_END = bytes(2 * _RECORD)
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An image of a layout, for Docker: `without` are layers that it has and that need not be sent.

    Docker's own list (`manifest.json`) and OCI's (`index.json`) stand in one tar; either kind of image store finds its
    own. There is no tag in it: an image is tagged when it is known to be the right one.
    """

    folder: Path
    image: Descriptor
    manifest: Manifest
    config: Config
    without: frozenset[Descriptor] = field(default=frozenset())

    @classmethod
    def open(cls, folder: Path, image: Descriptor) -> Archive:
        """Read the image's documents in a layout, verified."""
        manifest = Manifest.from_json(layout.content(folder, image), str(folder))
        config = Config.from_json(layout.content(folder, manifest.config), str(folder))
        if len(config.diff_ids) != len(manifest.layers):
            found = f"{len(manifest.layers)} layers and {len(config.diff_ids)} diff_ids"
            raise ImageError(folder, found, "one diff_id for each layer")
        return cls(folder=folder, image=image, manifest=manifest, config=config)

    @property
    def blobs(self) -> list[Descriptor]:
        """What is sent: manifest, config and layers, once each."""
        layers = [layer for layer in self.manifest.layers if layer not in self.without]
        return list({item.digest: item for item in (self.image, self.manifest.config, *layers)}.values())

    @property
    def size(self) -> int:
        """The bytes of the archive."""
        parts = [len(data) for data in self._documents().values()] + [item.size for item in self.blobs]
        return sum(_RECORD + size + -size % _RECORD for size in parts) + len(_END)

    def blocks(self) -> Iterator[bytes]:
        """Yield the archive's bytes; raise ImageError at the end of a blob that is not what it must be."""
        for name, data in self._documents().items():
            yield _header(name, len(data)) + data + bytes(-len(data) % _RECORD)
        for item in self.blobs:
            yield _header(_path(item), item.size)
            yield from self._verified(item)
            yield bytes(-item.size % _RECORD)
        yield _END

    def _verified(self, item: Descriptor) -> Iterator[bytes]:
        state = hashlib.sha256()
        path = layout.path(self.folder, item)
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                state.update(block)
                yield block
        if (found := f"sha256:{state.hexdigest()}") != str(item.digest):
            remedy = "remove that file and make the image again"
            raise ImageError(path, found, str(item.digest), remedy)

    def _documents(self) -> dict[str, bytes]:
        listed = {
            "Config": _path(self.manifest.config),
            "RepoTags": None,
            "Layers": [_path(layer) for layer in self.manifest.layers],
        }
        return {
            layout.MARKER: canonical({"imageLayoutVersion": layout.VERSION}),
            layout.INDEX_FILE: Index(manifests=(self.image,)).to_json(),
            "manifest.json": canonical([listed]),
        }


def _path(item: Descriptor) -> str:
    return f"blobs/sha256/{item.digest.hex}"


def _header(name: str, size: int) -> bytes:
    """Return one record: a regular file of nobody's, of no time."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.USTAR_FORMAT)
