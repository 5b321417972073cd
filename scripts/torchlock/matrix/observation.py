"""Observations: build the environment of a cell beside no other, run the smoke script in it, and read what it found."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uv

from torchlock import files, platforms, process
from torchlock.errors import EnvError, SmokeError
from torchlock.matrix.cells import FAILS, WORKS, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlock.interpreter import Interpreter
    from torchlock.matrix.cells import Cell, Matrix
    from torchlock.reporter import Reporter

SCRIPT = Path(__file__).resolve().parents[2] / "smoke.py"
# What must have passed for a pair to count as one that works: the C-API bridge, and one conversion.
BRIDGE, CONVERSION = "import.bridge", "conversion."
GROUPS = ("import", "conversion")
INSTALL_SECONDS, SMOKE_SECONDS = 1800.0, 1800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Laboratory:
    """Where cells are tried: one Python, which says for which platform, and a folder for environment and uv's cache.

    `index` is the URL of the simple root that wheels come from, None for none of the network's; `wheelhouses` are
    folders of wheels beside it. All is there to be deleted.
    """

    python: Interpreter
    folder: Path
    index: str | None
    reporter: Reporter
    wheelhouses: Sequence[Path] = ()
    script: Path = SCRIPT

    def try_(self, cell: Cell) -> Observation:
        """Install a cell's two wheels, verified by sha256, with what torch requires; run the smoke script there."""
        env = self.folder / "env"
        files.remove(env)
        python = env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._uv("venv", "--python", os.fspath(self.python.path), os.fspath(env))
        wanted = self.folder / "wanted.txt"
        wanted.write_text(_wanted(cell), encoding="utf-8")
        options = ["--only-binary", ":all:", "--python", os.fspath(python), "--requirements", os.fspath(wanted)]
        options += [f"--find-links={folder}" for folder in self.wheelhouses]
        self._uv("pip", "install", *options, *(() if self.index else ("--no-index",)))
        return _observation(cell, self._smoke(cell, python), emulated=self.python.platform != platforms.host())

    def _uv(self, *words: str) -> None:
        command = [uv.find_uv_bin(), *words, "--no-config", "--quiet", "--cache-dir", os.fspath(self.folder / "cache")]
        # An address may hold credentials: no command line shows it.
        environment = process.clean_environment({"UV_DEFAULT_INDEX": self.index} if self.index else {}, proxies=True)
        try:
            done = process.run(command, environment=environment, seconds=INSTALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EnvError("uv", f"not done in {INSTALL_SECONDS:g} s", remedy="the same command again") from error
        if done.returncode:
            raise EnvError(f"uv {words[0]}", done.stderr.strip()[:1000] or f"exit status {done.returncode}")

    def _smoke(self, cell: Cell, python: Path) -> Mapping[str, Any]:
        report = self.folder / "smoke.json"
        files.remove(report)
        groups = [word for group in GROUPS for word in ("--group", group)]
        command = [os.fspath(python), "-I", os.fspath(self.script), *groups, "--report", os.fspath(report)]
        where = f"torch {cell.torch} with numpy {cell.numpy} on {cell.platform}"
        try:
            done = process.run(command, environment=process.clean_environment(), seconds=SMOKE_SECONDS)
            found: Mapping[str, Any] = json.loads(report.read_bytes())
        except subprocess.TimeoutExpired as error:
            raise SmokeError(where, f"the smoke script was not done in {SMOKE_SECONDS:g} s") from error
        except (OSError, ValueError) as error:
            said = done.stderr.strip()[-500:]
            raise SmokeError(where, f"the smoke script ended with status {done.returncode}: {said}") from error
        return found


def observe(matrix: Matrix, laboratory: Laboratory, keep: Callable[[Cell], None], *, again: bool) -> Matrix:
    """Try the cells of the laboratory's platform of which no run is known (of all with `again`); keep each at once."""
    wanted = [
        cell
        for cell in matrix.cells
        if cell.platform == laboratory.python.platform.name
        and cell.torch_wheel
        and cell.numpy_wheel
        and (again or cell.observed is None)
    ]
    for number, cell in enumerate(wanted, 1):
        pair = f"torch {cell.torch} with numpy {cell.numpy} on {cell.platform}"
        laboratory.reporter.note(f"{number} of {len(wanted)}: {pair}, predicted: {cell.predicted}")
        seen = replace(cell, observed=laboratory.try_(cell))
        keep(seen)
        matrix = matrix.with_cell(seen)
    files.remove(laboratory.folder)
    return matrix


def _wanted(cell: Cell) -> str:
    """Return the requirements of a cell, each held to the very wheel that was read."""
    pairs = (("torch", cell.torch, cell.torch_wheel), ("numpy", cell.numpy, cell.numpy_wheel))
    return "".join(f"{name}=={version} --hash={wheel.sha256}\n" for name, version, wheel in pairs if wheel)


def _observation(cell: Cell, found: Mapping[str, Any], *, emulated: bool) -> Observation:
    """Read the script's JSON: what was installed must be what the cell is about."""
    versions, checks = found["versions"], found["checks"]
    installed = {name: versions["distributions"].get(name) for name in ("torch", "numpy")}
    if installed != {"torch": cell.torch, "numpy": cell.numpy} or cell.torch_wheel is None or cell.numpy_wheel is None:
        raise EnvError("the environment", f"holds {installed}", f"torch {cell.torch} and numpy {cell.numpy}")
    passed = {check["id"] for check in checks if check["status"] == "pass"}
    failed = [check for check in checks if check["status"] == "fail"]
    crossed = BRIDGE in passed and any(name.startswith(CONVERSION) for name in passed)
    fatal = next((check for check in failed if not check.get("known")), None)
    return Observation(
        status=WORKS if crossed and fatal is None else FAILS,
        torch=cell.torch_wheel.sha256,
        numpy=cell.numpy_wheel.sha256,
        machine=_machine(found, emulated=emulated),
        passed=len(passed),
        failed=len(failed),
        why=_why(fatal, failed) if crossed or fatal else "nothing was converted",
    )


def _why(fatal: Mapping[str, Any] | None, failed: Sequence[Mapping[str, Any]]) -> str:
    """Return the first failure, else the known defects that were met, else nothing."""
    if fatal:
        return f"{fatal['id']}: {fatal.get('cause') or fatal['detail']}"
    known = sorted({f"{check['cause']} ({check['known']})" for check in failed})
    return f"known defect of this build: {'; '.join(known)}" if known else ""


def _machine(found: Mapping[str, Any], *, emulated: bool) -> str:
    """Return what a run needs to be judged by: system, machine, C library and Python."""
    at = found["platform"]
    parts = (at["system"], at["machine"], at["libc"], f"Python {found['versions']['python']}")
    return ", ".join([*filter(None, parts), *(["emulated"] if emulated else [])])
