"""Rules of compatibility as values: the strict reader of `environments/compat.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from torchlock.platforms import PLATFORMS
from torchlock.profiles.document import Node, read, show
from torchlock.profiles.line import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLAIN = "plain"  # a build of torch without a local version
_DRIVER = re.compile(r"[0-9]{3}(\.[0-9]{2,3}){0,2}")
_CUDA = re.compile(r"[0-9]{2}\.[0-9]")
_MAJOR = re.compile(r"[0-9]{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """Where torch, the platform and Python are these, the projects in `needs` (or python) must be those."""

    torch: SpecifierSet
    platforms: tuple[str, ...]
    python: SpecifierSet
    needs: Mapping[str, SpecifierSet] = field(hash=False)
    ways: tuple[str, ...]
    why: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """The builds of torch that hold one CUDA release, and the projects that must come with them."""

    torch: SpecifierSet
    platforms: tuple[str, ...]
    builds: tuple[str, ...]
    cuda: str
    stack: Mapping[str, SpecifierSet] = field(hash=False)
    why: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Where a variant can be, and which projects (patterns with `*`) it must not hold."""

    platforms: tuple[str, ...]
    absent: tuple[str, ...]
    why: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The oldest NVIDIA driver for Linux made for a CUDA release, and the oldest that runs it at all."""

    release: str | None
    major: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """All rules of `environments/compat.yaml`."""

    pairings: tuple[Pairing, ...]
    builds: tuple[Build, ...]
    kinds: Mapping[str, Kind] = field(hash=False)
    releases: Mapping[str, str] = field(hash=False)
    majors: Mapping[str, str] = field(hash=False)
    source: str


def load(path: Path) -> Rules:
    """Read `environments/compat.yaml`; raise ProfileError with the place."""
    keys = ("pairings", "builds", "variants", "drivers")
    node = read(path, f"{path.parent.name}/{path.name}")
    table = node.table(keys, keys)
    drivers = ("why", "source", "release", "major")
    minimum = table["drivers"].table(drivers, drivers)
    return Rules(
        pairings=tuple(_read_pairing(item) for item in table["pairings"].items()),
        builds=tuple(_read_build(item) for item in table["builds"].items()),
        kinds={name: _read_kind(item) for name, item in table["variants"].table(VARIANTS, VARIANTS).items()},
        releases=_read_drivers(minimum["release"], _CUDA),
        majors=_read_drivers(minimum["major"], _MAJOR),
        source=node.source,
    )


def _read_pairing(node: Node) -> Pairing:
    table = node.table(("torch", "platforms", "python", "needs", "why", "source", "ways"), ("needs", "why", "source"))
    return Pairing(
        torch=_specifier(table.get("torch")),
        platforms=_platforms(table.get("platforms")),
        python=_specifier(table.get("python")),
        needs=_specifiers(table["needs"]),
        ways=tuple(item.text() for item in table["ways"].items()) if "ways" in table else (),
        why=table["why"].text(),
        source=table["source"].text(),
    )


def _read_build(node: Node) -> Build:
    keys = ("torch", "platforms", "builds", "cuda", "stack", "why", "source")
    table = node.table(keys, keys)
    return Build(
        torch=_specifier(table["torch"]),
        platforms=_platforms(table["platforms"]),
        builds=tuple(item.text() for item in table["builds"].items()),
        cuda=_matched(table["cuda"], table["cuda"].text(), _CUDA, "a CUDA release such as 12.1"),
        stack=_specifiers(table["stack"]),
        why=table["why"].text(),
        source=table["source"].text(),
    )


def _read_kind(node: Node) -> Kind:
    keys = ("platforms", "absent", "why", "source")
    table = node.table(keys, keys)
    return Kind(
        platforms=_platforms(table["platforms"]),
        absent=tuple(item.text() for item in table["absent"].items()),
        why=table["why"].text(),
        source=table["source"].text(),
    )


def _read_drivers(node: Node, key: re.Pattern[str]) -> Mapping[str, str]:
    return {
        _matched(item, cuda, key, "a CUDA release"): _matched(item, item.text(), _DRIVER, "a driver such as 530.30.02")
        for cuda, item in node.table().items()
    }


def _matched(node: Node, text: str, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(text):
        raise node.error(f"found {show(text)}", expected)
    return text


def _platforms(node: Node | None) -> tuple[str, ...]:
    return tuple(item.choice(PLATFORMS, "platform") for item in node.items()) if node else tuple(PLATFORMS)


def _specifiers(node: Node) -> Mapping[str, SpecifierSet]:
    return {canonicalize_name(name): _specifier(item) for name, item in node.table().items()}


def _specifier(node: Node | None) -> SpecifierSet:
    if node is None:
        return SpecifierSet()
    try:
        return SpecifierSet(node.text())
    except InvalidSpecifier:
        raise node.error(f"found {show(node.text())}", "a range of versions such as >=2.3,<2.4.1") from None
