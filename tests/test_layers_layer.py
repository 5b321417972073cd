"""Layers: a wheel's bytes become a tar in gzip, checked on the way, the same under any circumstances."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from isal import isal_zlib

import wheels
from torchlock.digest import Digest
from torchlock.errors import ImageError, WheelError
from torchlock.layers import installed, tar
from torchlock.layers.layer import Blob, Packed, Piece, arranged, file, folder, link, write
from torchlock.layers.stream import HEAD
from torchlock.platforms import PYTHONS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
SITE = "opt/torchlock/env/lib/python3.11/site-packages"
TEXT = "".join(f"line {number} of a file that can be compressed\n" for number in range(5000))
NOISE = b"".join(sha256(number.to_bytes(4, "big")).digest() for number in range(3000))
FILES: dict[str, bytes | str] = {"pkg/__init__.py": "", "pkg/text.py": TEXT, "pkg/data": NOISE}
# The layer of `golden_wheel`: any change of it is a change of every image that was ever published.
GOLDEN_WHEEL = "sha256:5ee98891a035a95fb4b2a78bdf1661a38d225c9a070548f6c2d85cc7799fbd58"
GOLDEN = (
    "sha256:4f4506a2ba41aa949545a9a5e87a649bda2e05b5a16f52d6b8aebc4bdf31f960"
    " sha256:ab496d2827e993a5b315ba4de3ffb899c293ce396375370340002c54b3db061b"
)

BUILD = """
import sys, pathlib
from torchlock.digest import Digest
from torchlock.layers import installed, layer, stream, tar
from torchlock.locks.lock import Artifact
{slip}
path = pathlib.Path(sys.argv[1])
artifact = Artifact(project="demo", version="1.0", filename="demo-1.0-py3-none-any.whl", sha256=Digest("0" * 64),
                    size=None, upload_time=None, index="pypi")
pieces = installed.pieces([(artifact, path)], "3.11", "linux-64")["demo"]
with open(sys.argv[2], "wb") as sink:
    blob = layer.write(pieces, sink)
