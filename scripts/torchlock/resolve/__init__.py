"""Resolving: one target's exact versions, chosen by one resolver or agreed on by two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from torchlock.errors import ResolveError
from torchlock.resolve import piptools, uv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlock.profile import Target
    from torchlock.view import View

# A resolver takes a target and the URL of the simple root that serves its view, and gives `name==version` lines.
RESOLVERS: Mapping[str, Callable[[Target, str], str]] = {"pip-tools": piptools.resolve, "uv": uv.resolve}


def resolve(view: View, url: str, resolvers: Sequence[str]) -> dict[str, str]:
    """Return project -> version as every named resolver chose it; raise ResolveError where they disagree."""
    answers = {name: _ask(name, view, url) for name in resolvers}
    first, *others = answers
    for other in others:
        if answers[first] != answers[other]:
            where = f"{view.target.profile} on {view.target.platform}"
            raise ResolveError(
                where,
                f"{first} and {other} disagree: {_difference(first, answers[first], other, answers[other])}",
                "one set from both",
                f"the version that you want under `also` in {view.target.source}, or RESOLVER={other} for one alone",
            )
    return answers[first]


def _ask(name: str, view: View, url: str) -> dict[str, str]:
    try:
        return _parse(name, RESOLVERS[name](view.target, url))
    except ResolveError as error:
        if view.problems:
            raise view.problems[0] from error
        raise


def _parse(resolver: str, output: str) -> dict[str, str]:
    """Read `name==version` lines; anything else in a resolver's answer is refused, never passed over."""
    chosen = {}
    for line in output.splitlines():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        name, separator, version = text.partition("==")
        try:
            chosen[str(canonicalize_name(name, validate=True))] = str(Version(version))
        except (InvalidVersion, ValueError) as error:
            raise ResolveError(resolver, f"answered {line!r}", "name==version") from error
        if not separator:
            raise ResolveError(resolver, f"answered {line!r}", "name==version")
    return dict(sorted(chosen.items()))


def _difference(first: str, one: Mapping[str, str], second: str, other: Mapping[str, str]) -> str:
    parts = [
        f"{name}: {one.get(name, 'absent')} ({first}), {other.get(name, 'absent')} ({second})"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
    return "; ".join(parts)
