"""Streams: gzip members that no compressor made."""

from __future__ import annotations

import gzip
import io
import subprocess

import pytest

from torchlock.digest import Digest
from torchlock.layers.stream import BLOCK, HEAD, Blocks, Stream


class Chunks:
    """A sink that remembers what it was given."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes | memoryview) -> int:
        """Remember a chunk."""
        self.chunks.append(bytes(data))
        return len(data)


def member(*parts: bytes) -> bytes:
    """Return a member of stored blocks whose bytes arrive in these parts."""
    sink, whole = io.BytesIO(), b"".join(parts)
    stream = Stream(sink)
    stream.put(HEAD)
    blocks = Blocks(stream, len(whole))
    for part in parts:
        blocks.put(part)
    stream.end(0, len(whole))
    stream.flush()
    return sink.getvalue()


def test_bytes() -> None:
    """A member is the head of RFC 1952 without a time, one stored block, CRC and size."""
    sink = io.BytesIO()
    stream = Stream(sink)
    stream.stored(b"ab")
    stream.flush()
    assert sink.getvalue().hex() == "1f8b08000000000000ff" + "010200fdff6162" + "6d48839e" + "02000000"


@pytest.mark.parametrize("size", [1, 65534, 65535, 65536, 131070, 200000])
def test_any_size(size: int) -> None:
    """What was stored comes back, by gzip's own account, too."""
    data, sink = bytes(range(256)) * (size // 256) + b"x" * (size % 256), io.BytesIO()
    stream = Stream(sink)
    stream.stored(data)
    stream.stored(b"second")
    stream.flush()
    assert gzip.decompress(sink.getvalue()) == data + b"second"
    subprocess.run(["gzip", "-t"], input=sink.getvalue(), check=True, capture_output=True)


def test_cuts() -> None:
    """However the bytes arrive, the blocks are cut at the same places."""
    data = bytes(150000)
    assert member(data) == member(data[:1], data[1:70000], b"", data[70000:]) == member(*[data[:3]] * 50000)


def test_small_things_are_gathered() -> None:
    """The sink gets blocks of about 1 MiB, the digest is of all of them, and progress says how far it is."""
    sink, said = Chunks(), list[int]()
    stream = Stream(sink, said.append)
    for _ in range(3 * 1024):
        stream.put(b"x" * 1000)
    stream.flush()
    stream.flush()
    whole = b"x" * 3072000
    assert b"".join(sink.chunks) == whole
    assert [len(chunk) >= BLOCK for chunk in sink.chunks] == [True, True, False]
    assert said == [len(sink.chunks[0]), len(sink.chunks[0]) * 2, len(whole)]
    assert (stream.digest, stream.size) == (Digest.of(whole), len(whole))


def test_size_beyond_four_gigabytes() -> None:
    """The size at the end of a member is taken modulo 2**32, as RFC 1952 has it."""
    sink = io.BytesIO()
    stream = Stream(sink)
    stream.end(1, (1 << 32) + 5)
    stream.flush()
    assert sink.getvalue() == bytes([1, 0, 0, 0, 5, 0, 0, 0])
