"""Reading layers: ours and foreign ones, entry by entry; what engines do not all take the same way is refused."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

import wheels
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.layers import reading
from torchlock.layers.layer import arranged, file, folder, link, write
from torchlock.layers.reading import Read, diff_id, entries
from torchlock.layers.tar import EPOCH
from torchlock.oci.descriptor import DOCKER_LAYER_GZIP, LAYER, LAYER_GZIP, LAYER_ZSTD

if TYPE_CHECKING:
    from pathlib import Path

FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ONE_WAY = "expected a layer that can be read in one way only"


def tar(*items: tuple[str, bytes, str | bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of entries: path, kind, and the bytes of a file or the target of a link."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tar_format) as made:
        for name, kind, content in items:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(content, bytes):
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                made.addfile(info)
    return sink.getvalue()


def stored(tmp_path: Path, data: bytes) -> Path:
    """Return the file of a blob."""
    path = tmp_path / "blob"
    path.write_bytes(data)
    return path


def read(tmp_path: Path, data: bytes, media_type: str = LAYER, expected: Digest | None = None) -> list[Read]:
    """Read a layer to its end."""
    return list(entries(stored(tmp_path, data), media_type, expected))


def refused(tmp_path: Path, data: bytes, media_type: str = LAYER) -> str:
    """Return why a layer is refused."""
    with pytest.raises(ImageError) as error:
        read(tmp_path, data, media_type)
    return str(error.value)


def test_our_own(tmp_path: Path) -> None:
    """A layer of ours comes back as it was written."""
    path = tmp_path / "layer"
    with path.open("wb") as sink:
        blob = write(arranged([file("a/b", b"12", executable=True), link("l", "a/b"), folder("tmp", 0o1777)]), sink)
    common: dict[str, Any] = {"size": 0, "sha256": None, "target": "", "uid": 0, "gid": 0, "mtime": EPOCH}
    assert list(entries(path, LAYER_GZIP, blob.diff_id)) == [
        Read(path="a", kind="folder", mode=0o755, **common),
        Read(path="a/b", kind="file", mode=0o755, **{**common, "size": 2, "sha256": Digest.of(b"12")}),
        Read(path="l", kind="link", mode=0o777, **{**common, "target": "a/b"}),
        Read(path="tmp", kind="folder", mode=0o1777, **common),
    ]
    assert diff_id(path, LAYER_GZIP) == blob.diff_id


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_foreign(tmp_path: Path, tar_format: int) -> None:
    """What a base's layers hold is read: `./` before names, long names, links, hard links, whiteouts."""
    long = "/".join(["long"] * 50)
    data = tar(
        ("./", FOLDER, ""),
        ("./usr/", FOLDER, ""),
        ("./usr/b", FILE, b"abc"),
        ("./usr/c", HARD, "./usr/b"),
        ("./bin", LINK, "usr"),
        ("./etc/l", LINK, "/usr/b"),
        ("./usr/share/l", LINK, "../../etc/l"),
        (f"./{long}", FILE, b""),
        ("./var/.wh.gone", FILE, b""),
        ("./opt/.wh..wh..opq", FILE, b""),
        ("./etc/system\\x2dd.conf", FILE, b""),
        tar_format=tar_format,
    )
    found = read(tmp_path, data)
    assert [(item.path, item.kind, item.target) for item in found] == [
        (".", "folder", ""),
        ("usr", "folder", ""),
        ("usr/b", "file", ""),
        ("usr/c", "hardlink", "usr/b"),
        ("bin", "link", "usr"),
        ("etc/l", "link", "/usr/b"),
        ("usr/share/l", "link", "../../etc/l"),
        (long, "file", ""),
        ("var/.wh.gone", "whiteout", ""),
        ("opt/.wh..wh..opq", "opaque", ""),
        ("etc/system\\x2dd.conf", "file", ""),
    ]
    assert found[2].sha256 == Digest.of(b"abc")
    assert [item.sha256 for item in found if item.kind != "file"] == [None] * 8


