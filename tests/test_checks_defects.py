"""Known defects of released builds."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from checks import catalogue, defects
from checks.result import FAIL, PASS, Result
from checks.session import Options, Session
from checks.table import render

if TYPE_CHECKING:
    import pytest

VDOT = Result(id="operators.matmul[vdot]", status=FAIL, detail="0")
HERE = ("2.4.1", "linux", "aarch64")


def test_every_defect_names_real_checks() -> None:
    """A defect names checks that there are, and says cause, remedy and source."""
    for defect in defects.DEFECTS:
        assert set(defect.ids) <= set(catalogue.ids_of(()))
        assert defect.cause
        assert defect.remedy
        assert defect.source


def test_only_this_build_is_excused() -> None:
    """A failure is known in the build that has the defect and in no other, and a pass stays a pass."""
    assert defects.recognise(VDOT, *HERE).known
    assert defects.recognise(VDOT, "2.4.1+cpu", "linux", "aarch64").known
    passed = Result(id=VDOT.id, status=PASS)
    assert defects.recognise(passed, *HERE) is passed
    for elsewhere in [("2.2.2", "linux", "aarch64"), ("2.4.1", "linux", "x86_64"), (None, "linux", "aarch64")]:
        assert not defects.recognise(VDOT, *elsewhere).known
    other = Result(id="operators.matmul[int64]", status=FAIL)
    assert not defects.recognise(other, *HERE).known


def test_a_defect_of_a_release_is_known_on_every_machine() -> None:
    """No torch 2.1 has bool in DLPack, wherever it runs; later ones do."""
    failed = Result(id="conversion.from_dlpack.values[bool]", status=FAIL)
    for system, machine in (("linux", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64")):
        assert defects.recognise(failed, "2.1.2+cu121", system, machine).known
        assert not defects.recognise(failed, "2.2.2", system, machine).known


def test_a_known_defect_is_shown_and_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run passes, but the failure, its source and its remedy are shown, and any other failure still fails it."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    session = Session(options=Options(), distributions={}, modules={"numpy": "2.1.3", "torch": "2.4.1"})
    session.add(VDOT, Result(id="import.numpy", status=PASS))
    text = render(session)
    assert session.passed
    assert "operators.matmul[vdot]                 fail" in text
    assert "known:  pytorch/pytorch#150366" in text
    assert text.endswith("\nsmoke passed: 1 pass, 1 fail (1 known defect of this build)\n")
    assert session.to_dict()["totals"] == {"pass": 1, "fail": 1, "not run": 0}
    assert session.to_dict()["checks"][1]["known"]
    session.add(Result(id="import.torch", status=FAIL))
    assert not session.passed
