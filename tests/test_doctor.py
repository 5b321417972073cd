"""The whole examination, and the verb: order, exit status, text and JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import clinic
from torchlock.cli import main
from torchlock.doctor import report
from torchlock.doctor.examination import ORDER, Examination

BRIDGED = """
class Tensor:
    def __init__(self, array): self.array = array
    def numpy(self): return self.array
    def matmul(self, other): return self
    def sum(self): return self
    def item(self): return 1.0
def from_numpy(array): return Tensor(array)
def ones(*shape): return Tensor(None)
__version__ = "2.2.2"
"""
ARRAYS = """
class Array(list):
    def tolist(self): return list(self)
def arange(stop): return Array([0.0, 1.0, 2.0])
__version__ = "1.26.4"
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a healthy environment, of modules that behave as torch and NumPy do."""
    for name in [*os.environ]:
        if name.startswith("TORCHLOCK_") or name == "PYTHONPATH":
            monkeypatch.delenv(name)
    made = clinic.venv(tmp_path / "env")
    version = "version = '1.26.4'\n"
    clinic.install(made, "numpy", "1.26.4", {"numpy/__init__.py": ARRAYS, "numpy/version.py": version})
    clinic.install(made, "torch", "2.2.2", {"torch/__init__.py": BRIDGED, "torch/version.py": "cuda = None\n"})
    return made


def examine(env: Path, lock: str | None = None) -> Examination:
    """Examine an environment on a machine without a GPU."""
    return clinic.doctor().examine(str(env), lock, clinic.NO_GPU)


def test_a_healthy_environment_is_called_so(env: Path) -> None:
    """Nothing is found, everything imports, and no command is given."""
    found = examine(env)
    assert (found.healthy, found.findings, found.commands) == (True, (), ())
    assert [item.step for item in found.trial.attempts] == ["numpy", "torch", "bridge()", "product()"]
    assert report.text(found).endswith("\n\nhealthy: nothing is wrong (0 notes)")


def test_causes_come_before_what_follows_from_them(env: Path) -> None:
    """Errors stand in the order of the catalogue, and notes last; one command mends all of them."""
    clinic.install(env, "one", "1.0", {"one/code.py": "x = 1\n"})
    clinic.install(env, "data", "1.0", {"data/ca.pem": "abc"})
    (clinic.site(env) / "one" / "code.py").write_text("y = 2\n", encoding="utf-8")
    (clinic.site(env) / "data" / "ca.pem").write_text("xyz", encoding="utf-8")
    for name in ("__init__.py", "version.py"):
        (clinic.site(env) / "torch" / name).unlink()
    for path in (clinic.site(env) / "torch-2.2.2.dist-info").iterdir():
        path.unlink()
    (clinic.site(env) / "torch-2.2.2.dist-info").rmdir()
    found = examine(env)
    assert [(item.id, item.severity) for item in found.findings] == [
        ("torch-missing", "error"),
        ("files-changed", "error"),
        ("files-changed", "note"),
    ]
    assert len(found.commands) == 1
    assert "torch" in found.commands[0]
    assert "--reinstall-package one" in found.commands[0]
    assert "--reinstall-package data" not in found.commands[0]


def test_no_torch_at_all_takes_the_pins_of_the_line(tmp_path: Path) -> None:
    """An empty environment is told what to install: the default line's pins for its Python, else the newest."""
    env = clinic.venv(tmp_path / "env")
    found = examine(env)
    assert [item.id for item in found.findings] == ["numpy-missing", "torch-missing"]
    pins = "numpy==1.26.4 torch==2.2.2" if clinic.RUNNING == "3.11" else "numpy torch"
    assert found.commands[0].endswith(f"pip install --python {env}/bin/python {pins}")


@pytest.mark.skipif(clinic.RUNNING != "3.11", reason="the lines are for Python 3.11")
def test_no_torch_beside_numpy_2_takes_the_line_of_that(tmp_path: Path) -> None:
    """Where NumPy 2 is there already, the line with NumPy 2 gives the pins."""
    env = clinic.venv(tmp_path / "env")
    clinic.numpy(env, "2.1.3")
    found = clinic.doctor().examine(str(env), None, clinic.NO_GPU)
    assert found.commands[0].endswith("numpy==2.1.3 torch==2.4.1")


def test_a_dead_python_is_revived_first(env: Path) -> None:
    """Where the environment's Python is gone, nothing is imported, and the Python comes first of what to do."""
    (env / "bin" / "python").unlink()
    (env / "bin" / "python").symlink_to("/nowhere/python")
    found = examine(env)
    assert [item.id for item in found.findings] == ["python-broken"]
    assert found.trial.attempts == ()
    assert found.commands[0].endswith(f"venv --allow-existing --python {clinic.RUNNING} {env}")


def test_what_hides_a_package_is_found(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch.py on PYTHONPATH comes first on the path: it is named, and unsetting the variable mends it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "torch.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))
    found = examine(env)
    assert (found.findings[0].id, found.findings[0].what) == ("shadowed", f"{tmp_path}/mine/torch.py hides torch 2.2.2")
    assert found.commands == ("unset PYTHONPATH",)


def test_what_fails_for_an_unknown_reason_is_told(env: Path) -> None:
    """An import that fails though every file is what it was is a finding with the error as its mark."""
    clinic.install(env, "torch", "2.2.2", {"torch/__init__.py": "raise OSError('no such luck')\n"})
    found = examine(env)
    assert [item.what for item in found.findings] == ["import torch fails: OSError: no such luck"]
    assert found.commands[0].endswith("--reinstall-package torch torch==2.2.2")


def test_every_finding_has_its_place() -> None:
    """The catalogue of ids holds each once, and every id that a module gives is in it."""
    folder = Path(clinic.ROOT) / "scripts" / "torchlock" / "doctor"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    given = {part.partition('"')[0] for part in text.split('id="')[1:]}
    assert len(ORDER) == len(set(ORDER))
    assert given == set(ORDER)


def test_the_verb_prints_and_has_an_exit_status(env: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A healthy environment is status 0, a sick one 1, in words and in JSON; a bad lock or Python is one line."""
    arguments = ["--quiet", "doctor", "--python", str(env)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("healthy: nothing is wrong (0 notes)\n")
    (clinic.site(env) / "numpy" / "__init__.py").write_text("raise ImportError\n", encoding="utf-8")
    assert main(arguments) == 1
    words = capsys.readouterr().out
    assert "\n1. error files-changed: numpy 1.26.4: 1 changed of the " in words
    assert main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["findings"][0]["id"]) == ("sick", "files-changed")
    assert words.rstrip("\n").endswith(f"\n  {document['command']}")
    assert main([*arguments, "--lock", "/nowhere.toml"]) == 1
    assert capsys.readouterr().err == ("torchlock: /nowhere.toml: No such file or directory; expected a pylock.toml\n")
