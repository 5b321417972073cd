"""Specs as conda takes them on its command line, in the stricter words of rattler."""

from __future__ import annotations

import re

from torchlock.errors import CondaError
from torchlock.profiles.document import show

_SPEC = re.compile(
    r"(?:(?P<channel>[^\s\[\]]+?)(?:/(?P<subdir>noarch|(?:linux|osx|win)-[a-z0-9]+))?::)?"
    r"(?P<name>[A-Za-z0-9_.-]+|\*)"
    r"(?P<rest>[^\[\]]*)"
    r"(?:\[(?P<keys>[^\[\]]*)\])?"
)
_KEY = re.compile(r"""\s*(\w+)\s*=\s*("[^"]*"|'[^']*'|[^,\s]+)\s*(?:,|$)""")
_OPERATOR = re.compile(r"[<>=!~^]")
_BARE = re.compile(r"[0-9][0-9A-Za-z_.!+]*")
_KNOWN = ("version", "build", "build_number", "channel", "subdir", "md5", "sha256", "fn", "url")


def to_rattler(text: str) -> str:
    """Return a spec of conda in rattler's grammar.

    conda reads `name 1.2` and `name==1.2` as exactly 1.2, `name=1.2` as 1.2.*, `name=1.2=build` as exactly both,
    `name 1.2 build` likewise, and `channel::name …`; keys in brackets win over what stands before them.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise CondaError("the spec", f"found {show(text)!r}", "name, name version or name version build")
    keys = _keys(match["keys"] or "", text)
    version, build = _parts(match["rest"], text)
    version, build = keys.pop("version", version), keys.pop("build", build)
    for key in ("channel", "subdir"):
        if match[key]:
            keys.setdefault(key, match[key])
    if version and _BARE.fullmatch(version):
        version = f"=={version}"
    channel = keys.pop("channel", "")
    words = [f"{channel}::{match['name']}" if channel else match["name"]]
    if version or build:
        words.append(version or "*")
    if build:
        words.append(build)
    extra = ", ".join(f'{key}="{value}"' for key, value in sorted(keys.items()))
    return " ".join(words) + (f"[{extra}]" if extra else "")


def name_of(text: str) -> str:
    """Return the name of the package that a spec of conda is for, in lower case."""
    match = _SPEC.fullmatch(text.strip())
    return match["name"].lower() if match else ""


def _keys(text: str, spec: str) -> dict[str, str]:
    keys, at = {}, 0
    while at < len(text.rstrip()):
        match = _KEY.match(text, at)
        if match is None or match[1] not in _KNOWN:
            raise CondaError("the spec", f"found {show(spec)!r}", f"keys among {', '.join(_KNOWN)}")
        keys[match[1]], at = match[2].strip("\"'"), match.end()
    return keys


def _parts(rest: str, spec: str) -> tuple[str, str]:
    """Return version and build of what stands after a name; a version that is bare means exactly that one."""
    if not rest.strip():
        return "", ""
    if rest[0] == "=" and not rest.startswith("=="):  # name=1.2 and name=1.2=build
        version, _, build = rest[1:].strip().replace(" ", "=", 1).partition("=")
        fuzzy = not build and _BARE.fullmatch(version)
        return (f"{version}.*" if fuzzy else version), build.strip()
    if rest[0] not in " <>=!~^" and not rest[0].isspace():
        raise CondaError("the spec", f"found {show(spec)!r}", "name, name version or name version build")
    words = re.sub(r"\s*([,|])\s*", r"\1", re.sub(r"([<>=!~^])\s+", r"\1", rest.strip())).split()
    version, build = words[0], " ".join(words[1:])
    exact = re.fullmatch(r"(==)?([0-9][0-9A-Za-z_.!+*]*)=([A-Za-z0-9_.*]+)", version)
    if exact and not build:  # name==1.2=build
        version, build = f"{exact[1] or ''}{exact[2]}", exact[3]
    if len(words) > 2 or (build and _OPERATOR.search(build)):
        raise CondaError("the spec", f"found {show(spec)!r}", "name, name version or name version build")
    return version, build
