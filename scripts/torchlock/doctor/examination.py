"""The examination: read what is installed, then import it, and say in order what is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchlock.doctor import abi, distributions, gpu, imports, integrity, locked, machine, remedies, stack
from torchlock.doctor.findings import ERROR, Case, Evidence, Finding, Remedy
from torchlock.doctor.patient import Patient, find, usual
from torchlock.errors import TorchlockError
from torchlock.facts import read
from torchlock.facts.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlock.doctor.distributions import Distribution
    from torchlock.doctor.imports import Trial
    from torchlock.doctor.machine import Machine
    from torchlock.profiles.profile import Catalogue
    from torchlock.profiles.rules import Rules
    from torchlock.reporter import Reporter

# The causes before what follows from them; within one rank as they were found.
ORDER = (
    "python-broken",
    "numpy-missing",
    "torch-missing",
    "shadowed",
    "mixed-versions",
    "files-changed",
    "lock-differs",
    "numpy-abi",
    "cuda-libraries-missing",
    "cuda-libraries-mixed",
    "glibc",
    "cpu-build-with-gpu",
    "driver-old",
    "gpu-architecture",
    "openmp-twice",
    "import-fails",
    "driver-behind",
    "driver-missing",
    "cuda-generations",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What was found in a case, causes first, and the commands that mend all errors, the main one first."""

    case: Case
    findings: tuple[Finding, ...]
    trial: Trial
    commands: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Return whether nothing is wrong; notes do not count."""
        return not any(item.severity == ERROR for item in self.findings)

    def command(self, finding: Finding) -> str:
        """Return what mends one finding alone."""
        return remedies.command(self.case, finding.remedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class Doctor:
    """Who examines, and knows the project: its folder, its environments, its profiles and its rules."""

    root: Path
    envs: Path
    catalogue: Catalogue
    rules: Rules
    reporter: Reporter

    def examine(self, python: str | None, lock: str | None = None, here: Machine | None = None) -> Examination:
        """Examine an environment, of whatever making; raise EnvError where there is none, LockError for a bad lock."""
        patient = find(python or usual(self.envs, self._profiles()))
        case = self._case(patient, lock, here or machine.look())
        changed = integrity.issues(case.installed, self.reporter)
        found = [*_reading(case, changed)]
        trial = imports.Trial()
        if not patient.broken:
            trial = imports.run(patient.python, imports.steps(case), self.reporter)
            found = [_confirmed(item, trial) for item in found]
            found += [*imports.openmp(case, trial)]
            found += [*imports.examine(case, trial, found)]
        found.sort(key=lambda item: (item.severity != ERROR, ORDER.index(item.id)))
        return Examination(case=case, findings=tuple(found), trial=trial, commands=_commands(case, found))

    def _case(self, patient: Patient, lock: str | None, here: Machine) -> Case:
        installed = distributions.read(patient.sites)
        packages = distributions.first(installed)
        return Case(
            patient=patient,
            installed=installed,
            packages=packages,
            facts={name: _facts(item) for name, item in packages.items() if item.compiled},
            machine=here,
            rules=self.rules,
            wanted=locked.wanted(patient, lock, self.root, self.envs, self.catalogue.indexes),
            pins=self._pins(patient, packages["numpy"].version if "numpy" in packages else ""),
        )

    def _profiles(self) -> list[str]:
        """Return the names of the profiles, those of the default line first."""
        found = self.catalogue.profiles.values()
        return [item.name for item in sorted(found, key=lambda item: item.line != self.catalogue.default_line)]

    def _pins(self, patient: Patient, numpy: str) -> tuple[str, ...]:
        """Return the public versions of the first line for the patient's Python, and for its NumPy if one has that."""
        found = []
        for name in self._profiles():
            target = self.catalogue.profiles[name].targets[0]
            pins = [item.partition("+")[0] for item in target.requirements]
            pins = [item for item in pins if item.startswith(("torch==", "numpy=="))]
            if target.python == patient.minor and len(pins) == 2:
                found.append(tuple(pins))
        major = f"numpy=={numpy.partition('.')[0]}."
        fitting = [pins for pins in found if numpy and any(item.startswith(major) for item in pins)]
        return next(iter(fitting or found), ())