print(blob.digest, blob.diff_id)
"""


def packed(path: Path) -> list[Piece]:
    """Return the pieces of one wheel."""
    (found,) = installed.pieces([(wheels.artifact(path), path)], "3.11", "linux-64").values()
    return found


def written(pieces: list[Piece], known: Blob | None = None) -> tuple[bytes, Blob]:
    """Return a layer and what it is called."""
    sink = io.BytesIO()
    blob = write(pieces, sink, known=known)
    return sink.getvalue(), blob


def unpacked(data: bytes) -> dict[str, bytes | None]:
    """Return the contents of a layer as Python's own readers see them; None for folders and links."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as file:
        streams = {member.name: file.extractfile(member) if member.isreg() else None for member in file}
        return {name: None if stream is None else stream.read() for name, stream in streams.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_contents(tmp_path: Path, method: int) -> None:
    """A layer holds the wheel's files, and its names are those of its bytes."""
    data, blob = written(packed(wheels.make(tmp_path, FILES, method=method)))
    found = unpacked(data)
    for name, content in FILES.items():
        assert found[f"{SITE}/{name}"] == (content.encode() if isinstance(content, str) else content)
    plain = gzip.decompress(data)
    assert blob == Blob(digest=Digest.of(data), size=len(data), diff_id=Digest.of(plain))


def test_deflate_is_copied(tmp_path: Path) -> None:
    """The wheel's deflate stream stands in the layer as it is, as a member of its own."""
    path = wheels.make(tmp_path, FILES)
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("pkg/text.py")
    at = wheels.payload(path, "pkg/text.py")
    stream = path.read_bytes()[at : at + info.compress_size]
    data, _ = written(packed(path))
    tail = info.CRC.to_bytes(4, "little") + info.file_size.to_bytes(4, "little")
    assert bytes.fromhex("1f8b08000000000000ff") + stream + tail in data


def test_no_compressor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compressed: no zlib build has a say."""
    pieces = packed(wheels.make(tmp_path, FILES))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a compressor was called")

    for name in ("compress", "compressobj"):
        monkeypatch.setattr(zlib, name, refuse)
        monkeypatch.setattr(isal_zlib, name, refuse)
    written(pieces)


def test_gnu_tools(tmp_path: Path) -> None:
    """`gzip -t` and GNU tar accept a layer, and unpack what tarfile does."""
    data, _ = written(packed(wheels.make(tmp_path / "wheels", FILES)))
    path = tmp_path / "layer.tgz"
    path.write_bytes(data)
    assert subprocess.run(["gzip", "-t", path], check=True, capture_output=True).stderr == b""
    (tmp_path / "out").mkdir()
    result = subprocess.run(["tar", "-xzf", path, "-C", tmp_path / "out"], check=True, capture_output=True)
    assert result.stderr == b""
    for name, content in unpacked(data).items():
        assert content is None or (tmp_path / "out" / name).read_bytes() == content


def test_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a known blob the same bytes are written, and nothing is inflated."""
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        pieces = packed(wheels.make(tmp_path / str(method), FILES, method=method))
        data, blob = written(pieces)
        with monkeypatch.context() as patch:
            patch.setattr(Packed, "blocks", lambda *_: pytest.fail("a file was looked into"))
            assert written(pieces, blob) == (data, blob)


def test_not_the_known_one(tmp_path: Path) -> None:
    """Other bytes than those of the known blob are refused, by both names."""
    pieces = packed(wheels.make(tmp_path, FILES))
    _, blob = written(pieces)
    known = Blob(digest=Digest("a" * 64), size=blob.size, diff_id=blob.diff_id)
    with pytest.raises(ImageError) as error:
        written(pieces, known)
    assert str(error.value) == (
        f"the layer of demo-1.0-py3-none-any.whl: {blob.digest} ({blob.size} bytes); "
        f"expected the known sha256:{'a' * 64} ({blob.size} bytes)"
    )


def test_wheel_changed_under_known(tmp_path: Path) -> None:
    """A wheel that is not what it was when its layer became known is found out by the layer's digest."""
    path = wheels.make(tmp_path, FILES)
    pieces = packed(path)
    _, blob = written(pieces)
    wheels.flip(path, "pkg/text.py")
    with pytest.raises(ImageError, match=r"expected the known sha256:"):
        written(pieces, blob)
    path.write_bytes(path.read_bytes()[:50000])
    with pytest.raises(ImageError, match=r"expected the known sha256:"):
        written(pieces, blob)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_damaged(tmp_path: Path, method: int) -> None:
    """A flipped bit in the wheel is found before the layer is done."""
    path = wheels.make(tmp_path, FILES, method=method)
    pieces = packed(path)
    wheels.flip(path, "pkg/data")
    with pytest.raises(WheelError, match=r"demo-1.0-py3-none-any.whl: 'pkg/data' (has the CRC|cannot be inflated)"):
        written(pieces)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_record(tmp_path: Path, algorithm: str) -> None:
    """A file that is not what RECORD says is refused, though its CRC is right; one that is passes."""
    true = wheels.row(TEXT.encode(), algorithm)
    written(packed(wheels.make(tmp_path / "true", FILES, record={"pkg/text.py": true})))
    false = wheels.row(TEXT[::-1].encode(), algorithm)
    pieces = packed(wheels.make(tmp_path / "false", FILES, record={"pkg/text.py": false}))
    with pytest.raises(WheelError) as error:
        written(pieces)
    assert str(error.value).startswith(
        f"demo-1.0-py3-none-any.whl: 'pkg/text.py' does not have the {algorithm} in RECORD; expected a RECORD"
    )


def test_record_of_an_empty_file(tmp_path: Path) -> None:
    """A file without bytes is held against RECORD, too, though none of it stands in the layer."""
    pieces = packed(wheels.make(tmp_path, FILES, record={"pkg/__init__.py": wheels.row(b"x")[:-1] + "0"}))
    with pytest.raises(WheelError, match=r"'pkg/__init__.py' does not have the sha256 in RECORD"):
        written(pieces)


def test_content(tmp_path: Path) -> None:
    """A packed file can be read by itself, under the same checks; its digest is RECORD's."""
    path = wheels.make(tmp_path, FILES)
    (text,) = [piece.content for piece in packed(path) if piece.entry.path.endswith("text.py")]
    assert isinstance(text, Packed)
    assert text.content() == TEXT.encode()
    assert text.sha256 == Digest.of(TEXT.encode())
    wheels.flip(path, "pkg/text.py")
    with pytest.raises(WheelError, match=r"pkg/text\.py"):
        text.content()


def test_own_pieces() -> None:
    """Folders, links and files of our own; the largest are divided into stored blocks."""
    large = NOISE * 30
    pieces = arranged(
        [file("a/run", b"#!", executable=True), link("a/l", "run"), folder("tmp", 0o1777), file("b", large)]
    )
    data, blob = written(pieces)
    assert unpacked(data) == {"a": None, "a/l": None, "a/run": b"#!", "b": large, "tmp": None}
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert [oct(found.getmember(name).mode) for name in ("a", "a/run", "b", "tmp")] == [
            *("0o755", "0o755", "0o644", "0o1777")
        ]
    assert blob.diff_id == Digest.of(gzip.decompress(data))


def test_many_own_pieces() -> None:
    """Files of our own share a gzip member until it holds a MiB, so that they need not all be in memory."""
    data, _ = written([file(name, NOISE * 6) for name in ("a", "b", "c", "d")])
    assert data.count(HEAD) == 3
    assert unpacked(data) == dict.fromkeys("abcd", NOISE * 6)


def test_arranged() -> None:
    """Pieces are sorted, each path once, with the folders above; a given folder prevails over an implied one."""
    pieces = [file("a-b", b""), file("a/b/c", b""), folder("a", 0o700), file("a-b", b"")]
    found = arranged(pieces)
    assert [(piece.entry.path, piece.entry.mode) for piece in found] == [
        *(("a", 0o700), ("a-b", 0o644), ("a/b", 0o755), ("a/b/c", 0o644))
    ]
    assert arranged(pieces[::-1]) == found == arranged(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (file("a", b"1"), file("a", b"2")),
        (file("a", b""), folder("a")),
        (link("a", "b"), link("a", "c")),
        (folder("a", 0o755), folder("a", 0o700)),
    ],
)
def test_two_things(one: Piece, other: Piece) -> None:
    """One path cannot be two things."""
    with pytest.raises(ImageError) as error:
        arranged([one, other])
    assert str(error.value) == "a: two different things in one layer; expected one owner for each path"


