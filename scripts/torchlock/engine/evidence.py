"""Evidence: a smoke run as an in-toto statement about the image that it ran in, by the digest of its manifest."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks.result import PASS
from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci.document import canonical, parsed, refuse, shown, take

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.engine.report import Report

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What was smoked: an image by the digest of its manifest, and what it is called.

    `lock` is the digest of its lock as torchlock counts it; the file's own is in the smoke report.
    """

    name: str
    platform: str
    image: Digest
    lock: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A statement as JSON. `image` is the digest that it speaks of, `result` PASSED, WARNED or FAILED."""

    document: Mapping[str, Any]
    image: Digest
    result: str

    def to_json(self) -> bytes:
        """Return the statement in its one form."""
        return canonical(self.document)

    def write(self, path: Path) -> None:
        """Keep the statement in a file."""
        files.write_atomic(path, self.to_json() + b"\n")

    @property
    def annotations(self) -> dict[str, str]:
        """What a list of referrers says of this statement."""
        return {"in-toto.io/predicate-type": PREDICATE, "dev.torchlock.result": self.result}


def of(subject: Subject, report: Report) -> Evidence:
    """Make the statement of a run (in-toto Statement v1, test-result v0.1).

    A check that was not run, and a failure that is a known defect of the build, are among the warned tests: a run that
    has any is WARNED, never PASSED. The smoke report lies in it whole.
    """
    failed = [item.id for item in report.failed]
    passed = [item.id for item in report.checks if item.status == PASS]
    warned = sorted({item.id for item in report.checks} - {*passed, *failed})
    result = FAILED if failed or not report.passed else WARNED if warned else PASSED
    document = {
        "_type": STATEMENT,
        "subject": [{"name": subject.name, "digest": {"sha256": subject.image.hex}}],
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": [
                {
                    "name": "pylock.toml",
                    "digest": {"sha256": report.lock.hex},
                    "annotations": {"dev.torchlock.lock": subject.lock, "dev.torchlock.platform": subject.platform},
                },
                _report(report),
            ],
            "passedTests": sorted(passed),
            "warnedTests": warned,
            "failedTests": sorted(failed),
        },
    }
    return Evidence(document=document, image=subject.image, result=result)


def read(path: Path) -> Evidence:
    """Read a statement that was kept; raise ImageError for anything else."""
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(where, str(error.strerror or error), "the evidence of a smoke run") from error
    value, place = parsed(data, where), f"{where}: "
    for key, expected in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if (found := take(value, key, str, place)) != expected:
            refuse(f"{place}{key}", shown(found), expected)
    subjects = take(value, "subject", list, place)
    if len(subjects) != 1 or not isinstance(subjects[0], dict):
        refuse(f"{place}subject", f"{len(subjects)} subjects", "one")
    digest = take(take(subjects[0], "digest", dict, f"{place}subject[0]."), "sha256", str, f"{place}subject[0].digest.")
    result = take(take(value, "predicate", dict, place), "result", str, f"{place}predicate.")
    if result not in {PASSED, WARNED, FAILED}:
        refuse(f"{place}predicate.result", shown(result), f"{PASSED}, {WARNED} or {FAILED}")
    try:
        return Evidence(document=value, image=Digest(digest), result=result)
    except ValueError as error:
        raise ImageError(f"{place}subject[0].digest.sha256", str(error)) from error


def _report(report: Report) -> dict[str, Any]:
    """Return the report as a resource: its bytes, and in annotations what a person asks first."""
    data = canonical(report.document)
    document = report.document
    versions = {key: document["versions"].get(key) for key in ("python", "numpy", "torch")}
    return {
        "name": "smoke.json",
        "mediaType": "application/json",
        "digest": {"sha256": Digest.of(data).hex},
        "content": base64.b64encode(data).decode(),
        "annotations": {"device": document["device"], "machine": document["platform"], "versions": versions},
    }
