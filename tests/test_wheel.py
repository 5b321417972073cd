"""Wheels: unpacked once, hashed against RECORD on the way; METADATA read from the end of a file."""

from __future__ import annotations

import io
import os
import random
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import pytest

import wheels
from torchlock.digest import Digest
from torchlock.errors import WheelError
from torchlock.reporter import Silent
from torchlock.wheels.archive import REMEDY
from torchlock.wheels.wheel import Entry, check, metadata, unpack

if TYPE_CHECKING:
    from pathlib import Path

INFO = "demo-1.0.dist-info"
INIT = "demo/__init__.py"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the bytes and mode of each file under a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_unpack(tmp_path: Path) -> None:
    """Every file is written as `zipfile` reads it, and what was written is returned."""
    files: dict[str, bytes | str] = {INIT: "value = 1\n", "demo/a/b/empty": "", "demo/big.bin": bytes(3 << 20) + b"end"}
    path = wheels.make(tmp_path, files)
    entries = unpack(path, tmp_path / "out", Silent())
    with zipfile.ZipFile(path) as file:
        wanted = {name: (file.read(name), 0o644) for name in file.namelist()}
    assert contents(tmp_path / "out") == wanted
    assert entries == {n: Entry(sha256=Digest.of(data), size=len(data), mode=0o644) for n, (data, _) in wanted.items()}
    assert check(path, Silent()) == entries


def test_modes(tmp_path: Path) -> None:
    """Modes become 0644 or 0755 whatever the ZIP and the umask say; scripts are executable."""
    modes = {"a": 0o104755, "b": 0o100666, "c": 0o102777, "d": 0, "e": 0o100010}
    script = "demo-1.0.data/scripts/run"
    path = wheels.make(tmp_path, {**dict.fromkeys(modes, "x"), script: "#!python\n"}, modes=modes)
    before = os.umask(0o077)
    try:
        unpack(path, tmp_path / "out", Silent())
    finally:
        os.umask(before)
    found = {name: mode for name, (_, mode) in contents(tmp_path / "out").items() if not name.startswith(INFO)}
    assert found == {"a": 0o755, "b": 0o644, "c": 0o755, "d": 0o644, "e": 0o755, script: 0o755}


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_hashes(tmp_path: Path, algorithm: str) -> None:
    """A file of another hash than RECORD's is refused, in each algorithm that RECORD may use."""
    right, wrong = (wheels.row(data, algorithm) for data in (b"value = 1\n", b"value = 2\n"))
    unpack(wheels.make(tmp_path, record={INIT: right}), tmp_path / "right", Silent())
    with pytest.raises(WheelError) as caught:
        unpack(wheels.make(tmp_path, record={INIT: wrong}), tmp_path / "wrong", Silent())
    assert str(caught.value) == (
        f"demo-1.0-py3-none-any.whl: {INIT!r} does not have the {algorithm} in RECORD; "
        f"expected a RECORD that is true; try: {REMEDY}"
    )


def test_all_wrong_hashes_are_told(tmp_path: Path) -> None:
    """Every file that RECORD is wrong about is named."""
    wrong = wheels.row(b"other")
    path = wheels.make(tmp_path, {"a": "12345", "b": "12345", "c": "other"}, record={"a": wrong, "b": wrong})
    with pytest.raises(WheelError) as caught:
        check(path, Silent())
    assert caught.value.found == "'a' does not have the sha256 in RECORD; 'b' does not have the sha256 in RECORD"


def test_flipped_bit(tmp_path: Path) -> None:
    """A flipped bit of a payload is refused while unpacking."""
    path = wheels.flip(
        wheels.make(tmp_path, {"demo/big.txt": "text\n" * 1000}, method=zipfile.ZIP_STORED), "demo/big.txt"
    )
    with pytest.raises(WheelError, match=r"'demo/big\.txt' has the CRC"):
        unpack(path, tmp_path / "out", Silent())


def test_name_of_a_stored_wheel(tmp_path: Path) -> None:
    """A wheel that lies under another name is read by the name that is given."""
    path = wheels.make(tmp_path).rename(tmp_path / "0123")
    assert INIT in unpack(path, tmp_path / "out", Silent(), "demo-1.0-py3-none-any.whl")
    with pytest.raises(WheelError, match="0123: Invalid wheel filename"):
        check(path, Silent())