def test_file_as_folder() -> None:
    """Nothing lies beneath a file."""
    with pytest.raises(ImageError) as error:
        written(arranged([file("a", b""), file("a/b", b"")]))
    assert str(error.value) == "a/b: its folder is not in the layer; expected every folder above a path before it"


NOT_IN_ORDER = "expected the pieces of a layer in order, each path once"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([file("b", b""), file("a", b"")], f"a: it comes after 'b'; {NOT_IN_ORDER}"),
        ([file("a", b""), file("a", b"")], f"a: it comes after 'a'; {NOT_IN_ORDER}"),
        ([file("a/b", b"")], "a/b: its folder is not in the layer; expected every folder above a path before it"),
        (
            [Piece(entry=tar.Entry(path="a", size=2), content=b"1")],
            "a: a file of 2 bytes with 1; expected the size of its bytes",
        ),
        ([Piece(entry=tar.Entry(path="a"))], "a: a file of 0 bytes with 0; expected the size of its bytes"),
    ],
)
def test_out_of_order(pieces: list[Piece], message: str) -> None:
    """A layer is written only from arranged pieces."""
    with pytest.raises(ImageError) as error:
        written(pieces)
    assert str(error.value) == message


def test_progress(tmp_path: Path) -> None:
    """Progress is told in bytes written, and ends at the blob's size."""
    said: list[int] = []
    blob = write(
        packed(wheels.make(tmp_path, {"pkg/data": bytes(5 << 20)}, method=0)), io.BytesIO(), progress=said.append
    )
    assert len(said) > 4
    assert said == sorted(said)
    assert said[-1] == blob.size


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_memory(tmp_path: Path, method: int) -> None:
    """A layer takes no more memory than a few blocks, however large the file in it."""
    pieces = packed(wheels.make(tmp_path, {"pkg/data": bytes(60 << 20)}, method=method))
    tracemalloc.start()
    try:
        with (tmp_path / "layer").open("wb") as sink:
            write(pieces, sink)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_threads(tmp_path: Path) -> None:
    """Layers that are written at the same time are those that are written one after another."""
    path = wheels.make(tmp_path, FILES)
    pieces = packed(path)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: written(pieces)[0], range(16)))) == 1


def golden_wheel(folder: Path) -> Path:
    """Return a wheel whose own bytes no zlib build decides: level 0, and no file that takes two blocks of it."""
    files = {
        "pkg/__init__.py": "",
        "pkg/\u00fcmlaut.py": "x = 1\n",
        f"pkg/{'long/' * 40}name.py": "y = 2\n",
        "demo-1.0.data/scripts/plain": "#!python\n",
        "demo-1.0.data/data/share/doc.txt": "doc\n",
        "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\nrun = pkg:main\n",
    }
    path = wheels.make(folder, files, method=zipfile.ZIP_STORED)
    target = folder / "deflated" / path.name
    target.parent.mkdir()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as new:
        for number, info in enumerate(old.infolist()):
            entry = wheels.entry(info.filename, 0o100755 if number % 2 else 0o100600)
            new.writestr(entry, old.read(info), compresslevel=0)
    return target