def test_gnu_tar(tmp_path: Path) -> None:
    """What GNU tar itself packs is read, hard links and all, to the digest that sha256sum gives."""
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a/b").write_bytes(b"x" * 100000)
    (tree / "a" / ("n" * 150)).hardlink_to(tree / "a/b")
    (tree / "l").symlink_to("a/b")
    subprocess.run(["tar", "--sort=name", "-czf", tmp_path / "blob", "-C", tree, "."], check=True)
    found = list(entries(tmp_path / "blob", DOCKER_LAYER_GZIP))
    kinds = {item.path: item.kind for item in found}
    assert kinds == {".": "folder", "a": "folder", "a/b": "file", "a/" + "n" * 150: "hardlink", "l": "link"}
    plain = subprocess.run(["gzip", "-dc", tmp_path / "blob"], check=True, capture_output=True).stdout
    assert diff_id(tmp_path / "blob", DOCKER_LAYER_GZIP) == Digest.of(plain)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([("../evil", FILE, b"")], "the name '../evil', which leaves its folder"),
        ([("a/../../evil", FILE, b"")], "the name 'a/../../evil', which leaves its folder"),
        ([("./..", FOLDER, "")], "the name './../', which leaves its folder"),
        ([("/etc/passwd", FILE, b"")], "the absolute name '/etc/passwd'"),
        ([("a//b", FILE, b"")], "the name 'a//b', which has an empty part"),
        ([("a/./b", FILE, b"")], "the name 'a/./b', which has an empty part"),
        ([("././a", FILE, b"")], "the name '././a', which has an empty part"),
        ([("", FILE, b"")], "the name '', which has an empty part"),
        ([(".", FILE, b"")], "a file in the place of the root"),
        ([("/".join("a" * 129), FILE, b"")], "a name of 129 parts"),
        ([("a", FILE, b"1"), ("a", FILE, b"2")], "'a' twice"),
        ([("a", FOLDER, ""), ("./a/", FOLDER, "")], "'a' twice"),
        ([("a", LINK, "b"), ("a", FILE, b"")], "'a' twice"),
        ([("a", LINK, "/etc"), ("a/passwd", FILE, b"")], "'a/passwd' beneath the link 'a'"),
        ([("a", LINK, "/etc"), ("a/b/c/passwd", FILE, b"")], "'a/b/c/passwd' beneath the link 'a'"),
        ([("a/passwd", FILE, b""), ("a", LINK, "/etc")], "the link 'a' and something beneath it"),
        ([("a", FILE, b""), ("a/b", FILE, b"")], "'a/b' beneath the file 'a'"),
        ([("a/b/c", FILE, b""), ("a", FILE, b"")], "the file 'a' and something beneath it"),
        ([("a", LINK, "../x")], "the link 'a' to '../x', which leaves the root"),
        ([("a/b", LINK, "x/../../../x")], "the link 'a/b' to 'x/../../../x', which leaves the root"),
        ([("a/b", LINK, "/x/../../y")], "the link 'a/b' to '/x/../../y', which leaves the root"),
        ([("a", LINK, "")], "the link 'a' to nothing"),
        ([("a", HARD, "/etc/passwd")], "the absolute name '/etc/passwd'"),
        ([("a", HARD, "../x")], "the name '../x', which leaves its folder"),
        ([("a", HARD, "b")], "the hard link 'a' to 'b', which is no file before it in this layer"),
        (
            [("l", LINK, "/etc/passwd"), ("a", HARD, "l")],
            "the hard link 'a' to 'l', which is no file before it in this layer",
        ),
        ([("a", HARD, "a")], "the hard link 'a' to 'a', which is no file before it in this layer"),
        ([("dev/null", tarfile.CHRTYPE, "")], "the character device 'dev/null'"),
        ([("dev/sda", tarfile.BLKTYPE, "")], "the block device 'dev/sda'"),
        ([("run/pipe", tarfile.FIFOTYPE, "")], "the named pipe 'run/pipe'"),
        ([("a/.wh.", FILE, b"")], "the whiteout 'a/.wh.', which names nothing that could be removed"),
        ([(".wh..", FILE, b"")], "the whiteout '.wh..', which names nothing that could be removed"),
        ([("a/.wh...", FILE, b"")], "the whiteout 'a/.wh...', which names nothing that could be removed"),
        ([("a/.wh..wh.plnk", FILE, b"")], "the whiteout 'a/.wh..wh.plnk', which names nothing that could be removed"),
        ([("a/.wh.b", FILE, b"x")], "the whiteout 'a/.wh.b', a file of 1 bytes"),
        ([("a/.wh.b", LINK, "c")], "the whiteout 'a/.wh.b', a link of 0 bytes"),
        ([("a/.wh.b", FOLDER, "")], "the whiteout 'a/.wh.b', a folder of 0 bytes"),
        ([("a/.wh.b", FILE, b""), ("a/b", FILE, b"")], "'a/b' twice"),
        ([("a/b/c", FILE, b""), ("a/.wh.b", FILE, b"")], "the whiteout 'a/b' and something beneath it"),
        ([(".wh.a", FILE, b""), ("a/b", FILE, b"")], "'a/b' beneath the whiteout 'a'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("packed", [False, True])
def test_refused(tmp_path: Path, items: list[tuple[str, bytes, str | bytes]], found: str, packed: bool) -> None:
    """FAULTS 44: `..`, absolute names, escaping links, devices, bare whiteouts and duplicates, plain and in gzip."""
    data = tar(*items)
    message = refused(tmp_path, gzip.compress(data, 1) if packed else data, LAYER_GZIP if packed else LAYER)
    assert message == f"the layer blob: it holds {found}; {ONE_WAY}"


def test_root_folder_once(tmp_path: Path) -> None:
    """The root itself may be an entry, once."""
    assert [item.path for item in read(tmp_path, tar(("./", FOLDER, "")))] == ["."]
    assert "'.' twice" in refused(tmp_path, tar(("./", FOLDER, ""), (".", FOLDER, "")))


def test_media_types(tmp_path: Path) -> None:
    """A layer in zstd is refused by name, and so is what is no layer."""
    message = refused(tmp_path, b"", LAYER_ZSTD)
    assert message == (
        f"the layer blob: its media type is {LAYER_ZSTD!r}: zstd is not read here; expected a tar, or a tar in gzip"
    )
    assert "its media type is 'text/plain'; expected" in refused(tmp_path, b"", "text/plain")


def test_another_tar(tmp_path: Path) -> None:
    """A tar that has not the diff_id expected is refused at its end."""
    data = tar(("a", FILE, b""))
    assert len(read(tmp_path, data, expected=Digest.of(data))) == 1
    with pytest.raises(ImageError) as error:
        read(tmp_path, data, expected=Digest("0" * 64))
    assert str(error.value) == (f"the layer blob: its tar has the digest {Digest.of(data)}; expected sha256:{'0' * 64}")


@pytest.mark.parametrize("size", [0, 100, 512, 600, 1536])
def test_truncated_tar(tmp_path: Path, size: int) -> None:
    """A tar that is cut off, or has no end, is refused."""
    data = tar(("a", FILE, b"x" * 600))[:size]
    assert refused(tmp_path, data) == "the layer blob: it ends in the middle; expected a tar with its end"


def test_one_block_of_zeros_is_no_end(tmp_path: Path) -> None:
    """A tar ends by two blocks of zeros, and nothing but zeros follows."""
    whole = tar(("a", FILE, b""))[:512]
    assert len(read(tmp_path, whole + bytes(1024))) == 1
    assert "it ends in the middle" in refused(tmp_path, whole + bytes(512))
    message = "the layer blob: something follows its end; expected zeros, or nothing"
    assert refused(tmp_path, whole + bytes(512) + whole) == message
    assert refused(tmp_path, whole + bytes(3 << 20) + b"x") == message


def test_broken_gzip(tmp_path: Path) -> None:
    """A gzip stream that is truncated, damaged, followed by something, or no gzip at all, is refused."""
    data = gzip.compress(tar(("a", FILE, random.Random(3).randbytes(50000))), 1)  # noqa: S311 - any bytes do
    flipped = bytearray(data)
    flipped[30000] ^= 1
    checksum = bytearray(data)
    checksum[-6] ^= 1
    for bad in (data[:-1], data[:1000], bytes(flipped), bytes(checksum), data + b"junk", b"junk" * 100):
        for job in (lambda path: list(entries(path, LAYER_GZIP)), lambda path: diff_id(path, LAYER_GZIP)):
            with pytest.raises(ImageError, match=r"^the layer blob: it is not a whole gzip stream \("):
                job(stored(tmp_path, bad))


def test_bomb(tmp_path: Path) -> None:
    """A layer that unpacks to a hundred times its size and over 64 MiB is refused before it is unpacked."""
    whole = tar(("a", FILE, b""))
    large = whole[:124] + b"%011o\0" % (1 << 32) + whole[136:148] + b" " * 8 + whole[156:512]
    large = large[:148] + b"%06o\0 " % sum(large) + large[156:]
    bomb = gzip.compress(large + bytes(70 << 20), 1)
    expected = "the layer blob: it unpacks to more bytes than any layer has; expected less than 100:1"
    assert refused(tmp_path, bomb, LAYER_GZIP) == expected
    with pytest.raises(ImageError, match="it unpacks to more bytes"):
        diff_id(stored(tmp_path, bomb), LAYER_GZIP)


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of entries has a limit."""
    monkeypatch.setattr(reading, "ENTRIES", 2)
    items = [(name, FOLDER, "") for name in ("a", "b", "c")]
    assert refused(tmp_path, tar(*items)) == f"the layer blob: it holds more than 2 entries; {ONE_WAY}"


def test_memory(tmp_path: Path) -> None:
    """A large file is never in memory as a whole."""
    data = gzip.compress(tar(("a", FILE, bytes(50 << 20))), 1)
    path = stored(tmp_path, data)
    del data
    tracemalloc.start()
    try:
        (found,) = entries(path, LAYER_GZIP)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.size == 50 << 20
    assert peak < 8 << 20


def test_any_damage(tmp_path: Path) -> None:
    """Whatever is done to a tar, it is read or refused by ImageError; nothing else comes out."""
    chance = random.Random(44)  # noqa: S311 - to be repeated
    long = (f"{'p' * 90}/{'n' * 90}", FILE, b"x")
    sound = [tar(("a", FOLDER, ""), ("a/b", LINK, "c"), long, tar_format=kind) for kind in (0, 1, 2)]
    outcomes = set()
    for number in range(600):
        data = bytearray(sound[number % 3])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data.rstrip(b"\0")))
            data[at] = chance.choice((0, 0x20, 0x2F, 0x2E, 0x37, 0x78, 0x80, 0xFF, chance.randrange(256)))
            block = at - at % 512
            if chance.random() < 0.9 and any(data[block : block + 512]):
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
        try:
            outcomes.add(str(len(read(tmp_path, bytes(data)))))
        except ImageError as error:
            outcomes.add(str(error))
    assert len(outcomes) > 30


def test_wheel_layer(tmp_path: Path) -> None:
    """A wheel's layer passes its own strict reader."""
    from test_layers_layer import packed  # noqa: PLC0415 - another test's way to make one

    path = tmp_path / "layer"
    with path.open("wb") as sink:
        blob = write(packed(wheels.make(tmp_path, {"pkg/\u00fc.py": "x" * 70000})), sink)
    assert [item.path for item in entries(path, LAYER_GZIP, blob.diff_id)][-1].endswith("pkg/\u00fc.py")
