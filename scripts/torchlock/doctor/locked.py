"""The lock that an environment should equal: found by name or by its own manifest, and held against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from checks import locked as checked
from torchlock.doctor.findings import Evidence, Finding, Remedy, Wanted
from torchlock.environment import manifest
from torchlock.errors import EnvError, LockError, TorchlockError
from torchlock.locks import lock, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlock.doctor.findings import Case
    from torchlock.doctor.patient import Patient
    from torchlock.locks.lock import Lock

SHOWN = 8


def wanted(
    patient: Patient, named: str | None, root: Path, envs: Path, indexes: Mapping[str, str | None]
) -> Wanted | None:
    """Return the lock that is named, or that of the environment's own `torchlock.json`; None where there is neither.

    Raise LockError where the named one cannot be read.
    """
    try:
        own = manifest.read(patient.prefix)
    except EnvError:
        own = None
    if named is None and own is None:
        return None
    if named is not None:
        path = Path(named).expanduser()
        path = path / lock.FILE if path.is_dir() else path
    else:
        assert own is not None  # noqa: S101 - one of the two is there
        path = lock.folder(root, own.profile, own.platform) / lock.FILE
        if not path.is_file():
            return None
    try:
        found = checked.read(path)
    except checked.LockUnreadable as error:
        raise LockError(path, str(error), "a pylock.toml") from error
    strict = _strict(path)
    ours = strict is not None and own is not None and own.profile == strict.profile
    place = ours and own is not None and patient.prefix.resolve() == (envs / own.profile).resolve()
    stale = ours and own is not None and strict is not None and own.lock != str(strict.digest())
    rendering = path.parent / render.REQUIREMENTS
    return Wanted(
        lock=path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
        versions=found.versions,
        requirements=_relative(rendering) if rendering.is_file() else None,
        indexes=_addresses(strict, indexes),
        python=strict.python if strict else "",
        make=f"make env-{own.profile}" if place and own else "",
        stale=f"built from the lock {own.lock}" if stale and own else "",
    )


def _strict(path: Path) -> Lock | None:
    """Return a lock that torchlock wrote, None for one of another tool."""
    try:
        return lock.read(path, path.parent)
    except TorchlockError:
        return None


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _addresses(found: Lock | None, indexes: Mapping[str, str | None]) -> tuple[str, ...]:
    names = {item.index for item in found.artifacts} if found else set()
    return tuple(address for name in sorted(names) if (address := indexes.get(name)))


def examine(case: Case) -> Iterator[Finding]:
    """Give a finding where the environment is not what its lock says."""
    wanted = case.wanted
    if wanted is None:
        return
    wrong = [
        f"{name} is {case.version(name) or 'not installed'}, locked {version}"
        for name, version in sorted(wanted.versions.items())
        if not _equal(case.version(name), version)
    ]
    known = {*wanted.versions, *checked.INSTALLERS}
    extra = sorted(item.named for name, item in case.packages.items() if name not in known and item.info)
    other = bool(wanted.python) and wanted.python != case.patient.minor
    if not wrong and not extra and not wanted.stale and not other:
        return
    parts = [f"{len(wrong)} of its {len(wanted.versions)} packages differ"] if wrong else []
    parts += [f"{len(extra)} packages are not in it"] if extra else []
    parts += [f"it is for Python {wanted.python}"] if other else []
    parts += ["it has changed since the environment was built"] if wanted.stale and not parts else []
    site = str(case.patient.sites[0]) if case.patient.sites else str(case.patient.prefix)
    evidence = [Evidence(where=site, mark=text) for text in wrong[:SHOWN]]
    evidence += [Evidence(where=site, mark=f"{len(wrong) - SHOWN} more differ")] if len(wrong) > SHOWN else []
    if extra:
        rest = f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else ""
        evidence.append(Evidence(where=site, mark=f"not in the lock: {', '.join(extra[:SHOWN])}{rest}"))
    evidence += [Evidence(where=str(case.patient.prefix / manifest.FILE), mark=wanted.stale)] if wanted.stale else []
    able = bool(wanted.make) or (wanted.requirements is not None and not other)
    advice = "" if able else "write the lock's requirements.txt beside it (make lock), or install it with its own tool"
    advice = f"make an environment of Python {wanted.python} from the lock" if other else advice
    yield Finding(
        id="lock-differs",
        what=f"the environment is not that of {wanted.lock}: {', and '.join(parts)}",
        why=_why(case, wanted),
        evidence=tuple(evidence),
        remedy=Remedy(whole=True) if able else Remedy(advice=advice),
        explains=("torch-missing", "numpy-missing", "shared-library"),
        packages=tuple(name for name, version in wanted.versions.items() if not _equal(case.version(name), version)),
    )


def _why(case: Case, wanted: Wanted) -> str:
    """Return the reason; that of a wrong build of torch first."""
    locked, found = wanted.versions.get("torch", ""), case.facts.get("torch")
    cuda = found.cuda if found else None
    if "+cpu" in locked and cuda:
        same = locked.partition("+")[0] == case.version("torch").partition("+")[0]
        return f"the CUDA {cuda} build of torch is installed where the lock names the CPU build {locked}" + (
            ": they have one version number, and come from different indexes" if same else ""
        )
    if "torch" in wanted.versions and "+cpu" in case.version("torch") and "+cpu" not in locked:
        return f"the CPU build of torch is installed where the lock names {locked}, another build"
    return "something was installed, upgraded or removed after the environment was built, or it was built otherwise"


def _equal(left: str, right: str) -> bool:
    try:
        return Version(left) == Version(right)
    except InvalidVersion:
        return left == right
