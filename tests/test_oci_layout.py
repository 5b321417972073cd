"""Layouts: made by links, swapped in whole, verified to the last blob."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci import layout
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import CONFIG, INDEX, LAYER_GZIP, MANIFEST, PLATFORMS, Descriptor
from torchlock.oci.manifest import Index, Manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Make an empty folder of blobs."""
    return Blobs(tmp_path / "store" / "blobs")


def image(blobs: Blobs, *layers: bytes) -> Descriptor:
    """Make an image of these layers, not real ones, and name its manifest."""
    config = blobs.add_bytes(b'{"config":"%d"}' % len(layers)).descriptor(CONFIG)
    named = tuple(blobs.add_bytes(layer).descriptor(LAYER_GZIP) for layer in layers)
    data = Manifest(config=config, layers=named).to_json()
    return blobs.add_bytes(data).descriptor(MANIFEST, {layout.REF_NAME: "latest"})


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_layout_holds_what_its_manifest_names_by_links(blobs: Blobs, tmp_path: Path) -> None:
    """No byte is copied, and nothing else is there."""
    top = image(blobs, b"one", b"two")
    blobs.add_bytes(b"of another image")
    folder = tmp_path / "images" / "x"
    layout.write(folder, [top], blobs)
    found = tree(folder)
    assert found.pop("oci-layout") == b'{"imageLayoutVersion":"1.0.0"}'
    assert json.loads(found.pop("index.json")) == {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [top.to_dict()],
    }
    assert len(found) == 4
    assert all(Digest.of(data).hex == name.rpartition("/")[2] for name, data in found.items())
    assert (folder / "blobs" / "sha256" / top.digest.hex).samefile(blobs.path(top.digest))
    assert layout.read(folder).manifests == (top,)
    assert {item.digest.hex for item in layout.verify(folder)} == {name.rpartition("/")[2] for name in found}
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_a_layout_holds_all_platforms_of_an_index(blobs: Blobs, tmp_path: Path) -> None:
    """What two of them share is there once."""
    manifests = [image(blobs, b"shared", b"one"), image(blobs, b"shared", b"other", b"more")]
    named = tuple(
        Descriptor(media_type=MANIFEST, digest=item.digest, size=item.size, platform=platform)
        for item, platform in zip(manifests, PLATFORMS.values(), strict=True)
    )
    top = blobs.add_bytes(Index(manifests=named).to_json()).descriptor(INDEX)
    layout.write(tmp_path / "x", [top], blobs)
    assert len(layout.verify(tmp_path / "x")) == len(list((tmp_path / "x" / "blobs" / "sha256").iterdir())) == 9


def test_a_layout_is_replaced_whole(blobs: Blobs, tmp_path: Path) -> None:
    """The new one holds nothing of the old one; what a killed process left is no hindrance."""
    folder = tmp_path / "x"
    layout.write(folder, [image(blobs, b"old")], blobs)
    (tmp_path / ".tmp-x.new").mkdir()
    (tmp_path / ".tmp-x.new" / "rest").write_bytes(b"")
    top = image(blobs, b"new", b"er")
    layout.write(folder, [top], blobs)
    assert layout.read(folder).manifests == (top,)
    assert len(list((folder / "blobs" / "sha256").iterdir())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "x"]


def test_a_layout_that_cannot_be_made_leaves_the_old_one(blobs: Blobs, tmp_path: Path) -> None:
    """A missing blob is named, and nothing else changes."""
    folder = tmp_path / "x"
    layout.write(folder, [image(blobs, b"old")], blobs)
    before = tree(folder)
    top = image(blobs, b"new")
    blobs.path(Digest.of(b"new")).unlink()
    with pytest.raises(ImageError) as caught:
        layout.write(folder, [top], blobs)
    assert str(caught.value) == f"{blobs.root}: {Digest.of(b'new')} is not there; expected 3 bytes"
    assert tree(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "x"]


def test_an_old_layout_comes_back_where_a_swap_was_cut(blobs: Blobs, tmp_path: Path) -> None:
    """Killed between the two renames: should the next attempt fail, the old one is there again."""
    folder = tmp_path / "x"
    layout.write(folder, [image(blobs, b"old")], blobs)
    before = tree(folder)
    folder.rename(tmp_path / ".tmp-x.old")
    top = image(blobs, b"new")
    blobs.path(Digest.of(b"new")).unlink()
    with pytest.raises(ImageError):
        layout.write(folder, [top], blobs)
    assert tree(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_a_flipped_bit_in_a_layout_is_found(blobs: Blobs, tmp_path: Path) -> None:
    """Verification reads every blob; a truncated or absent one is named, too."""
    folder = tmp_path / "x"
    layout.write(folder, [image(blobs, b"one", b"two")], blobs)
    path = folder / "blobs" / "sha256" / Digest.of(b"two").hex
    for data, message in (
        (b"twO", f"{path}: {Digest.of(b'twO')}; expected {Digest.of(b'two')}"),
        (b"tw", f"{path}: 2 bytes; expected 3 bytes"),
        (None, f"{path}: is missing; expected 3 bytes"),
    ):
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ImageError) as caught:
            layout.verify(folder)
        assert str(caught.value) == message
        path.touch()


def test_a_folder_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    """Without its marker, with one of another version, or without an index."""
    marker, index = tmp_path / "oci-layout", tmp_path / "index.json"
    for data, message in (
        (None, f"{marker}: No such file or directory; expected an OCI image layout"),
        (b'{"imageLayoutVersion":"2"}', f"{marker}: imageLayoutVersion: '2'; expected 1.0.0"),
        (b'{"imageLayoutVersion":"1.0.0"}', f"{index}: No such file or directory; expected an OCI image layout"),
    ):
        if data is not None:
            marker.write_bytes(data)
        with pytest.raises(ImageError) as caught:
            layout.read(tmp_path)
        assert str(caught.value) == message


def test_indexes_within_indexes_have_an_end(blobs: Blobs, tmp_path: Path) -> None:
    """Nobody nests them, and a walk must end."""
    top = image(blobs, b"one")
    for _ in range(4):
        top = blobs.add_bytes(Index(manifests=(top,)).to_json()).descriptor(INDEX)
    with pytest.raises(ImageError, match="indexes nested deeper than 3 levels"):
        layout.write(tmp_path / "x", [top], blobs)


def test_an_index_names_only_manifests(blobs: Blobs, tmp_path: Path) -> None:
    """A layer in an index is refused by its media type."""
    top = blobs.add_bytes(Index(manifests=(blobs.add_bytes(b"x").descriptor(LAYER_GZIP),)).to_json()).descriptor(INDEX)
    with pytest.raises(ImageError, match=f"{Digest.of(b'x')}: '{LAYER_GZIP.replace('+', '.')}'; expected application/"):
        layout.write(tmp_path / "x", [top], blobs)
