"""A committed image is held against its inputs without a wheel: stale, broken, or good."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import studio
from torchlock.digest import Digest
from torchlock.errors import ImageError, StaleError
from torchlock.images import committed, image, inputs
from torchlock.oci.document import canonical
from torchlock.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from studio import Studio

PLACE = "lockfiles/torch2.2-cuda/linux-64/image"
AGAIN = "; try: make image-torch2.2-cuda"


@pytest.fixture
def made(tmp_path: Path) -> Studio:
    """Make a studio whose image is built and committed."""
    found = studio.furnished(tmp_path)
    committed.write(tmp_path, "torch2.2-cuda", "linux-64", found.build().image)
    return found


def edit(made: Studio, name: str, change: Callable[[Any], object]) -> None:
    """Change one of the two files, in canonical form."""
    path = made.folder / PLACE / name
    value = json.loads(path.read_bytes())
    change(value)
    path.write_bytes(canonical(value))


def refused(made: Studio) -> str:
    """Return the message with which the image is refused."""
    with pytest.raises(ImageError) as caught:
        committed.check(made.folder, made.inputs())
    return str(caught.value)


def stale(made: Studio, wanted: inputs.Inputs) -> str:
    """Return the message with which the image is called stale, after the place and before what is expected."""
    with pytest.raises(StaleError) as caught:
        committed.check(made.folder, wanted)
    assert caught.value.status == 3
    assert caught.value.remedy == "make image-torch2.2-cuda"
    assert caught.value.where == f"{PLACE}/manifest.json"
    return caught.value.found


def test_a_good_one_is_made_again_without_wheels_and_blobs(made: Studio, tmp_path: Path) -> None:
    """Byte for byte."""
    found = committed.check(made.folder, made.inputs())
    assert found is not None
    assert (tmp_path / PLACE / "manifest.json").read_bytes() == found.image.manifest
    assert (tmp_path / PLACE / "config.json").read_bytes() == found.image.config
    assert sorted(path.name for path in (tmp_path / PLACE).iterdir()) == ["config.json", "manifest.json"]


def test_none_is_no_error(tmp_path: Path) -> None:
    """Not every profile has an image."""
    assert committed.check(tmp_path, studio.furnished(tmp_path).inputs()) is None


def test_it_knows_its_layers(made: Studio) -> None:
    """Under the keys that a build asks for, and only for the recipe that made them."""
    found = committed.read(made.folder, "torch2.2-cuda", "linux-64")
    assert found is not None
    wanted = made.inputs()
    assert {wanted.key(part.content) for part in wanted.parts()} == found.known.keys()
    assert committed.everything(made.folder) == found.known


def test_another_recipe_knows_nothing(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers may have been made in another way."""
    monkeypatch.setattr(inputs, "RECIPE", 2)
    assert committed.everything(made.folder) == {}


def test_a_lock_that_moved_makes_it_stale(made: Studio) -> None:
    """Said as that."""
    wanted = made.inputs(lock=replace(made.lock, snapshot_digest=Digest.of(b"moved")))
    assert stale(made, wanted) == "the lock has changed since this image was made"


def test_a_base_that_moved_makes_it_stale(made: Studio) -> None:
    """Said as that."""
    made.base = replace(made.base, digest=Digest.of(b"moved"))
    assert stale(made, made.inputs()) == "the base has changed since this image was made"


