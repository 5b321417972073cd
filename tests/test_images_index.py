"""The index of a profile is a pure function of its committed images, and is there for several platforms only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import studio
from torchlock.errors import ImageError, StaleError
from torchlock.images import committed, index
from torchlock.profiles.profile import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.images.image import Image

WHERE = "lockfiles/torch2.2-cuda/image-index.json"


def profile(*platforms: str) -> Profile:
    """Return a profile for some platforms."""
    targets = tuple(studio.target("cuda", platform) for platform in platforms)
    return Profile(
        name="torch2.2-cuda", line="torch2.2", variant="cuda", targets=targets, source="environments/torch2.2.yaml"
    )


BOTH = profile("linux-64", "linux-aarch64", "win-64")


def commit(root: Path, platform: str) -> Image:
    """Build and commit an image for a platform."""
    made = studio.furnished(root / platform)
    made.locked(*made.lock.artifacts, platform=platform)
    found = made.build().image
    committed.write(root, "torch2.2-cuda", platform, found)
    return found


def test_an_index_names_each_platforms_manifest(tmp_path: Path) -> None:
    """In one order, whatever was committed first; what all say is said of the index too."""
    arm, amd = commit(tmp_path, "linux-aarch64"), commit(tmp_path, "linux-64")
    assert index.write(tmp_path, BOTH)
    value = json.loads((tmp_path / WHERE).read_bytes())
    assert [(item["digest"], item["size"], item["platform"]) for item in value["manifests"]] == [
        (str(amd.digest), len(amd.manifest), {"os": "linux", "architecture": "amd64"}),
        (str(arm.digest), len(arm.manifest), {"os": "linux", "architecture": "arm64", "variant": "v8"}),
    ]
    assert value["annotations"] == {
        "org.opencontainers.image.title": "torch2.2-cuda",
        "org.opencontainers.image.version": "2.2.2-1.26.4-cuda",
        "org.opencontainers.image.created": "1980-01-01T00:00:00Z",
        "dev.torchlock.profile": "torch2.2-cuda",
        "dev.torchlock.torch": "2.2.2",
        "dev.torchlock.numpy": "1.26.4",
    }
    assert not index.write(tmp_path, BOTH)
    index.check(tmp_path, BOTH)
    images = [committed.read(tmp_path, BOTH.name, name) for name in ("linux-aarch64", "linux-64")]
    assert index.index([item for item in images if item]) == (tmp_path / WHERE).read_bytes()


def test_a_profile_of_one_platform_has_none(tmp_path: Path) -> None:
    """Its manifest is enough."""
    commit(tmp_path, "linux-64")
    assert not index.write(tmp_path, profile("linux-64"))
    assert not (tmp_path / WHERE).exists()
    index.check(tmp_path, profile("linux-64"))


def test_without_images_there_is_none(tmp_path: Path) -> None:
    """And one that lies there is refused."""
    index.check(tmp_path, BOTH)
    path = tmp_path / WHERE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    with pytest.raises(ImageError) as caught:
        index.check(tmp_path, BOTH)
    assert str(caught.value) == (
        f"{WHERE}: an index of no image; expected the index of committed images; try: make image-torch2.2-cuda"
    )
    assert index.write(tmp_path, BOTH)
    assert not path.exists()


def test_an_index_of_other_images_is_stale(tmp_path: Path) -> None:
    """Missing, or before an image moved."""
    commit(tmp_path, "linux-64")
    with pytest.raises(StaleError) as caught:
        index.check(tmp_path, BOTH)
    assert str(caught.value) == (
        f"{WHERE}: is missing; expected the index of the committed images; try: make image-torch2.2-cuda"
    )
    index.write(tmp_path, BOTH)
    commit(tmp_path, "linux-aarch64")
    with pytest.raises(StaleError) as caught:
        index.check(tmp_path, replace(BOTH))
    assert caught.value.found == "is not of the images that are committed"
