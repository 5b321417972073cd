"""Profiles: the strict reader of `environments/`, and what one lock answers, one target a platform."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from torchlock.digest import Digest
from torchlock.errors import ProfileError
from torchlock.profiles.document import Node, nearest, read, show
from torchlock.profiles.line import VARIANTS, Line, Waiver, read_line, requirements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.profiles.conda import CondaProfile

RESERVED = ("defaults", "compat")
DEFAULT = "pypi"  # the one index that may leave its address to the client library
# The folders of facts and of conda channels lie beside those of the indexes.
FACTS, CONDA = "facts", "conda"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What one lock answers: a profile on a platform; `requirements` are PEP 508 and sorted."""

    profile: str
    line: str
    variant: str
    platform: str
    python: str
    requirements: tuple[str, ...]
    indexes: Mapping[str, str] = field(hash=False)
    default_index: str
    cuda: str | None
    source: str
    exceptions: tuple[Waiver, ...] = ()

    def digest(self) -> Digest:
        """Return the digest of all that decides about its lock; the file that it stands in is not part of it."""
        value: dict[str, object] = {
            "profile": self.profile,
            "line": self.line,
            "variant": self.variant,
            "platform": self.platform,
            "python": self.python,
            "requirements": self.requirements,
            "indexes": dict(self.indexes),
            "default_index": self.default_index,
            "cuda": self.cuda,
        }
        if self.exceptions:
            value["exceptions"] = [item.to_dict() for item in self.exceptions]
        return Digest.of_json(value)

    def index_of(self, project: str) -> str:
        """Return the alias of the one index that a project comes from."""
        return self.indexes.get(canonicalize_name(project), self.default_index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A line and a variant, with one target for each platform in the order of the file; `conda` where it has that."""

    name: str
    line: str
    variant: str
    targets: tuple[Target, ...]
    source: str
    conda: CondaProfile | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """All profiles of a folder; `indexes` maps an alias to its simple root, None for the client library's default."""

    profiles: Mapping[str, Profile] = field(hash=False)
    default_line: str
    indexes: Mapping[str, str | None] = field(hash=False)

    def find(self, name: str) -> Profile:
        """Return a profile by its name, or the default line's by a bare variant."""
        wanted = f"{self.default_line}-{name}" if name in VARIANTS else name
        if wanted in self.profiles:
            return self.profiles[wanted]
        bare = [item for item in VARIANTS if f"{self.default_line}-{item}" in self.profiles]
        near = nearest(name, [*bare, *self.profiles])
        raise ProfileError("environments", f"no profile {show(name)!r}", f"one of {', '.join(self.profiles)}", near)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Defaults:
    line: Node
    index: str
    addresses: Mapping[str, str | None]


def load(folder: Path) -> Catalogue:
    """Read all lines of a folder, `<root>/environments`; raise ProfileError with the place."""
    defaults = _defaults(read(folder / "defaults.yaml", f"{folder.name}/defaults.yaml"))
    nodes = {name: read(path, f"{folder.name}/{path.name}") for name, path in _files(folder).items()}
    profiles: dict[str, Profile] = {}
    for name, node in nodes.items():
        line = read_line(name, nodes, defaults.addresses)
        for variant in line.variants:
            profile = _profile(name, line, variant, defaults.index, node.source)
            profiles[profile.name] = profile
    default = defaults.line.choice(nodes, "line")
    return Catalogue(profiles=profiles, default_line=default, indexes=defaults.addresses)


def _files(folder: Path) -> Mapping[str, Path]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".yaml", ".yml"} or path.name.startswith("."):
            continue
        where = f"{folder.name}/{show(path.name)}"
        if path.suffix == ".yml":
            raise ProfileError(where, "the ending .yml", ".yaml", "rename the file")
        if not _NAME.fullmatch(path.stem):
            raise ProfileError(where, "not a line's name", "a-z, 0-9, '.', '_', '-' before .yaml", "rename the file")
        if path.stem not in RESERVED:
            found[path.stem] = path
    return found


def _defaults(node: Node) -> _Defaults:
    keys = ("line", "index", "indexes")
    table = node.table(keys, keys)
    addresses = {alias: _address(alias, item) for alias, item in table["indexes"].table().items()}
    return _Defaults(line=table["line"], index=table["index"].choice(addresses, "index"), addresses=addresses)


def _address(alias: str, node: Node) -> str | None:
    if not _NAME.fullmatch(alias):
        raise node.error(f"found the alias {show(alias)!r}", "a-z, 0-9, '.', '_' and '-'")
    if alias in {FACTS, CONDA}:
        what = "facts" if alias == FACTS else "conda channels"
        raise node.error(f"found the alias {alias}, which is the folder of {what}", "another name")
    table = node.table(("address",), () if alias == DEFAULT else ("address",))
    if "address" not in table:
        return None
    node, text = table["address"], table["address"].text()
    shown = show(re.sub(r"[?#].*", "?…", text, flags=re.DOTALL))  # a query may hold a token
    try:
        parts = urlsplit(text)
        host, credentials, _port = parts.hostname, "@" in parts.netloc, parts.port
    except ValueError:
        raise node.error(f"found {shown}, which is no address", "https://host/simple/") from None
    if credentials:
        remedy = f"put the whole address into the environment variable TORCHLOCK_MIRROR, as {alias}=https://…"
        raise node.error("found credentials in an address", "an address without them", remedy)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise node.error(f"found {shown}", "https://host/simple/ (http only on this machine)")
    if not host or parts.query or parts.fragment or not parts.path.endswith("/") or re.search(r"\s", text):
        raise node.error(f"found {shown}", "a host and a path that ends in / and nothing after it")
    return text


def _profile(name: str, line: Line, variant: str, default: str, source: str) -> Profile:
    chosen = line.variants[variant]
    targets = []
    for platform in chosen.platforms:
        torch, index = chosen.builds.get(platform, (line.torch, None))
        indexes = {**line.indexes, **chosen.indexes, **({"torch": index} if index else {})}
        target = Target(
            profile=f"{name}-{variant}",
            line=name,
            variant=variant,
            platform=platform,
            python=line.python,
            requirements=requirements(torch, line.numpy, (*line.also, *chosen.also)),
            indexes={project: alias for project, alias in sorted(indexes.items()) if alias != default},
            default_index=default,
            cuda=chosen.cuda,
            source=source,
            exceptions=line.exceptions,
        )
        targets.append(target)
    full = f"{name}-{variant}"
    conda = chosen.conda.named(full, variant, source) if chosen.conda else None
    return Profile(name=full, line=name, variant=variant, targets=tuple(targets), source=source, conda=conda)
