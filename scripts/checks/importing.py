"""The import group: fresh processes, warnings as errors, and a diagnosis of what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checks import locked
from checks.diagnosis import diagnose, diagnose_end, ending
from checks.process import Child, Silence
from checks.result import FAIL, NOT_RUN, PASS, Failed, Result, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checks.locked import LockedSet

# Each probe is one process: numpy alone; torch first, then numpy, then the bridge between them.
PROBES = (("numpy",), ("torch", "bridge"))


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"


def failed_step(identity: str, message: Mapping[str, Any], words: str) -> Result:
    """Turn an import that raised into a failed check with its cause; `words` is the process's standard error."""
    error = str(message["error"])
    known = diagnose(f"{words} {message['trace']}") or diagnose(error)
    return Result(
        id=identity,
        status=FAIL,
        detail=scrub(error)[:600],
        cause=known.cause if known else "not one of the known failures",
        remedy=known.remedy if known else "install the whole lock into an empty environment",
    )


def dead(identity: str, status: int, words: str, doing: str) -> Result:
    """Turn the end of a process that was not done into a failed check."""
    cause, remedy = diagnose_end(status, words)
    detail = f"the process died {doing} ({ending(status)}): {_first_fatal(words)}"
    return Result(id=identity, status=FAIL, detail=scrub(detail)[:600], cause=cause, remedy=remedy)


def _first_fatal(words: str) -> str:
    marks = ("what():", "Fatal Python error", "terminate called", "Illegal instruction")
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    for mark in marks:
        for line in lines:
            if mark in line:
                return line
    return last_line(words)


def silent(identity: str, text: str, doing: str) -> Result:
    """Turn a process that hangs into a failed check."""
    return Result(
        id=identity,
        status=FAIL,
        detail=f"{text} while {doing}; the process was killed",
        cause="it hangs, or this machine is slower than --timeout allows",
        remedy="try again with a longer --timeout",
    )


def probe(patience: float) -> tuple[list[Result], dict[str, Any]]:
    """Import numpy and torch in fresh processes, side by side; return the results and the versions found."""
    results: list[Result] = []
    modules: dict[str, Any] = {}
    with Child({"do": "probe", "steps": PROBES[0]}) as first, Child({"do": "probe", "steps": PROBES[1]}) as second:
        for child, steps in ((first, PROBES[0]), (second, PROBES[1])):
            results += _listen(child, steps, patience, modules)
    return results, modules


def _listen(child: Child, steps: tuple[str, ...], patience: float, modules: dict[str, Any]) -> list[Result]:
    """Follow one probe; the step at which it stops fails, and the ones behind it are not run."""
    results: list[Result] = []
    try:
        for message in child.messages(patience):
            if message["event"] != "step":
                continue
            identity = f"import.{message['step']}"
            if not message["ok"]:
                child.end()
                results.append(failed_step(identity, message, child.words()))
                break
            modules.update({message["step"]: message["version"]} if "version" in message else {})
            modules.update({key: message[key] for key in ("cuda", "build") if key in message})
            results.append(Result(id=identity, status=PASS, detail=message.get("version", "both ways")))
        else:
            if len(results) < len(steps):
                results.append(dead(f"import.{steps[len(results)]}", child.end(), child.words(), "while importing"))
    except Silence as text:
        results.append(silent(f"import.{steps[len(results)]}", str(text), "importing"))
    results += [
        Result(id=f"import.{step}", status=NOT_RUN, detail=f"{results[-1].id} failed") for step in steps[len(results) :]
    ]
    return results


def against_lock(lock: LockedSet | None, found: Mapping[str, str], modules: Mapping[str, Any]) -> list[Result]:
    """Hold what is installed, and what was imported, against the lock."""
    names = ("import.lock.versions", "import.lock.complete", "import.lock.build")
    if lock is None:
        return [Result(id=name, status=NOT_RUN, detail="no --lock was given") for name in names]
    actions: tuple[Callable[[], str], ...] = (
        lambda: locked.versions_equal(lock, found),
        lambda: locked.nothing_else(lock, found),
        lambda: locked.build_equal(lock, modules),
    )
    results = []
    for name, action in zip(names, actions, strict=True):
        if name == names[2] and not {"numpy", "torch"} <= modules.keys():
            results.append(Result(id=name, status=NOT_RUN, detail="numpy or torch could not be imported"))
            continue
        try:
            results.append(Result(id=name, status=PASS, detail=action()))
        except Failed as finding:
            cause = "the environment is not the one that the lock describes"
            remedy = "build it again from the lock (make env-<profile>)"
            results.append(Result(id=name, status=FAIL, detail=str(finding), cause=cause, remedy=remedy))
    return results
