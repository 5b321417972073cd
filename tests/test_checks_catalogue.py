"""The catalogue of checks: complete, stable, within its means, and every conversion check can be sabotaged."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

import checks
from checks import catalogue
from checks.result import FAIL, GROUPS, NOT_RUN, PASS, Failed, Result, demanded, totals
from checks.suite import Check, Lab, Suite, refuses
from sabotages import TABLE, sabotages

FOLDER = Path(checks.__path__[0])
MODULES = sorted(FOLDER.glob("*.py"))


def test_ids_are_unique_and_well_formed() -> None:
    """Every id is `group.words` with an optional `[case]`, and stands there once."""
    assert sum(len(suite.checks) for suite in catalogue.SUITES) == len(catalogue.CHECKS)
    for identity in catalogue.IDS:
        assert re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+(\[[a-z0-9_]+\])?", identity), identity
        assert catalogue.group_of(identity) in GROUPS


def test_every_group_has_checks() -> None:
    """No group is empty, and they come in their order."""
    order = list(dict.fromkeys(catalogue.group_of(identity) for identity in catalogue.ids_of(())))
    assert tuple(order) == GROUPS


@pytest.mark.parametrize(
    "family",
    [
        *(f"conversion.{way}.shares" for way in ("from_numpy", "as_tensor", "asarray", "from_dlpack")),
        *(f"conversion.{way}.shares" for way in ("numpy", "np_asarray", "np_from_dlpack")),
        *(f"conversion.{way}.copies" for way in ("tensor", "asarray_copy", "np_array")),
        "device.cuda.round_trip",
        "saving.torch_save",
    ],
)
def test_every_common_dtype_is_checked(family: str) -> None:
    """Each way between arrays and tensors is checked for all eleven dtypes."""
    names = "bool uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128"
    assert {f"{family}[{name}]" for name in names.split()} <= set(catalogue.IDS)


def test_every_conversion_check_has_a_sabotage() -> None:
    """No conversion check is without a way to break what it checks (tests/e2e proves them with the real thing)."""
    ids = catalogue.ids_of(("conversion",))
    assert [identity for identity in ids if not sabotages(identity)] == []


def test_every_sabotage_belongs_to_a_check() -> None:
    """No entry of the table of sabotages is left over."""
    names = {identity.removeprefix("conversion.") for identity in catalogue.IDS}
    families = {name.partition("[")[0] for name in names}
    assert [name for name in TABLE if name not in names | families] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_import_the_standard_library_and_each_other(path: Path) -> None:
    """No module imports anything but the standard library and `checks`: numpy and torch come with the lab."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.partition(".")[0] in {*sys.stdlib_module_names, "checks"}, f"{path.name} imports {name}"


def test_modules_are_short() -> None:
    """No module grows past 300 lines."""
    assert [path.name for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_a_suite_gives_each_case_an_id() -> None:
    """A function registered over cases runs once for each."""
    suite = Suite("group")

    @suite.check("name", over=("a", "b"), optional=True)
    def function(lab: Lab, case: str) -> str:
        return f"{lab.variant} {case}"

    assert [(check.id, check.optional) for check in suite.checks] == [("group.name[a]", True), ("group.name[b]", True)]
    check: Check = suite.checks[1]
    assert check.run(Lab(torch=None, np=None, variant="cpu")) == "cpu b"


def test_a_refusal_must_be_the_expected_one() -> None:
    """No refusal, another error or another reason is a failure."""

    def raising(error: Exception) -> None:
        raise error

    assert refuses(lambda: raising(TypeError("can't  do it")), TypeError, "can't") == "TypeError: can't do it"
    with pytest.raises(Failed, match=r"^refused for another reason \(TypeError: no\)$"):
        refuses(lambda: raising(TypeError("no")), TypeError, "can't")
    with pytest.raises(Failed, match=r"^refused with ValueError \(can't\)$"):
        refuses(lambda: raising(ValueError("can't")), TypeError, "can't")
    with pytest.raises(Failed, match=r"^not refused: the answer was int '3'$"):
        refuses(lambda: 3, TypeError, "can't")


def test_only_the_required_device_is_demanded() -> None:
    """A demanded device's "not run" becomes a failure; passes, other devices and optional checks stay."""
    waiting = Result(id="device.cuda.pinned", status=NOT_RUN, detail="no driver")
    failed = demanded(waiting, "cuda", frozenset())
    assert (failed.status, failed.detail) == (FAIL, "required, but not run: no driver")
    assert demanded(waiting, "mps", frozenset()) is waiting
    assert demanded(waiting, "cuda", frozenset({"device.cuda.pinned"})) is waiting
    passed = Result(id="device.cuda.pinned", status=PASS)
    assert demanded(passed, "cuda", frozenset()) is passed


def test_totals_count_zeros_too() -> None:
    """Every status is counted."""
    assert totals([Result(id="a.b", status=PASS)]) == {PASS: 1, FAIL: 0, NOT_RUN: 0}


def test_a_result_knows_its_parts() -> None:
    """Group, family and case are read from the id; cause and remedy are left out of the JSON where empty."""
    result = Result(id="saving.np_save[bool]", status=PASS, detail="x")
    assert (result.group, result.family, result.case) == ("saving", "saving.np_save", "bool")
    assert result.to_dict() == {"id": "saving.np_save[bool]", "group": "saving", "status": "pass", "detail": "x"}
