"""Descriptors (OCI image specification 1.1): what some content is, by media type, digest and size."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.oci.document import refuse, shown, take, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEXES = frozenset({INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({CONFIG, DOCKER_CONFIG})
# The layers that can be read here.
LAYERS = frozenset({LAYER, LAYER_GZIP, DOCKER_LAYER_GZIP})

# What an artifact without a config or without layers names in its place (image specification 1.1).
EMPTY_CONTENT = b"{}"

_LARGEST = (1 << 63) - 1
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """What an image runs on, in Go's words: `os`, `architecture` and, for some, a `variant`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_dict(self) -> dict[str, str]:
        """Return the JSON object."""
        found = {"architecture": self.architecture, "os": self.os}
        return found | ({"variant": self.variant} if self.variant else {})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: str) -> Platform:
        """Read the JSON object; `where` names it in errors."""
        place = f"{where}."
        return cls(
            os=take(value, "os", str, place),
            architecture=take(value, "architecture", str, place),
            variant=take(value, "variant", str, place, ""),
        )


# The platforms that have images, by torchlock's names.
PLATFORMS = {
    "linux-64": Platform(os="linux", architecture="amd64"),
    "linux-aarch64": Platform(os="linux", architecture="arm64", variant="v8"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """Names content; equal where media type, digest, size and all else are."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    artifact_type: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = self.platform.to_dict()
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: str) -> Descriptor:
        """Read the JSON object, `where` names it in errors; what the specification lets a reader ignore is ignored."""
        place = f"{where}."
        platform = take(value, "platform", dict, place, None)
        return cls(
            media_type=media_type(take(value, "mediaType", str, place), f"{place}mediaType"),
            digest=digest(take(value, "digest", str, place), f"{place}digest"),
            size=size(take(value, "size", int, place), f"{place}size"),
            annotations=texts(value, "annotations", place),
            platform=None if platform is None else Platform.from_dict(platform, f"{place}platform"),
            artifact_type=optional_media_type(value, "artifactType", place),
        )


def digest(value: Any, where: str) -> Digest:
    """Return a digest of a document; sha256 alone is taken."""
    try:
        return Digest.parse(value if isinstance(value, str) else "")
    except ValueError:
        refuse(where, shown(value), "sha256: and 64 lower-case hexadecimal digits")


def size(number: int, where: str) -> int:
    """Return a size of a document."""
    if not 0 <= number <= _LARGEST:
        refuse(where, shown(number), "a size in bytes")
    return number


def media_type(text: str, where: str) -> str:
    """Return a media type of a document (RFC 6838, without parameters)."""
    if not _MEDIA_TYPE.fullmatch(text):
        refuse(where, shown(text), "a media type, as type/name")
    return text


def optional_media_type(value: Mapping[str, Any], key: str, place: str) -> str | None:
    """Return a media type that may be absent; an empty one, as older writers leave it, counts as absent."""
    text = take(value, key, str, place, None)
    return media_type(text, f"{place}{key}") if text else None
