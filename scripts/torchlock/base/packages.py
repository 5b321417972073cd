"""The lock of a base on a platform: its packages, its layers, its Python, and what it is made of, piece by piece."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci import descriptor
from torchlock.oci.descriptor import LAYERS, Descriptor
from torchlock.oci.document import objects, parsed, refuse, shown, take, texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
UPDATE = "make base UPDATE=1"
PULL = "make pull-<profile> REGISTRY=<where an image on this base was pushed>"

_KEYS = {"schema", "base", "platform", "declared", "packages", "generated", "layers", "config", "python"}
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # Debian policy 5.6.1 and 5.6.12
_VERSION = re.compile(r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*")
_ARCHITECTURE = re.compile(r"all|amd64|arm64")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Package:
    """One Debian package; `content` is the digest of what it is in the built layer, None before that is built."""

    name: str
    version: str
    architecture: str
    sha256: Digest
    size: int
    content: Digest | None = None

    def __post_init__(self) -> None:
        for text, pattern in ((self.name, _NAME), (self.version, _VERSION), (self.architecture, _ARCHITECTURE)):
            if not pattern.fullmatch(text):
                raise ImageError(f"the package {shown(self.name)}", shown(text), "a name, version and architecture")

    @property
    def filename(self) -> str:
        """What apt calls its file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What dpkg knows it by."""
        return self.name, self.version, self.architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer of a base, and the digest of its tar."""

    descriptor: Descriptor
    diff_id: Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseLock:
    """What a base is on a platform; `declared` is the digest of the declaration that it answers.

    `generated` gives for each folder the digest of the files in it that no package owns; `config` is what an image
    inherits (OCI image specification 1.1, `config`).
    """

    base: str
    platform: str
    declared: Digest
    layers: tuple[Layer, ...]
    python: str
    version: str
    config: Mapping[str, Any] = field(hash=False)
    packages: tuple[Package, ...] = ()
    generated: Mapping[str, Digest] = field(default_factory=dict, hash=False)

    @property
    def digest(self) -> Digest:
        """The digest of the lock's file."""
        return Digest.of(self.to_json())

    def to_json(self) -> bytes:
        """Return the bytes of the lock's file."""
        value = {
            "schema": SCHEMA,
            "base": self.base,
            "platform": self.platform,
            "declared": str(self.declared),
            "python": {"path": self.python, "version": self.version},
            "config": dict(self.config),
            "layers": [{**item.descriptor.to_dict(), "diff_id": str(item.diff_id)} for item in self.layers],
            "packages": [_package(item) for item in sorted(self.packages)],
            "generated": {name: str(digest) for name, digest in sorted(self.generated.items())},
        }
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> BaseLock:
        """Read a lock strictly; raise ImageError where it is not one, or not in the form that is written."""
        value, place = parsed(data, where), f"{where}: "
        if (schema := take(value, "schema", int, place)) != SCHEMA:
            refuse(f"{place}schema", str(schema), str(SCHEMA), "a newer torchlock" if schema > SCHEMA else UPDATE)
        if value.keys() != _KEYS:
            refuse(where, f"the keys {', '.join(sorted(value.keys() ^ _KEYS))} are unknown or missing", "a base's lock")
        python = take(value, "python", dict, place)
        found = cls(
            base=take(value, "base", str, place),
            platform=take(value, "platform", str, place),
            declared=descriptor.digest(take(value, "declared", str, place), f"{place}declared"),
            layers=tuple(
                _layer(item, f"{place}layers[{at}]") for at, item in enumerate(objects(value, "layers", place))
            ),
            python=take(python, "path", str, f"{place}python."),
            version=take(python, "version", str, f"{place}python."),
            config=take(value, "config", dict, place),
            packages=tuple(
                _read_package(item, f"{place}packages[{at}].")
                for at, item in enumerate(objects(value, "packages", place))
            ),
            generated={
                name: descriptor.digest(text, f"{place}generated.{name}")
                for name, text in texts(value, "generated", place).items()
            },
        )
        if not found.layers:
            refuse(f"{place}layers", "none", "one at least")
        names = [item.name for item in found.packages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            refuse(f"{place}packages", f"{twice} twice", "each package once")
        if found.to_json() != data:
            refuse(where, "is not in the form that torchlock writes", "a lock that nobody edited", UPDATE)
        return found


def read(path: Path, where: str) -> BaseLock:
    """Read the lock of a base; `where` names it in errors."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(where, "no such file", "the lock of a base", UPDATE) from None
    except OSError as error:
        raise ImageError(where, f"cannot be read: {error.strerror}") from None
    return BaseLock.from_json(data, where)


def _package(item: Package) -> dict[str, Any]:
    value = {
        "name": item.name,
        "version": item.version,
        "architecture": item.architecture,
        "sha256": item.sha256.hex,
        "size": item.size,
    }
    return value if item.content is None else {**value, "content": str(item.content)}


def _read_package(value: Mapping[str, Any], place: str) -> Package:
    content = take(value, "content", str, place, None)
    return Package(
        name=take(value, "name", str, place),
        version=take(value, "version", str, place),
        architecture=take(value, "architecture", str, place),
        sha256=descriptor.digest(f"sha256:{take(value, 'sha256', str, place)}", f"{place}sha256"),
        size=descriptor.size(take(value, "size", int, place), f"{place}size"),
        content=None if content is None else descriptor.digest(content, f"{place}content"),
    )


def _layer(value: Mapping[str, Any], where: str) -> Layer:
    found = Descriptor.from_dict(value, where)
    if found.media_type not in LAYERS:
        refuse(f"{where}.mediaType", shown(found.media_type), "a layer of tar or tar+gzip")
    return Layer(
        descriptor=found,
        diff_id=descriptor.digest(take(value, "diff_id", str, f"{where}."), f"{where}.diff_id"),
    )
