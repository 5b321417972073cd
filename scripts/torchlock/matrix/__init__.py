"""The matrix of torch and NumPy: predicted from the binaries, observed by running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.matrix.observation import observe
from torchlock.matrix.prediction import predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlock.facts.facts import Facts
    from torchlock.indexes.snapshot import Snapshot
    from torchlock.locks.lock import Artifact
    from torchlock.matrix.cells import Matrix
    from torchlock.matrix.observation import Laboratory
    from torchlock.matrix.record import Record

    Source = Callable[[Artifact], Facts | None]


def make(
    record: Record, snapshot: Snapshot, facts: Source, laboratory: Laboratory | None = None, *, again: bool = False
) -> Matrix:
    """Predict all cells, try those that a laboratory can (only what was never tried, but for `again`), and record both.

    Each tried cell is recorded at once: whatever ends this, the next run goes on behind it.
    """
    found = predict(snapshot, facts, record.read())
    record.write(found)
    return observe(found, laboratory, record.add, again=again) if laboratory else found
