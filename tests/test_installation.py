"""Installations: wheels become what `installer` would make of them, as a plan."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
import uv

import wheels
from torchlock.environment.installation import TreeSource, plan_wheel
from torchlock.environment.placement import Claim, Layout, Plan, carry_out
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from pathlib import Path

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
LAYOUT = Layout.of(RUNNING, "linux-64")
SITE = LAYOUT.site
ENTRY = "[console_scripts]\nrun = pkg:main\n[gui_scripts]\nshow = pkg:main\n[other]\nx = y\n"
FILES = {
    "pkg/__init__.py": "def main(): print('ran')\n",
    "pkg/data.txt": "data\n",
    "demo-1.0.dist-info/entry_points.txt": ENTRY,
    "demo-1.0.data/scripts/plain": "#!python -s\nprint('plain')\n",
    "demo-1.0.data/scripts/native": "#!/bin/sh\necho native\n",
    "demo-1.0.data/data/share/demo/doc.txt": "doc\n",
    "demo-1.0.data/headers/demo.h": "int demo;\n",
    "demo-1.0.data/platlib/fast.py": "",
    "demo-1.0.data/purelib/slow.py": "",
}


def tree(tmp_path: Path, files: dict[str, str], name: str = "demo") -> TreeSource:
    """Return a wheel's unpacked content."""
    path = wheels.make(tmp_path / "wheels", files, name=name)
    folder = tmp_path / "trees" / name
    with zipfile.ZipFile(path) as file:
        file.extractall(folder)
    return TreeSource(folder, name, "1.0")


def planned(tmp_path: Path, files: dict[str, str]) -> Plan:
    """Return the plan of one wheel."""
    plan = Plan()
    plan_wheel(plan, tree(tmp_path, files), LAYOUT, tmp_path / "env")
    return plan


def test_schemes(tmp_path: Path) -> None:
    """Each part of a wheel goes where its scheme says; what must differ from the wheel is written, the rest linked."""
    plan = planned(tmp_path, FILES)
    assert sorted(link.target for link in plan.links) == [
        f"include/site/python{RUNNING}/demo/demo.h",
        *(f"{SITE}/demo-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt")),
        *(f"{SITE}/{name}" for name in ("fast.py", "pkg/__init__.py", "pkg/data.txt", "slow.py")),
        "share/demo/doc.txt",
    ]
    info = f"{SITE}/demo-1.0.dist-info"
    assert sorted(plan.written) == [
        "bin/native",
        "bin/plain",
        "bin/run",
        "bin/show",
        f"{info}/INSTALLER",
        f"{info}/RECORD",
    ]
    assert plan.written[f"{info}/INSTALLER"] == (b"torchlock\n", False)


def test_scripts(tmp_path: Path) -> None:
    """A script that asks for `python` starts the environment's; another is left as it is; all are executable."""
    plan = planned(tmp_path, FILES)
    python = tmp_path / "env/bin/python"
    assert plan.written["bin/plain"] == (f"#!{python}\nprint('plain')\n".encode(), True)
    assert plan.written["bin/native"] == (b"#!/bin/sh\necho native\n", True)
    data, executable = plan.written["bin/run"]
    assert data.startswith(f"#!{python}\n".encode())
    assert executable


