"""The part of channels that profiles can reach: what they ask for, and all that this may depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import rattler

from torchlock.conda.channels import NOARCH
from torchlock.conda.spec import name_of, to_rattler

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torchlock.profiles.conda import CondaProfile, CondaTarget


# Gives the records of a name in a channel and a subdir.
Query: TypeAlias = Callable[[str, str, str], "list[rattler.RepoDataRecord]"]
# The reached records of each channel and subdir, by file name.
Reached: TypeAlias = dict[tuple[str, str], "dict[str, rattler.RepoDataRecord]"]


def roots(target: CondaTarget) -> tuple[str, ...]:
    """Return what is recorded for a target: its Python, its torch in all builds, and NumPy of the same generation.

    That is more than it asks for, so that a solver can say what stands in the way of what it was asked for.
    """
    generation = target.numpy.partition(".")[0]
    return (f"python {target.python}.*", f"pytorch {target.torch}", f"numpy {generation}.*", *target.also)


def reach(profiles: Iterable[CondaProfile], query: Query) -> Reached:
    """Return what profiles reach of the channels whose records `query` gives; each name is asked for once."""
    names = _Names(query)
    found: Reached = defaultdict(dict)
    for profile in profiles:
        for target in profile.targets:
            for channel, subdir in product(profile.channels, (target.platform, NOARCH)):
                found[channel, subdir].update()
            for channel, record in _closure(target, profile.channels, names):
                found[channel, record.subdir][record.file_name] = record
    return dict(found)


class _Names:
    """The records of channels by their names, and parsed specs, each once."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._known: dict[tuple[str, str, str], list[rattler.RepoDataRecord]] = {}
        self._specs: dict[str, rattler.MatchSpec] = {}

    def first(self, channels: Sequence[str], platform: str, name: str) -> tuple[str, list[rattler.RepoDataRecord]]:
        """Return the first channel that has a name, and its records: strict priority sees no others."""
        for channel in channels:
            found = [item for subdir in (platform, NOARCH) for item in self._of(channel, subdir, name)]
            if found:
                return channel, found
        return "", []

    def spec(self, text: str) -> rattler.MatchSpec:
        """Return a parsed spec."""
        if text not in self._specs:
            self._specs[text] = rattler.MatchSpec(text)
        return self._specs[text]

    def _of(self, channel: str, subdir: str, name: str) -> list[rattler.RepoDataRecord]:
        key = (channel, subdir, name)
        if key not in self._known:
            self._known[key] = self._query(*key)
        return self._known[key]


def _closure(
    target: CondaTarget, channels: Sequence[str], names: _Names
) -> Iterable[tuple[str, rattler.RepoDataRecord]]:
    """Give each record that a solver could look at, with its channel.

    A name whose records all miss keeps one of them: it is what hides the channels of lower priority.
    """
    wanted = {name_of(text): names.spec(to_rattler(text)) for text in roots(target)}
    todo = list(wanted.items())
    asked: set[str] = set()
    kept: set[str] = set()
    while todo:
        name, spec = todo.pop()
        channel, records = names.first(channels, target.platform, name)
        root = wanted.get(name, spec)
        fitting = [item for item in records if spec.matches(item) and root.matches(item)]
        for record in fitting or records[:1]:
            if record.url in kept:
                continue
            kept.add(record.url)
            yield channel, record
            for text in record.depends if fitting else ():
                if text not in asked and not text.startswith("__"):
                    asked.add(text)
                    todo.append((name_of(text) or text.split()[0], names.spec(text)))
