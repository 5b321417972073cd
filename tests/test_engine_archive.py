"""Archives: Docker's and OCI's lists over the same blobs, the same bytes always, every blob verified on its way."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import engines
from torchlock.digest import Digest
from torchlock.engine.archive import Archive
from torchlock.errors import ImageError
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import CONFIG, MANIFEST
from torchlock.oci.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = (b"base" * 300, b"torch", b"")


def unpacked(archive: Archive) -> dict[str, bytes]:
    """Return an archive's files."""
    data = b"".join(archive.blocks())
    assert len(data) == archive.size
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        items = tar.getmembers()
        assert {(item.mtime, item.uid, item.gid, item.uname, item.mode) for item in items} == {(0, 0, 0, "", 0o644)}
        return {item.name: tar.extractfile(item).read() for item in items}  # type: ignore[union-attr]


def test_both_lists_name_the_blobs_of_one_tar(tmp_path: Path) -> None:
    """The OCI layout is whole in it, and `manifest.json` gives Docker config and layers by their places there."""
    folder, top, config = engines.image(tmp_path, "demo", LAYERS)
    archive = Archive.open(folder, top)
    found = unpacked(archive)
    manifest = Manifest.from_json(found[f"blobs/sha256/{top.digest.hex}"], "the archive")
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads(found["index.json"])["manifests"] == [top.to_dict()]
    (listed,) = json.loads(found["manifest.json"])
    assert found[listed["Config"]] == config.to_json()
    assert [found[path] for path in listed["Layers"]] == list(LAYERS)
    assert listed["Layers"] == [f"blobs/sha256/{item.digest.hex}" for item in manifest.layers]
    assert listed["RepoTags"] is None
    for name in found:
        if name.startswith("blobs/"):
            assert Digest.of(found[name]).hex == name.rpartition("/")[2]


def test_a_layer_twice_is_sent_once(tmp_path: Path) -> None:
    """Equal layers are one blob, named twice."""
    folder, top, _ = engines.image(tmp_path, "demo", (b"same", b"other", b"same"))
    found = unpacked(Archive.open(folder, top))
    assert sum(data == b"same" for data in found.values()) == 1
    assert len(json.loads(found["manifest.json"])[0]["Layers"]) == 3


def test_layers_that_docker_has_are_named_and_not_sent(tmp_path: Path) -> None:
    """They stay in the lists, since Docker counts them there."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    whole = Archive.open(folder, top)
    found = unpacked(replace(whole, without=frozenset(whole.manifest.layers[:1])))
    (listed,) = json.loads(found["manifest.json"])
    assert [path in found for path in listed["Layers"]] == [False, True, True]


def test_a_damaged_blob_ends_the_archive(tmp_path: Path) -> None:
    """Bytes that are not the digest's are found before the archive is whole, so that nobody takes it."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    archive = Archive.open(folder, top)
    bad = folder / "blobs" / "sha256" / archive.manifest.layers[1].digest.hex
    bad.chmod(0o644)
    bad.write_bytes(b"tOrch")
    with pytest.raises(ImageError) as caught:
        b"".join(archive.blocks())
    assert str(caught.value) == (
        f"{bad}: {Digest.of(b'tOrch')}; expected {Digest.of(b'torch')}; try: remove that file and make the image again"
    )


def test_a_config_of_another_number_of_layers_is_refused(tmp_path: Path) -> None:
    """Docker would put names of one layer on the bytes of another."""
    folder, top, config = engines.image(tmp_path, "demo", LAYERS)
    blobs = Blobs(folder / "blobs")
    manifest = Archive.open(folder, top).manifest
    short = blobs.add_bytes(replace(config, diff_ids=config.diff_ids[:2]).to_json()).descriptor(CONFIG)
    other = blobs.add_bytes(replace(manifest, config=short).to_json()).descriptor(MANIFEST)
    with pytest.raises(ImageError, match="3 layers and 2 diff_ids; expected one diff_id for each layer"):
        Archive.open(folder, other)
