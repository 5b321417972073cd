"""The cells of the matrix: what the binaries predict of a pair, what a run has shown, and whether the two agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from torchlock.digest import Digest
from torchlock.errors import GateError, SnapshotError
from torchlock.facts.facts import Facts, Module

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
FILE = "matrix.json"
PYTHON = "3.11"
# What a cell may say. A prediction is never "not run"; no run has ever said "no wheel".
WORKS, FAILS, NO_WHEEL, NOT_RUN = "works", "fails", "no wheel", "not run"
# How the smoke script names the causes that a prediction is about (scripts/checks/diagnosis.py).
_ABI = ("NumPy ABI mismatch", "torch's bridge to NumPy is dead")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """The file that a cell is about."""

    filename: str
    sha256: Digest

    def to_dict(self) -> dict[str, str]:
        """Return the wheel as JSON."""
        return {"filename": self.filename, "sha256": self.sha256.hex}

    @classmethod
    def from_dict(cls, value: Mapping[str, str] | None) -> Wheel | None:
        """Read a wheel; None stands for one that does not exist."""
        return cls(filename=value["filename"], sha256=Digest(value["sha256"])) if value is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a run of the smoke script found: `why` is the failed check and its cause, `machine` what it ran on.

    Where it works, `why` names the known defects of this build that checks failed for. `passed` and `failed` count
    checks; `torch` and `numpy` are the digests of the wheels that were installed.
    """

    status: str
    torch: Digest
    numpy: Digest
    machine: str
    passed: int
    failed: int
    why: str = ""

    def __post_init__(self) -> None:
        if self.status not in {WORKS, FAILS}:
            raise ValueError(f"{self.status!r}, not {WORKS} or {FAILS}")

    def to_dict(self) -> dict[str, Any]:
        """Return the observation as JSON."""
        return {
            "failed": self.failed,
            "machine": self.machine,
            "numpy": self.numpy.hex,
            "passed": self.passed,
            "status": self.status,
            "torch": self.torch.hex,
            "why": self.why,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Observation:
        """Read an observation; raise ValueError, KeyError or TypeError where it is malformed."""
        return cls(**{**value, "torch": Digest(value["torch"]), "numpy": Digest(value["numpy"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One pair on one platform; `read` are the modules of the torch wheel whose bytes give the prediction."""

    platform: str
    torch: str
    numpy: str
    torch_wheel: Wheel | None = None
    numpy_wheel: Wheel | None = None
    read: tuple[Module, ...] = ()
    observed: Observation | None = None

    @property
    def predicted(self) -> str:
        """Return what the bytes say: a module built for NumPy 1.x fails under NumPy 2, every other pair works."""
        if self.torch_wheel is None or self.numpy_wheel is None:
            return NO_WHEEL
        return FAILS if self.against else WORKS

    @property
    def against(self) -> tuple[Module, ...]:
        """Return the modules that this NumPy breaks."""
        newer = Version(self.numpy).major >= 2
        return tuple(module for module in self.read if module.numpy == "1" and newer)

    @property
    def reason(self) -> str:
        """Say why a cell that was not run was not."""
        return f"no Python for {self.platform} has tried it" if self.predicted != NO_WHEEL else "there is no wheel"

    @property
    def disagreement(self) -> str | None:
        """Say how prediction and observation differ, None where they do not; a failure must be of the ABI, too."""
        if self.observed is None:
            return None
        same = self.observed.status == self.predicted
        if same and (self.predicted == WORKS or any(cause in self.observed.why for cause in _ABI)):
            return None
        read = ", ".join(f"{module.path} is built for NumPy {module.numpy}.x" for module in self.read) or NO_WHEEL
        seen = f"{self.observed.status} on {self.observed.machine}"
        pair = f"{self.platform}: torch {self.torch} with numpy {self.numpy}"
        return f"{pair}: predicted {self.predicted} ({read}), observed {seen} ({self.observed.why or 'no failure'})"

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as JSON; the prediction is written, too, for whoever reads the file."""
        return {
            "numpy": self.numpy,
            "numpy_wheel": self.numpy_wheel.to_dict() if self.numpy_wheel else None,
            "observed": self.observed.to_dict() if self.observed else f"{NOT_RUN}: {self.reason}",
            "platform": self.platform,
            "predicted": self.predicted,
            "read": Facts(modules=self.read).to_dict().get("modules", []),
            "torch": self.torch,
            "torch_wheel": self.torch_wheel.to_dict() if self.torch_wheel else None,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cell:
        """Read a cell; raise ValueError, KeyError or TypeError where it is malformed."""
        seen = value["observed"]
        return cls(
            platform=value["platform"],
            torch=value["torch"],
            numpy=value["numpy"],
            torch_wheel=Wheel.from_dict(value["torch_wheel"]),
            numpy_wheel=Wheel.from_dict(value["numpy_wheel"]),
            read=Facts.from_dict({"modules": value["read"]} if value["read"] else {}).modules,
            observed=None if isinstance(seen, str) else Observation.from_dict(seen),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """All cells, in the order of platforms and versions."""

    cells: tuple[Cell, ...] = ()

    def to_json(self) -> bytes:
        """Return the evidence as it is committed: one line a cell."""
        lines = [f"  {json.dumps(cell.to_dict(), sort_keys=True)}" for cell in self.cells]
        head = f'{{"schema": {SCHEMA}, "python": {json.dumps(PYTHON)}, "cells": ['
        return "\n".join([head, ",\n".join(lines), "]}", ""]).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Matrix:
        """Read what `to_json` wrote, byte for byte; raise SnapshotError for anything else."""
        remedy = f"git checkout -- {where}"
        try:
            value = json.loads(data)
            found = cls(cells=tuple(Cell.from_dict(item) for item in value["cells"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"not the evidence of a matrix ({type(error).__name__}: {str(error)[:200]})"
            raise SnapshotError(where, what, remedy=remedy) from error
        if found.to_json() != data:
            raise SnapshotError(where, "it is not as torchlock writes it", remedy=remedy)
        return found

    def with_cell(self, cell: Cell) -> Matrix:
        """Return the matrix with one cell in the place of the one for the same pair and platform."""
        place = (cell.platform, cell.torch, cell.numpy)
        return Matrix(
            cells=tuple(cell if (item.platform, item.torch, item.numpy) == place else item for item in self.cells)
        )


def judge(matrix: Matrix) -> None:
    """Raise GateError with both sides of every disagreement between a prediction and an observation."""
    found = [cell.disagreement for cell in matrix.cells if cell.disagreement]
    if found:
        listed = "; ".join(found)
        count = f"{len(found)} of {len(matrix.cells)} cells"
        raise GateError(f"lockfiles/{FILE}", f"{count} behave otherwise than their bytes say: {listed}")
