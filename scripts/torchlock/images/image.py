"""An image as a value: manifest and config as a pure function of the inputs and of what its layers are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.images import application, config
from torchlock.images.inputs import APPLICATION, RECIPE, WHEELS
from torchlock.layers import layer
from torchlock.oci.descriptor import CONFIG, DOCKER_LAYER_GZIP, LAYER_GZIP, MANIFEST, Descriptor
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlock.images.inputs import Inputs, Part
    from torchlock.images.known import Known
    from torchlock.layers.layer import Blob, Piece
    from torchlock.oci.descriptor import Platform

# What our descriptors, configs and manifests say of themselves, beside the keys of OCI.
LAYER = f"{config.OWN}.layer"
CONTENT = f"{config.OWN}.content"
LICENCES = f"{config.OWN}.licenses"
LAYERS = f"{config.OWN}.layers"
INPUTS = f"{config.OWN}.inputs"
RECIPE_LABEL = f"{config.OWN}.recipe"
BASE = "base"


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """The bytes of a manifest and of its config: all that an image is, for who has its layers."""

    manifest: bytes
    config: bytes
    platform: Platform

    @property
    def digest(self) -> Digest:
        """The digest by which the image is pulled."""
        return Digest.of(self.manifest)

    def descriptor(self, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Return the descriptor of the manifest."""
        return Descriptor(
            media_type=MANIFEST,
            digest=self.digest,
            size=len(self.manifest),
            platform=self.platform,
            annotations=annotations or {},
        )


class Nowhere:
    """A sink that keeps nothing: what is written is only hashed."""

    def write(self, _data: bytes | memoryview, /) -> None:
        """Drop the bytes."""


def facts(inputs: Inputs, known: Mapping[Part, Known]) -> dict[str, Any]:
    """Return what the image says of itself."""
    licences = {project: text for item in known.values() for project, text in item.licences.items()}
    base = {"name": inputs.base.name, "digest": str(inputs.base.digest)}
    return application.facts(inputs.lock, inputs.variant, inputs.base.python_version, base, licences)


def application_pieces(inputs: Inputs, facts: Mapping[str, Any]) -> list[Piece]:
    """Return the last layer."""
    return application.pieces(
        files=inputs.sources,
        lock=inputs.lock.to_toml(),
        facts=facts,
        python_path=inputs.base.python_path,
        python=inputs.base.python_version,
    )


def assembled(inputs: Inputs, known: Mapping[Part, Known]) -> Image:
    """Return the image of these layers, for which neither a wheel nor a blob is needed."""
    said = facts(inputs, known)
    last = layer.write(application_pieces(inputs, said), Nowhere())
    return assemble(inputs, known, said, last)


def assemble(inputs: Inputs, known: Mapping[Part, Known], said: Mapping[str, Any], last: Blob) -> Image:
    """Return the image of layers that are known, whose last one is `last`; its facts are `said`."""
    below = [_of_base(item) for item, _ in inputs.base.layers]
    above = [_of_part(part, item) for part, item in known.items()]
    layers = [*below, *above, _descriptor(last, {LAYER: APPLICATION})]
    own = {
        "inputs": str(inputs.digest()),
        "layers": layers_digest(layers),
        "recipe": str(RECIPE),
        "base": str(inputs.base.digest),
        "base.name": inputs.base.name,
    }
    labels = config.labels(said, tag=config.tag(inputs.lock, inputs.variant), base=inputs.origin, own=own)
    rows = [(part.name, ", ".join(f"{it.project} {it.version}" for it in part.artifacts)) for part in known]
    made = Config(
        architecture=inputs.platform.architecture,
        os=inputs.platform.os,
        variant=inputs.platform.variant,
        config=config.config(inputs.lock, inputs.base.config, labels),
        diff_ids=(
            *(diff_id for _, diff_id in inputs.base.layers),
            *(item.blob.diff_id for item in known.values()),
            last.diff_id,
        ),
        history=tuple(config.history(len(below), [*rows, (APPLICATION, "Python, entry point, smoke script, lock")])),
        created=config.CREATED,
    )
    data = made.to_json()
    described = Descriptor(media_type=CONFIG, digest=Digest.of(data), size=len(data))
    manifest = Manifest(config=described, layers=tuple(layers), annotations=labels)
    return Image(manifest=manifest.to_json(), config=data, platform=inputs.platform)


def layers_digest(layers: Sequence[Descriptor]) -> str:
    """Return the digest of a list of layers, which the config names, so that neither can change alone."""
    return str(Digest.of_json([item.to_dict() for item in layers]))


def _of_base(item: Descriptor) -> Descriptor:
    """Return a base's layer under OCI's media type: the bytes of Docker's are the same."""
    media_type = LAYER_GZIP if item.media_type == DOCKER_LAYER_GZIP else item.media_type
    return Descriptor(media_type=media_type, digest=item.digest, size=item.size, annotations={LAYER: BASE})


def _of_part(part: Part, known: Known) -> Descriptor:
    said = {LAYER: part.name, CONTENT: part.content}
    if part.kind == WHEELS:
        said[LICENCES] = json.dumps(dict(known.licences), sort_keys=True, separators=(",", ":"))
    return _descriptor(known.blob, said)


def _descriptor(blob: Blob, annotations: Mapping[str, str]) -> Descriptor:
    return Descriptor(media_type=LAYER_GZIP, digest=blob.digest, size=blob.size, annotations=annotations)
