"""What changed between two locks, as values, in words and as JSON."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from torchlock.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torchlock.locks.lock import Artifact, Lock


ARCHITECTURES = "GPU architectures"
_NOTHING = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package before and after, None where a lock does not have it; not both None and not both equal."""

    project: str
    old: Artifact | None
    new: Artifact | None

    @property
    def kind(self) -> str:
        """Name the change: `rebuilt` is another file of the same version, `bytes` are others under the same name."""
        old, new = self.old, self.new
        if old is None or new is None:
            return "added" if old is None else "removed"
        if old.version != new.version:
            return "up" if Version(new.version) > Version(old.version) else "down"
        if old.filename != new.filename:
            return "rebuilt"
        if old.sha256 != new.sha256:
            return "bytes"
        return "index" if old.index != new.index else "facts"

    @property
    def moved(self) -> bool:
        """Tell whether the package comes from another index than before."""
        return self.old is not None and self.new is not None and self.old.index != self.new.index

    @property
    def alarm(self) -> bool:
        """Tell whether one index now names other bytes under a file name that it had before."""
        return self.kind == "bytes" and not self.moved

    @property
    def growth(self) -> int | None:
        """Return by how many bytes the download grew, None where a size is not known."""
        before, after = (0 if item is None else item.size for item in (self.old, self.new))
        return None if before is None or after is None else after - before

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON value."""
        return {
            "project": self.project,
            "kind": self.kind,
            "alarm": self.alarm,
            "growth": self.growth,
            "old": None if self.old is None else _json(self.old),
            "new": None if self.new is None else _json(self.new),
        }

    def __str__(self) -> str:
        notes = []
        if self.moved and self.old and self.new:
            notes.append(f"index {self.old.index} -> {self.new.index}")
        if self.growth != 0:
            notes.append("size not known" if self.growth is None else f"{_megabytes(self.growth, '+')}")
        return self._words() + (f" ({', '.join(notes)})" if notes else "")

    def _words(self) -> str:
        old, new, kind = self.old, self.new, self.kind
        if new is None or old is None:
            item = new or old
            return f"{kind} {self.project} {item.version if item else ''}"
        if kind in ("up", "down"):
            return f"{kind} {self.project} {old.version} -> {new.version}"
        if kind == "rebuilt":
            return f"{kind} {self.project} {new.version}: {old.filename} -> {new.filename}"
        if kind == "bytes":
            head = "ALARM: other bytes" if self.alarm else "other bytes"
            return f"{head} under the name {new.filename}: {old.sha256} -> {new.sha256}"
        return f"{kind} of {self.project} {new.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """Two locks and what changed: packages by name, and the lock's own `facts` by theirs, as (old, new)."""

    old: Lock
    new: Lock
    changes: tuple[Change, ...]
    facts: Mapping[str, tuple[str, str]] = field(hash=False)

    @property
    def alarms(self) -> tuple[Change, ...]:
        """Return the changes of bytes that an index must not make."""
        return tuple(change for change in self.changes if change.alarm)

    def lines(self) -> Iterator[str]:
        """Yield the difference in words, line by line."""
        yield f"{self.new.profile} on {self.new.platform}:{'' if self.changes or self.facts else ' no change'}"
        for name, (before, after) in self.facts.items():
            yield f"  {name}: {_moves(before, after) if name == ARCHITECTURES else f'{before} -> {after}'}"
        for change in sorted(self.changes, key=lambda item: not item.alarm):
            yield f"  {change}"
        if self.changes:
            before, after = (_total(lock) for lock in (self.old, self.new))
            yield f"  download: {before} -> {after}"
        elif self.facts:
            yield "  packages: no change"

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON value, sizes in bytes."""
        return {
            "profile": self.new.profile,
            "platform": self.new.platform,
            "facts": {name: list(pair) for name, pair in self.facts.items()},
            "changes": [change.to_json() for change in self.changes],
            "alarm": bool(self.alarms),
            "download": {"old": _json_total(self.old), "new": _json_total(self.new)},
        }


def diff(old: Lock, new: Lock) -> Diff:
    """Compare two locks, usually of one profile and platform."""
    before, after = ({item.project: item for item in lock.artifacts} for lock in (old, new))
    pairs = ((project, before.get(project), after.get(project)) for project in sorted({*before, *after}))
    changes = tuple(Change(project=name, old=one, new=two) for name, one, two in pairs if one != two)
    ours, theirs = _facts(old), _facts(new)
    facts = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    return Diff(old=old, new=new, changes=changes, facts=facts)


def at_revision(root: Path, rev: str, path: Path) -> tuple[bytes, str]:
    """Return what a file under `root` was at a revision of git, and its place; raise LockError where there is none."""
    where = path.relative_to(root).as_posix()
    if not rev.isprintable() or rev.startswith("-"):
        raise LockError("AGAINST", repr(rev), "a revision of git such as HEAD~1")
    commit, complaint = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if commit is None:
        found = complaint or f"{rev!r} is no commit of this repository"
        raise LockError("AGAINST", found, "a revision of git such as HEAD~1", "git log --oneline")
    data, _ = _git(root, "cat-file", "blob", f"{commit.decode().strip()}:./{where}")
    if data is None:
        raise LockError(where, f"is not in {rev}", "a revision that has it", f"git log --oneline -- {where}")
    return data, f"{where} in {rev}"


def _git(root: Path, *arguments: str) -> tuple[bytes | None, str]:
    """Return what git prints, None where it refuses, and what it complains of."""
    program = shutil.which("git")
    if program is None:
        raise LockError("git", "is not installed", "git on PATH")
    done = subprocess.run([program, *arguments], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None, done.stderr.decode(errors="replace").strip()


def _facts(lock: Lock) -> dict[str, str]:
    facts = lock.facts
    return {
        "profile": lock.profile,
        "platform": lock.platform,
        "Python": lock.python,
        "resolvers": ", ".join(lock.resolvers),
        "profile digest": str(lock.profile_digest),
        "snapshot digest": str(lock.snapshot_digest),
        "built for NumPy 1.x alone": _listed(facts.numpy_1),
        "built for NumPy 2": _listed(facts.numpy_2),
        "CUDA": facts.cuda or _NOTHING,
        "cuDNN": facts.cudnn or _NOTHING,
        ARCHITECTURES: _listed(facts.architectures),
        "oldest NVIDIA driver": facts.driver or _NOTHING,
        "NVIDIA driver of this CUDA": facts.driver_release or _NOTHING,
        "needs glibc": facts.glibc or _NOTHING,
        "needs libstdc++": f"GLIBCXX_{facts.libstdcxx}" if facts.libstdcxx else _NOTHING,
        "facts not read": _listed(facts.unread),
        "exceptions": _listed(f"{item.project} {item.sha256} ({item.reason})" for item in lock.exceptions),
    }


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or _NOTHING


def _moves(before: str, after: str) -> str:
    """Say which items of a list came and went."""
    old, new = (text.split(", ") if text != _NOTHING else [] for text in (before, after))
    parts = [f"without {', '.join(gone)}"] if (gone := [item for item in old if item not in new]) else []
    parts += [f"now {', '.join(came)}"] if (came := [item for item in new if item not in old]) else []
    return "; ".join(parts)


def _json(artifact: Artifact) -> dict[str, Any]:
    return {
        "version": artifact.version,
        "filename": artifact.filename,
        "sha256": artifact.sha256.hex,
        "size": artifact.size,
        "upload-time": artifact.upload_time,
        "index": artifact.index,
    }


def _json_total(lock: Lock) -> dict[str, Any]:
    unknown = [item.project for item in lock.artifacts if item.size is None]
    return {"bytes": sum(item.size or 0 for item in lock.artifacts), "unknown": unknown}


def _total(lock: Lock) -> str:
    known = _json_total(lock)
    unknown = f" and {', '.join(known['unknown'])} of unknown size" if known["unknown"] else ""
    return f"{_megabytes(known['bytes'])}{unknown}"


def _megabytes(count: int, sign: str = "") -> str:
    return f"{count / 1_000_000:{sign}.2f} MB"
