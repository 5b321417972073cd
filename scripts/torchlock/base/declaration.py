"""The declared bases: what `docker/base.yaml` says, read strictly."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci.descriptor import PLATFORMS
from torchlock.profiles.document import read, show
from torchlock.registry.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.profiles.document import Node

FILE = "docker/base.yaml"
LOCKS = "docker/base"
# Raised when a base is built in another way, so that its bytes are others.
RECIPE = "1"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SUITE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # Debian policy 5.6.1
_PYTHON = re.compile(r"(/[A-Za-z0-9._-]+)+/python3\.[0-9]{1,2}")
_VERSION = re.compile(r"3\.[0-9]{1,2}\.[0-9]{1,2}")
_DEBIAN = ("suite", "packages", "python")
_REGISTRY = ("image", "manifests", "python", "version")


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianBase:
    """A Debian to be built: its suite, and the packages that are wanted besides the essential ones."""

    name: str
    suite: str
    packages: tuple[str, ...]
    python: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is for."""
        return tuple(PLATFORMS)

    def digest(self, platform: str) -> Digest:
        """Return the digest of what a lock of this base answers."""
        return Digest.of_json([RECIPE, platform, self.suite, sorted(self.packages), self.python])


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryBase:
    """A registry's image, by the digest of its index and of each platform's manifest."""

    name: str
    image: Reference
    manifests: Mapping[str, Digest] = field(hash=False)
    python: str
    version: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is for."""
        return tuple(self.manifests)

    def digest(self, platform: str) -> Digest:
        """Return the digest of what a lock of this base answers."""
        return Digest.of_json([RECIPE, platform, str(self.manifests[platform]), self.python, self.version])


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """All bases by name, and which one an image stands on where none is named."""

    default: str
    bases: Mapping[str, DebianBase | RegistryBase] = field(hash=False)

    def find(self, name: str | None = None) -> DebianBase | RegistryBase:
        """Return a base; raise ImageError for one that is not declared."""
        if (found := self.bases.get(name or self.default)) is None:
            raise ImageError("BASE", f"unknown base {show(str(name))!r}", f"one of {', '.join(self.bases)} ({FILE})")
        return found

    def lock_path(self, name: str, platform: str) -> str:
        """Return where the lock of a base lies, from the project's folder."""
        return f"{LOCKS}/{platform}.json" if name == self.default else f"{LOCKS}/{name}/{platform}.json"


def load(root: Path) -> Declaration:
    """Read the declaration of a project; raise ProfileError where it does not say plainly what it must."""
    top = read(root / FILE, FILE).table(("default", "bases"), ("default", "bases"))
    bases = {}
    for name, node in top["bases"].table().items():
        if not _NAME.fullmatch(name) or name in PLATFORMS:
            raise node.error(f"the name {show(name)!r}", "lower-case letters, digits and '-', and no platform's name")
        bases[name] = _registry(name, node) if "image" in node.table() else _debian(name, node)
    return Declaration(default=top["default"].choice(bases, "base"), bases=bases)


def _debian(name: str, node: Node) -> DebianBase:
    table = node.table(_DEBIAN, _DEBIAN)
    packages = [_matching(item, _PACKAGE, "the name of a Debian package") for item in table["packages"].items()]
    if len(set(packages)) != len(packages):
        raise table["packages"].error("a package twice", "each package once")
    return DebianBase(
        name=name,
        suite=_matching(table["suite"], _SUITE, "the name of a Debian release, such as bookworm"),
        packages=tuple(packages),
        python=_python(table["python"]),
    )


def _registry(name: str, node: Node) -> DebianBase | RegistryBase:
    table = node.table(_REGISTRY, _REGISTRY)
    try:
        image = Reference.parse(table["image"].text())
    except RegistryError as error:
        raise table["image"].error(error.found, error.expected) from None
    if image.digest is None or image.tag is not None:
        raise table["image"].error(f"found {show(str(image))}", "an image by its digest alone: repository@sha256:…")
    manifests = {}
    for platform, item in table["manifests"].table(tuple(PLATFORMS)).items():
        try:
            manifests[platform] = Digest.parse(item.text())
        except ValueError as error:
            raise item.error(str(error), "sha256: and 64 lower-case hexadecimal digits") from None
    if not manifests:
        raise table["manifests"].error("found no platform", f"one of {', '.join(PLATFORMS)}")
    version = _matching(table["version"], _VERSION, 'a version of Python, such as "3.11.9"')
    python = _python(table["python"])
    if posixpath.basename(python) != f"python{version.rpartition('.')[0]}":
        raise table["python"].error(
            f"found {python}", f"the path of python{version.rpartition('.')[0]}, as the version"
        )
    return RegistryBase(name=name, image=image, manifests=manifests, python=python, version=version)


def _python(node: Node) -> str:
    path = _matching(node, _PYTHON, "the absolute path of an interpreter, such as /usr/bin/python3.11")
    if posixpath.normpath(path) != path:
        raise node.error(f"found {path}", "a path without . and ..")
    return path


def _matching(node: Node, pattern: re.Pattern[str], expected: str) -> str:
    text = node.text()
    if not pattern.fullmatch(text):
        raise node.error(f"found {show(text)!r}", expected)
    return text