def test_as_uv(tmp_path: Path) -> None:
    """The files are those that uv installs from the same wheel, but for who installed it."""
    plan = planned(tmp_path, FILES)
    made = tmp_path / "made"
    carry_out(plan, made)
    env = tmp_path / "env"
    command = [uv.find_uv_bin(), "venv", "-q", "--offline", "--no-config", "--no-cache", "--python", sys.executable]
    subprocess.run([*command, env], check=True)
    before = {path for path in env.rglob("*") if not path.is_dir()}
    command = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "-q",
        "--offline",
        "--no-config",
        "--no-cache",
        "--link-mode",
        "copy",
    ]
    subprocess.run([*command, "--python", env, *(tmp_path / "wheels").iterdir()], check=True)
    theirs = {path.relative_to(env).as_posix(): path for path in env.rglob("*") if not path.is_dir()}
    theirs = {name: path for name, path in theirs.items() if path not in before}
    ours = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if not path.is_dir()}
    extra = {".lock"} | {
        f"{SITE}/demo-1.0.dist-info/{name}"
        for name in ("REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
    }
    assert theirs.keys() - extra == ours.keys()
    for name, path in ours.items():
        if not name.startswith("bin/") and path.name not in {"RECORD", "INSTALLER"}:
            assert path.read_bytes() == theirs[name].read_bytes()
        assert (path.stat().st_mode & 0o111 != 0) == (theirs[name].stat().st_mode & 0o111 != 0), name


def test_order(tmp_path: Path) -> None:
    """The plan of the same wheel is the same, and so is its RECORD."""
    first, second = planned(tmp_path, FILES), planned(tmp_path, FILES)
    assert first == second
    assert list(first.records) == ["demo-1.0.dist-info"]


def test_no_byte_code(tmp_path: Path) -> None:
    """Byte code in a wheel is left out: it could say something else than the source beside it."""
    plan = planned(tmp_path, {"pkg/__init__.py": "", "pkg/__pycache__/__init__.cpython-311.pyc": "x"})
    assert not [link for link in plan.links if "__pycache__" in link.target]
    record, _ = plan.written[f"{SITE}/demo-1.0.dist-info/RECORD"]
    assert b"__pycache__" not in record


def test_own_installer(tmp_path: Path) -> None:
    """A wheel that was made from an installation, with an INSTALLER of its own, gets ours."""
    plan = planned(tmp_path, {"pkg/__init__.py": "", "demo-1.0.dist-info/INSTALLER": "conda\n"})
    assert plan.written[f"{SITE}/demo-1.0.dist-info/INSTALLER"][0] == b"torchlock\n"


@pytest.mark.parametrize(
    ("path", "where"),
    [("demo-1.0.data/scripts/python", "bin/python"), ("demo-1.0.data/data/pyvenv.cfg", "pyvenv.cfg")],
)
def test_base(tmp_path: Path, path: str, where: str) -> None:
    """A wheel cannot replace what the virtual environment came with."""
    plan = Plan()
    plan.claim(Claim(path=where, owner="the virtual environment", hash=""))
    with pytest.raises(EnvError) as refused:
        plan_wheel(plan, tree(tmp_path, {path: "x"}), LAYOUT, tmp_path)
    expected = f"{where}: the virtual environment and demo 1.0 both own it, with different bytes"
    assert str(refused.value).startswith(expected)


def test_same_command(tmp_path: Path) -> None:
    """Two wheels that bring different commands of one name are refused."""
    plan = Plan()
    for name, module in (("a", "one"), ("b", "two")):
        entry = {f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\nrun = {module}:main\n"}
        source = tree(tmp_path, entry, name)
        if name == "a":
            plan_wheel(plan, source, LAYOUT, tmp_path)
    with pytest.raises(EnvError, match=r"bin/run: a 1\.0 and b 1\.0 both own it"):
        plan_wheel(plan, source, LAYOUT, tmp_path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"demo-1.0.dist-info/entry_points.txt": "[console_scripts]\nrun = no reference\n"}, "AssertionError"),
        ({"demo-1.0.dist-info/entry_points.txt": "run = pkg:main\n"}, "no section headers"),
        ({"demo-1.0.data/nowhere/x": ""}, "not contained in a valid .data subdirectory"),
        ({"demo-1.0.dist-info/WHEEL": "Wheel-Version: 2.0\nRoot-Is-Purelib: true\n"}, "Incompatible Wheel-Version 2.0"),
    ],
)
def test_cannot(tmp_path: Path, files: dict[str, str], found: str) -> None:
    """What `installer` cannot install is one line that names the wheel."""
    with pytest.raises(EnvError) as refused:
        planned(tmp_path, files)
    assert str(refused.value).startswith("demo 1.0: cannot be installed: ")
    assert found in refused.value.found


def test_no_info(tmp_path: Path) -> None:
    """A tree without a `.dist-info` folder is refused."""
    source = tree(tmp_path, {})
    shutil.rmtree(tmp_path / "trees/demo" / source.dist_info_dir)
    with pytest.raises(EnvError) as refused:
        TreeSource(tmp_path / "trees/demo", "demo", "1.0")
    assert str(refused.value) == "demo 1.0: 0 .dist-info folders in its tree; expected one"