def _commands(case: Case, found: Sequence[Finding]) -> tuple[str, ...]:
    """Return what mends all errors; while a package is hidden, nothing that is installed helps."""
    hidden = [item.remedy.other for item in found if item.id == "shadowed" and item.remedy.other]
    if hidden:
        return tuple(hidden[:1])
    return tuple(item for item in remedies.prescription(case, found) if item)


def _facts(item: Distribution) -> Facts:
    try:
        return read.of_folder(item.site, [item.site / path for path in (*item.compiled, stack.VERSION_FILE)])
    except (OSError, TorchlockError):
        return Facts()


def _reading(case: Case, changed: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Give what the files tell, nothing imported."""
    if case.patient.broken:
        yield _broken(case.patient)
    yield from abi.missing(case)
    yield from _torch_missing(case)
    yield from _shadowed(case)
    yield from integrity.examine(case, changed)
    yield from locked.examine(case)
    yield from abi.examine(case)
    yield from stack.libraries(case)
    yield from gpu.examine(case)
    yield from stack.glibc(case)


def _broken(patient: Patient) -> Finding:
    return Finding(
        id="python-broken",
        what=f"its Python does not start: {patient.broken}",
        why="a virtual environment borrows the Python that it was made with: that one was moved, upgraded or removed",
        evidence=(
            Evidence(where=str(patient.python), mark=patient.broken),
            Evidence(where=str(patient.prefix / "pyvenv.cfg"), mark=f"made with Python {patient.version}"),
        ),
        remedy=Remedy(other=remedies.revive(patient)),
    )


def _torch_missing(case: Case) -> Iterator[Finding]:
    if "torch" in case.packages:
        return
    numpy = case.version("numpy")
    same = any(item == f"numpy=={numpy}" for item in case.pins)
    specs = case.pins or ("torch", "numpy")
    yield Finding(
        id="torch-missing",
        what="torch is not installed",
        why="nothing of that name lies where this Python looks"
        + ("" if same or not numpy else f"; numpy {numpy} is there"),
        evidence=tuple(Evidence(where=str(site), mark="holds no torch") for site in case.patient.sites),
        remedy=Remedy(install=specs),
        explains=("torch-missing",),
        packages=("torch",),
    )


def _shadowed(case: Case) -> Iterator[Finding]:
    """Report a file or folder that hides torch or NumPy: it comes before them on the path."""
    for project in ("numpy", "torch"):
        item = next((each for each in reversed(case.installed) if each.project == project), None)
        before = case.patient.path[: case.patient.path.index(item.site)] if item else ()
        hiding = (path for folder in before for path in (folder / project, folder / f"{project}.py") if path.exists())
        place = next(hiding, None)
        if place is not None and item is not None:
            named = os.path.realpath(place.parent) in map(
                os.path.realpath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            )
            yield Finding(
                id="shadowed",
                what=f"{place} hides {item.named}",
                why="Python takes the first of that name on its path",
                evidence=(
                    Evidence(where=str(place), mark=f"comes before {item.site} on sys.path"),
                    *([Evidence(where="PYTHONPATH", mark=os.environ["PYTHONPATH"])] if named else []),
                ),
                remedy=Remedy(other="unset PYTHONPATH")
                if named
                else Remedy(advice=f"take {place} away, or its folder out of the .pth file that names it"),
                explains=("shadowed",),
                packages=(project,),
            )


def _confirmed(finding: Finding, trial: Trial) -> Finding:
    """Add what the imports showed of a finding."""
    seen = [
        Evidence(where=item.words, mark=item.error)
        for item in trial.failed
        if item.known in finding.explains or item.step in finding.packages
    ]
    return replace(finding, evidence=(*finding.evidence, *seen[:2]))
