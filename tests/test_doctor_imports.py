"""Imports in a child of the patient's Python: what raises, crashes, hangs or only warns is told, and explained once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import clinic
from torchlock.doctor import abi, imports
from torchlock.doctor.imports import Attempt, Trial
from torchlock.facts.facts import Facts, Module
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.doctor.findings import Case

USER = Facts(modules=(Module(path="x.so", numpy="2", kind="elf"),))


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """Return an empty environment."""
    return clinic.venv(tmp_path / "env")


def attempts(env: Path, *steps: str, seconds: float = 30.0) -> dict[str, Attempt]:
    """Try steps in an environment, by their names."""
    found = imports.run(env / "bin" / "python", steps, Silent(), seconds)
    assert [item.step for item in found.attempts] == list(steps)
    return {item.step: item for item in found.attempts}


def test_what_imports_has_no_error(env: Path) -> None:
    """A module that imports is well, whatever it prints and whatever it warns of."""
    code = "import warnings\nwarnings.warn('old')\nprint('noise')\n"
    clinic.install(env, "fine", "1.0", {"fine.py": code})
    assert attempts(env, "fine")["fine"].error == ""


def test_what_raises_is_told_with_its_cause(env: Path) -> None:
    """The text of an exception stands in the attempt, and a known one has the name of its diagnosis."""
    text = (
        "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"
    )
    clinic.install(env, "old", "1.0", {"old.py": f"raise ValueError({text!r})\n"})
    clinic.install(env, "leaving", "1.0", {"leaving.py": "raise SystemExit(7)\n"})
    found = attempts(env, "old", "leaving", "absent_module")
    assert (found["old"].error, found["old"].known) == (f"ValueError: {text}", "numpy-dtype-size-1-on-2")
    assert found["leaving"].error == "SystemExit: 7"
    assert found["absent_module"].error == "ModuleNotFoundError: No module named 'absent_module'"


def test_a_crash_is_told_by_its_signal_and_the_rest_goes_on(env: Path) -> None:
    """A module that ends the process is told by the signal, with its last words; a new process does the others."""
    clinic.install(env, "crash", "1.0", {"crash.py": "import os\nos.write(2, b'last words\\n')\nos.abort()\n"})
    clinic.install(env, "fine", "1.0")
    found = attempts(env, "fine", "crash", "zlib")
    assert found["crash"].error == "the process died (SIGABRT): last words"
    assert found["crash"].cause.startswith("native code gave up")
    assert (found["fine"].error, found["zlib"].error) == ("", "")


def test_crash_after_crash_ends(env: Path) -> None:
    """After four crashes the rest is not tried, and said to be so."""
    for name in "abcdef":
        clinic.install(env, name, "1.0", {f"{name}.py": "import os\nos.kill(os.getpid(), 9)\n"})
    found = attempts(env, *"abcdef")
    assert [item.error for item in found.values()] == [
        *["the process died (SIGKILL)"] * 4,
        *["not tried: the process died too often"] * 2,
    ]


def test_what_hangs_is_ended(env: Path) -> None:
    """A module that never comes back is killed after the time that it has."""
    clinic.install(env, "slow", "1.0", {"slow.py": "import time\ntime.sleep(60)\n"})
    assert attempts(env, "slow", seconds=1.0)["slow"].error == "no end within 1 s; the process was killed"


def test_a_python_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    """A Python that is not there gives an attempt with the system's words."""
    found = imports.run(tmp_path / "python", ["numpy"], Silent())
    assert found.attempts[0].error == "cannot be run: No such file or directory"


def test_torch_that_only_warns_of_numpy_is_not_well(env: Path) -> None:
    """Torch imports under the wrong NumPy with a warning alone: that counts as the failure that it is."""
    text = "Failed to initialize NumPy: _ARRAY_API not found"
    clinic.install(env, "torch", "2.2.2", {"torch.py": f"import warnings\nwarnings.warn({text!r})\n"})
    found = attempts(env, "torch")["torch"]
    assert found.known == "numpy-abi"
    assert "_ARRAY_API not found" in found.error


def test_the_users_own_path_counts(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH is the user's and stays; the folder that the doctor was called in hides nothing."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "only_there.py").write_text("", encoding="utf-8")
    (tmp_path / "json.py").write_text("raise RuntimeError\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))
    assert attempts(env, "only_there", "json")["only_there"].error == ""


def sick(env: Path) -> Case:
    """Return the case of an environment with NumPy 2, and a torch that was built for NumPy 1.x."""
    clinic.numpy(env, "2.0.2")
    clinic.torch(env)
    return clinic.case(env, {"torch": clinic.OLD, "numpy": USER})


def test_the_steps_are_what_was_compiled_against_numpy(env: Path) -> None:
    """NumPy, torch, the bridge, every other user of NumPy by its own name, and what starts the threads."""
    clinic.install(env, "user", "1.0", {"user_core/x.so": b"x"})
    clinic.install(env, "pure", "1.0")
    case = sick(env)
    case = replace(case, facts={**case.facts, "user": USER})
    assert imports.steps(case) == ("numpy", "torch", imports.BRIDGE, "user_core", imports.PRODUCT)


def test_a_failure_that_is_explained_is_not_a_second_finding(env: Path) -> None:
    """What the files foretold is not reported again; a failure that nothing explains is."""
    case = sick(env)
    trial = Trial(
        attempts=(
            Attempt(step="torch", error="_ARRAY_API not found", known="numpy-abi"),
            Attempt(step=imports.BRIDGE, error="RuntimeError: Numpy is not available", known="numpy-not-available"),
        )
    )
    assert [*imports.examine(case, trial, [*abi.examine(case)])] == []
    (found,) = imports.examine(case, trial, [])
    assert (found.id, found.what) == ("import-fails", "import torch fails: _ARRAY_API not found")


def test_two_openmp_runtimes_are_a_note_unless_they_kill(env: Path) -> None:
    """Two runtimes in one process are a note with both files; with Intel's abort an error; one is nothing."""
    case = sick(env)
    both = ("/env/torch/lib/libgomp-a34b3233.so.1", "/env/scikit_learn.libs/libgomp-d22c30c5.so.1.0.0")
    (note,) = imports.openmp(case, Trial(openmp=both))
    assert (note.severity, [item.where for item in note.evidence]) == ("note", sorted(both))
    assert [*imports.openmp(case, Trial(openmp=both[:1]))] == []
    died = Attempt(step="torch", error="the process died (SIGABRT): OMP: Error #15", known="openmp-twice", remedy="x")
    (error,) = imports.openmp(case, Trial(attempts=(died,)))
    assert (error.severity, error.remedy.advice) == ("error", "x")
