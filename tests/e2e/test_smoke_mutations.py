"""Every conversion check fails when the thing that it checks is broken on purpose, in a real environment.

`TORCHLOCK_E2E_PYTHON` names the interpreter of an environment with numpy and torch that fit each other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sabotage
import smoke
from checks import catalogue

pytestmark = pytest.mark.e2e

TESTS = Path(sabotage.__file__).parent
SCRIPT = Path(smoke.__file__)


@pytest.fixture(scope="module")
def python() -> str:
    """Return the interpreter of the real environment; there must be one."""
    named = os.environ.get("TORCHLOCK_E2E_PYTHON")
    if not named or shutil.which(named) is None:
        pytest.fail(
            f"TORCHLOCK_E2E_PYTHON is {named!r}; expected the interpreter of an environment with numpy and torch;"
            " try: TORCHLOCK_E2E_PYTHON=$PWD/envs/cpu/bin/python make test-e2e"
        )
    return named


@pytest.fixture(scope="module")
def proofs(python: str) -> dict[str, list[list[str]]]:
    """Return every check's sabotages with its status before, during and after each."""
    command = [python, os.fspath(TESTS / "sabotage.py"), os.fspath(SCRIPT.parent)]
    environment = {**os.environ, "PYTHONPATH": os.fspath(TESTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[list[str]]] = json.loads(done.stdout)
    return answers


def answer_of(python: str, *arguments: str, path: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Run the smoke script in the environment; return its status and its JSON."""
    environment = {**os.environ, "PYTHONPATH": os.fspath(path)} if path else dict(os.environ)
    command = [python, os.fspath(SCRIPT), "--json", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_every_conversion_check_was_sabotaged(proofs: dict[str, list[list[str]]]) -> None:
    """The proof covers every id of the group, each with one sabotage at least."""
    assert sorted(proofs) == sorted(catalogue.ids_of(("conversion",)))
    assert [identity for identity, rows in proofs.items() if not rows] == []


def test_every_sabotage_is_noticed(proofs: dict[str, list[list[str]]]) -> None:
    """Each check passes, fails under each of its sabotages, and passes again when it is gone."""
    absent = {
        identity for identity, rows in proofs.items() if all(statuses == ["not run"] * 3 for _, *statuses in rows)
    }
    wrong = {
        f"{identity} under {name}": statuses
        for identity, rows in proofs.items()
        for name, *statuses in rows
        if identity not in absent and statuses != ["pass", "fail", "pass"]
    }
    assert wrong == {}
    # Long double is as wide as float64 on Windows and on Apple silicon: there these cannot run.
    assert {identity.partition("[")[0] for identity in absent} <= {"conversion.refuses.longdouble"}


def test_the_real_environment_passes(python: str) -> None:
    """The whole script passes where numpy and torch fit; what cannot run here is not run and nothing else."""
    status, answer = answer_of(python)
    failed = [check for check in answer["checks"] if check["status"] == "fail"]
    assert (status, failed) == (0, [])
    waiting = {check["id"].split("[")[0] for check in answer["checks"] if check["status"] == "not run"}
    allowed = ("import.lock.", "device.", "autograd.graph", "conversion.refuses.longdouble")
    assert [name for name in waiting if not name.startswith(allowed)] == []


def test_the_other_numpy_is_found_out(python: str, tmp_path: Path) -> None:
    """NumPy 2.0.2, put before the gate's back into an environment of torch 2.2, fails with the ABI named as cause."""
    _, answer = answer_of(python, "--group", "import")
    torch = answer["versions"]["torch"]
    if not torch.startswith("2.2."):
        pytest.fail(f"the environment has torch {torch}; the negative control needs torch 2.2")
    version = ".".join(answer["versions"]["python"].split(".")[:2])
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", os.fspath(tmp_path), "numpy==2.0.2"]
    subprocess.run([sys.executable, "-m", *install, "--python-version", version], check=True)
    status, answer = answer_of(python, path=tmp_path)
    found = {check["id"]: check for check in answer["checks"]}
    assert (status, found["import.numpy"]["detail"]) == (1, "2.0.2")
    assert found["import.torch"]["status"] == "fail"
    assert "_ARRAY_API not found" in found["import.torch"]["detail"]
    assert found["import.torch"]["cause"] == (
        "NumPy ABI mismatch: an extension (usually torch itself) was compiled against NumPy 1.x,"
        " and NumPy 2 is installed"
    )
    assert found["conversion.from_numpy.shares[float32]"]["detail"] == "import.torch failed: NumPy ABI mismatch"
