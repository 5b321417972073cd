"""Predictions: every cell of the matrix from the recorded wheels and the facts of their bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from torchlock.errors import SnapshotError
from torchlock.indexes.view import ONLINE, View, version_of
from torchlock.locks.lock import Artifact
from torchlock.matrix.cells import FILE, PYTHON, Cell, Matrix, Wheel
from torchlock.profiles.profile import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torchlock.facts.facts import Facts, Module
    from torchlock.indexes.snapshot import File, Snapshot

INDEX = "pypi"
NUMPY = ("1.26.4", "2.0.2", "2.1.3", "2.2.6")
_TORCH = ("2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0")
# Those for Windows followed later, so the releases in between are in doubt there.
TORCH: Mapping[str, tuple[str, ...]] = {
    "linux-64": _TORCH,
    "linux-aarch64": _TORCH,
    "osx-arm64": _TORCH,
    "win-64": tuple(sorted((*_TORCH, "2.3.0", "2.4.0"))),
}
_WORKERS = 4


def predict(snapshot: Snapshot, facts: Callable[[Artifact], Facts | None], known: Matrix) -> Matrix:
    """Predict every cell from the facts of recorded wheels, and keep what is known of runs with these very wheels."""
    views = {platform: _view(snapshot, platform) for platform in TORCH}
    torch = {
        (platform, version): _wheel(views[platform], "torch", version)
        for platform, versions in TORCH.items()
        for version in versions
    }
    files = {file.name: file for file in torch.values() if file}
    with ThreadPoolExecutor(_WORKERS) as pool:
        modules = dict(zip(files, pool.map(lambda file: _modules(file, facts), files.values()), strict=True))
    runs = {(item.observed.torch, item.observed.numpy): item.observed for item in known.cells if item.observed}
    cells = []
    for (platform, version), file in torch.items():
        for wanted in NUMPY:
            found = _wheel(views[platform], "numpy", wanted)
            wheels = _named(file) if file else None, _named(found) if found else None
            cell = Cell(
                platform=platform,
                torch=version,
                numpy=wanted,
                torch_wheel=wheels[0],
                numpy_wheel=wheels[1],
                read=modules[file.name] if file else (),
            )
            known_run = runs.get((wheels[0].sha256, wheels[1].sha256)) if wheels[0] and wheels[1] else None
            cells.append(replace(cell, observed=known_run))
    return Matrix(cells=tuple(cells))


def _modules(file: File, facts: Callable[[Artifact], Facts | None]) -> tuple[Module, ...]:
    """Return the modules of a torch wheel that use NumPy: it has one on every platform."""
    wheel = _named(file)
    artifact = Artifact(
        project="torch",
        version=version_of(file.name),
        filename=wheel.filename,
        sha256=wheel.sha256,
        size=file.size,
        upload_time=file.upload_time,
        index=INDEX,
    )
    found = facts(artifact)
    if found is None:
        raise SnapshotError(file.name, "its facts are not read", remedy=ONLINE)
    if not found.modules:
        raise SnapshotError(file.name, "no module in it uses NumPy", "libtorch_python or torch_python")
    return found.modules


def _wheel(view: View, project: str, version: str) -> File | None:
    """Return the wheel that an installer takes, None where there is none."""
    there = any(version_of(file.name) == version for file in view.files(project))
    return view.pick(project, version) if there else None


def _view(snapshot: Snapshot, platform: str) -> View:
    target = Target(
        profile="matrix",
        line="matrix",
        variant="cpu",
        platform=platform,
        python=PYTHON,
        requirements=(),
        indexes={},
        default_index=INDEX,
        cuda=None,
        source=f"lockfiles/{FILE}",
    )
    return View(snapshot, target)


def _named(file: File) -> Wheel:
    if file.sha256 is None:
        raise SnapshotError(file.name, "its sha256 is not recorded", remedy="make update")
    return Wheel(filename=file.name, sha256=file.sha256)
