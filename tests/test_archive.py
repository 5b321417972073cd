"""Archives: every way in which a ZIP can be read as two different things is refused."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

import wheels
from torchlock.errors import WheelError
from torchlock.wheels.archive import REMEDY, Archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INIT = "demo/__init__.py"


def read(path: Path) -> dict[str, bytes]:
    """Return all files of an archive by the strict reader."""
    with path.open("rb") as file:
        archive = Archive.read(file, path.name)
        return {name: archive.bytes_of(member) for name, member in archive.members.items()}


def refusal(path: Path) -> str:
    """Return what is said of an archive that must be refused, without the ends that are always the same."""
    with pytest.raises(WheelError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path.name}: ")
    assert text.endswith(f"; try: {REMEDY}")
    found: str = caught.value.found
    return found


def reference(path: Path) -> dict[str, bytes]:
    """Return all files by `zipfile`."""
    with zipfile.ZipFile(path) as file:
        return {info.filename: file.read(info) for info in file.infolist() if not info.is_dir()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_reads_what_zipfile_reads(tmp_path: Path, method: int) -> None:
    """A sound archive gives the bytes that `zipfile` gives, whatever their sizes and how well they compress."""
    noise = random.Random(1).randbytes  # noqa: S311 - bytes that do not compress
    sizes = (0, 1, 65535, 1 << 20, (1 << 20) + 1, 3 << 20)
    files = {f"d/{kind}{size}": make(size) for size in sizes for kind, make in (("n", noise), ("z", bytes))}
    path = wheels.make(tmp_path, files, method=method)
    assert read(path) == reference(path)


def test_blocks_are_bounded(tmp_path: Path) -> None:
    """A file that inflates a thousandfold comes in blocks of at most 1 MiB."""
    path = wheels.make(tmp_path, {"zeros": bytes(20 << 20)})
    with path.open("rb") as file:
        archive = Archive.read(file, path.name)
        sizes = [len(block) for block in archive.blocks(archive.members["zeros"])]
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= 1 << 20


def test_raw_bytes_are_where_the_member_says(tmp_path: Path) -> None:
    """`offset` and `compressed_size` delimit the raw deflate stream."""
    path = wheels.make(tmp_path, {INIT: "value = 1\n" * 99}, modes={INIT: 0o100755})
    with path.open("rb") as file:
        member = Archive.read(file, path.name).members[INIT]
    raw = path.read_bytes()[member.offset : member.offset + member.compressed_size]
    assert zlib.decompress(raw, -15) == b"value = 1\n" * 99
    assert (member.method, member.size, member.crc) == (8, 990, zlib.crc32(b"value = 1\n" * 99))
    assert member.executable


def streamed(folder: Path, *, force_zip64: bool = False) -> Path:
    """Return an archive written without seeking: its sizes stand in data descriptors."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a", "b"):
            with file.open(wheels.entry(name), "w", force_zip64=force_zip64) as member:
                member.write(name.encode() * 999)
    path = folder / "streamed.zip"
    path.write_bytes(pipe.data)
    return path


@pytest.mark.parametrize("force_zip64", [False, True])
def test_data_descriptors(tmp_path: Path, force_zip64: bool) -> None:
    """Sizes may stand behind the member, in 32 or 64 bits, and must be true there."""
    path = streamed(tmp_path, force_zip64=force_zip64)
    assert read(path) == {"a": b"a" * 999, "b": b"b" * 999}
    data = path.read_bytes()
    wheels.edit(path, lambda data: data.__setitem__(14, 1))
    assert refusal(path) == "'a' has another size or CRC in its local header"
    path.write_bytes(data)
    at = data.index(b"PK\x07\x08")
    wheels.edit(path, lambda data: data.__setitem__(at + 4, data[at + 4] ^ 1))
    assert refusal(path) == "'a' is not followed by its data descriptor"


def test_data_descriptor_without_signature(tmp_path: Path) -> None:
    """The signature of a data descriptor may be left out, as the specification says."""
    path = streamed(tmp_path)

    def drop(data: bytearray) -> None:
        at = data.rindex(b"PK\x07\x08")
        del data[at : at + 4]
        end = len(data) - 6
        data[end : end + 4] = struct.pack("<L", struct.unpack_from("<L", data, end)[0] - 4)

    wheels.edit(path, drop)
    assert read(path) == {"a": b"a" * 999, "b": b"b" * 999}


