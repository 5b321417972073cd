"""Building: only what is not here is written, everything is verified, and the same inputs give the same digest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import studio
import wheels
from torchlock.digest import Digest
from torchlock.errors import ImageError, WheelError
from torchlock.images import build, image
from torchlock.images.known import Knowledge, Known
from torchlock.layers import layer, reading, tar
from torchlock.layers.bytecode import Compiler
from torchlock.layers.layer import Blob
from torchlock.oci.descriptor import LAYER_GZIP
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from studio import Studio
    from torchlock.layers.layer import Piece

WRONG = Known(blob=Blob(digest=Digest.of(b"wrong"), size=9, diff_id=Digest.of(b"wrong")))


@pytest.fixture
def made(tmp_path: Path) -> Studio:
    """Make a studio with a base and three wheels."""
    return studio.furnished(tmp_path)


def forget_blobs(made: Studio) -> None:
    """Remove all blobs but the base's."""
    kept = {str(item.digest.hex) for item, _ in made.base.layers}
    for path in (made.blobs.root / "sha256").iterdir():
        if path.name not in kept:
            path.unlink()


def test_the_first_build_writes_every_layer(made: Studio) -> None:
    """Large wheels alone, small ones together, the application last; each blob is there, with its tar's digest."""
    built = made.build()
    manifest = Manifest.from_json(built.image.manifest, "manifest")
    config = Config.from_json(built.image.config, "config")
    names = [item.annotations[image.LAYER] for item in manifest.layers]
    assert names[:2] == ["base", "torch"]
    assert names[-1] == "application"
    assert set(names[2:-1]) <= {f"small-{number}" for number in range(8)}
    assert sorted(built.written) == sorted(names[1:])
    assert (built.present, built.copied) == ((), ())
    assert built.size == sum(item.size for item in manifest.layers)
    for item, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        path = made.blobs.get(item)
        assert path is not None
        assert reading.diff_id(path, item.media_type) == diff_id
    assert made.blobs.read(built.image.descriptor()) == built.image.manifest
    assert made.blobs.read(manifest.config) == built.image.config


def test_the_layers_hold_the_wheels_and_the_application(made: Studio) -> None:
    """All under /opt/torchlock, but for the home folder and the base's own."""
    manifest = Manifest.from_json(made.build().image.manifest, "manifest")
    paths: set[str] = set()
    for below in manifest.layers[1:]:
        path = made.blobs.get(below)
        assert path is not None
        paths |= {item.path for item in reading.entries(path, below.media_type) if item.kind != "folder"}
    site = "opt/torchlock/env/lib/python3.11/site-packages"
    assert {f"{site}/torch/lib/noise.bin", f"{site}/alpha/__init__.py", "opt/torchlock/image.json"} <= paths
    assert all(path.startswith("opt/torchlock/") for path in paths)


def test_the_second_build_finds_everything(made: Studio) -> None:
    """No wheel is asked for, nothing but the application layer is written, and the image is the same."""
    first = made.build()
    made.fetcher.asked.clear()
    again = made.build()
    assert again.image == first.image
    assert again.written == ("application",)
    assert sorted(again.present) == sorted(set(first.written) - {"application"})
    assert made.fetcher.asked == []


def test_a_known_layer_is_copied_without_reading_its_wheel_for_its_own_sake(
    made: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob's digest vouches for it: nothing is inflated, and no wheel is verified."""
    first = made.build()
    forget_blobs(made)
    made.fetcher.asked.clear()
    known: list[bool] = []
    write = layer.write

    def counted(*arguments: Any, **options: Any) -> Any:
        known.append(options.get("known") is not None)
        return write(*arguments, **options)

    monkeypatch.setattr(layer, "write", counted)
    again = made.build()
    assert again.image == first.image
    assert sorted(again.copied) == sorted(set(first.written) - {"application"})
    assert known == [True] * len(again.copied) + [False]
    assert made.fetcher.asked == []


def test_known_layers_alone_give_the_image(made: Studio) -> None:
    """Without a wheel, without a blob: what a pull is held against."""
    first = made.build()
    manifest, config = Manifest.from_json(first.image.manifest, "m"), Config.from_json(first.image.config, "c")
    assert len(manifest.layers) == len(config.diff_ids)
    assert build.recalled(made.inputs(), made.memory) == first.image


def test_without_knowledge_there_is_no_image(made: Studio) -> None:
    """The layer that is missing is named."""
    with pytest.raises(ImageError) as caught:
        build.recalled(made.inputs(), Knowledge())
    assert str(caught.value) == (
        "torch2.2-cuda on linux-64: nothing is known of its layer torch; try: make image-torch2.2-cuda"
    )


def test_false_knowledge_is_found_out(made: Studio, tmp_path: Path) -> None:
    """A layer that is not what was said of it is made anew from verified wheels, and said."""
    truth = made.build()
    forget_blobs(made)
    wanted = made.inputs()
    part = wanted.parts()[0]
    built = made.build(knowledge=Knowledge(given={wanted.key(part.content): WRONG}, folder=tmp_path / "elsewhere"))
    assert built.image == truth.image
    assert "torch" in built.written
    assert any(note.startswith("torch: not what is known of it, so made anew") for note in made.notes.notes)


def test_a_wheel_that_was_damaged_in_the_store_is_fetched_again(made: Studio) -> None:
    """The layer's digest finds it, known or not."""
    truth = made.build()
    forget_blobs(made)
    path = made.store.path(made.lock.artifacts[-1].sha256)
    path.chmod(0o644)
    wheels.edit(path, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1))
    built = made.build()
    assert built.image == truth.image
    assert any("set aside" in note for note in made.notes.notes)


