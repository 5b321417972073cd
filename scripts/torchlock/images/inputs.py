"""What an image is made from, the digest of it all, and the layers that follow from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from torchlock.base import declaration
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.images import application
from torchlock.layers import bytecode, tar
from torchlock.layers import order as orders
from torchlock.oci.descriptor import PLATFORMS, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlock.layers.order import Order
    from torchlock.locks.lock import Artifact, Lock
    from torchlock.oci.descriptor import Descriptor
    from torchlock.profiles.profile import Target

# The number of the rules by which the code makes layers and config: a change of any byte of any image raises it.
RECIPE = 1
# Engines stack at most 127 layers; room is left for those that users put on top.
MOST = 100
WHEELS, BYTECODE, APPLICATION = "wheels", "bytecode", "application"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One layer that is made from wheels; `kind` is `wheels`, or `bytecode` for what `maker` makes of their modules."""

    name: str
    kind: str
    artifacts: tuple[Artifact, ...]
    maker: str = ""

    @property
    def content(self) -> str:
        """Say what the layer is made from, as its descriptor does."""
        found = sorted(f"{item.filename}@{item.sha256}" for item in self.artifacts)
        return " ".join(found if self.kind == WHEELS else [f"{self.kind}-{self.maker}", *found])

    @property
    def size(self) -> int:
        """The bytes of its wheels: about what it costs to make."""
        return sum(item.size or 0 for item in self.artifacts)


class Base(Protocol):
    """What an image stands on; `digest` is that of the base's lock, `config` what an image inherits."""

    @property
    def name(self) -> str:
        """Return what the base is called."""

    @property
    def digest(self) -> Digest:
        """Return the digest of its lock."""

    @property
    def layers(self) -> Sequence[tuple[Descriptor, Digest]]:
        """Return its layers, bottom first, each with the digest of its tar."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the member `config` of its own config."""

    @property
    def python_path(self) -> str:
        """Return where its interpreter lies, such as /usr/bin/python3.11."""

    @property
    def python_version(self) -> str:
        """Return the whole version of that, such as 3.11.2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """All that decides an image: the lock, its variant, the base, the order of layers, and the files that run inside.

    `compiled` are the projects that get a layer of byte code; `origin` is the name and the digest of the registry's
    image that the base is, if it is one.
    """

    lock: Lock
    variant: str
    base: Base
    order: Order
    sources: Mapping[str, bytes]
    compiled: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def platform(self) -> Platform:
        """The platform in the words of images."""
        return PLATFORMS[self.lock.platform]

    def digest(self) -> Digest:
        """Return the digest of everything that decides a byte of the image."""
        return Digest.of_json(
            {
                "recipe": RECIPE,
                "epoch": tar.EPOCH,
                "lock": str(Digest.of(self.lock.to_toml())),
                "variant": self.variant,
                "base": [self.base.name, str(self.base.digest), self.base.python_path, self.base.python_version],
                "layers": [[str(item.digest), str(diff_id)] for item, diff_id in self.base.layers],
                "config": dict(self.base.config),
                "origin": dict(self.origin),
                "order": asdict(self.order),
                "compiled": list(self.compiled),
                "sources": {path: str(Digest.of(data)) for path, data in self.sources.items()},
            }
        )

    def key(self, content: str) -> Digest:
        """Return what a layer's facts are kept under: what it is made from, for which Python and platform, and how."""
        return key(content, self.lock.platform, self.lock.python)

    def parts(self) -> list[Part]:
        """Return the layers between the base and the application, in their order."""
        compiled = [item for item in self.lock.artifacts if item.project in self.compiled]
        room = MOST - len(self.base.layers) - 1 - len(compiled)
        groups = orders.groups(self.lock.artifacts, self.order, room)
        wheels = [Part(name=item.name, kind=WHEELS, artifacts=tuple(item.artifacts)) for item in groups]
        maker = f"{bytecode.RECIPE}-python-{self.base.python_version}"
        return wheels + [
            Part(name=f"{BYTECODE}-{item.project}", kind=BYTECODE, artifacts=(item,), maker=maker) for item in compiled
        ]


def key(content: str, platform: str, python: str, recipe: int = RECIPE) -> Digest:
    """Return what the facts of a layer are kept under."""
    return Digest.of_json([recipe, platform, python, content])


def of_target(root: Path, target: Target, lock: Lock, base: Base) -> Inputs:
    """Return what the image of a target is made from; raise ImageError where it can have none."""
    check_target(target)
    if base.python_version.rpartition(".")[0] != lock.python:
        found = f"its lock is for Python {lock.python}, and the base {base.name} has {base.python_version}"
        raise ImageError(target.profile, found, f"a base with Python {lock.python}", "BASE=<one of docker/base.yaml>")
    order = orders.Order.load(root / orders.FILE)
    return Inputs(
        lock=lock,
        variant=target.variant,
        base=base,
        order=order,
        sources=application.sources(root),
        compiled=tuple(item.project for item in lock.artifacts if order.compiles(item.project)),
        origin=_origin(root, base, target.platform),
    )


def _origin(root: Path, base: Base, platform: str) -> dict[str, str]:
    found = declaration.load(root).find(base.name)
    if not isinstance(found, declaration.RegistryBase):
        return {}
    return {"name": str(found.image), "digest": str(found.manifests[platform])}


def check_target(target: Target) -> None:
    """Raise ImageError where a target can have no image, and say why."""
    if target.variant == "mps":
        _refuse(target, "it has no image: no Metal in Linux containers", f"make image-{target.line}-cpu")
    if target.platform not in PLATFORMS:
        found = f"it has no image for {target.platform}: containers run Linux, and these wheels do not"
        _refuse(target, found, f"make image-{target.profile} PLATFORM=linux-64")


def _refuse(target: Target, found: str, remedy: str) -> NoReturn:
    raise ImageError(target.profile, found, f"a variant for {' or '.join(PLATFORMS)}", remedy)
