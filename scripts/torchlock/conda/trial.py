"""Trials of conda environments: the smoke script is run in one, and what it saw is held against the lock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchlock import files
from torchlock.conda import prefix
from torchlock.environment import trial
from torchlock.environment.manifest import name_of
from torchlock.environment.trial import Evidence
from torchlock.errors import CondaError, SmokeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.conda.document import CondaLock
    from torchlock.profiles.conda import CondaTarget
    from torchlock.reporter import Reporter

_TORCH, _NUMPY = "pytorch", "numpy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """How to run the script: the device that must be there, JSON instead of the table, and another script."""

    require: str | None = None
    as_json: bool = False
    script: Path = trial.SCRIPT


def run(env: Path, lock: CondaLock, target: CondaTarget, wishes: Wishes, reporter: Reporter) -> Evidence:
    """Run the smoke script in a conda environment, and return its evidence, which is kept there.

    The script prints for itself. Raise SmokeError, the evidence kept all the same, where a check failed or where numpy,
    torch or CUDA are others than the lock's; and where the script could not finish, which leaves no evidence.
    """
    where, again = name_of(env), f"make conda-env-{target.profile}"
    if not env.is_dir():
        raise CondaError(where, "there is no such environment yet", remedy=again)
    known = prefix.read_manifest(env)
    if known.lock != str(lock.digest):
        raise CondaError(where, "it was built from another lock", str(lock.digest), again)
    files.remove(env / trial.FILE)
    options = ["--variant", target.variant]
    options += ["--require-device", wishes.require] if wishes.require else []
    options += ["--json"] if wishes.as_json else []
    status, found = trial.report(env / "bin" / "python", wishes.script, options, CondaError, again)
    if found is None:
        ended = f"the smoke script ended with status {status} before it could report"
        raise SmokeError(where, ended, "a report", again)
    differences = against(lock, target, found)
    evidence = Evidence(
        profile=known.profile,
        platform=known.platform,
        lock=known.lock,
        status="fail" if differences else found["status"],
        device=found["device"],
        smoke=found,
    )
    evidence.write(env)
    trial.judge(where, found, again)
    if differences:
        raise SmokeError(where, differences[0], "what the lock says", again)
    reporter.note(f"the evidence of this run is in {where}/{trial.FILE}")
    return evidence


def against(lock: CondaLock, target: CondaTarget, found: Mapping[str, Any]) -> list[str]:
    """List where the versions that the script saw are not those of the lock (conda-forge adds a `.post` to torch's)."""
    locked = {item.name: item.version for item in lock.packages(target.platform)}
    seen = {_NUMPY: found["versions"]["numpy"], _TORCH: found["versions"]["torch"]}
    return [
        f"{name} is {version}, locked {locked.get(name, 'not at all')}"
        for name, version in sorted(seen.items())
        if re.sub(r"(\.post\d+)?(\+.*)?$", "", str(version)) != locked.get(name)
    ]
