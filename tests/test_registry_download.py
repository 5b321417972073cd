"""One blob on its way here: whole and verified, or not there; what came of it is kept."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from registries import Handler, Registry, answering, connect, named
from torchlock.errors import RegistryError
from torchlock.oci.descriptor import LAYER_GZIP
from torchlock.registry.download import download
from torchlock.storage.crew import StoppedError

if TYPE_CHECKING:
    from torchlock.oci.blobs import Blobs

DATA = os.urandom(1 << 20)
BLOB = named(DATA, LAYER_GZIP)


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that has a blob."""
    registry.repository("a/b").blobs[str(BLOB.digest)] = DATA
    return registry


def test_a_blob_comes_once(registry: Registry, blobs: Blobs) -> None:
    """How many bytes came is said; none where it was there."""
    client, stop = connect(registry), threading.Event()
    assert download(client, BLOB, blobs, stop) == len(DATA)
    assert download(client, BLOB, blobs, stop) == 0
    assert blobs.read(BLOB) == DATA
    assert len(registry.seen) == 1


def test_threads_that_want_the_same_blob_wait_for_one(registry: Registry, blobs: Blobs) -> None:
    """The bytes come once, whoever fetches them."""
    came: list[int] = []
    threads = [
        threading.Thread(target=lambda: came.append(download(connect(registry), BLOB, blobs, threading.Event())))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == [0, 0, 0, 0, len(DATA)]


def test_a_whole_partial_needs_no_registry(registry: Registry, blobs: Blobs) -> None:
    """Killed just before it was published."""
    with blobs.receiving(BLOB) as partial:
        partial.write(DATA)
    assert download(connect(registry), BLOB, blobs, threading.Event()) == 0
    assert registry.seen == []
    assert blobs.read(BLOB) == DATA


def test_a_full_partial_of_other_bytes_starts_again(registry: Registry, blobs: Blobs) -> None:
    """There is nothing to ask for behind its end."""
    with blobs.receiving(BLOB) as partial:
        partial.write(b"?" * len(DATA))
    assert download(connect(registry), BLOB, blobs, threading.Event()) == len(DATA)
    assert "range" not in registry.seen[0].headers


def test_a_range_that_is_not_to_be_had_is_asked_for_no_more(registry: Registry, blobs: Blobs) -> None:
    """What is here is forgotten, and the whole blob comes."""
    with blobs.receiving(BLOB) as partial:
        partial.write(DATA[:1000])
    registry.fault("GET", "", answering(416))
    assert download(connect(registry), BLOB, blobs, threading.Event()) == len(DATA)
    assert [seen.headers.get("range") for seen in registry.seen] == ["bytes=1000-", None]


def test_another_blobs_length_costs_nothing_that_is_here(registry: Registry, blobs: Blobs) -> None:
    """An answer that is refused by its headers alone is not begun with."""
    with blobs.receiving(BLOB) as partial:
        partial.write(DATA[:1000])
    registry.fault("GET", "", answering(200, b"another"))
    with pytest.raises(RegistryError, match=f"7 bytes; expected {len(DATA)} bytes"):
        download(connect(registry), BLOB, blobs, threading.Event())
    assert blobs.received(BLOB) == 1000


def test_a_stopped_download_gives_way_and_keeps_what_came(registry: Registry, blobs: Blobs) -> None:
    """Between two blocks."""
    stop = threading.Event()

    def stopping(handler: Handler) -> None:
        handler.answer(200, DATA[:500_000], {"Content-Length": str(len(DATA))})
        stop.set()
        handler.wfile.write(DATA[500_000:])

    registry.fault("GET", "", stopping)
    with pytest.raises(StoppedError):
        download(connect(registry), BLOB, blobs, stop)
    assert blobs.get(BLOB) is None
    with pytest.raises(StoppedError):
        download(connect(registry), BLOB, blobs, stop)
    assert len(registry.seen) == 1


def test_a_download_that_moves_on_is_never_given_up(registry: Registry, blobs: Blobs) -> None:
    """However often it is cut: new ground renews the budget of four tries."""
    data = os.urandom(8 << 20)
    blob = named(data, LAYER_GZIP)

    def cut(handler: Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        rest = data[start:]
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        handler.answer(206 if start else 200, rest[:1_200_000], {"Content-Length": str(len(rest)), **ranged})
        handler.cut()

    registry.repository("a/b").blobs[str(blob.digest)] = data
    registry.fault("GET", "/blobs/", cut, times=6)
    assert download(connect(registry), blob, blobs, threading.Event()) == len(data)
    assert len(registry.seen) == 7
