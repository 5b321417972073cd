"""Reports: read strictly, shown as the smoke script shows them, and judged by the script's own words and status."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

import engines
from checks import table
from checks.result import Result
from checks.session import Options, Session
from torchlock.engine.report import Report
from torchlock.errors import SmokeError

FAILING = {"id": "import.torch", "group": "import", "status": "fail", "detail": "no", "remedy": "make env-cpu"}


def report(**changes: Any) -> Report:
    """Read the report with some of its keys changed."""
    return Report.read(json.dumps(engines.REPORT | changes).encode(), "a report")


def test_the_table_is_the_smoke_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes as a session in this process would print, its versions and its machine those of the report."""
    session = Session(
        options=Options(variant="cpu"),
        modules={"numpy": "1.26.4", "torch": "2.2.2"},
        device=engines.REPORT["device"],
    )
    session.add(
        Result(id="import.numpy", status="pass", detail="1.26.4"),
        Result(id="device.cuda.driver", status="not run", detail="no NVIDIA driver"),
    )
    document = session.to_dict() | {
        "lock": engines.REPORT["lock"],
        "versions": engines.REPORT["versions"] | {"python": "3.99"},
    }
    document["platform"] = {"system": "linux", "machine": "aarch64"}
    found = Report.read(json.dumps(document).encode(), "a report").table()
    monkeypatch.setattr(Session, "to_dict", lambda _: document)
    assert found == table.render(session)
    assert found.startswith("Python 3.99, numpy 1.26.4, torch 2.2.2, built for cpu, linux aarch64\n")
    assert found.endswith("\nsmoke passed: 1 pass, 1 not run\n")


def test_it_is_kept_as_it_was_printed() -> None:
    """JSON=1 prints what the script itself would."""
    assert report().to_json() == json.dumps(engines.REPORT, indent=2, sort_keys=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "a report: schema: 2; expected 1"),
        ({"lock": None}, "a report: lock: nothing; expected a text"),
        ({"lock": "sha256:1"}, "a report: lock: 'sha256:1'; expected sha256: and 64 lower-case hexadecimal digits"),
        ({"status": "good"}, "a report: status: 'good'; expected pass or fail"),
        ({"checks": []}, "a report: a report without checks; expected at least one"),
        ({"checks": [1]}, "a report: checks[0]: 1; expected an object"),
        (
            {"checks": [{"id": "a", "status": "ok"}]},
            "a report: checks[0].status: 'ok'; expected pass or fail or not run",
        ),
    ],
)
def test_what_is_no_report_is_refused(changes: dict[str, Any], message: str) -> None:
    """Nothing is passed on trust: a report of another form says nothing."""
    with pytest.raises(SmokeError) as caught:
        report(**changes)
    assert str(caught.value) == message


def test_other_words_than_json_are_refused() -> None:
    """A container that prints something else has not smoked."""
    with pytest.raises(SmokeError, match=r"^a report: is not JSON \(line 1, column 1\); expected a JSON object$"):
        Report.read(b"hello", "a report")


def test_a_pass_with_status_0_is_good() -> None:
    """Checks that were not run are no failure."""
    report().judge("the image", 0, "make smoke-image-cpu")


def test_failures_are_named_with_the_first_remedy() -> None:
    """The script's own remedy comes before "the same again"."""
    found = report(status="fail", checks=[*engines.REPORT["checks"], FAILING])
    with pytest.raises(SmokeError) as caught:
        found.judge("the image", 1, "make smoke-image-cpu")
    assert str(caught.value) == "the image: 1 of 3 checks failed: import.torch; expected none; try: make env-cpu"


def test_a_pass_that_lists_a_failure_is_none() -> None:
    """The results count, whatever the summary says; a known defect of the build is tolerated."""
    assert not report(checks=[*engines.REPORT["checks"], FAILING]).passed
    assert report(checks=[*engines.REPORT["checks"], FAILING | {"known": "an issue"}]).passed


@pytest.mark.parametrize(("status", "changes"), [(1, {}), (137, {}), (0, {"status": "fail"})])
def test_a_status_that_contradicts_the_report_is_a_failure(status: int, changes: dict[str, Any]) -> None:
    """A script that says "pass" and ends otherwise has not passed, nor one that says "fail" and ends well."""
    with pytest.raises(SmokeError) as caught:
        report(**changes).judge("the image", status, "make smoke-image-cpu")
    assert str(caught.value) == (
        f"the image: the smoke script ended with status {status}, though no check failed; expected status 0;"
        " try: make smoke-image-cpu"
    )


def test_the_report_is_not_changed_by_reading() -> None:
    """What is kept as evidence is what the container said."""
    before = deepcopy(engines.REPORT)
    assert report().document == before
