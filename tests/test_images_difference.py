"""What differs between two images is said layer by layer and, where both are here, file by file."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING

import studio
from torchlock.images import difference
from torchlock.images.image import Image
from torchlock.layers import layer
from torchlock.oci.blobs import Blobs, Content
from torchlock.oci.descriptor import CONFIG, LAYER_GZIP, PLATFORMS, Descriptor
from torchlock.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlock.layers.layer import Piece


def written(blobs: Blobs, pieces: Sequence[Piece]) -> Descriptor:
    """Write a layer."""
    with blobs.writing() as sink:
        made = layer.write(layer.arranged(pieces), sink)
        return sink.commit(Content(digest=made.digest, size=made.size)).descriptor(LAYER_GZIP)


def image(layers: Mapping[str, Descriptor], config: Mapping[str, object] | None = None) -> Image:
    """Return an image of named layers."""
    data = json.dumps({"config": config or {}}).encode()
    described = [
        Descriptor(media_type=item.media_type, digest=item.digest, size=item.size, annotations={difference.NAME: name})
        for name, item in layers.items()
    ]
    manifest = Manifest(config=Content.of(data).descriptor(CONFIG), layers=tuple(described))
    return Image(manifest=manifest.to_json(), config=data, platform=PLATFORMS["linux-64"])


def test_files_are_compared_where_both_layers_are_here(tmp_path: Path) -> None:
    """New, gone, other bytes, other mode."""
    blobs = Blobs(tmp_path)
    one = written(blobs, [layer.file("a", b"1"), layer.file("b", b"1"), layer.file("c", b"1"), layer.file("e", b"1")])
    other = written(
        blobs,
        [layer.file("b", b"22"), layer.file("c", b"1", executable=True), layer.file("d", b""), layer.file("e", b"1")],
    )
    lines = difference.between(image({"torch": one}), image({"torch": other}), blobs)
    assert lines[0] == f"layer torch: {one.digest} ({one.size} bytes) -> {other.digest} ({other.size} bytes)"
    hashes = [
        f"sha256:{value}"
        for value in (
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
            "785f3ec7eb32f30b90cd0fcf3657d388b5ff4297f2f9716ff66e9b69c05ddd09",
        )
    ]
    assert lines[1:] == [
        "layer torch: a is gone",
        "layer torch: b: size 1 -> 2",
        f"layer torch: b: sha256 {hashes[0]} -> {hashes[1]}",
        "layer torch: c: mode 644 -> 755",
        "layer torch: d is new",
    ]


def test_many_files_are_counted(tmp_path: Path) -> None:
    """The first twenty are named."""
    blobs = Blobs(tmp_path)
    one = written(blobs, [layer.file(f"f{number:02}", b"1") for number in range(30)])
    lines = difference.between(image({"x": one}), image({"x": written(blobs, [layer.file("f00", b"1")])}), blobs)
    assert lines[1] == "layer x: f01 is gone"
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "layer x: and 9 files more"


def test_a_layer_that_is_not_here_is_not_compared_in_silence(tmp_path: Path) -> None:
    """It is said."""
    blobs = Blobs(tmp_path)
    one = written(blobs, [layer.file("a", b"1")])
    other = Content.of(b"elsewhere").descriptor(LAYER_GZIP)
    assert difference.between(image({"x": one}), image({"x": other}), blobs)[1:] == [
        "layer x: files not compared, since only one of the two is here"
    ]


def test_layers_come_go_and_move(tmp_path: Path) -> None:
    """By the names that they bear."""
    blobs = Blobs(tmp_path)
    a, b, c = (written(blobs, [layer.file(name, b"1")]) for name in "abc")
    assert difference.between(image({"a": a, "b": b}), image({"b": b, "a": a, "c": c})) == [
        f"layer c is new ({c.size} bytes)",
        "the layers are in another order",
    ]
    assert difference.between(image({"a": a, "b": b}), image({"b": b})) == [f"layer a is gone ({a.size} bytes)"]


def packed(blobs: Blobs, names: str, level: int) -> Descriptor:
    """Write a layer of files with another tool."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name))
    return blobs.add_bytes(gzip.compress(data.getvalue(), level, mtime=0)).descriptor(LAYER_GZIP)


def test_the_same_files_packed_otherwise_are_told(tmp_path: Path) -> None:
    """Another compressor, or another order of entries, is another blob with the same files."""
    blobs = Blobs(tmp_path)
    one = image({"x": packed(blobs, "ab", 1)})
    assert difference.between(one, image({"x": packed(blobs, "ba", 1)}), blobs)[1:] == [
        "layer x: its files are in another order"
    ]
    assert difference.between(one, image({"x": packed(blobs, "ab", 9)}), blobs)[1:] == [
        "layer x: the same files, packed otherwise"
    ]


def test_configs_differ_by_member() -> None:
    """With the place and both values; a long one is cut."""
    one, other = image({}, {"User": "0", "Env": ["A=1"]}), image({}, {"User": "1000", "Env": ["A=1", "B" * 100]})
    assert difference.between(one, other) == [
        f'config .config.Env[1]: null -> "{"B" * 59}...',
        'config .config.User: "0" -> "1000"',
    ]


def test_equal_images_do_not_differ(tmp_path: Path) -> None:
    """Not a single line."""
    found = studio.furnished(tmp_path).build().image
    assert difference.between(found, found) == []


def test_a_summary_is_the_first_line_and_a_count() -> None:
    """For messages of one line."""
    assert difference.summary(["a"]) == "a"
    assert difference.summary(["a", "b", "c"]) == "a (and 2 more)"
    assert difference.summary([]) == "nothing that can be named"
