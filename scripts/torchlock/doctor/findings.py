"""Findings: what is wrong, why, how it is known, and what mends it; and the case that they are found in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.doctor.distributions import Distribution
    from torchlock.doctor.machine import Machine
    from torchlock.doctor.patient import Patient
    from torchlock.facts.facts import Facts
    from torchlock.profiles.rules import Rules

ERROR, NOTE = "error", "note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Where something was seen, a file or a process, and the mark that was seen there."""

    where: str
    mark: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """What would mend a finding; `remedies` turns one or several into a command for this patient.

    `install` are requirements, `reinstall` projects whose files must be written anew, `remove` folders to clear before
    that. `whole` is the lock as a whole. `other` is a command that is no installer's, `advice` words where none helps.
    """

    install: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    reinstall: tuple[str, ...] = ()
    remove: tuple[Path, ...] = ()
    index: str = ""
    whole: bool = False
    other: str = ""
    advice: str = ""

    @property
    def installs(self) -> bool:
        """Return whether an installer is to do it."""
        return bool(self.install or self.upgrade or self.reinstall or self.remove or self.whole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong (`error`) or worth knowing (`note`); `id` is one of the order in `examination`."""

    id: str
    what: str
    why: str
    evidence: tuple[Evidence, ...]
    severity: str = ERROR
    remedy: Remedy = field(default_factory=Remedy)
    # The names in the smoke script's table of diagnoses that this finding explains, and the packages it is about.
    explains: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, but for the command, which depends on the patient."""
        return {
            "id": self.id,
            "severity": self.severity,
            "what": self.what,
            "why": self.why,
            "evidence": [{"where": item.where, "mark": item.mark} for item in self.evidence],
            "packages": list(self.packages),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The lock that the environment should equal: versions by project, and how to make it so.

    `lock` is the file as a person would name it, `requirements` its rendering beside it, if there is one. `indexes` are
    the addresses beside the default one. `make` is the goal that builds it anew, for an environment of this checkout.
    """

    lock: str
    versions: Mapping[str, str]
    requirements: Path | None
    indexes: tuple[str, ...] = ()
    python: str = ""
    make: str = ""
    stale: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """All that is known before anything is imported."""

    patient: Patient
    installed: tuple[Distribution, ...]
    packages: Mapping[str, Distribution]
    facts: Mapping[str, Facts]
    machine: Machine
    rules: Rules
    wanted: Wanted | None = None
    # The pins of the line that suits the patient's Python, for one that has no torch at all.
    pins: tuple[str, ...] = ()

    def version(self, project: str) -> str:
        """Return an installed version, or nothing."""
        return self.packages[project].version if project in self.packages else ""
