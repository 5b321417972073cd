"""Remedies as commands: what to type so that this very environment is mended, with the installer that it has."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING, TypeVar

import uv
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from torchlock.doctor.findings import ERROR, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torchlock.doctor.findings import Case, Finding
    from torchlock.doctor.patient import Patient

# What conda calls the projects whose names differ there.
Item = TypeVar("Item")
_CONDA_NAMES = {"torch": "pytorch"}


def command(case: Case, remedy: Remedy) -> str:
    """Return the command for one remedy; nothing where no command can do it."""
    return prescribe(case, [remedy])[0] if remedy != Remedy() else ""


def prescription(case: Case, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the commands that mend all errors, the one that an installer runs first; most often it is the only one."""
    return prescribe(case, [item.remedy for item in findings if item.severity == ERROR])


def prescribe(case: Case, remedies: Sequence[Remedy]) -> tuple[str, ...]:
    """Merge remedies into as few commands as can be: one for an installer, and others as they are."""
    installs = [item for item in remedies if item.installs]
    merged = Remedy(
        install=_joined(_union(item.install for item in installs)),
        upgrade=_union(item.upgrade for item in installs),
        reinstall=_union(item.reinstall for item in installs),
        remove=_union(item.remove for item in installs),
        index=next((item.index for item in installs if item.index), ""),
        whole=any(item.whole for item in installs),
    )
    others = _union((item.other,) for item in remedies if item.other)
    made = (_installer(case, merged),) if merged.installs else ()
    return (*others, *made) if case.patient.broken else (*made, *others) or ("",)


def _union(items: Iterable[tuple[Item, ...]]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(part for item in items for part in item))


def _joined(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return one requirement for each project: an exact version, where one is named, or all ranges together."""
    found: dict[str, SpecifierSet] = {}
    for item in map(Requirement, requirements):
        name = canonicalize_name(item.name)
        exact = [each for each in (found.get(name, SpecifierSet()), item.specifier) if str(each).startswith("==")]
        found[name] = exact[0] if exact else found.get(name, SpecifierSet()) & item.specifier
    return tuple(f"{name}{specifier}" for name, specifier in found.items())


def _installer(case: Case, remedy: Remedy) -> str:
    wanted = case.wanted
    if wanted is not None and wanted.make:
        return wanted.make
    if wanted is not None and remedy.whole:
        return _cleared(remedy.remove, _sync(case, remedy))
    if case.patient.conda and not remedy.reinstall and (done := _conda(case, remedy)):
        return done
    return _cleared(remedy.remove, _install(case, remedy))


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _cleared(folders: Sequence[Path], then: str) -> str:
    """Put the removal of folders before a command."""
    if not folders:
        return then
    paths = shlex.join(os.fspath(folder) for folder in folders)
    return f"rm -rf {paths} && {then}"


def _uv() -> str:
    """Return uv as a person can type it: the one on the path, or the one that torchlock has with it."""
    return "uv" if shutil.which("uv") else uv.find_uv_bin()


def _sync(case: Case, remedy: Remedy) -> str:
    wanted = case.wanted
    if wanted is None or wanted.requirements is None:
        raise ValueError("there is no lock with a rendering to take versions from")
    words = [_uv(), "pip", "sync", "--python", os.fspath(case.patient.python)]
    words += ["--break-system-packages"] if case.patient.managed else []
    for index in wanted.indexes:
        words += ["--index", index]
    words += ["--index-strategy", "unsafe-best-match"] if wanted.indexes else []
    for project in remedy.reinstall:
        words += ["--reinstall-package", project] if project in wanted.versions else []
    return shlex.join([*words, os.fspath(wanted.requirements)])


def _install(case: Case, remedy: Remedy) -> str:
    patient = case.patient
    named = {_name(item) for item in remedy.install}
    again = [f"{name}=={case.version(name)}" for name in remedy.reinstall if name not in named]
    requirements = [*remedy.install, *again, *(name for name in remedy.upgrade if name not in named)]
    managed = ["--break-system-packages"] if patient.managed else []
    index = ["--index", remedy.index] if remedy.index else []
    if patient.pip and not remedy.reinstall and not shutil.which("uv") and not patient.broken:
        upgrade = ["--upgrade"] if remedy.upgrade else []
        index = ["--extra-index-url", remedy.index] if remedy.index else []
        return shlex.join(
            [os.fspath(patient.python), "-m", "pip", "install", *managed, *index, *upgrade, *requirements]
        )
    words = [_uv(), "pip", "install", "--python", os.fspath(patient.python), *managed, *index]
    for project in remedy.upgrade:
        words += ["--upgrade-package", project]
    for project in remedy.reinstall:
        words += ["--reinstall-package", project]
    return shlex.join([*words, *requirements])


def _conda(case: Case, remedy: Remedy) -> str:
    """Return conda's command, if it is conda that installed what is to change and it can be run; else nothing."""
    names = [_name(item) for item in (*remedy.install, *remedy.upgrade)]
    owned = [name for name in names if name in case.packages and case.packages[name].installer == "conda"]
    tool = next((name for name in ("conda", "mamba", "micromamba") if shutil.which(name)), None)
    tool = tool or os.environ.get("CONDA_EXE")
    if not tool or owned != names or remedy.index:
        return ""
    specs = []
    for item, name in zip((*remedy.install, *remedy.upgrade), names, strict=True):
        specs.append(_CONDA_NAMES.get(name, name) + item[len(name) :])
    return shlex.join([tool, "install", "--yes", "--prefix", os.fspath(case.patient.prefix), *specs])


def revive(patient: Patient) -> str:
    """Return what gives a virtual environment a Python again and leaves its packages."""
    words = ["venv", "--allow-existing", "--python", patient.minor, os.fspath(patient.prefix)]
    return shlex.join([_uv(), *words])
