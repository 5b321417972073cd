"""A Python out of layers: what it takes to run, and nothing that a layer could smuggle."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

import pythons
from torchlock.errors import ImageError
from torchlock.layers.unpacked import unpack
from torchlock.oci.descriptor import LAYER, LAYER_GZIP, LAYER_ZSTD

if TYPE_CHECKING:
    from pathlib import Path


def layer(path: Path, *members: tuple[str, bytes, str | bytes]) -> tuple[Path, str]:
    """Write a layer of members: name, type, and bytes or a target."""
    with tarfile.open(path, "w") as opened:
        for name, kind, content in members:
            item = tarfile.TarInfo(name)
            item.type = kind
            data = content if isinstance(content, bytes) else b""
            item.linkname, item.size = ("" if isinstance(content, bytes) else content), len(data)
            opened.addfile(item, io.BytesIO(data))
    return path, LAYER


def test_it_runs_where_it_lies(tmp_path: Path) -> None:
    """Its own loader, libraries and standard library, of the right version, without any link on the disk."""
    taken = pythons.layers(tmp_path)
    (tmp_path / "here").mkdir()
    found = unpack(taken, pythons.PYTHON, tmp_path / "here")
    program = "import re, sys; print('%d.%d.%d' % sys.version_info[:3]); print(re.__file__)"
    said = subprocess.run(
        [*found.command, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said[0] == pythons.VERSION
    assert said[1].startswith(str(tmp_path / "here"))
    assert not [path for path in (tmp_path / "here").rglob("*") if path.is_symlink()]


def test_layers_cover_each_other(tmp_path: Path) -> None:
    """A whiteout removes a file of a layer below; the last word on a path is the upper layer's."""
    below = layer(tmp_path / "1", ("usr/bin/python3.11", tarfile.REGTYPE, b"old"))
    gone = layer(tmp_path / "2", ("usr/bin/.wh.python3.11", tarfile.REGTYPE, b""))
    (tmp_path / "a").mkdir()
    with pytest.raises(ImageError) as caught:
        unpack([below, gone], "/usr/bin/python3.11", tmp_path / "a")
    assert str(caught.value) == "the base: no /usr/bin/python3.11 in its layers; expected its interpreter"
    (tmp_path / "b").mkdir()
    with pytest.raises(ImageError) as caught:
        unpack([gone, below], "/usr/bin/python3.11", tmp_path / "b")
    assert str(caught.value) == (
        "the base: /usr/bin/python3.11 is not a program for Linux that names its loader; expected a CPython of 64 bits"
    )


@pytest.mark.parametrize(
    "members",
    [
        [("usr/bin", tarfile.SYMTYPE, "{outside}"), ("usr/bin/python3.11", tarfile.REGTYPE, b"x")],
        [("usr/bin/python3.11", tarfile.SYMTYPE, "/../../{outside}/file")],
        [("usr/bin/python3.11", tarfile.LNKTYPE, "../../{outside}/file")],
        [
            ("../../{outside}/bin/python3.11", tarfile.REGTYPE, b"x"),
            ("usr/bin/python3.11", tarfile.SYMTYPE, "python3.11"),
        ],
    ],
)
def test_nothing_outside_is_read_or_written(tmp_path: Path, members: list[tuple[str, bytes, str | bytes]]) -> None:
    """Links lead nowhere but into the layers, and no file of theirs lands beside the folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    made = [
        (name.format(outside=outside), kind, item.format(outside=outside) if isinstance(item, str) else item)
        for name, kind, item in members
    ]
    (tmp_path / "here").mkdir()
    with pytest.raises(ImageError):
        unpack([layer(tmp_path / "1", *made)], "/usr/bin/python3.11", tmp_path / "here")
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_a_link_that_goes_round(tmp_path: Path) -> None:
    """It ends."""
    made = layer(tmp_path / "1", ("usr/bin/python3.11", tarfile.SYMTYPE, "python3.11"))
    (tmp_path / "here").mkdir()
    with pytest.raises(ImageError, match=r"no /usr/bin/python3\.11 in its layers"):
        unpack([made], "/usr/bin/python3.11", tmp_path / "here")


def test_a_layer_that_is_cut(tmp_path: Path) -> None:
    """It names the layer."""
    path = tmp_path / "cut"
    path.write_bytes(gzip.compress(bytes(10240))[:-9])
    (tmp_path / "here").mkdir()
    with pytest.raises(ImageError, match="the layer cut: cannot be unpacked: "):
        unpack([(path, LAYER_GZIP)], "/usr/bin/python3.11", tmp_path / "here")


def test_a_layer_of_another_kind(tmp_path: Path) -> None:
    """Zstandard is not read here."""
    (tmp_path / "here").mkdir()
    with pytest.raises(ImageError, match="its media type is"):
        unpack([(tmp_path / "x", LAYER_ZSTD)], "/usr/bin/python3.11", tmp_path / "here")
