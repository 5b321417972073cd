"""The matrix, proven again: two cells tried on an emulated aarch64, and wheels' facts read anew from their index."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e import arm64
from torchlock import interpreter
from torchlock.facts import read
from torchlock.indexes.record import Recorder
from torchlock.matrix import cells, observation
from torchlock.matrix.cells import FAILS, WORKS, Cell, Matrix
from torchlock.network.remote import Remote
from torchlock.reporter import Silent
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from torchlock.network.budget import Budget

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
# Where the loader of an emulated program finds its system (qemu's user mode).
PREFIX = "QEMU_LD_PREFIX"
MOST = 40 << 20


class Counting(Remote):
    """The network, which counts the bytes that come by range."""

    moved = 0

    @contextmanager
    def range(self, url: str, wanted: str, budget: Budget) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """Ask for one range, and count what comes."""
        with super().range(url, wanted, budget) as (response, blocks):
            yield response, self._counted(blocks)

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.moved += len(block)
            yield block


@pytest.fixture
def committed() -> dict[tuple[str, str, str], Cell]:
    """Return the committed cells by platform and pair."""
    found = Matrix.from_json((ROOT / "lockfiles" / "matrix.json").read_bytes(), "lockfiles/matrix.json")
    return {(cell.platform, cell.torch, cell.numpy): cell for cell in found.cells}


def test_two_cells_behave_as_their_evidence_says(
    committed: dict[tuple[str, str, str], Cell],
    cache: Path,
    work: Path,
    say: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With NumPy 2.1.3 torch 2.4.1 works and torch 2.2.2 fails: predicted, recorded, and seen again."""
    root = arm64.prepare(cache, say)
    monkeypatch.setenv(PREFIX, str(root))
    workspace = Workspace(ROOT, Settings(), Silent())
    laboratory = observation.Laboratory(
        python=interpreter.ask(root / "usr" / "bin" / f"python{cells.PYTHON}"),
        folder=work / "matrix",
        index=workspace.roots["pypi"],
        reporter=Silent(),
    )
    wanted = Matrix(cells=tuple(committed["linux-aarch64", torch, "2.1.3"] for torch in ("2.4.1", "2.2.2")))
    found = observation.observe(wanted, laboratory, lambda cell: say(f"{cell.torch}: {cell.observed}"), again=True)
    assert [cell.predicted for cell in found.cells] == [WORKS, FAILS]
    cells.judge(found)
    for before, now in zip(wanted.cells, found.cells, strict=True):
        assert before.observed is not None
        assert now.observed is not None
        assert (now.observed.status, now.observed.why) == (before.observed.status, before.observed.why)


@pytest.mark.parametrize(("platform", "torch"), [("linux-64", "2.2.2"), ("win-64", "2.4.0"), ("osx-arm64", "2.4.1")])
def test_a_prediction_comes_from_the_bytes_on_the_index(
    committed: dict[tuple[str, str, str], Cell], platform: str, torch: str, say: Callable[[str], None]
) -> None:
    """Read anew by range, a wheel has the modules that its cells name; the 755 MB of torch 2.2.2 cost under 40 MB."""
    workspace = Workspace(ROOT, Settings(), Silent())
    remote = Counting(Silent())
    recorder = Recorder(workspace.snapshot, remote, workspace.roots, Silent())
    cell = committed[platform, torch, "2.1.3"]
    assert cell.torch_wheel is not None
    file = recorder.open("pypi", "torch", cell.torch_wheel.filename)
    assert file is not None
    with file:
        found = read.of_wheel(file, cell.torch_wheel.filename)
        say(f"{cell.torch_wheel.filename}: {remote.moved >> 20} of {file.size >> 20} MiB")
    assert found.modules == cell.read
    assert 0 < remote.moved < min(MOST, file.size)
