"""Drift: how far an installed conda environment is from its lock, package by package and file by file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchlock.conda import prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlock.conda.document import CondaLock, Package
    from torchlock.conda.prefix import Installed
    from torchlock.reporter import Reporter

KINDS = ("added", "removed", "changed", "edited", "foreign")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """What an environment has that its lock has not, the other way round, and what is there but differs, in words."""

    profile: str
    platform: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    edited: tuple[str, ...]
    foreign: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def lines(self) -> Iterator[str]:
        """Yield the drift in words, line by line."""
        yield f"envs/conda-{self.profile} on {self.platform}:{'' if self else ' as locked'}"
        for kind in KINDS:
            for text in getattr(self, kind):
                yield f"  {kind} {text}"

    def to_json(self) -> dict[str, Any]:
        """Return the drift as a JSON value."""
        lists = {kind: list(getattr(self, kind)) for kind in KINDS}
        return {"profile": self.profile, "platform": self.platform, **lists, "drift": bool(self)}


def drift(env: Path, lock: CondaLock, platform: str, reporter: Reporter) -> Drift:
    """Compare an environment with what its lock installs on a platform."""
    installed = prefix.read(env)
    locked = {item.name: item for item in lock.packages(platform)}
    mine = {item.name: item for item in installed}
    moved = [_change(locked[name], mine[name]) for name in sorted(locked.keys() & mine.keys())]
    return Drift(
        profile=lock.profile,
        platform=platform,
        added=tuple(_said(mine[name]) for name in sorted(mine.keys() - locked.keys())),
        removed=tuple(_said(locked[name]) for name in sorted(locked.keys() - mine.keys())),
        changed=tuple(text for text in moved if text),
        edited=tuple(prefix.edited(env, installed, reporter)),
        foreign=tuple(prefix.foreign(env, installed)),
    )


def _change(locked: Package, installed: Installed) -> str:
    """Return how an installed package differs from the locked one, or nothing."""
    if installed.version != locked.version:
        return f"{locked.name} {locked.version} -> {installed.version}"
    if installed.build != locked.build:
        return f"{locked.name} {locked.version}: build {locked.build} -> {installed.build}"
    if installed.sha256 != locked.sha256.hex:
        return f"{_said(locked)}: other bytes, sha256:{installed.sha256 or 'not recorded'}"
    if installed.url != locked.url:
        return f"{locked.name} {locked.version}: from {installed.url}, locked from {locked.url}"
    return ""


def _said(item: Package | Installed) -> str:
    return f"{item.name} {item.version} {item.build}"
