"""Resolving: one target's exact versions, chosen by one resolver or agreed on by two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from torchlock.errors import ResolveError
from torchlock.indexes.view import admits
from torchlock.resolve import piptools, uv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlock.indexes.view import View
    from torchlock.profiles.profile import Target

# A resolver takes a target and the URL of the simple root that serves its view, and gives `name==version` lines.
RESOLVERS: Mapping[str, Callable[[Target, str], str]] = {"pip-tools": piptools.resolve, "uv": uv.resolve}


def resolve(view: View, url: str, resolvers: Sequence[str]) -> dict[str, str]:
    """Return project -> version as every named resolver chose it; raise ResolveError where they disagree.

    What could not be served is raised even where a resolver found a way round it: a project that is not recorded
    would else move its dependents to other versions, in silence.
    """
    answers = {name: _ask(name, view, url) for name in resolvers}
    first, *others = answers
    for other in others:
        if answers[first] != answers[other]:
            where = f"{view.target.source}: {view.target.profile} on {view.target.platform}"
            raise ResolveError(
                where,
                f"{first} and {other} disagree: {_difference(first, answers[first], other, answers[other])}",
                "one set from both",
                f"the version that you want under `also` in {view.target.source}, or RESOLVER={other} for one alone",
            )
    return answers[first]


def _ask(name: str, view: View, url: str) -> dict[str, str]:
    try:
        output = RESOLVERS[name](view.target, url)
    except ResolveError as error:
        if view.problems:
            raise view.problems[0] from error
        if reason := view.reason():
            raise ResolveError(error.where, reason, remedy="another version, or a profile without it") from error
        raise
    if view.problems:
        raise view.problems[0]
    return _complete(name, view.target, _parse(name, output))


def _parse(resolver: str, output: str) -> dict[str, str]:
    """Read `name==version` lines; anything else in a resolver's answer is refused, never passed over."""
    chosen: dict[str, str] = {}
    for line in output.splitlines():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        name, _, version = text.partition("==")
        try:
            project, version = str(canonicalize_name(name, validate=True)), str(Version(version))
        except ValueError as error:
            raise ResolveError(resolver, f"answered {line[:100]!r}", "name==version") from error
        if chosen.setdefault(project, version) != version:
            raise ResolveError(resolver, f"answered {project} {chosen[project]} and {version}", "one version")
    return dict(sorted(chosen.items()))


def _complete(resolver: str, target: Target, chosen: dict[str, str]) -> dict[str, str]:
    """Hold a resolver's answer to what was asked of it."""
    for requirement in map(Requirement, target.requirements):
        version = chosen.get(canonicalize_name(requirement.name))
        if requirement.marker is None and (version is None or not admits(requirement, version)):
            found = f"{requirement.name} {version}" if version else f"without {requirement.name}"
            raise ResolveError(resolver, f"answered {found}", str(requirement))
    return chosen


def _difference(first: str, one: Mapping[str, str], second: str, other: Mapping[str, str]) -> str:
    parts = [
        f"{name}: {one.get(name, 'absent')} ({first}), {other.get(name, 'absent')} ({second})"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
    return "; ".join(parts)