def test_a_new_recipe_makes_it_stale(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said as that."""
    monkeypatch.setattr(inputs, "RECIPE", 2)
    assert stale(made, made.inputs()) == "torchlock makes images in another way since this one was made"


def test_other_sources_make_it_stale(made: Studio) -> None:
    """The smoke script is in the image: when it moves, the image does."""
    found = stale(made, made.inputs(sources={"smoke.py": b"new"}))
    assert found == "what runs inside images, or the order of their layers, has changed since this one was made"


def test_another_layer_in_the_manifest_is_found(made: Studio) -> None:
    """The config holds the digest of all layers."""
    edit(made, "manifest.json", lambda value: value["layers"][1].update(digest=str(Digest.of(b"evil"))))
    assert refused(made).startswith(f"{PLACE}/config.json: config.Labels.dev.torchlock.layers: 'sha256:")


def test_another_config_is_found(made: Studio) -> None:
    """The manifest holds its digest."""
    edit(made, "config.json", lambda value: value["config"].update(User="0:0"))
    path = made.folder / PLACE / "config.json"
    expected = Manifest.from_json((made.folder / PLACE / "manifest.json").read_bytes(), "m").config.digest
    assert refused(made) == (
        f"{PLACE}/manifest.json: config.digest: {expected}; expected {Digest.of_file(path)}{AGAIN}"
    )


def test_an_image_that_was_altered_throughout_is_found(made: Studio) -> None:
    """Both files agree with each other, and not with what the inputs give."""
    edit(made, "config.json", lambda value: value["config"].update(User="0:0"))
    data = (made.folder / PLACE / "config.json").read_bytes()
    described = {"digest": str(Digest.of(data)), "size": len(data)}
    edit(made, "manifest.json", lambda value: value["config"].update(described))
    found = committed.read(made.folder, "torch2.2-cuda", "linux-64")
    assert found is not None
    assert refused(made).startswith(
        f'{PLACE}/manifest.json: is not what its inputs give: config .config.User: "0:0" -> "1000:1000"'
    )


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("manifest.json", b" ", f"{PLACE}/manifest.json: its form; expected canonical JSON{AGAIN}"),
        ("config.json", b"\n", f"{PLACE}/config.json: its form; expected canonical JSON{AGAIN}"),
    ],
)
def test_the_files_are_the_bytes_that_are_pushed(made: Studio, name: str, change: bytes, expected: str) -> None:
    """An editor's newline is another digest."""
    path = made.folder / PLACE / name
    path.write_bytes(path.read_bytes() + change)
    assert refused(made) == expected


def test_a_missing_half_is_found(made: Studio) -> None:
    """Manifest and config come together."""
    (made.folder / PLACE / "config.json").unlink()
    assert refused(made) == (
        f"{PLACE}/config.json: cannot be read: No such file or directory; expected manifest.json and config.json{AGAIN}"
    )


def test_what_torchlock_did_not_write_is_found(made: Studio) -> None:
    """Nothing else may lie there."""
    (made.folder / PLACE / "notes.txt").write_text("x", encoding="utf-8")
    assert refused(made) == f"{PLACE}: torchlock did not write notes.txt; expected manifest.json, config.json"


def test_labels_and_annotations_must_agree(made: Studio) -> None:
    """The manifest says what the config says."""
    edit(made, "manifest.json", lambda value: value["annotations"].update({"dev.torchlock.torch": "9"}))
    assert refused(made) == (
        f"{PLACE}/manifest.json: annotations: not the labels in config.json; expected the same{AGAIN}"
    )


def test_an_image_in_anothers_place_is_found(made: Studio) -> None:
    """A copied folder is of the profile that it names."""
    other = made.folder / "lockfiles/torch2.4-cuda/linux-64/image"
    other.parent.mkdir(parents=True)
    (made.folder / PLACE).rename(other)
    with pytest.raises(ImageError) as caught:
        committed.read(made.folder, "torch2.4-cuda", "linux-64")
    assert str(caught.value).endswith(
        "config.Labels.dev.torchlock.profile: 'torch2.2-cuda'; expected 'torch2.4-cuda'; try: make image-torch2.4-cuda"
    )


def settle(made: Studio, wanted: inputs.Inputs, found: image.Image) -> str:
    """Settle what becomes of a built image."""
    return committed.settle(made.folder, wanted, found, made.blobs, made.notes)


def test_the_first_image_is_committed_and_the_next_is_the_same(tmp_path: Path) -> None:
    """Nothing is written twice."""
    made = studio.furnished(tmp_path)
    built = made.build().image
    assert settle(made, made.inputs(), built) == "committed now"
    assert settle(made, made.inputs(), made.build().image) == "the committed one"


def test_an_image_of_other_inputs_takes_its_place(made: Studio) -> None:
    """And the reason is said."""
    wanted = made.inputs(sources={"smoke.py": b"new"})
    assert settle(made, wanted, made.build(wanted).image) == (
        "committed anew: what runs inside images, or the order of their layers, has changed since this one was made"
    )
    assert committed.check(made.folder, wanted) is not None


def test_another_image_of_the_same_inputs_is_refused(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs is noted, layer by layer and file by file; the committed one stays."""
    before = committed.check(made.folder, made.inputs())
    pieces = image.application_pieces
    monkeypatch.setattr(
        image,
        "application_pieces",
        lambda *values: [
            replace(item, entry=replace(item.entry, mode=0o777)) if item.entry.path == "home/user" else item
            for item in pieces(*values)
        ],
    )
    other = made.build().image
    monkeypatch.undo()
    with pytest.raises(ImageError) as caught:
        settle(made, made.inputs(), other)
    assert caught.value.found.startswith(f"the same inputs give {other.digest} here: layer application: sha256:")
    assert caught.value.remedy == f"rm -r {PLACE}, if this machine is right, and again"
    assert "layer application: home/user: mode 1777 -> 777" in made.notes.notes
    assert committed.check(made.folder, made.inputs()) == before


def test_a_broken_one_is_committed_anew(made: Studio) -> None:
    """The remedy of `check` works."""
    (made.folder / PLACE / "config.json").write_bytes(b"{")
    assert settle(made, made.inputs(), made.build().image) == "committed now"
    assert made.notes.notes[-1].startswith(f"committed anew: {PLACE}/config.json: is not JSON")
    assert committed.check(made.folder, made.inputs()) is not None