def search(python: str = sys.executable) -> str:
    """Return PYTHONPATH for a Python: the package, and the libraries of this one where it is of the same minor."""
    same = python == sys.executable or python.endswith(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    libraries = [path for path in sys.path if "site-packages" in path] if same else []
    return os.pathsep.join([str(ROOT / "scripts"), *libraries])


def built(
    tmp_path: Path,
    python: str = sys.executable,
    slip: str = "",
    umask: int = 0o022,
    changed: Mapping[str, str] | None = None,
) -> str:
    """Build the golden wheel's layer in another process under changed circumstances; return digest and diff_id."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    wheel = golden_wheel(tmp_path)
    command = [python, "-c", BUILD.format(slip=slip), str(wheel), str(tmp_path / "layer")]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": search(python), **(changed or {})}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, umask=umask, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_golden_wheel(tmp_path: Path) -> None:
    """The wheel under the tests below is the same with every zlib."""
    assert str(Digest.of_file(golden_wheel(tmp_path))) == GOLDEN_WHEEL


CIRCUMSTANCES: dict[str, dict[str, str]] = {
    "plain": {},
    "far east": {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "1"},
    "far west": {"TZ": "Etc/GMT+12", "LC_ALL": "C", "PYTHONHASHSEED": "4711", "PYTHONUTF8": "0"},
    "user": {"HOME": "/nonexistent", "USER": "sentinel", "LOGNAME": "sentinel", "http_proxy": "http://sentinel:1"},
    "epoch": {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1"},
}


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_same_everywhere(tmp_path: Path, name: str) -> None:
    """Time zone, locale, user, home, hash seed, proxy and folder change nothing: the digest is known in advance."""
    assert built(tmp_path / f"in {name} sentinel", changed=CIRCUMSTANCES[name]) == GOLDEN


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_same_under_any_umask(tmp_path: Path, umask: int) -> None:
    """The umask of whoever builds is nowhere in a layer."""
    assert built(tmp_path, umask=umask) == GOLDEN


@pytest.mark.parametrize("version", PYTHONS)
def test_same_with_other_pythons(tmp_path: Path, version: str) -> None:
    """Another Python, with another zlib and another hash of texts, makes the same bytes."""
    python = f"python{version}"
    if not shutil.which(python):
        pytest.skip(f"not run: there is no {python} here")
    probe = [python, "-c", "import torchlock.layers.installed"]
    ready = subprocess.run(
        probe, env={**os.environ, "PYTHONPATH": search(python)}, capture_output=True, text=True, check=False
    )
    if ready.returncode:
        pytest.skip(f"not run: {python} cannot start torchlock: {' '.join(ready.stderr.split())[-100:]}")
    assert built(tmp_path, python) == GOLDEN


@pytest.mark.parametrize(
    "slip",
    [
        "import time; tar.EPOCH = int(time.time())",
        "import time; layer.HEAD = layer.HEAD[:4] + int(time.time()).to_bytes(4, 'little') + layer.HEAD[8:]",
        "import time; installed.plan_wheel.__globals__['INSTALLER'] = b'torchlock %d' % time.time_ns()",
        "installed.PurePosixPath = lambda _: pathlib.Path.cwd()",
    ],
)
def test_slip_is_caught(tmp_path: Path, slip: str) -> None:
    """A timestamp in a tar header, a gzip header or a file, and a path of the machine, change the digest."""
    assert built(tmp_path, slip=slip) != GOLDEN


def test_nothing_of_the_machine(tmp_path: Path) -> None:
    """No user, time, host, path or proxy of the machine stands anywhere in a layer."""
    place = tmp_path / "sentinel"
    built(place, changed={"HOME": str(place), **CIRCUMSTANCES["user"], "HTTPS_PROXY": "http://sentinel:1"})
    data = gzip.decompress((place / "layer").read_bytes())
    for secret in ("sentinel", str(tmp_path), socket.gethostname(), "root", "proxy"):
        assert secret.encode() not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        members = found.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315532800)}
    assert {m.mode for m in members} == {0o644, 0o755}
