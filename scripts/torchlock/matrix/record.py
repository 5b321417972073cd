"""The record of the matrix: its evidence and the document made from it, as they are committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.files import exclusive, write_atomic
from torchlock.matrix import rendering
from torchlock.matrix.cells import FILE, Matrix

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torchlock.matrix.cells import Cell
    from torchlock.reporter import Reporter

DOCUMENT = "MATRIX.md"


class Record:
    """The two files under `lockfiles/`; several processes may add to them."""

    def __init__(self, root: Path, reporter: Reporter) -> None:
        self._folder = root / "lockfiles"
        self._reporter = reporter

    def read(self) -> Matrix:
        """Return what is recorded, an empty matrix where nothing is; raise SnapshotError where it is malformed."""
        path = self._folder / FILE
        return Matrix.from_json(path.read_bytes(), f"lockfiles/{FILE}") if path.is_file() else Matrix()

    def write(self, matrix: Matrix) -> None:
        """Write both files."""
        with self._guarded():
            self._write(matrix)

    def add(self, cell: Cell) -> None:
        """Put one cell in its place, beside what others have added meanwhile."""
        with self._guarded():
            self._write(self.read().with_cell(cell))

    def _guarded(self) -> AbstractContextManager[None]:
        return exclusive(self._folder / ".lock", self._reporter)

    def _write(self, matrix: Matrix) -> None:
        write_atomic(self._folder / FILE, matrix.to_json())
        write_atomic(self._folder / DOCUMENT, rendering.markdown(matrix))
