"""Who the patient is, and what is installed there, read without importing any of it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import clinic
from torchlock.doctor import distributions
from torchlock.doctor.patient import find, usual
from torchlock.errors import EnvError


def test_a_virtual_environment_describes_itself(tmp_path: Path) -> None:
    """A folder, a Python's path and the same without pip are one patient, whose packages lie in its own folder."""
    env = clinic.venv(tmp_path / "env")
    found = find(str(env))
    assert found == find(str(env / "bin" / "python"))
    assert (found.version.rpartition(".")[0], found.prefix, found.sites) == (clinic.RUNNING, env, (clinic.site(env),))
    assert (found.virtual, found.pip, found.conda, found.kind) == (True, False, False, "virtual environment")
    (env / "conda-meta").mkdir()
    assert find(str(env)).kind == "conda environment"


def test_nothing_of_the_patient_is_imported_or_written(tmp_path: Path) -> None:
    """Packages that would do harm when imported are read as text and as bytes, and the folder stays as it is."""
    env = clinic.venv(tmp_path / "env")
    clinic.install(env, "numpy", "9.9", {"numpy/__init__.py": "raise SystemExit(3)\n", "numpy/version.py": ""})
    before = sorted(env.rglob("*"))
    found = distributions.read(find(str(env)).sites)
    assert [item.named for item in found] == ["numpy 9.9"]
    assert sorted(env.rglob("*")) == before


def test_a_dead_python_is_told_from_its_folders(tmp_path: Path) -> None:
    """An environment whose Python is gone still shows its packages, and why it does not start."""
    env = clinic.venv(tmp_path / "env")
    clinic.numpy(env)
    for path in (env / "bin").glob("python*"):
        path.unlink()
    (env / "bin" / "python").symlink_to("/nowhere/python3")
    found = find(str(env))
    assert found.broken == "it cannot be run: No such file or directory"
    assert (found.minor, found.sites) == (clinic.RUNNING, (clinic.site(env),))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("/nowhere", "PYTHON=/nowhere: no such command or file; expected a Python, or the folder of an environment"),
        ("{0}", "PYTHON={0}: a folder without a Python; expected a Python, or the folder of an environment"),
    ],
)
def test_what_is_no_python_is_refused(tmp_path: Path, named: str, message: str) -> None:
    """A path that names nothing, and a folder that holds no Python, are refused in one line."""
    with pytest.raises(EnvError) as caught:
        find(named.format(tmp_path))
    assert str(caught.value) == message.format(tmp_path)


def test_an_old_python_is_refused_by_its_version(tmp_path: Path) -> None:
    """A Python before 3.8 is refused, with the version that it is."""
    script = tmp_path / "python"
    fields = '"version": "3.7.16", "executable": "x", "prefix": "x", "base": "x", "path": [], "standard": []'
    script.write_text(f"#!/bin/sh\nprintf '\\036torchlock {{{fields}}}\\n'\n", encoding="utf-8")
    script.chmod(0o755)
    with pytest.raises(EnvError, match=r"it is Python 3\.7\.16; expected Python 3\.8 or newer"):
        find(str(script))


def test_the_usual_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name it is the active environment, else the first of ours that is there, else the path's python3."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert usual(tmp_path, ["a", "b"]) == "python3"
    (tmp_path / "b").mkdir()
    assert usual(tmp_path, ["a", "b"]) == str(tmp_path / "b")
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    assert usual(tmp_path, ["a", "b"]) == "/conda"


def test_compiled_files_belong_to_their_distribution(tmp_path: Path) -> None:
    """RECORD tells whose a compiled file is; a folder without metadata is a package of its own; pure ones have none."""
    env = clinic.venv(tmp_path / "env")
    clinic.install(
        env, "fast-math", "1.0", {"fastmath/core.so": b"x", "fastmath/a.py": "", "fast.libs/libx.so.1": b"x"}
    )
    clinic.install(env, "pure", "1.0")
    (clinic.site(env) / "stray").mkdir()
    (clinic.site(env) / "stray" / "inner.so").write_bytes(b"x")
    found = distributions.first(distributions.read([clinic.site(env)]))
    assert found["fast-math"].compiled == ("fast.libs/libx.so.1", "fastmath/core.so")
    assert found["fast-math"].tops == ("fastmath",)
    assert (found["stray"].compiled, found["stray"].version) == (("stray/inner.so",), "")
    assert found["pure"].compiled == ()


def test_eggs_and_broken_metadata_are_read(tmp_path: Path) -> None:
    """An .egg-info file or folder without RECORD counts; a dist-info without METADATA has the name of its folder."""
    site = clinic.site(clinic.venv(tmp_path / "env"))
    (site / "old-1.5.egg-info").write_text("Metadata-Version: 1.0\nName: Old\nVersion: 1.5\n", encoding="utf-8")
    (site / "lost-2.0.dist-info").mkdir()
    (site / "old").mkdir()
    (site / "old" / "core.so").write_bytes(b"x")
    found = {item.project: item for item in distributions.read([site])}
    assert (found["old"].version, found["old"].files, found["old"].compiled) == ("1.5", None, ("old/core.so",))
    assert (found["lost"].version, found["lost"].files) == ("2.0", None)


def test_the_first_on_the_path_counts(tmp_path: Path) -> None:
    """Of two folders the first has the package; of two dist-info in one folder that which the files agree with."""
    one, two = clinic.venv(tmp_path / "one"), clinic.venv(tmp_path / "two")
    clinic.numpy(one, "1.26.4")
    clinic.numpy(two, "2.0.2")
    sites = [clinic.site(one), clinic.site(two)]
    assert distributions.first(distributions.read(sites))["numpy"].version == "1.26.4"
    assert distributions.first(distributions.read(sites[::-1]))["numpy"].version == "2.0.2"
    clinic.numpy(one, "2.0.2")
    assert distributions.first(distributions.read(sites))["numpy"].version == "2.0.2"


def test_the_running_python_can_be_named_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is looked up on the path, and the patient is the Python that answers."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert shutil.which("python3")
    assert find("python3").prefix == Path(sys.prefix)
