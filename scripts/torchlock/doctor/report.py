"""The report of an examination: as text for a person, and as JSON."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from torchlock.doctor import stack
from torchlock.doctor.findings import ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.doctor.examination import Examination
    from torchlock.doctor.findings import Case, Finding

SCHEMA = 1
WIDTH = 118


def text(found: Examination) -> str:
    """Return the report in words: who the patient is, each finding in order, and the one command."""
    lines = [*_head(found.case), ""]
    for number, item in enumerate(found.findings, 1):
        lines += [*_finding(found, number, item), ""]
    errors = sum(item.severity == ERROR for item in found.findings)
    notes = len(found.findings) - errors
    counted = f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}"
    if found.healthy:
        return "\n".join([*lines, f"healthy: nothing is wrong ({notes} note{'s' * (notes != 1)})"])
    if not found.commands:
        return "\n".join([*lines, f"sick: {counted}; no command mends it, see above"])
    lines += [f"sick: {counted}. To mend it:", f"  {found.commands[0]}"]
    return "\n".join([*lines, *(f"  {item}" for item in found.commands[1:])])


def shown(found: Examination, *, as_json: bool) -> str:
    """Return the report, as JSON or in words."""
    return json.dumps(document(found), indent=2, sort_keys=True) if as_json else text(found)


def document(found: Examination) -> dict[str, Any]:
    """Return the report as a JSON value."""
    case, machine = found.case, found.case.machine
    return {
        "schema": SCHEMA,
        "status": "healthy" if found.healthy else "sick",
        "python": {
            "path": str(case.patient.python),
            "version": case.patient.version,
            "prefix": str(case.patient.prefix),
            "kind": case.patient.kind,
            "sites": [str(site) for site in case.patient.sites],
        },
        "lock": case.wanted.lock if case.wanted else None,
        "machine": {
            "driver": machine.driver,
            "cuda": ".".join(map(str, machine.cuda)) if machine.cuda else None,
            "devices": [
                {"name": item.name, "capability": ".".join(map(str, item.capability))} for item in machine.devices
            ],
        },
        "packages": {
            name: {
                "version": item.version,
                "numpy": sorted(case.facts[name].numpy) if name in case.facts else [],
                "compiled": len(item.compiled),
            }
            for name, item in sorted(case.packages.items())
        },
        "imports": [{"step": item.step, "ok": not item.error, "error": item.error} for item in found.trial.attempts],
        "findings": [
            {**item.to_dict(), "command": found.command(item) or None, "advice": item.remedy.advice or None}
            for item in found.findings
        ],
        "command": found.commands[0] if found.commands else None,
        "then": list(found.commands[1:]),
    }


def _head(case: Case) -> Iterator[str]:
    patient = case.patient
    yield f"{patient.python}: Python {patient.version} on {patient.system} {patient.machine}, {patient.kind}"
    cuda = stack.build(case)
    torch = (
        f"torch {case.version('torch')} ({'CUDA ' + cuda if cuda else 'no CUDA'})"
        if "torch" in case.packages
        else "no torch"
    )
    numpy = f"numpy {case.version('numpy')}" if "numpy" in case.packages else "no numpy"
    users = sum(bool(facts.modules) for facts in case.facts.values())
    yield f"  {torch}, {numpy}; {len(case.packages)} packages, {users} of them compiled against NumPy"
    devices = ", ".join(item.named for item in case.machine.devices) or "no NVIDIA GPU"
    yield f"  {devices}{', driver ' + case.machine.driver if case.machine.driver else ''}"
    if case.wanted:
        yield f"  lock: {case.wanted.lock}"


def _finding(found: Examination, number: int, item: Finding) -> Iterator[str]:
    yield from _wrapped(f"{number}. {item.severity} {item.id}: ", item.what, "   ")
    yield from _wrapped("   why:  ", item.why, "         ")
    for evidence in item.evidence:
        yield from _wrapped("   seen: ", f"{evidence.where}: {evidence.mark}", "         ")
    command = found.command(item)
    if command:
        yield f"   mend: {command}"
    if item.remedy.advice:
        yield from _wrapped("   or:   " if command else "   mend: ", item.remedy.advice, "         ")


def _wrapped(first: str, words: str, rest: str) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
