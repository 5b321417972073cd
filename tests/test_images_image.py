"""An image is a value: manifest and config agree, carry what their layers are made from, and hold no clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import studio
from torchlock.digest import Digest
from torchlock.images import image
from torchlock.oci.descriptor import CONFIG, MANIFEST
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from pathlib import Path


def made(folder: Path) -> tuple[image.Image, Manifest, Config]:
    """Build an image and read it again."""
    found = studio.furnished(folder).build().image
    return found, Manifest.from_json(found.manifest, "manifest"), Config.from_json(found.config, "config")


def test_manifest_and_config_agree(tmp_path: Path) -> None:
    """The config's descriptor, one diff_id and one line of history for each layer, and the labels in both."""
    found, manifest, config = made(tmp_path)
    assert (manifest.media_type, manifest.config.media_type) == (MANIFEST, CONFIG)
    assert (manifest.config.digest, manifest.config.size) == (Digest.of(found.config), len(found.config))
    assert len(manifest.layers) == len(config.diff_ids) == len(config.history)
    assert {**manifest.annotations, "maker": "tests"} == config.config["Labels"]
    assert (config.os, config.architecture, config.created) == ("linux", "amd64", "1980-01-01T00:00:00Z")


def test_each_layer_says_what_it_is_made_from(tmp_path: Path) -> None:
    """The wheels by name and digest, and their licences: enough to make the image again without a wheel."""
    _, manifest, _ = made(tmp_path)
    torch = next(item for item in manifest.layers if item.annotations[image.LAYER] == "torch")
    name, _, digest = torch.annotations[image.CONTENT].partition("@")
    assert name == "torch-2.2.2-py3-none-any.whl"
    assert Digest.parse(digest) == Digest.of_file(tmp_path / "wheelhouse" / name)
    licences: dict[str, str] = {}
    for item in manifest.layers:
        licences |= json.loads(item.annotations.get(image.LICENCES, "{}"))
    assert licences == {"alpha": "LicenseRef-alpha", "numpy": "LicenseRef-numpy", "torch": "BSD-3-Clause"}
    label = manifest.annotations["org.opencontainers.image.licenses"]
    assert label == "BSD-3-Clause AND LicenseRef-alpha AND LicenseRef-numpy"


def test_the_config_holds_the_digest_of_the_layers(tmp_path: Path) -> None:
    """So that no layer can be exchanged in the manifest alone."""
    _, manifest, config = made(tmp_path)
    assert config.config["Labels"][image.LAYERS] == image.layers_digest(manifest.layers)
    assert image.layers_digest(manifest.layers[:-1]) != image.layers_digest(manifest.layers)


def test_labels_name_inputs_lock_and_recipe(tmp_path: Path) -> None:
    """By digest; and the base by name and by the digest of its lock."""
    _, manifest, _ = made(tmp_path)
    other = studio.furnished(tmp_path / "again")
    said = manifest.annotations
    assert said["dev.torchlock.inputs"] == str(other.inputs().digest())
    assert said["dev.torchlock.lock"] == str(other.lock.digest())
    assert said["dev.torchlock.recipe"] == "1"
    assert said["dev.torchlock.base"] == str(studio.BASE.digest)
    assert said["dev.torchlock.base.name"] == "tiny"
    assert "org.opencontainers.image.base.name" not in said
    assert said["dev.torchlock.cuda"] == "12.1"


def test_a_registrys_image_as_base_is_named_as_oci_does(tmp_path: Path) -> None:
    """By reference and digest; a base that was built here is no image, and has neither."""
    made = studio.furnished(tmp_path)
    origin = {"name": "docker.io/library/python@sha256:1", "digest": "sha256:2"}
    said = Manifest.from_json(made.build(made.inputs(origin=origin)).image.manifest, "manifest").annotations
    assert said["org.opencontainers.image.base.name"] == "docker.io/library/python@sha256:1"
    assert said["org.opencontainers.image.base.digest"] == "sha256:2"


def test_the_descriptor_names_the_manifest(tmp_path: Path) -> None:
    """With the platform, as an index of several needs it."""
    found, _, _ = made(tmp_path)
    descriptor = found.descriptor({"a": "b"})
    assert (descriptor.digest, descriptor.size) == (Digest.of(found.manifest), len(found.manifest))
    assert str(descriptor.platform) == "linux/amd64"
    assert descriptor.annotations == {"a": "b"}
