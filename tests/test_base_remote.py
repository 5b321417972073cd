"""A registry's image as a base: everything by digest, every layer's tar verified."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import bases
from registries import Picture, Registry, Repository, index_of, named
from torchlock.base import image
from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError, TorchlockError
from torchlock.oci.descriptor import CONFIG, DOCKER_LAYER_GZIP, LAYER_GZIP
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = "usr/local/bin/python3.11"


def tarred(*names: str) -> bytes:
    """Return a tar of small files."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as opened:
        for name in names:
            item = tarfile.TarInfo(name)
            item.size = len(name)
            opened.addfile(item, io.BytesIO(name.encode()))
    return sink.getvalue()


def python_image(*tars: bytes, version: str = "3.11.16", media_type: str = LAYER_GZIP) -> Picture:
    """Return an image of these tars, whose config says which Python it has."""
    layers = tuple(gzip.compress(data, mtime=0) for data in tars)
    config = Config(
        os="linux",
        architecture="amd64",
        diff_ids=tuple(Digest.of(data) for data in tars),
        config={"Env": ["PATH=/usr/local/bin:/bin", f"PYTHON_VERSION={version}"], "Cmd": ["python3"]},
    ).to_json()
    manifest = Manifest(config=named(config, CONFIG), layers=tuple(named(data, media_type) for data in layers))
    return Picture(manifest=manifest, config=config, layers=layers)


def project(folder: Path, registry: Registry, picture: Picture, manifest: str | None = None) -> Path:
    """Put an image into the registry, and return a project that declares it."""
    index = index_of(registry.repository("library/python"), picture)
    (folder / "docker").mkdir()
    (folder / "docker" / "base.yaml").write_text(
        f"default: python\nbases:\n  python:\n"
        f"    image: {registry.host}/library/python@{Digest.of(index)}\n"
        f'    manifests: {{linux-64: "{manifest or picture.descriptor.digest}"}}\n'
        f'    python: /{PYTHON}\n    version: "3.11.16"\n'
    )
    return folder


def repository(registry: Registry) -> Repository:
    """Return where the image lies."""
    return registry.repository("library/python")


def test_an_image_is_locked_and_brought_here(tmp_path: Path, registry: Registry) -> None:
    """Its layers with Docker's media type stay what they are; its config is inherited."""
    made = python_image(tarred("etc/passwd"), tarred(PYTHON), media_type=DOCKER_LAYER_GZIP)
    root = project(tmp_path, registry, made)
    workshop = bases.workshop(tmp_path / "store")
    found, said = image.update(root, None, "linux-64", workshop)
    assert said == ["0 packages, Python 3.11.16"]
    assert [item.media_type for item, _ in found.layers] == [DOCKER_LAYER_GZIP] * 2
    assert [diff_id for _, diff_id in found.layers] == [Digest.of(tarred("etc/passwd")), Digest.of(tarred(PYTHON))]
    assert found.config["Cmd"] == ["python3"]
    assert image.resolve(root, None, "linux-64") == found
    fresh = bases.workshop(tmp_path / "fresh")
    assert image.resolve(root, None, "linux-64", fresh) == found
    assert all(fresh.blobs.get(item) is not None for item, _ in found.layers)


def test_what_is_here_is_not_asked_for(tmp_path: Path, registry: Registry) -> None:
    """Offline, too; what is missing is refused then."""
    root = project(tmp_path, registry, python_image(tarred(PYTHON)))
    workshop = bases.workshop(tmp_path / "store")
    found, _ = image.update(root, None, "linux-64", workshop)
    asked = len(registry.requests("GET"))
    assert image.resolve(root, None, "linux-64", replace(workshop, offline=True)) == found
    assert len(registry.requests("GET")) == asked
    with pytest.raises(ImageError) as caught:
        image.resolve(root, None, "linux-64", bases.workshop(tmp_path / "other", offline=True))
    expected = "the base python: it is not here, and nothing may be fetched; try: the same without OFFLINE=1"
    assert str(caught.value) == expected


def test_a_layer_whose_tar_is_not_that_of_the_config(tmp_path: Path, registry: Registry) -> None:
    """The digest of the blob is right, that of the tar within it is not."""
    made = python_image(tarred(PYTHON))
    lying = Config.from_json(made.config, "x")
    config = replace(lying, diff_ids=(Digest("0" * 64),)).to_json()
    manifest = replace(made.manifest, config=named(config, CONFIG))
    root = project(tmp_path, registry, Picture(manifest=manifest, config=config, layers=made.layers))
    with pytest.raises(ImageError, match=f"its tar has the digest {Digest.of(tarred(PYTHON))}; expected sha256:0000"):
        image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))
    assert not (tmp_path / "docker" / "base").exists()


def test_an_image_without_the_declared_interpreter(tmp_path: Path, registry: Registry) -> None:
    """It is found before anything stands on it."""
    root = project(tmp_path, registry, python_image(tarred("usr/bin/perl")))
    with pytest.raises(ImageError) as caught:
        image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))
    assert str(caught.value) == (
        "the base python: no /usr/local/bin/python3.11 in it; expected the declared interpreter; "
        "try: make base UPDATE=1"
    )


def test_an_image_with_another_python(tmp_path: Path, registry: Registry) -> None:
    """What its config says is held against the declaration."""
    root = project(tmp_path, registry, python_image(tarred(PYTHON), version="3.11.15"))
    with pytest.raises(ImageError) as caught:
        image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))
    expected = ": PYTHON_VERSION=3.11.15; expected 3.11.16, as docker/base.yaml says"
    assert str(caught.value).endswith(expected)


def test_a_manifest_that_the_index_does_not_list(tmp_path: Path, registry: Registry) -> None:
    """Both digests are declared, and they belong together."""
    root = project(tmp_path, registry, python_image(tarred(PYTHON)), manifest=f"sha256:{'1' * 64}")
    with pytest.raises(ImageError, match=r"docker/base\.yaml: python: sha256:1111"):
        image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))


def test_a_registry_that_sends_another_index(tmp_path: Path, registry: Registry) -> None:
    """Its digest is not the declared one."""
    made = python_image(tarred(PYTHON))
    root = project(tmp_path, registry, made)
    held = repository(registry).manifests
    for digest, (media_type, _) in list(held.items()):
        held[digest] = (media_type, b"{}")
    with pytest.raises(RegistryError, match="the registry sends sha256:"):
        image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))


def test_a_damaged_layer_is_refused_in_the_build_too(tmp_path: Path, registry: Registry) -> None:
    """A base that is brought here by its lock is verified like one that is locked."""
    root = project(tmp_path, registry, python_image(tarred(PYTHON)))
    found, _ = image.update(root, None, "linux-64", bases.workshop(tmp_path / "store"))
    held, digest = repository(registry).blobs, str(found.layers[0][0].digest)
    held[digest] = held[digest][:-1] + b"?"
    fresh = bases.workshop(tmp_path / "fresh")
    with pytest.raises(TorchlockError):
        image.resolve(root, None, "linux-64", fresh)
    assert fresh.blobs.get(found.layers[0][0]) is None
