"""A reception: what every artifact has in common on its way here, whoever sends it."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from servers import Notes
from torchlock.digest import Digest
from torchlock.errors import NetworkError
from torchlock.locks.lock import Artifact
from torchlock.network.budget import Budget, Limits
from torchlock.network.remote import Body
from torchlock.network.transport import TransientError
from torchlock.storage import reception
from torchlock.storage.crew import StoppedError
from torchlock.storage.reception import Reception
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = b"data" * 1000
ARTIFACT = Artifact(
    project="data", version="1", filename="data", sha256=Digest.of(DATA), size=len(DATA), upload_time=None, index=""
)
STOP, BREAK = "stop", "break"


class Sender:
    """Send bodies, one for each connection: bytes, and among them what happens there."""

    def __init__(self, *bodies: list[bytes | str]) -> None:
        self._bodies = list(bodies)
        self.stop, self.notes = threading.Event(), Notes()
        self.asked: list[int] = []

    @contextmanager
    def opened(self, offset: int) -> Iterator[Body]:
        """Open the next body at the offset that is asked for."""
        self.asked.append(offset)
        yield Body(offset, None, self._blocks(self._bodies.pop(0)))

    def _blocks(self, body: list[bytes | str]) -> Iterator[bytes]:
        for item in body:
            if isinstance(item, bytes):
                yield item
            elif item == STOP:
                self.stop.set()
            else:
                raise TransientError("there", "the connection broke")

    def send(self, folder: Path, artifact: Artifact = ARTIFACT) -> tuple[int | None, bytes]:
        """Return how many bytes were received, None for a reception that gave way, and what is here then."""
        store, came = Store(folder), None
        with store.receiving(artifact) as received:
            arriving = Reception(
                received,
                self.opened,
                lambda found, expected: NetworkError("there", str(found), str(expected)),
                where="there",
                task="data",
                reporter=self.notes,
                stop=self.stop,
                budget=Budget(Limits(pause=0.001), self.notes, self.stop),
            )
            with suppress(StoppedError):
                came = arriving.run()
            return came, (folder / "partial" / artifact.sha256.hex).read_bytes()


def test_a_connection_that_breaks_after_the_last_byte_costs_no_other_one(tmp_path: Path) -> None:
    """The bytes are the artifact's, whatever comes behind them."""
    sender = Sender([DATA, BREAK])
    assert sender.send(tmp_path) == (len(DATA), DATA)
    assert sender.asked == [0]


@pytest.mark.parametrize(
    "body",
    [[DATA[:100], STOP, DATA[100:]], [DATA[:100], STOP], [DATA[:100], STOP, BREAK]],
    ids=["between two blocks", "at the end", "at a break"],
)
def test_a_reception_that_is_stopped_gives_way(tmp_path: Path, body: list[bytes | str]) -> None:
    """It takes no more, and neither says that it failed nor tries again."""
    sender = Sender(body)
    assert sender.send(tmp_path, replace(ARTIFACT, size=None)) == (None, DATA[:100])
    assert sender.notes.notes == []


def test_what_was_resumed_after_a_break_is_fetched_anew_where_it_is_wrong(tmp_path: Path) -> None:
    """One connection's bytes may not go with those of another one, also in a single run."""
    sender = Sender([b"?" * 100, BREAK], [DATA[100:]], [DATA])
    assert sender.send(tmp_path) == (2 * len(DATA), DATA)
    assert sender.asked == [0, 100, 0]
    assert sender.notes.notes[1:] == ["there: what was resumed is wrong; started again"]


def test_progress_is_told_while_bytes_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each block, but every so often; and once at the end."""
    blocks: list[bytes | str] = [DATA[:100], DATA[100:300], DATA[300:]]
    sender = Sender(blocks, blocks)
    monkeypatch.setattr(reception, "PROGRESS", 10)
    sender.send(tmp_path / "seldom")
    size = len(DATA)
    assert sender.notes.states == [("data", 100, size), ("data", size, size)]
    sender.notes.states.clear()
    monkeypatch.setattr(reception, "PROGRESS", -1)
    sender.send(tmp_path / "always")
    assert sender.notes.states == [("data", count, size) for count in (100, 300, size, size)]
