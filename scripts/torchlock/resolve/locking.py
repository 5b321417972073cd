"""Locking: from a target's view of the snapshot to its lock and the files derived from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torchlock.errors import ResolveError
from torchlock.files import write_atomic
from torchlock.gate import waivers
from torchlock.locks import render
from torchlock.locks.lock import FILE, Artifact, Lock, folder
from torchlock.platforms import host
from torchlock.resolve import RESOLVERS, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.gate import Gate
    from torchlock.indexes.view import View
    from torchlock.profiles.profile import Target


def resolvers_for(target: Target, wanted: str | None) -> tuple[str, ...]:
    """Return who resolves a target: both on the host's platform (uv first), uv elsewhere, or the wanted one."""
    native = target.platform == host().name
    if wanted is None:
        return ("uv", "pip-tools") if native else ("uv",)
    if wanted not in RESOLVERS:
        raise ResolveError("RESOLVER", f"unknown resolver {wanted!r}", " or ".join(sorted(RESOLVERS)))
    if wanted == "pip-tools" and not native:
        where = f"{target.profile} on {target.platform}"
        raise ResolveError(where, f"pip-tools resolves for this machine only, {host().name}", remedy="RESOLVER=uv")
    return (wanted,)


def make(view: View, url: str, wanted: str | None, gate: Gate, previous: Lock | None) -> Lock:
    """Resolve a target and return its lock; `url` is the simple root that serves the view.

    The gate's declared rules are asked before and after, the facts of the wheels at the end. Where the same inputs
    gave the same artifacts before, a resolver that agreed then is still named: another machine's cross-check is not
    lost. Raise GateError, ResolveError or SnapshotError.
    """
    target = view.target
    gate.before(target)
    resolvers = resolvers_for(target, wanted)
    chosen = resolve(view, url, resolvers)
    gate.after(target, chosen)
    artifacts = tuple(_artifact(view, project, version) for project, version in chosen.items())
    gate.examine(view, artifacts)
    lock = Lock(
        profile=target.profile,
        platform=target.platform,
        python=target.python,
        profile_digest=target.digest(),
        snapshot_digest=view.digest(chosen),
        resolvers=resolvers,
        artifacts=artifacts,
        facts=gate.summary(target.platform, artifacts),
        exceptions=waivers(target, artifacts),
    )
    if wanted is None and previous is not None and _inputs(previous) == _inputs(lock):
        return replace(lock, resolvers=tuple(sorted({*resolvers, *previous.resolvers})))
    return lock


def write(lock: Lock, root: Path) -> bool:
    """Write a lock and its rendering; return False where both already held these bytes."""
    where = folder(root, lock.profile, lock.platform)
    written = [
        write_atomic(where / FILE, lock.to_toml()),
        write_atomic(where / render.REQUIREMENTS, render.requirements(lock)),
    ]
    return any(written)


def _inputs(lock: Lock) -> tuple[object, ...]:
    return lock.python, lock.profile_digest, lock.snapshot_digest, lock.artifacts


def _artifact(view: View, project: str, version: str) -> Artifact:
    file = view.best(project, version)
    assert file.sha256 is not None  # noqa: S101 - `best` has just made sure
    return Artifact(
        project=project,
        version=version,
        filename=file.name,
        sha256=file.sha256,
        size=file.size,
        upload_time=file.upload_time,
        index=view.target.index_of(project),
    )
