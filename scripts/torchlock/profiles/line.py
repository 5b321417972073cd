"""Lines as files write them: the pins, the variants, what a file adds to a line that it extends."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from torchlock.digest import Digest
from torchlock.platforms import PLATFORMS
from torchlock.profiles.conda import Machines, Pins, Wanted, read_machines, read_wanted
from torchlock.profiles.document import Node, show

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

VARIANTS = ("cpu", "cuda", "mps")

_PYTHON = re.compile(r"3\.(0|[1-9][0-9]?)")
_CUDA = re.compile(r"[1-9][0-9]?\.[0-9]{1,2}")
_PROJECT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PARENTHESES = 20  # packaging reads nested markers by recursion
_REASON = 300  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """One requirement of `also:`, with its place."""

    node: Node
    requirement: Requirement

    @property
    def project(self) -> str:
        """Return the normalized name of the project."""
        return self.requirement.name

    @property
    def pin(self) -> Version | None:
        """Return the version that this names exactly on every platform."""
        exact = [item.version for item in self.requirement.specifier if item.operator == "=="]
        whole = len(self.requirement.specifier) == len(exact) == 1 and not exact[0].endswith("*")
        return Version(exact[0]) if whole and self.requirement.marker is None else None


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Waiver:
    """A deliberate exception of `exceptions:`: one file that the gate over facts lets pass, and why."""

    project: str
    sha256: Digest
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return it as profiles and locks write it."""
        return {"project": self.project, "sha256": self.sha256.hex, "reason": self.reason}


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A variant as files write it; `builds` maps a platform to a version of torch and the alias of its index."""

    platforms: tuple[str, ...]
    cuda: str | None
    builds: Mapping[str, tuple[str, str]]
    also: tuple[Wish, ...]
    indexes: Mapping[str, str]
    conda: Wanted | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A pair of pins, with the variants that have them."""

    python: str
    torch: str
    numpy: str
    also: tuple[Wish, ...]
    indexes: Mapping[str, str]
    exceptions: tuple[Waiver, ...]
    variants: Mapping[str, Variant]


def read_line(name: str, nodes: Mapping[str, Node], aliases: Collection[str]) -> Line:
    """Read a line and, where it extends others, those first."""
    chain = [name]
    while "extends" in (table := nodes[chain[-1]].table()):
        base = table["extends"].choice(nodes, "line")
        if base in chain:
            raise table["extends"].error(f"found a circle: {' -> '.join([*chain, base])}", "a line that extends no one")
        chain.append(base)
    line = _own(nodes[chain.pop()], aliases)
    while chain:
        line = _extended(line, nodes[chain.pop()], aliases)
    return line


def _own(node: Node, aliases: Collection[str]) -> Line:
    required = ("python", "torch", "numpy", "variants")
    table = node.table((*required, "also", "indexes", "exceptions", "conda", "extends"), required)
    torch, numpy, python = _version(table["torch"]), _version(table["numpy"]), _python(table["python"])
    pins = Pins(python=python, torch=torch, numpy=numpy)
    machines = read_machines(table["conda"], PLATFORMS) if "conda" in table else None
    variants = table["variants"].table(VARIANTS)
    if not variants:
        raise table["variants"].error("found no variants", f"one or more of {', '.join(VARIANTS)}")
    return Line(
        python=python,
        torch=torch,
        numpy=numpy,
        also=_also(table),
        indexes=_indexes(table, aliases),
        exceptions=_exceptions(table, ()),
        variants={name: _variant(name, item, pins, machines, aliases) for name, item in variants.items()},
    )


def _variant(name: str, node: Node, pins: Pins, machines: Machines | None, aliases: Collection[str]) -> Variant:
    known = ("platforms", "builds", "also", "indexes", "conda")
    cuda = ("cuda",) if name == "cuda" else ()
    table = node.table((*known, *cuda), ("platforms", *cuda))
    platforms = _platforms(table["platforms"], PLATFORMS)
    builds = {}
    for platform, item in (table["builds"].table(platforms) if "builds" in table else {}).items():
        build = item.table(("torch", "index"), ("torch", "index"))
        builds[platform] = (_version(build["torch"], of=pins.torch), build["index"].choice(aliases, "index"))
    if cuda and not _CUDA.fullmatch(table["cuda"].text()):
        raise table["cuda"].error(f"found {show(table['cuda'].text())}", "a CUDA release such as 12.1")
    return Variant(
        platforms=platforms,
        cuda=table["cuda"].text() if cuda else None,
        builds=builds,
        also=_also(table),
        indexes=_indexes(table, aliases),
        conda=read_wanted(name, table["conda"], platforms, pins, machines) if "conda" in table else None,
    )