def test_progress(tmp_path: Path) -> None:
    """Progress is told in bytes of files, up to the total."""
    told: list[tuple[str, int, int | None]] = []

    class Reporter(Silent):
        def progress(self, task: str, done: int, total: int | None) -> None:
            told.append((task, done, total))

    path = wheels.make(tmp_path, {"zeros": bytes(20 << 20)})
    total = sum(entry.size for entry in unpack(path, tmp_path / "out", Reporter()).values())
    assert {(task, size) for task, _, size in told} == {(f"unpack {path.name}", total)}
    assert [done for _, done, _ in told] == [8 << 20, 16 << 20, total]


def test_never_writes_through_what_is_there(tmp_path: Path) -> None:
    """A file that is already in the folder is not written to."""
    (tmp_path / "out" / "demo").mkdir(parents=True)
    (tmp_path / "out" / INIT).symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        unpack(wheels.make(tmp_path), tmp_path / "out", Silent())
    assert not (tmp_path / "victim").exists()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Unpacking a file of 48 MiB holds less than 8 MiB at once."""
    path = wheels.make(tmp_path, {"demo/big": bytes(48 << 20)})
    tracemalloc.start()
    try:
        unpack(path, tmp_path / "out", Silent())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert (tmp_path / "out/demo/big").stat().st_size == 48 << 20


class Watched(io.BytesIO):
    """A file that keeps which of its bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seen: set[int] = set()

    def read(self, size: int | None = -1) -> bytes:
        """Read, and keep where."""
        start = self.tell()
        data = super().read(size)
        self.seen.update(range(start, start + len(data)))
        return data


def test_metadata_touches_only_what_it_needs(tmp_path: Path) -> None:
    """METADATA is read from the end of the file and its own member alone."""
    noise = random.Random(3).randbytes(300_000)  # noqa: S311 - bytes that do not compress
    path = wheels.make(tmp_path, {"demo/big": noise, "demo/b": "", f"{INFO}/METADATA": wheels.metadata("demo", "1.0")})
    watched = Watched(path.read_bytes())
    assert metadata(watched) == wheels.metadata("demo", "1.0").encode()
    assert min(watched.seen) == wheels.local(path, f"{INFO}/METADATA")
    assert len(watched.seen) < 5000


def test_metadata_beside_others(tmp_path: Path) -> None:
    """Only the METADATA directly in a .dist-info folder at the top is meant."""
    files = {"vendored/x-1.dist-info/METADATA": "no", "METADATA": "no", "demo/METADATA": "no"}
    path = wheels.make(tmp_path, files)
    assert metadata(io.BytesIO(path.read_bytes())) == wheels.metadata("demo", "1.0").encode()


def test_metadata_refused(tmp_path: Path) -> None:
    """No METADATA, two of them, a damaged or an oversized one is refused with the place."""
    none = wheels.make(tmp_path / "none", omit=[f"{INFO}/METADATA"])
    two = wheels.make(tmp_path / "two", {"evil-1.0.dist-info/METADATA": ""})
    flipped = wheels.flip(wheels.make(tmp_path / "flipped"), f"{INFO}/METADATA")
    huge = wheels.make(tmp_path / "huge", {f"{INFO}/METADATA": bytes((16 << 20) + 1)})
    cases = [
        (none.read_bytes(), "it has 0 .dist-info/METADATA files"),
        (two.read_bytes(), "it has 2 .dist-info/METADATA files"),
        (flipped.read_bytes(), "its METADATA cannot be read ("),
        (huge.read_bytes(), "its METADATA holds more than 16777216 bytes"),
        (flipped.read_bytes()[:-50], "its METADATA cannot be read ("),
        (b"", "its METADATA cannot be read ("),
    ]
    for data, found in cases:
        with pytest.raises(WheelError) as caught:
            metadata(io.BytesIO(data), "demo.whl")
        assert str(caught.value).startswith(f"demo.whl: {found}")
