"""Evidence: an in-toto statement about one digest, in which only what was run and passed is passed."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

import engines
from torchlock.digest import Digest
from torchlock.engine import evidence
from torchlock.engine.evidence import Evidence, Subject
from torchlock.engine.report import Report
from torchlock.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE, LOCK = Digest.of(b"image"), str(Digest.of(b"lock"))
SUBJECT = Subject(name="torch2.2-cpu-linux-64", platform="linux-64", image=IMAGE, lock=LOCK)
FAILING = {"id": "import.torch", "group": "import", "status": "fail", "detail": "no"}
PASSING = engines.REPORT["checks"][0]


def made(*checks: dict[str, Any], **changes: Any) -> Evidence:
    """Make the evidence of a report with these checks."""
    document = engines.REPORT | ({"checks": list(checks)} if checks else {}) | changes
    return evidence.of(SUBJECT, Report.read(json.dumps(document).encode(), "a report"))


def test_it_speaks_of_the_image_by_its_digest() -> None:
    """Subject, lock and kinds are those of the specifications; report, device and versions lie in it."""
    found = made()
    document = json.loads(found.to_json())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert document["subject"] == [{"name": SUBJECT.name, "digest": {"sha256": IMAGE.hex}}]
    lock, report = document["predicate"]["configuration"]
    assert lock == {
        "name": "pylock.toml",
        "digest": {"sha256": Digest.of(b"pylock.toml").hex},
        "annotations": {"dev.torchlock.lock": LOCK, "dev.torchlock.platform": "linux-64"},
    }
    content = base64.b64decode(report["content"])
    assert json.loads(content) == engines.REPORT
    assert report["digest"] == {"sha256": Digest.of(content).hex}
    assert report["annotations"]["device"] == engines.REPORT["device"]
    assert report["annotations"]["versions"] == {"python": "3.11.2", "numpy": "1.26.4", "torch": "2.2.2"}


@pytest.mark.parametrize(
    ("checks", "result", "lists"),
    [
        ([PASSING], "PASSED", (["import.numpy"], [], [])),
        (engines.REPORT["checks"], "WARNED", (["import.numpy"], ["device.cuda.driver"], [])),
        ([PASSING, FAILING | {"known": "an issue"}], "WARNED", (["import.numpy"], ["import.torch"], [])),
        ([PASSING, FAILING], "FAILED", (["import.numpy"], [], ["import.torch"])),
    ],
    ids=["all", "not run", "known defect", "failure"],
)
def test_not_run_is_not_passed(checks: list[dict[str, Any]], result: str, lists: tuple[list[str], ...]) -> None:
    """What did not run, or failed as this build is known to, is warned of; a failure is a failure."""
    found = made(*checks)
    predicate = found.document["predicate"]
    assert (found.result, predicate["result"]) == (result, result)
    assert tuple(predicate[key] for key in ("passedTests", "warnedTests", "failedTests")) == lists
    assert found.annotations["dev.torchlock.result"] == result


def test_a_run_that_says_fail_without_a_failure_is_failed() -> None:
    """The script's own verdict can only make it worse."""
    assert made(status="fail").result == "FAILED"


def test_it_is_the_same_bytes_for_the_same_run(tmp_path: Path) -> None:
    """No clock, user or host: written twice, it is one file, which reads back as what it was."""
    place = tmp_path / "evidence.json"
    made().write(place)
    first = place.read_bytes()
    made().write(place)
    assert place.read_bytes() == first == made().to_json() + b"\n"
    assert evidence.read(place) == made()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("_type", "x", "_type: 'x'; expected https://in-toto.io/Statement/v1"),
        ("predicateType", "x", "predicateType: 'x'; expected https://in-toto.io/attestation/test-result/v0.1"),
        ("subject", [], "subject: 0 subjects; expected one"),
        ("subject", [{"digest": {"sha256": "A"}}], "subject[0].digest.sha256: not a sha256 of 64 lower-case"),
        ("predicate", {"result": "GOOD"}, "predicate.result: 'GOOD'; expected PASSED, WARNED or FAILED"),
    ],
)
def test_another_document_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    """A file in its place that does not say what it must is not attached to an image."""
    place = tmp_path / "evidence.json"
    place.write_text(json.dumps({**made().document, key: value}))
    with pytest.raises(ImageError) as caught:
        evidence.read(place)
    assert str(caught.value).startswith(f"{place}: {message}")


def test_evidence_that_is_not_there(tmp_path: Path) -> None:
    """It says what would be there."""
    with pytest.raises(ImageError, match="No such file or directory; expected the evidence of a smoke run"):
        evidence.read(tmp_path / "evidence.json")
