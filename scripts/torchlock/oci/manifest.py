"""Manifests, indexes and configs of images (OCI image specification 1.1): read strictly, written in one form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock.oci.descriptor import (
    CONFIGS,
    INDEX,
    INDEXES,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    Platform,
    digest,
    media_type,
    optional_media_type,
)
from torchlock.oci.document import canonical, objects, parsed, refuse, shown, take, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One image or artifact: its config and layers, bottom first; `media_type` may be Docker's."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    media_type: str = MANIFEST

    def to_json(self) -> bytes:
        """Return the canonical bytes."""
        return _written(self, {"config": self.config.to_dict(), "layers": [layer.to_dict() for layer in self.layers]})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Read an OCI or Docker manifest; `where` names it in errors. A schema 1 manifest or an index is refused."""
        value, place = _document(data, where), f"{where}: "
        subject = take(value, "subject", dict, place, None)
        _without(value, "manifests", place, "an index")
        return cls(
            media_type=_media_type(value, MANIFESTS, MANIFEST, place),
            config=Descriptor.from_dict(take(value, "config", dict, place), f"{place}config"),
            layers=_descriptors(value, "layers", place),
            annotations=texts(value, "annotations", place),
            subject=None if subject is None else Descriptor.from_dict(subject, f"{place}subject"),
            artifact_type=optional_media_type(value, "artifactType", place),
        )

    @property
    def image(self) -> bool:
        """Whether this is an image, not some other artifact."""
        return self.config.media_type in CONFIGS


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """Several manifests: one for each platform, or what a layout or a list of referrers holds."""

    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    media_type: str = INDEX

    def to_json(self) -> bytes:
        """Return the canonical bytes."""
        return _written(self, {"manifests": [manifest.to_dict() for manifest in self.manifests]})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Index:
        """Read an OCI index or Docker manifest list; `where` names it in errors. A manifest is refused."""
        value, place = _document(data, where), f"{where}: "
        subject = take(value, "subject", dict, place, None)
        for key in ("config", "layers"):
            _without(value, key, place, "a manifest")
        return cls(
            media_type=_media_type(value, INDEXES, INDEX, place),
            manifests=_descriptors(value, "manifests", place),
            annotations=texts(value, "annotations", place),
            subject=None if subject is None else Descriptor.from_dict(subject, f"{place}subject"),
            artifact_type=optional_media_type(value, "artifactType", place),
        )

    def of(self, platform: Platform, where: str) -> Descriptor:
        """Return the one manifest of a platform; `arm64` is `arm64/v8`. Several or none are refused."""
        found = [item for item in self.manifests if item.platform is not None and _same(item.platform, platform)]
        if len(found) != 1:
            known = ", ".join(sorted({str(item.platform) for item in self.manifests if item.platform is not None}))
            refuse(where, f"{len(found) or 'no'} manifests for {platform} (has {known or 'none'})", "one")
        return found[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """An image's config: platform, what a container runs (`config`), its uncompressed layers, and their history."""

    architecture: str
    os: str
    diff_ids: tuple[Digest, ...]
    variant: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    history: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    created: str | None = None

    @property
    def platform(self) -> Platform:
        """The platform that the image is for."""
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant)

    def to_json(self) -> bytes:
        """Return the canonical bytes."""
        value: dict[str, Any] = {
            **self.platform.to_dict(),
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": [str(item) for item in self.diff_ids]},
        }
        if self.history:
            value["history"] = [dict(item) for item in self.history]
        if self.created is not None:
            value["created"] = self.created
        return canonical(value)

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Config:
        """Read a config; `where` names it in errors. What is not named here, as older builders write it, is dropped."""
        value, place = parsed(data, where), f"{where}: "
        rootfs = take(value, "rootfs", dict, place)
        inner = f"{place}rootfs."
        if take(rootfs, "type", str, inner) != "layers":
            refuse(f"{inner}type", shown(rootfs["type"]), "'layers'")
        return cls(
            architecture=take(value, "architecture", str, place),
            os=take(value, "os", str, place),
            variant=take(value, "variant", str, place, ""),
            config=take(value, "config", dict, place, {}),
            diff_ids=tuple(
                digest(item, f"{inner}diff_ids[{number}]")
                for number, item in enumerate(take(rootfs, "diff_ids", list, inner))
            ),
            history=tuple(objects(value, "history", place, [])),
            created=take(value, "created", str, place, None),
        )


def media_type_of(data: bytes, where: str) -> str:
    """Return the media type that a manifest or an index has by what is in it; raise ImageError for another document."""
    value = _document(data, where)
    kind = (INDEXES, INDEX) if "manifests" in value else (MANIFESTS, MANIFEST)
    return _media_type(value, *kind, f"{where}: ")


def _written(item: Manifest | Index, own: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of what both kinds say of themselves, and of what is a kind's own."""
    value: dict[str, Any] = {"schemaVersion": 2, "mediaType": item.media_type, **own}
    if item.annotations:
        value["annotations"] = dict(item.annotations)
    if item.subject is not None:
        value["subject"] = item.subject.to_dict()
    if item.artifact_type is not None:
        value["artifactType"] = item.artifact_type
    return canonical(value)


def _document(data: bytes, where: str) -> Mapping[str, Any]:
    value = parsed(data, where)
    version = value.get("schemaVersion")
    if type(version) is int and version == 1:
        refuse(where, "a schema 1 manifest, which names no verifiable config", "schema 2", "push the image anew")
    if type(version) is not int or version != 2:
        refuse(f"{where}: schemaVersion", shown(version), "2")
    return value


def _descriptors(value: Mapping[str, Any], key: str, place: str) -> tuple[Descriptor, ...]:
    items = enumerate(objects(value, key, place))
    return tuple(Descriptor.from_dict(item, f"{place}{key}[{number}]") for number, item in items)


def _media_type(value: Mapping[str, Any], known: frozenset[str], default: str, place: str) -> str:
    text = media_type(take(value, "mediaType", str, place, default), f"{place}mediaType")
    if text not in known:
        refuse(f"{place}mediaType", shown(text), " or ".join(sorted(known)))
    return text


def _without(value: Mapping[str, Any], key: str, place: str, other: str) -> None:
    """Refuse a document that is two things at once (CVE-2021-41190)."""
    if key in value:
        refuse(f"{place}{key}", f"a key of {other}", "a document that is one thing")


def _same(one: Platform, other: Platform) -> bool:
    def key(item: Platform) -> tuple[str, str, str]:
        return item.os, item.architecture, item.variant or ("v8" if item.architecture == "arm64" else "")

    return key(one) == key(other)
