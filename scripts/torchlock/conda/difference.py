"""What changed between two conda locks, as values, in words and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from torchlock.conda import flavours

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlock.conda.document import CondaLock, Package

_NOTHING = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package on one platform before and after, None where a lock does not have it; not both equal."""

    name: str
    platform: str
    old: Package | None
    new: Package | None

    @property
    def kind(self) -> str:
        """Name the change: `rebuilt` is another build or archive, `bytes` are others under the same address."""
        old, new = self.old, self.new
        if old is None or new is None:
            return "added" if old is None else "removed"
        if old.version != new.version:
            return _grown(old.version, new.version)
        if (old.build, old.filename) != (new.build, new.filename):
            return "rebuilt"
        if old.sha256 != new.sha256:
            return "bytes"
        return "channel" if old.channel != new.channel else "facts"

    @property
    def alarm(self) -> bool:
        """Tell whether one channel now names other bytes under an address that it had before."""
        return self.kind == "bytes" and self.old is not None and self.new is not None and self.old.url == self.new.url

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON value."""
        return {
            "name": self.name,
            "platform": self.platform,
            "kind": self.kind,
            "alarm": self.alarm,
            "old": None if self.old is None else _json(self.old),
            "new": None if self.new is None else _json(self.new),
        }

    def __str__(self) -> str:
        old, new, kind = self.old, self.new, self.kind
        if old is None or new is None:
            item = new or old
            return f"{kind} {self.name} {item.version} {item.build}" if item else kind
        moved = f" (channel {_channel(old)} -> {_channel(new)})" if old.channel != new.channel else ""
        if kind in {"up", "down", "moved"}:
            return f"{kind} {self.name} {old.version} -> {new.version}{moved}"
        if kind == "rebuilt":
            pair = (old.build, new.build) if old.build != new.build else (old.filename, new.filename)
            return f"{kind} {self.name} {new.version}: {pair[0]} -> {pair[1]}{moved}"
        if kind == "bytes":
            head = "ALARM: other bytes" if self.alarm else "other bytes"
            return f"{head} under the name {new.filename}: {old.sha256} -> {new.sha256}{moved}"
        return f"{kind} of {self.name} {new.version}{moved}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """Two conda locks and what changed: packages by platform and name, facts of a platform as (old, new)."""

    old: CondaLock
    new: CondaLock
    changes: tuple[Change, ...]
    facts: Mapping[str, Mapping[str, tuple[str, str]]] = field(hash=False)

    @property
    def alarms(self) -> tuple[Change, ...]:
        """Return the changes of bytes that a channel must not make."""
        return tuple(change for change in self.changes if change.alarm)

    def lines(self) -> Iterator[str]:
        """Yield the difference in words, line by line, platform by platform."""
        for platform, facts in self.facts.items():
            mine = [change for change in self.changes if change.platform == platform]
            yield f"{self.new.profile} on {platform}, conda:{'' if mine or facts else ' no change'}"
            for name, (before, after) in facts.items():
                yield f"  {name}: {before} -> {after}"
            for change in sorted(mine, key=lambda item: not item.alarm):
                yield f"  {change}"

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON value."""
        return {
            "profile": self.new.profile,
            "facts": {name: {key: list(pair) for key, pair in item.items()} for name, item in self.facts.items()},
            "changes": [change.to_json() for change in self.changes],
            "alarm": bool(self.alarms),
        }


def diff(old: CondaLock, new: CondaLock) -> Diff:
    """Compare two conda locks, usually of one profile."""
    changes: list[Change] = []
    facts = {}
    for platform in sorted({*old.platforms, *new.platforms}):
        before, after = ({item.name: item for item in lock.packages(platform)} for lock in (old, new))
        pairs = ((name, before.get(name), after.get(name)) for name in sorted({*before, *after}))
        changes += [Change(name=name, platform=platform, old=one, new=two) for name, one, two in pairs if one != two]
        ours, theirs = _facts(old, platform), _facts(new, platform)
        facts[platform] = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    return Diff(old=old, new=new, changes=tuple(changes), facts=facts)


def _facts(lock: CondaLock, platform: str) -> dict[str, str]:
    packages = lock.packages(platform)
    built = flavours.of_packages(packages)
    loose = [item.name for item in packages if not item.constrained]
    return {
        "profile": lock.profile,
        "Python": built.python if packages else _NOTHING,
        "torch build": built.build,
        "CUDA": built.cuda or _NOTHING,
        "BLAS": built.blas,
        "channels": ", ".join(lock.channels),
        "solver": lock.solver,
        "records without constrains": ", ".join(loose) or _NOTHING,
        "profile digest": str(lock.profile_digest),
        "snapshot digest": str(lock.snapshot_digest),
    }


def _grown(old: str, new: str) -> str:
    """Tell whether a version went up or down; `moved` where PEP 440 does not order them, as with 1.1.1w."""
    try:
        return "up" if Version(new) > Version(old) else "down"
    except InvalidVersion:
        return "moved"


def _channel(item: Package) -> str:
    return item.channel.rpartition("/")[2] or item.channel


def _json(item: Package) -> dict[str, Any]:
    return {
        "version": item.version,
        "build": item.build,
        "url": item.url,
        "sha256": item.sha256.hex,
        "constrained": item.constrained,
    }
