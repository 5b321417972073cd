"""The table for people."""

from __future__ import annotations

from checks.result import FAIL, NOT_RUN, PASS, Result
from checks.session import Options, Session
from checks.table import render


def table_of(*results: Result) -> list[str]:
    """Return the lines behind the heading."""
    session = Session(options=Options(), distributions={}, modules={"numpy": "1.26.4", "torch": "2.2.2+cpu"})
    session.add(*results)
    return render(session).splitlines()[1:]


def test_a_family_of_passes_is_one_line() -> None:
    """Passes of one family share a line with their number and cases; a single one shows its detail."""
    assert table_of(
        Result(id="import.numpy", status=PASS, detail="1.26.4"),
        Result(id="conversion.numpy.shares[bool]", status=PASS, detail="x"),
        Result(id="conversion.numpy.shares[int8]", status=PASS, detail="x"),
    ) == [
        "",
        "import: 1 pass",
        "  import.numpy                           pass     1.26.4",
        "",
        "conversion: 2 pass",
        "  conversion.numpy.shares                pass     2: bool int8",
        "",
        "smoke passed: 3 pass",
    ]


def test_failures_are_shown_in_full() -> None:
    """Every failure has its id; those with one finding share it, wrapped and not cut."""
    long = "numpy.dtype size changed, " * 8 + "the end"
    lines = table_of(
        Result(id="saving.np_save[bool]", status=FAIL, detail=long, cause="C", remedy="R"),
        Result(id="saving.np_save[int8]", status=FAIL, detail=long, cause="C", remedy="R"),
        Result(id="saving.np_savez", status=FAIL, detail="other"),
    )
    assert lines[1] == "saving: 3 fail"
    assert lines[2:4] == [
        "  saving.np_save[bool]                   fail",
        "  saving.np_save[int8]                   fail",
    ]
    assert " ".join(" ".join(lines[4:]).split()) == (
        f"found: {long} cause: C remedy: R saving.np_savez fail found: other smoke FAILED: 3 fail"
    )
    assert all(len(line) <= 118 for line in lines)


def test_checks_with_one_reason_not_to_run_share_it() -> None:
    """What does not run is one line for each reason."""
    assert table_of(
        Result(id="device.cuda.pinned", status=NOT_RUN, detail="no driver"),
        Result(id="device.cuda.product[float32]", status=NOT_RUN, detail="no driver"),
        Result(id="device.mps.bandwidth", status=NOT_RUN, detail="no MPS"),
    )[1:-2] == [
        "device: 3 not run",
        "  device.cuda.* (2 checks)               not run",
        "      no driver",
        "  device.mps.bandwidth                   not run",
        "      no MPS",
    ]


def test_the_heading_names_the_versions() -> None:
    """The first line names Python, numpy, torch and the platform; what was not imported says so."""
    session = Session(options=Options(), distributions={}, modules={"numpy": "1.26.4"})
    assert ", numpy 1.26.4, torch not imported, " in render(session).splitlines()[0]


def test_the_table_is_plain_ascii() -> None:
    """Nothing of the table's own needs more than ASCII."""
    assert "\n".join(table_of(Result(id="import.numpy", status=PASS))).isascii()