def test_stored_data_descriptor(tmp_path: Path) -> None:
    """A stored member whose size only its descriptor tells is refused: a reader of streams cannot find its end."""
    path = wheels.make(tmp_path, {INIT: "value"}, method=zipfile.ZIP_STORED)
    start, central = wheels.local(path, INIT), wheels.central(path, INIT)

    def change(content: bytearray) -> None:
        content[start + 6] |= 8
        content[central + 8] |= 8
        content[start + 14 : start + 26] = bytes(12)

    wheels.edit(path, change)
    assert f"{INIT!r} is stored without its size in its local header" in refusal(path)


def test_zip64_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ZIP64 end records are read, and refused where they and the plain one disagree."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = wheels.make(tmp_path)
    data = path.read_bytes()
    assert b"PK\x06\x07" in data
    assert read(path) == reference(path)
    wheels.edit(path, lambda data: data.__setitem__(-14, 3))
    assert refusal(path) == "its two end records disagree"
    path.write_bytes(data)
    at = data.index(b"PK\x06\x07")
    wheels.edit(path, lambda data: data.__setitem__(at + 8, data[at + 8] ^ 1))
    assert refusal(path) == "its ZIP64 end record is not where its locator says"


def at_local(offset: int, value: int) -> Callable[[Path], Path]:
    """Return a change of one byte in the first local header."""
    return lambda path: wheels.edit(path, lambda data: data.__setitem__(wheels.local(path, INIT) + offset, value))


def at_central(offset: int, value: int) -> Callable[[Path], Path]:
    """Return a change of one byte in the first central directory header."""
    at = {}

    def change(path: Path) -> Path:
        at["start"] = wheels.central(path, INIT)
        return wheels.edit(path, lambda data: data.__setitem__(at["start"] + offset, value))

    return change


def insert(at: int, junk: bytes, *, moved: int = 0) -> Callable[[Path], Path]:
    """Return an insertion of bytes, after which the end record's offset is moved."""

    def change(data: bytearray) -> None:
        place = at if at >= 0 else len(data) + at + 1
        data[place:place] = junk
        if moved:
            end = data.rindex(b"PK\x05\x06") + 16
            data[end : end + 4] = struct.pack("<L", struct.unpack_from("<L", data, end)[0] + moved)

    return lambda path: wheels.edit(path, change)


DISAGREE = f"{INIT!r} has other flags or another method in its local header"
SIZES = f"{INIT!r} has another size or CRC in its local header"
NO_END = "it does not end in a ZIP end record: it is truncated, or something follows"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (at_local(6, 2), DISAGREE),
        (at_local(8, 0), DISAGREE),
        (at_local(14, 0xEE), SIZES),
        (at_local(18, 0xEE), SIZES),
        (at_local(22, 0xEE), SIZES),
        (at_local(30, ord("x")), f"{INIT!r} has another name in its local header"),
        (at_local(0, 0), f"{INIT!r} has no local header"),
        (at_local(28, 1), f"{INIT!r} overlaps what follows it"),
        (at_central(20, 1), SIZES),
        (at_central(8, 1), f"{INIT!r} is encrypted"),
        (at_central(10, 12), f"{INIT!r} is compressed by method 12, not stored (0) or deflated (8)"),
        (at_central(34, 1), f"{INIT!r} lies on another disk"),
        (insert(-1, b"junk"), NO_END),
        (lambda path: wheels.edit(path, lambda data: data.__setitem__(-2, 1)), NO_END),
        (lambda path: wheels.edit(path, lambda data: data.__delitem__(slice(-100, None))), NO_END),
        (lambda path: wheels.edit(path, lambda data: data.__delitem__(slice(-1, None))), NO_END),
        (lambda path: wheels.edit(path, lambda data: data.__delitem__(slice(None))), NO_END),
        (insert(0, b"#!/bin/sh\n"), "its end record does not follow its central directory"),
        (lambda p: wheels.edit(p, lambda d: d.__setitem__(-18, 1)), "it is a part of a ZIP on several disks"),
    ],
)
def test_ambiguity(tmp_path: Path, change: Callable[[Path], Path], found: str) -> None:
    """Each disagreement inside a ZIP, and each byte too many or too few, is refused by name."""
    assert found in refusal(change(wheels.make(tmp_path)))


