"""Imports for real: in a child of the patient's own Python, which may raise, crash or hang and is told about."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.diagnosis import diagnose, diagnose_end, ending
from torchlock.doctor import child
from torchlock.doctor.findings import NOTE, Evidence, Finding, Remedy
from torchlock.doctor.patient import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torchlock.doctor.findings import Case
    from torchlock.reporter import Reporter

SECONDS = 180.0
CRASHES = 4
SOURCE = Path(child.__file__)
BRIDGE, PRODUCT = "bridge()", "product()"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """How one step went: `error` is empty where it went well; `known` names the row of the table of diagnoses."""

    step: str
    error: str = ""
    known: str = ""
    cause: str = ""
    remedy: str = ""

    @property
    def words(self) -> str:
        """Name the step as a person would."""
        return {BRIDGE: "torch.from_numpy(array).numpy()", PRODUCT: "a product of matrices"}.get(
            self.step, f"import {self.step}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """All attempts, and the OpenMP runtimes that the last process had loaded (where the system tells)."""

    attempts: tuple[Attempt, ...] = ()
    openmp: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Attempt, ...]:
        """Return the attempts that did not go well."""
        return tuple(item for item in self.attempts if item.error)


def steps(case: Case) -> tuple[str, ...]:
    """Return what to import: NumPy, torch, the bridge between them, and what else was compiled against NumPy."""
    both = [name for name in ("numpy", "torch") if name in case.packages]
    crossing = [BRIDGE] if len(both) == 2 else []
    product = [PRODUCT] if "torch" in both else []
    others = [
        top
        for project, facts in sorted(case.facts.items())
        if facts.modules and project not in {"numpy", "torch"}
        for top in case.packages[project].tops[:1]
    ]
    return (*both, *crossing, *dict.fromkeys(others), *product)


def run(python: Path, wanted: Sequence[str], reporter: Reporter, seconds: float = SECONDS) -> Trial:
    """Try the steps in one process, in a new one after each crash; nothing that the patient does raises."""
    left = list(wanted)
    attempts: list[Attempt] = []
    openmp: tuple[str, ...] = ()
    for _ in range(CRASHES):
        if not left:
            break
        reporter.note(f"importing {', '.join(step for step in left if not step.endswith(')'))} in {python}")
        done, openmp, whole = _child(python, left, seconds)
        attempts += done
        left = left[len(done) :]
        if whole or not done:
            break
    attempts += [Attempt(step=step, error="not tried: the process died too often") for step in left]
    return Trial(attempts=tuple(attempts), openmp=openmp)


def _child(python: Path, wanted: Sequence[str], seconds: float) -> tuple[list[Attempt], tuple[str, ...], bool]:
    """Run one child; return its attempts, the one that ended it last, and whether it came through."""
    command = [os.fspath(python), "-c", SOURCE.read_text(encoding="utf-8"), json.dumps(list(wanted))]
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command, env=surroundings(), cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                timeout=seconds, check=False,
            )  # fmt: skip
            status: int | None = done.returncode
        except subprocess.TimeoutExpired:
            status = None
        except OSError as error:
            return [Attempt(step=wanted[0], error=f"cannot be run: {error.strerror}")], (), True
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
    messages = _messages(texts[0])
    attempts = [*_ended(messages, texts[1])]
    if len(attempts) == len(wanted) and messages and messages[-1]["event"] == "done":
        return attempts, tuple(messages[-1]["openmp"]), True
    if len(attempts) < len(wanted):
        said = texts[1][messages[-1]["at"] if messages else 0 :].decode("utf-8", "replace")
        attempts.append(_dead(wanted[len(attempts)], status, said, seconds))
    return attempts, (), False


def _messages(output: bytes) -> list[dict[str, Any]]:
    found = []
    for line in output.decode("utf-8", "replace").split("\n"):
        _, mark, text = line.partition(child.MARK)
        try:
            found += [json.loads(text)] if mark else []
        except ValueError:
            continue
    return found


def _ended(messages: Iterable[dict[str, Any]], errors: bytes) -> Iterator[Attempt]:
    """Give the attempts that ended; what was said on standard error meanwhile is part of each."""
    at = 0
    for message in messages:
        if message["event"] != "end":
            continue
        said, at = errors[at : message["at"]].decode("utf-8", "replace"), message["at"]
        found = diagnose(f"{said} {message.get('trace', '')}")
        if message["ok"]:
            # An import may go well and leave a dead bridge: torch only warns.
            dead = found is not None and found.name.startswith("numpy-") and found.name != "numpy-missing"
            line = (
                next((row.strip() for row in said.splitlines() if found and diagnose(row) == found), "") if dead else ""
            )
            yield Attempt(
                step=message["step"],
                error=line or ("NumPy failed to start" if dead else ""),
                known=found.name if dead and found else "",
                cause=found.cause if dead and found else "",
                remedy=found.remedy if dead and found else "",
            )
        else:
            yield Attempt(
                step=message["step"],
                error=message["error"][:400],
                known=found.name if found else "",
                cause=found.cause if found else "not one of the known failures",
                remedy=found.remedy if found else "",
            )


def _dead(step: str, status: int | None, said: str, seconds: float) -> Attempt:
    if status is None:
        return Attempt(step=step, error=f"no end within {seconds:g} s; the process was killed", cause="it hangs")
    cause, remedy = diagnose_end(status, said)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    known = diagnose(said)
    return Attempt(
        step=step,
        error=f"the process died ({ending(status)}){': ' + last[:300] if last else ''}",
        known=known.name if known else "",
        cause=cause,
        remedy=remedy,
    )


def examine(case: Case, trial: Trial, before: Sequence[Finding]) -> Iterator[Finding]:
    """Give a finding for each failure that none of the earlier ones explains."""
    seen: set[str] = set()
    for item in trial.failed:
        if any(_explains(finding, item, case) for finding in before) or (item.known and item.known in seen):
            continue
        if item.step in {BRIDGE, PRODUCT} and any(other.step in {"numpy", "torch"} for other in trial.failed):
            continue
        seen.add(item.known)
        project = _project(case, item.step)
        package = case.packages.get(project)
        again = (
            Remedy(install=(f"{project}=={package.version}",), reinstall=(project,))
            if package and package.version
            else None
        )
        yield Finding(
            id="import-fails",
            what=f"{item.words} fails: {item.error}",
            why=item.cause,
            evidence=(Evidence(where=str(case.patient.python), mark=item.error),),
            remedy=_remedy(item, again),
            packages=(project,),
        )


def _remedy(item: Attempt, again: Remedy | None) -> Remedy:
    if item.known == "numpy-abi-newer":
        return Remedy(upgrade=("numpy",))
    if item.known == "shadowed":
        return Remedy(advice=item.remedy)
    return again or Remedy(advice=item.remedy)


def _explains(finding: Finding, item: Attempt, case: Case) -> bool:
    if finding.severity == NOTE:
        return False
    if item.known and item.known in finding.explains:
        return True
    about = {_project(case, item.step)} | ({"numpy", "torch"} if item.step in {BRIDGE, PRODUCT} else set())
    return bool(about & set(finding.packages))


def _project(case: Case, step: str) -> str:
    """Return the distribution that a step imports."""
    return next(
        (name for name, item in case.packages.items() if step in item.tops), step if step[-1] != ")" else "torch"
    )


def openmp(case: Case, trial: Trial) -> Iterator[Finding]:
    """Give a finding where one process has loaded two OpenMP runtimes: a note, unless it died of it."""
    crashed = [item for item in trial.failed if item.known == "openmp-twice"]
    libraries = sorted({os.path.realpath(path) for path in trial.openmp})
    if len(libraries) < 2 and not crashed:
        return
    names = ", ".join(path.rpartition("/")[2] for path in libraries)
    evidence = [Evidence(where=path, mark="loaded into the process that imported all") for path in libraries]
    evidence += [Evidence(where=str(case.patient.python), mark=item.error) for item in crashed]
    numpy = case.packages.get("numpy")
    wheel = crashed and numpy is not None and numpy.installer == "conda"
    yield Finding(
        id="openmp-twice",
        severity="error" if crashed else NOTE,
        what=f"two OpenMP runtimes are loaded into one process{': ' + names if names else ''}",
        why="each has threads of its own: Intel's and LLVM's abort when they meet, and two of any kind compete for the"
        " processors"
        if crashed
        else "it runs, but each has threads of its own, and they compete for the processors",
        evidence=tuple(evidence),
        remedy=Remedy(install=(f"numpy=={numpy.version}",), reinstall=("numpy",))
        if wheel and numpy
        else Remedy(advice=crashed[0].remedy if crashed else ""),
        explains=("openmp-twice",),
        packages=(),
    )
