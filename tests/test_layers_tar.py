"""Tar headers: what other readers see in them, and which paths are none."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest

from torchlock.errors import ImageError
from torchlock.layers import headers, tar
from torchlock.layers.tar import EPOCH, Entry

LONG = "/".join(["d" * 60] * 5)
ENTRIES = (
    Entry(path="bin/run", mode=0o755, size=7),
    Entry(path="home", kind="folder", mode=0o1777),
    Entry(path="lib/a", kind="link", mode=0o777, target="../b"),
    Entry(path="n" * 100),
    Entry(path="n" * 101),
    Entry(path=f"{'p' * 155}/{'n' * 100}"),
    Entry(path=f"{'p' * 155}/{'n' * 101}"),
    Entry(path=f"{'p' * 155}/{'n' * 99}", kind="folder"),
    Entry(path=f"{'p' * 156}/n"),
    Entry(path=LONG, kind="folder", mode=0o755),
    Entry(path="f\u00fc\u4e2d.py", size=3),
    Entry(path="l", kind="link", mode=0o777, target="t" * 101),
    Entry(path="m", kind="link", mode=0o777, target="\u00fc"),
    Entry(path="large", size=0o77777777777),
    Entry(path="larger", size=0o100000000000),
)


def first(data: bytes) -> tarfile.TarInfo:
    """Return what Python's reader sees."""
    with tarfile.open(fileobj=io.BytesIO(data + tar.END), mode="r:") as file:
        found = file.next()
    assert found is not None
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path[:8])
def test_as_tarfile_reads_it(entry: Entry) -> None:
    """Path, kind, mode, size, target and time survive; the owner is 0:0 and has no name."""
    found = first(tar.header(entry))
    assert (found.name, found.mode, found.size, found.linkname) == (entry.path, entry.mode, entry.size, entry.target)
    assert {"file": found.isreg(), "folder": found.isdir(), "link": found.issym()}[entry.kind]
    assert (found.mtime, found.uid, found.gid, found.uname, found.gname) == (EPOCH, 0, 0, "", "")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path[:8])
def test_as_we_read_it(entry: Entry) -> None:
    """Our strict reader sees the same."""
    found = headers.read(io.BytesIO(tar.header(entry)).read)
    assert found is not None
    path = f"{entry.path}/" if entry.kind == "folder" else entry.path
    assert (found.path, found.kind, found.mode, found.size) == (path, entry.kind, entry.mode, entry.size)
    assert (found.target, found.uid, found.gid, found.mtime) == (entry.target, 0, 0, EPOCH)


def test_as_gnu_tar_reads_it() -> None:
    """GNU tar lists every path, long or not, and complains of nothing."""
    small = [entry for entry in ENTRIES if entry.size < 1000]
    data = b"".join(tar.header(entry) + bytes(entry.size) + tar.padding(entry.size) for entry in small) + tar.END
    command = ["tar", "--quoting-style=literal", "-tf", "-"]
    listed = subprocess.run(command, input=data, capture_output=True, check=True)
    assert listed.stderr == b""
    paths = [f"{entry.path}/" if entry.kind == "folder" else entry.path for entry in small]
    assert listed.stdout.decode().splitlines() == paths


def test_pax_only_where_needed() -> None:
    """A path that ustar can hold has one block; one that it cannot has two more."""
    sizes = {entry.path: len(tar.header(entry)) for entry in ENTRIES}
    assert [path for path, size in sizes.items() if size == 512] == [
        *("bin/run", "home", "lib/a", "n" * 100),
        *(f"{'p' * 155}/{'n' * 100}", f"{'p' * 155}/{'n' * 99}"),
        "large",
    ]
    assert set(sizes.values()) == {512, 1536}


def test_records_are_sorted() -> None:
    """Where a path needs two pax records, they stand in the order of their keywords."""
    data = tar.header(Entry(path="\u00fc" * 60, kind="link", mode=0o777, target="\u00fc" * 60))
    assert 0 < data.index(b" linkpath=") < data.index(b" path=")


def test_a_record_counts_its_own_length() -> None:
    """The length of a pax record stands at its head and counts its own digits, also where they become more."""
    for size in range(80, 1100):
        data = tar.header(Entry(path="\u00fc" + "x" * size))
        assert first(data).name == "\u00fc" + "x" * size


@pytest.mark.parametrize("path", ["", "/", "/a", "a/", "a//b", ".", "./a", "..", "a/../b", "a\0b"])
def test_bad_path(path: str) -> None:
    """A path is relative to the root, and there is one way to write it."""
    with pytest.raises(ImageError) as error:
        Entry(path=path)
    expected = "one below the root without ., .. or empty parts"
    assert str(error.value) == f"a layer: the path {path!r}; expected {expected}"


def test_whiteout() -> None:
    """Nothing of ours removes anything."""
    with pytest.raises(ImageError) as error:
        Entry(path="a/.wh.b")
    expected = "no name that starts by .wh.: to engines it removes"
    assert str(error.value) == f"a layer: the path 'a/.wh.b'; expected {expected}"


@pytest.mark.parametrize(
    ("kind", "size", "target"),
    [("folder", 1, ""), ("link", 1, "a"), ("link", 0, ""), ("file", 0, "a"), ("device", 0, "")],
)
def test_contradiction(kind: str, size: int, target: str) -> None:
    """Only files have bytes, only links lead somewhere, and there is nothing else."""
    with pytest.raises(ImageError) as error:
        Entry(path="p", kind=kind, size=size, target=target)
    assert str(error.value) == f"a layer: 'p' is a {kind} of {size} bytes to {target!r}"


def test_padding() -> None:
    """Contents are filled up to 512 bytes."""
    assert [len(tar.padding(size)) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]