def test_comment(tmp_path: Path) -> None:
    """A comment after the end record is refused: another end record can hide in it."""
    path = wheels.make(tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"PK"
    assert refusal(path) == NO_END


def test_gap(tmp_path: Path) -> None:
    """Bytes between the last member and the central directory are refused, as belonging to nothing."""
    path = wheels.make(tmp_path)
    with zipfile.ZipFile(path) as file:
        start = file.start_dir
    insert(start, b"hidden", moved=6)(path)
    assert refusal(path) == "'demo-1.0.dist-info/RECORD' is followed by 6 bytes that belong to nothing"


def test_hidden_first_member(tmp_path: Path) -> None:
    """A member that stands in the file but not in the central directory is refused."""
    path = wheels.make(tmp_path)
    at, size = wheels.central(path, INIT), 46 + len(INIT)

    def hide(data: bytearray) -> None:
        del data[at : at + size]
        end = len(data) - 22
        count, length = struct.unpack_from("<H", data, end + 8)[0] - 1, struct.unpack_from("<L", data, end + 12)[0]
        struct.pack_into("<HHL", data, end + 8, count, count, length - size)

    wheels.edit(path, hide)
    assert refusal(path).endswith("bytes before its first member")


def test_count(tmp_path: Path) -> None:
    """An end record that counts other members than there are is refused."""

    def change(data: bytearray) -> None:
        data[-14] = data[-12] = 9

    assert refusal(wheels.edit(wheels.make(tmp_path), change)) == "4 entries where its end record says 9"


def test_second_name(tmp_path: Path) -> None:
    """The extra field that gives a member another name is refused in either header."""
    info = wheels.entry("a")
    info.extra = struct.pack("<2HBL", 0x7075, 6, 1, zlib.crc32(b"a")) + b"b"
    path = wheels.make(tmp_path, {}, extra=[(info, b"")])
    assert "'a' has a second name; 'a' has a second name in its local header" in refusal(path)


def test_undeclared_encoding(tmp_path: Path) -> None:
    """A name outside ASCII must be declared as UTF-8."""
    path = wheels.make(tmp_path, {"é": "x"})
    assert "é" in read(path)
    start, central = wheels.local(path, "é"), wheels.central(path, "é")

    def change(data: bytearray) -> None:
        data[start + 7] = data[central + 9] = 0

    assert "has a name in no declared encoding" in refusal(wheels.edit(path, change))


@pytest.mark.parametrize(
    ("name", "mode", "issue"),
    [
        ("link", stat.S_IFLNK | 0o777, "'link' is a symbolic link"),
        ("pipe", stat.S_IFIFO | 0o644, "'pipe' is not a plain file"),
        ("disk", stat.S_IFBLK | 0o644, "'disk' is not a plain file"),
        ("folder", stat.S_IFDIR | 0o755, "'folder' is not a plain file"),
        ("file/", stat.S_IFREG | 0o644, "'file/' is not a plain file"),
        ("../evil.py", 0o644, "'../evil.py' leaves its folder, or has an empty part"),
        ("/etc/evil", 0o644, "'/etc/evil' is an absolute name"),
        ("a\\b", 0o644, "'a\\\\b' has a backslash in its name"),
        ("a\x07b", 0o644, "'a\\x07b' has a control character in its name"),
        (INIT, 0o644, "'demo/__init__.py' comes twice"),
        ("Demo/__init__.py", 0o644, "'Demo/__init__.py' and 'demo/__init__.py' differ only by case"),
        ("demo/__init__.py/x", 0o644, "'demo/__init__.py/x' lies beneath the file 'demo/__init__.py'"),
    ],
)
def test_members(tmp_path: Path, name: str, mode: int, issue: str) -> None:
    """A member that is no plain file under a plain name is refused."""
    assert refusal(wheels.make(tmp_path, extra=[(wheels.entry(name, mode), b"")])) == issue


def test_folder_with_contents(tmp_path: Path) -> None:
    """A folder's entry may be there, but holds nothing."""
    assert "folder/" not in read(wheels.make(tmp_path, extra=[(wheels.entry("folder/", 0o40755), b"")]))
    found = refusal(wheels.make(tmp_path, extra=[(wheels.entry("folder/", 0o40755), b"x")]))
    assert found == "'folder/' is a folder with contents"


def test_file_beneath_a_symlink(tmp_path: Path) -> None:
    """A symbolic link and a file beneath it are both told."""
    extra = [(wheels.entry("link", stat.S_IFLNK | 0o777), b"/etc"), (wheels.entry("link/passwd"), b"x")]
    found = refusal(wheels.make(tmp_path, extra=extra))
    assert found == "'link/passwd' lies beneath the file 'link'; 'link' is a symbolic link"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods(tmp_path: Path, method: int) -> None:
    """Only stored and deflated members are read."""
    assert f"is compressed by method {method}" in refusal(wheels.make(tmp_path, method=method))


def test_every_issue_is_told_on_one_line(tmp_path: Path) -> None:
    """All issues are collected; past eight they are counted."""
    extra: list[tuple[str | zipfile.ZipInfo, bytes]] = [(f"../{number}", b"") for number in range(12)]
    found = refusal(wheels.make(tmp_path, extra=extra))
    assert [f"'../{number}'" in found for number in range(12)] == [True] * 8 + [False] * 4
    assert found.endswith("; and 4 more")


def test_bomb(tmp_path: Path) -> None:
    """More than 50:1 over 64 MiB in all is refused before anything is inflated; less is not."""
    files = {f"zeros{number}": bytes(17 << 20) for number in range(4)}
    path = wheels.make(tmp_path, files)
    assert refusal(path).endswith(f"claim to hold {sum(map(len, reference(path).values()))}, more than 50:1")
    wheels.make(tmp_path, {"zeros": bytes(60 << 20)})
    assert len(read(tmp_path / "demo-1.0-py3-none-any.whl")["zeros"]) == 60 << 20


def both(path: Path, member: str, size: int) -> Path:
    """Let both headers of a member state another uncompressed size."""
    start, central = wheels.local(path, member), wheels.central(path, member)

    def change(data: bytearray) -> None:
        data[start + 22 : start + 26] = data[central + 24 : central + 28] = struct.pack("<L", size)

    return wheels.edit(path, change)


def test_lying_size(tmp_path: Path) -> None:
    """A member that holds more or fewer bytes than it says is refused, and never more than it says is kept."""
    path = wheels.make(tmp_path, {"zeros": bytes(5 << 20)})
    assert refusal(both(path, "zeros", 1 << 20)) == f"'zeros' holds more than its {1 << 20} bytes"
    assert refusal(both(path, "zeros", 6 << 20)) == f"'zeros' holds {5 << 20} bytes, not {6 << 20}"
    stored = wheels.make(tmp_path, {"a": b"abc"}, method=zipfile.ZIP_STORED)
    assert refusal(both(stored, "a", 2)) == "'a' is stored, yet 3 bytes are to give 2"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_bit(tmp_path: Path, method: int) -> None:
    """One flipped bit of a payload is found by the CRC or by inflating."""
    path = wheels.flip(wheels.make(tmp_path, {"a": "some text\n" * 20}, method=method), "a")
    assert refusal(path).startswith("'a' ")


TEXT = b"text " * 99
PIECES = [bytes(65531)] * 4
# Four stored blocks (RFC 1951, 3.2.4) that end exactly where the reader's first read ends.
BLOCKS = b"".join(struct.pack("<B2H", i == 3, len(p), len(p) ^ 0xFFFF) + p for i, p in enumerate(PIECES))


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (zlib.compress(TEXT)[2:-5], TEXT),
        (zlib.compress(TEXT)[2:-4] + b"tail", TEXT),
        (zlib.compress(TEXT)[2:-4] + bytes(1 << 20), TEXT),
        (BLOCKS + b"tail", b"".join(PIECES)),
    ],
)
def test_deflate_stream_ends_at_its_end(tmp_path: Path, raw: bytes, content: bytes) -> None:
    """A deflate stream that stops early, or has bytes after its end inside its member, is refused."""
    path = wheels.make(tmp_path, {}, extra=[(wheels.entry("a", method=zipfile.ZIP_STORED), raw)])
    start, central = wheels.local(path, "a"), wheels.central(path, "a")

    def change(data: bytearray) -> None:
        for at, method, crc, size in ((start, 8, 14, 22), (central, 10, 16, 24)):
            data[at + method] = 8
            struct.pack_into("<L", data, at + crc, zlib.crc32(content))
            struct.pack_into("<L", data, at + size, len(content))

    assert refusal(wheels.edit(path, change)) == "'a' is not one whole deflate stream"


def test_not_a_central_directory(tmp_path: Path) -> None:
    """A central directory that `zipfile` cannot read is a refusal, not a traceback."""
    path = wheels.make(tmp_path)
    at = wheels.central(path, INIT)
    wheels.edit(path, lambda data: data.__setitem__(at, 0))
    assert refusal(path).startswith("its central directory cannot be read (")


def test_no_flipped_bit_goes_unseen_or_breaks_the_reader(tmp_path: Path) -> None:
    """Whatever bit of an archive is flipped: it is refused, or it still gives the same names and bytes."""
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(wheels.entry("a/b"), b"value = 1\n")
    data, sound = path.read_bytes(), read(path)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = read(path)
        except WheelError:
            continue
        assert found == sound
