"""The conda part of lines: channels, builds and virtual packages, and what one conda lock answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torchlock.digest import Digest
from torchlock.profiles.document import Node, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What a solver may know of a machine; for each platform those that a line must state.
VIRTUAL = ("__archspec", "__cuda", "__glibc", "__linux", "__osx", "__unix", "__win")
_STATED = {"linux": ("__unix", "__linux", "__glibc"), "osx": ("__unix", "__osx"), "win": ("__win",)}

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BUILD = re.compile(r"[A-Za-z0-9_.*]{1,64}")
_VERSION = re.compile(r"[0-9][0-9a-z.]{0,15}( [a-z0-9_]{1,32})?")
_CUDA = re.compile(r"[1-9][0-9]?\.[0-9]{1,2}")
_SPEC = re.compile(r"[a-z0-9_][a-z0-9_.-]*( [0-9A-Za-z.*<>=!,|~^]+( [A-Za-z0-9_.*]+)?)?")
_PYTHON = re.compile(r"3\.(0|[1-9][0-9]?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaTarget:
    """What a conda lock answers on one platform; `where` is its place in the profile, file, line and path.

    `torch` and `numpy` are versions, `build` a pattern of torch's build string in `channel`, `also` more specs as
    conda writes them, `virtual` maps the virtual packages to a version, with a build after a space where one has it.
    """

    profile: str
    variant: str
    platform: str
    python: str
    torch: str
    numpy: str
    channel: str
    build: str
    cuda: str | None
    also: tuple[str, ...]
    virtual: Mapping[str, str] = field(hash=False)
    where: str

    @property
    def specs(self) -> tuple[str, ...]:
        """Return what is asked for, as conda's environment files write it."""
        torch = f"{self.channel}::pytorch {self.torch} {self.build}"
        return (f"numpy {self.numpy}", f"python {self.python}.*", torch, *self.also)

    def to_dict(self) -> dict[str, object]:
        """Return all that decides about the lock; the place is not part of it."""
        return {
            "platform": self.platform,
            "specs": self.specs,
            "cuda": self.cuda,
            "virtual": dict(sorted(self.virtual.items())),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaProfile:
    """What one conda lock answers: targets in the order of the file, channels in that of their strict priority."""

    profile: str
    variant: str
    channels: tuple[str, ...]
    targets: tuple[CondaTarget, ...]
    source: str

    def digest(self) -> Digest:
        """Return the digest of all that decides about the lock; the file that it stands in is not part of it."""
        return Digest.of_json(
            {
                "profile": self.profile,
                "variant": self.variant,
                "channels": self.channels,
                "targets": [item.to_dict() for item in self.targets],
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Machines:
    """The part that a line's variants share: its channels, and the virtual packages of each platform."""

    channels: tuple[str, ...]
    virtual: Mapping[str, Mapping[str, str]] = field(hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pins:
    """What a line pins, as far as conda shares it."""

    python: str
    torch: str
    numpy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The conda part of a variant as files write it: one profile's, but for its name."""

    channels: tuple[str, ...]
    targets: tuple[CondaTarget, ...]

    def named(self, profile: str, variant: str, source: str) -> CondaProfile:
        """Return the conda part of a profile by its name."""
        targets = tuple(replace(item, profile=profile) for item in self.targets)
        return CondaProfile(profile=profile, variant=variant, channels=self.channels, targets=targets, source=source)


def read_machines(node: Node, platforms: Iterable[str]) -> Machines:
    """Read `conda:` of a line."""
    table = node.table(("channels", "virtual"), ("channels", "virtual"))
    virtual = {}
    for platform, item in table["virtual"].table(tuple(platforms)).items():
        stated = _virtual(item)
        for name in _STATED[platform.partition("-")[0]]:
            if name not in stated:
                raise item.error(f"found no {name}", "what a solver may know of the machine", f'{name}: "0"')
        virtual[platform] = stated
    return Machines(channels=_channels(table["channels"]), virtual=virtual)


def read_wanted(name: str, node: Node, platforms: tuple[str, ...], pins: Pins, machines: Machines | None) -> Wanted:
    """Read `conda:` of the variant `name`."""
    if machines is None:
        raise node.error("found conda in a variant of a line without", "conda: with channels and virtual in the line")
    table = node.table(("channels", "platforms"), ("platforms",))
    if "channels" in table:
        machines = replace(machines, channels=_channels(table["channels"]))
    members = table["platforms"].table(platforms)
    if not members:
        raise table["platforms"].error("found no platforms", f"one or more of {', '.join(platforms)}")
    targets = tuple(_target(name, platform, item, pins, machines) for platform, item in members.items())
    return Wanted(channels=machines.channels, targets=targets)


def _target(variant: str, platform: str, node: Node, pins: Pins, machines: Machines) -> CondaTarget:
    cuda = ("cuda",) if variant == "cuda" else ()
    table = node.table(("python", "torch", *cuda, "also", "virtual"), ("torch", *cuda))
    build = table["torch"].table(("channel", "build"), ("channel", "build"))
    if platform not in machines.virtual:
        raise node.error(f"found no virtual packages of {platform}", f"{platform} under conda.virtual of the line")
    own = _virtual(table["virtual"]) if "virtual" in table else {}
    virtual = {**machines.virtual[platform], **own}
    if ("__cuda" in virtual) != (variant == "cuda"):
        found = "found no __cuda" if variant == "cuda" else f"found __cuda in {variant}"
        raise table.get("virtual", node).error(found, "__cuda in cuda variants, and there alone")
    also = tuple(_matched(item, _SPEC, "a spec such as mkl 2024.*") for item in _items(table))
    return CondaTarget(
        profile="",
        variant=variant,
        platform=platform,
        python=_matched(table["python"], _PYTHON, "a Python such as 3.11") if "python" in table else pins.python,
        torch=pins.torch,
        numpy=pins.numpy,
        channel=build["channel"].choice(machines.channels, "channel"),
        build=_matched(build["build"], _BUILD, "a build such as cuda120_*"),
        cuda=_matched(table["cuda"], _CUDA, "a CUDA release such as 12.1") if cuda else None,
        also=tuple(sorted(also)),
        virtual=virtual,
        where=node.where,
    )


def _items(table: Mapping[str, Node]) -> tuple[Node, ...]:
    items = table["also"].items() if "also" in table else ()
    for item in items:
        if item.text().split()[0] in {"python", "pytorch", "numpy"}:
            raise item.error(f"found {show(item.text())}", "specs of other packages: the line pins this one")
    return items


def _channels(node: Node) -> tuple[str, ...]:
    names = [_matched(item, _CHANNEL, "the name of a channel") for item in node.items()]
    for item, name in zip(node.items(), names, strict=True):
        if names.count(name) > 1:
            raise item.error(f"found {name} twice", "each channel once, in the order of its priority")
    if not names:
        raise node.error("found an empty list", "one channel or more, in the order of their priority")
    return tuple(names)


def _virtual(node: Node) -> dict[str, str]:
    return {name: _matched(item, _VERSION, 'a version such as "2.28"') for name, item in node.table(VIRTUAL).items()}


def _matched(node: Node, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(node.text()):
        raise node.error(f"found {show(node.text())}", expected)
    return node.text()
