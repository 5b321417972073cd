"""The table for people: one line for a family of checks, every failure in full."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from checks.result import FAIL, GROUPS, NOT_RUN, PASS, Result, totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.session import Session

WIDTH = 118
NAME = 38


def counts(results: Sequence[Result]) -> str:
    """Say how many of each status there are, leaving zeros out."""
    return ", ".join(f"{number} {status}" for status, number in totals(results).items() if number) or "nothing"


def heading(session: Session) -> str:
    """Name the versions, the platform and the build."""
    facts = session.to_dict()
    versions, where = facts["versions"], facts["platform"]
    build = f", built for {session.device['build']}" if session.device else ""
    return (
        f"Python {versions['python']}, numpy {versions['numpy'] or 'not imported'}, torch"
        f" {versions['torch'] or 'not imported'}{build}, {where['system']} {where['machine']}"
    )


def _row(name: str, status: str, detail: str) -> str:
    short = textwrap.shorten(detail, WIDTH - NAME - 12, placeholder=" ...") if detail else ""
    return f"  {name:<{NAME}} {status:<8} {short}".rstrip()


def _fill(text: str, lead: str) -> str:
    follow = " " * len(lead)
    return textwrap.fill(
        text, WIDTH, initial_indent=lead, subsequent_indent=follow, break_on_hyphens=False, break_long_words=False
    )


def _failures(results: Sequence[Result]) -> Iterator[str]:
    """Give every failure by its id; those with one finding share what is said about it."""
    findings: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in results:
        findings.setdefault((result.detail, result.cause, result.remedy, result.known), []).append(result)
    for (detail, cause, remedy, known), those in findings.items():
        yield from (f"  {result.id:<{NAME}} {FAIL}" for result in those)
        for label, text in (("found", detail), ("cause", cause), ("remedy", remedy), ("known", known)):
            if text:
                yield _fill(text, f"      {label + ':':<8}")


def _family(name: str, results: Sequence[Result]) -> Iterator[str]:
    """Give one line for the passes of a family."""
    passed = [result for result in results if result.status == PASS]
    if len(passed) == 1:
        yield _row(passed[0].id, PASS, passed[0].detail)
    elif passed:
        yield _row(name, PASS, f"{len(passed)}: {' '.join(result.case for result in passed)}")


def _not_run(results: Sequence[Result]) -> Iterator[str]:
    """Give one line for all checks that share a reason not to run."""
    reasons: dict[str, list[Result]] = {}
    for result in results:
        reasons.setdefault(result.detail, []).append(result)
    for reason, those in reasons.items():
        name = those[0].id if len(those) == 1 else f"{_common(those)} ({len(those)} checks)"
        yield f"  {name:<{NAME}} {NOT_RUN}"
        yield _fill(reason, " " * 6)


def _common(results: Sequence[Result]) -> str:
    """Return the words that all ids begin with."""
    split = [result.family.split(".") for result in results]
    shared = [parts[0] for parts in zip(*split, strict=False) if len(set(parts)) == 1]
    return ".".join([*shared, "*"])


def render(session: Session) -> str:
    """Return the whole table."""
    results = session.results
    lines = [heading(session)]
    for group in GROUPS:
        inside = [result for result in results if result.group == group]
        if not inside:
            continue
        lines += ["", f"{group}: {counts(inside)}"]
        for name, family in groupby(inside, key=lambda result: result.family):
            lines += _family(name, list(family))
        lines += _failures([result for result in inside if result.status == FAIL])
        lines += _not_run([result for result in inside if result.status == NOT_RUN])
    verdict = "passed" if session.passed else "FAILED"
    known = sum(bool(result.known) for result in results)
    note = f" ({known} known defect of this build)" if known else ""
    return "\n".join([*lines, "", f"smoke {verdict}: {counts(results)}{note}"]) + "\n"