def _extended(base: Line, node: Node, aliases: Collection[str]) -> Line:
    """Return a line with what a file adds to it; the variants and platforms that a file names are those that stay.

    What it adds are wheels, so that a line which extends another has no conda environments.
    """
    for pin in ("torch", "numpy"):
        if pin in node.table():
            found = f"found {pin} in a file that extends a line"
            raise node.table()[pin].error(found, f"{pin} {getattr(base, pin)} of that line", "leave out extends")
    table = node.table(("extends", "python", "also", "indexes", "exceptions", "variants"))
    variants = {name: replace(item, conda=None) for name, item in base.variants.items()}
    if "variants" in table:
        named = table["variants"].table(tuple(base.variants))
        if not named:
            raise table["variants"].error("found no variants", f"one or more of {', '.join(base.variants)}")
        variants = {name: _narrowed(variants[name], item, aliases) for name, item in named.items()}
    return replace(
        base,
        python=_python(table["python"]) if "python" in table else base.python,
        also=(*base.also, *_also(table)),
        indexes={**base.indexes, **_indexes(table, aliases)},
        exceptions=_exceptions(table, base.exceptions),
        variants=variants,
    )


def _narrowed(base: Variant, node: Node, aliases: Collection[str]) -> Variant:
    table = node.table(("platforms", "also", "indexes"))
    return replace(
        base,
        platforms=_platforms(table["platforms"], base.platforms) if "platforms" in table else base.platforms,
        also=(*base.also, *_also(table)),
        indexes={**base.indexes, **_indexes(table, aliases)},
    )


def requirements(torch: str, numpy: str, wishes: Collection[Wish]) -> tuple[str, ...]:
    """Return the pins and the wishes, sorted; refuse a wish that contradicts a pin, or another wish that is one."""
    pins = {"torch": Version(torch), "numpy": Version(numpy)}
    for wish in wishes:
        if wish.pin is not None:
            pins.setdefault(wish.project, wish.pin)
    for wish in wishes:
        pin = pins.get(wish.project)
        if pin is not None and not wish.requirement.specifier.contains(pin, prereleases=True):
            found = f"found {show(str(wish.requirement))}, which contradicts {wish.project}=={pin}"
            raise wish.node.error(found, "one version of a project in all of a line")
    return tuple(sorted({f"torch=={torch}", f"numpy=={numpy}", *(str(wish.requirement) for wish in wishes)}))


def _also(table: Mapping[str, Node]) -> tuple[Wish, ...]:
    return tuple(_wish(node) for node in (table["also"].items() if "also" in table else ()))


def _wish(node: Node) -> Wish:
    text, expected = node.text(), "a requirement such as pandas==2.2.3"
    try:
        requirement = Requirement(text if text.count("(") <= _PARENTHESES else "")
    except InvalidRequirement:
        raise node.error(f"found {show(text)}", expected) from None
    requirement.name = canonicalize_name(requirement.name)
    if requirement.url is not None:
        raise node.error(f"found an address for {requirement.name}", expected, "name an index under indexes:")
    return Wish(node=node, requirement=requirement)


def _indexes(table: Mapping[str, Node], aliases: Collection[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, node in (table["indexes"].table() if "indexes" in table else {}).items():
        project = _project(node, name)
        if project in found:
            raise node.error(f"found {project} twice, in two spellings", "each project once")
        found[project] = node.choice(aliases, "index")
    return found


def _exceptions(table: Mapping[str, Node], base: tuple[Waiver, ...]) -> tuple[Waiver, ...]:
    """Read `exceptions:`, and join those of the line that is extended; sorted."""
    found = {(item.project, item.sha256): item for item in base}
    keys = ("project", "sha256", "reason")
    for node in table["exceptions"].items() if "exceptions" in table else ():
        item = node.table(keys, keys)
        project, text = _project(item["project"], item["project"].text()), item["sha256"].text()
        try:
            sha256 = Digest(text)
        except ValueError:
            raise item["sha256"].error(f"found {show(text)}", "64 lower-case hexadecimal digits") from None
        reason = item["reason"].text().strip()
        if not reason or not reason.isprintable() or len(reason) > _REASON:
            raise item["reason"].error(
                f"found {show(reason) or 'nothing'}", f"one line of 1 to {_REASON} characters that says why"
            )
        if (project, sha256) in found:
            raise node.error(f"found {project} with {sha256} twice", "each exception once")
        found[project, sha256] = Waiver(project=project, sha256=sha256, reason=reason)
    return tuple(sorted(found.values()))


def _project(node: Node, name: str) -> str:
    project = canonicalize_name(name)
    if not _PROJECT.fullmatch(project):
        raise node.error(f"found {show(name)!r}", "the name of a project")
    return project


def _platforms(node: Node, known: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for item in node.items():
        if item.choice(known, "platform") in found:
            raise item.error(f"found {item.text()} twice", "each platform once")
        found.append(item.text())
    if not found:
        raise node.error("found an empty list", "one platform or more")
    return tuple(found)


def _python(node: Node) -> str:
    if not _PYTHON.fullmatch(node.text()):
        raise node.error(f"found {show(node.text())}", "a Python such as 3.11")
    return node.text()


def _version(node: Node, of: str | None = None) -> str:
    """Return an exact version in its normal form: a public one, or a build of the public one that is given."""
    text = node.text()
    try:
        version = Version(text)
    except InvalidVersion:
        raise node.error(f"found {show(text)}", "an exact version such as 2.2.2") from None
    if str(version) != text:
        raise node.error(f"found {show(text)}", f"its normal form {version}")
    if of is None and version.local:
        raise node.error(f"found {text}", f"{version.public}, and {text} under builds:")
    if of is not None and version.public != of:
        raise node.error(f"found {text}", f"a build of torch {of}")
    return text