def test_a_sound_wheel_in_anothers_place_is_found(made: Studio, tmp_path: Path) -> None:
    """It is a good wheel, and not the locked one: no layer is made of it, and none is learnt."""
    truth = made.build()
    forget_blobs(made)
    artifact = next(item for item in made.lock.artifacts if item.project == "torch")
    path = made.store.path(artifact.sha256)
    path.chmod(0o644)
    other = wheels.make(tmp_path / "evil", {"torch/__init__.py": "evil\n"}, name="torch", version="2.2.2")
    path.write_bytes(other.read_bytes())
    assert made.build().image == truth.image
    assert build.recalled(made.inputs(), made.memory) == truth.image


def test_a_damaged_blob_is_made_again(made: Studio) -> None:
    """A flipped bit is found before the blob is used."""
    truth = made.build()
    manifest = Manifest.from_json(truth.image.manifest, "manifest")
    path = made.blobs.path(manifest.layers[1].digest)
    path.chmod(0o644)
    wheels.edit(path, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1))
    built = made.build()
    assert (built.image, built.copied) == (truth.image, ("torch",))


def test_two_wheels_that_own_one_path_are_refused(made: Studio) -> None:
    """Otherwise the upper layer would win in silence."""
    clash = made.wheel("beta", {"alpha/__init__.py": "value = 2\n"})
    made.locked(*made.lock.artifacts, clash)
    with pytest.raises(ImageError, match=r"alpha 1\.0.*beta 1\.0|beta 1\.0.*alpha 1\.0"):
        made.build()


def test_a_wheel_whose_record_lies_is_refused(made: Studio) -> None:
    """And what was written of its layer is gone."""
    bad = made.wheel("beta", {"beta.py": "1\n"}, record={"beta.py": wheels.row(b"2\n")})
    made.locked(*made.lock.artifacts, bad)
    with pytest.raises(WheelError, match=r"'beta\.py' does not have the sha256 in RECORD"):
        made.build()
    assert list((made.blobs.root / "writing").glob(".tmp-*")) == []


def test_a_bump_of_a_small_package_changes_its_bin_and_the_application(made: Studio) -> None:
    """All other layers keep their digests."""
    before = Manifest.from_json(made.build().image.manifest, "manifest")
    bumped = made.wheel("alpha", {"alpha/__init__.py": "value = 2\n"}, version="1.1")
    made.locked(*(item for item in made.lock.artifacts if item.project != "alpha"), bumped)
    built = made.build()
    after = Manifest.from_json(built.image.manifest, "manifest")
    moved = {item.annotations[image.LAYER] for item in {*after.layers} - {*before.layers}}
    assert moved == set(built.written)
    assert len(moved) == 2


class Python(Compiler):
    """What stands for the base's own Python, which `test_layers_bytecode` tries in earnest."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def __enter__(self) -> Python:
        self.asked.append("opened")
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("closed")

    def pieces(self, installed: Iterable[Piece], progress: Callable[[int], None] | None = None) -> list[Piece]:
        """Return a file for each module."""
        assert progress is None
        found = [item.entry.path for item in installed if item.entry.path.endswith(".py")]
        return [layer.file(f"{path}c", b"code") for path in found]


def test_byte_code_is_a_layer_of_its_own(made: Studio) -> None:
    """Made by the base's own Python after all wheels, known afterwards, compiled only where it has to be written."""
    asked: list[str] = []
    wanted = made.inputs(compiled=("torch",))
    built = made.build(wanted, compiler=lambda: Python(asked))
    manifest = Manifest.from_json(built.image.manifest, "manifest")
    names = [item.annotations[image.LAYER] for item in manifest.layers]
    assert names[-2:] == ["bytecode-torch", "application"]
    assert image.LICENCES not in manifest.layers[-2].annotations
    path = made.blobs.get(manifest.layers[-2])
    assert path is not None
    files = [item.path for item in reading.entries(path, LAYER_GZIP) if item.kind == "file"]
    assert files == ["opt/torchlock/env/lib/python3.11/site-packages/torch/__init__.pyc"]
    assert asked == ["opened", "closed"]
    assert made.build(wanted).image == built.image == build.recalled(wanted, made.memory)


def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every header bear the time of its writing."""
    times = iter(range(10**9, 10**9 + 10**6))
    header = tar.header

    def stamped(entry: tar.Entry) -> bytes:
        monkeypatch.setattr(tar, "EPOCH", next(times))
        return header(entry)

    monkeypatch.setattr(tar, "header", stamped)


@pytest.mark.parametrize("slip", [None, slow_clock])
def test_the_same_digest_from_scratch_unless_a_timestamp_slips_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slip: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    """Two studios share nothing but the wheels' bytes; with a clock in the headers the digests differ."""
    one, other = studio.furnished(tmp_path / "one"), studio.furnished(tmp_path / "another place")
    inputs = one.inputs()
    first = one.build(inputs).image
    if slip is not None:
        slip(monkeypatch)
    second = other.build(replace(inputs)).image
    assert (first.digest == second.digest) is (slip is None)


def test_dockers_media_type_becomes_ocis(made: Studio) -> None:
    """A base's layer keeps its bytes and its digest."""
    lowest = Manifest.from_json(made.build().image.manifest, "manifest").layers[0]
    assert lowest.media_type == LAYER_GZIP
    assert lowest.digest == made.base.layers[0][0].digest
