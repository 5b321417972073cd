"""Manifests, indexes and configs: one canonical form, and strict reading of anybody's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci.descriptor import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LAYER_GZIP,
    MANIFEST,
    PLATFORMS,
    Descriptor,
    Platform,
)
from torchlock.oci.manifest import Config, Index, Manifest, media_type_of


def named(text: str, media_type: str = LAYER_GZIP, platform: Platform | None = None) -> Descriptor:
    """Name some bytes."""
    data = text.encode()
    return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data), platform=platform)


FULL = Manifest(
    config=named("config", CONFIG),
    layers=(named("one"), named("two")),
    annotations={"b": "1", "a": "2"},
    subject=named("subject", MANIFEST),
    artifact_type="application/vnd.x",
)


def changed(value: Manifest | Index, **changes: Any) -> bytes:
    """Return a document's JSON with keys replaced, or left out where they are Ellipsis."""
    found = json.loads(value.to_json()) | changes
    return json.dumps({key: item for key, item in found.items() if item is not ...}).encode()


def refusal(data: bytes, reader: Any = Manifest) -> str:
    """Return the message that reading these bytes ends with."""
    with pytest.raises(ImageError) as caught:
        reader.from_json(data, "m")
    return str(caught.value)


def test_a_manifest_has_one_form_and_comes_back_from_it() -> None:
    """Sorted keys, no spaces, no newline: the digest is a function of the value."""
    data = FULL.to_json()
    assert data.startswith(b'{"annotations":{"a":"2","b":"1"},"artifactType":"application/vnd.x","config":{"digest":')
    assert not data.endswith(b"\n")
    assert Manifest.from_json(data, "m") == FULL
    assert Manifest.from_json(data, "m").to_json() == data


def test_dockers_manifest_is_read_and_says_that_it_is() -> None:
    """Its media type is kept; where the body names none it is OCI's."""
    assert Manifest.from_json(changed(FULL, mediaType=DOCKER_MANIFEST), "m").media_type == DOCKER_MANIFEST
    assert Manifest.from_json(changed(FULL, mediaType=...), "m").media_type == MANIFEST


def test_a_document_that_is_two_things_is_refused() -> None:
    """A manifest that is an index, too, means another image to another reader (CVE-2021-41190)."""
    assert refusal(changed(FULL, manifests=[])) == (
        "m: manifests: a key of an index; expected a document that is one thing"
    )
    index = Index(manifests=(named("one", MANIFEST),))
    assert refusal(changed(index, layers=[]), Index) == (
        "m: layers: a key of a manifest; expected a document that is one thing"
    )


def test_a_schema_1_manifest_is_refused_by_name() -> None:
    """What old registries serve cannot be verified."""
    assert refusal(b'{"schemaVersion":1,"fsLayers":[],"history":[]}') == (
        "m: a schema 1 manifest, which names no verifiable config; expected schema 2; try: push the image anew"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schemaVersion": 3}, "m: schemaVersion: 3; expected 2"),
        ({"schemaVersion": True}, "m: schemaVersion: true; expected 2"),
        ({"mediaType": INDEX}, f"m: mediaType: '{INDEX}'; expected {DOCKER_MANIFEST} or {MANIFEST}"),
        ({"config": ...}, "m: config: is missing; expected an object"),
        ({"layers": {}}, "m: layers: an object; expected a list"),
        ({"layers": [{"mediaType": LAYER_GZIP}]}, "m: layers[0].digest: is missing; expected a text"),
        ({"layers": ["x"]}, "m: layers[0]: a text; expected an object"),
        ({"subject": "x"}, "m: subject: a text; expected an object"),
    ],
)
def test_a_false_manifest_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    """The message names the key, what it holds, and what it must hold."""
    assert refusal(changed(FULL, **changes)) == message


def test_an_index_gives_the_manifest_of_a_platform() -> None:
    """`arm64` without a variant is `arm64/v8`; another platform, or two alike, are refused."""
    amd, arm = Platform(os="linux", architecture="amd64"), Platform(os="linux", architecture="arm64")
    index = Index(manifests=(named("a", MANIFEST, amd), named("b", MANIFEST, arm), named("c", MANIFEST)))
    assert Index.from_json(index.to_json(), "i") == index
    assert index.of(PLATFORMS["linux-aarch64"], "i") == index.manifests[1]
    with pytest.raises(
        ImageError, match=r"i: no manifests for linux/s390x \(has linux/amd64, linux/arm64\); expected one"
    ):
        index.of(Platform(os="linux", architecture="s390x"), "i")
    with pytest.raises(ImageError, match="i: 2 manifests for linux/amd64"):
        Index(manifests=(index.manifests[0],) * 2).of(amd, "i")


def test_a_documents_kind_is_told_by_its_bytes() -> None:
    """By what is in it, as its media type must agree."""
    assert media_type_of(FULL.to_json(), "m") == MANIFEST
    assert media_type_of(Index(manifests=()).to_json(), "m") == INDEX
    assert media_type_of(changed(Index(manifests=()), mediaType=DOCKER_INDEX), "m") == DOCKER_INDEX
    with pytest.raises(ImageError, match="m: mediaType"):
        media_type_of(changed(Index(manifests=()), mediaType=MANIFEST), "m")


def test_a_config_has_one_form_and_comes_back_from_it() -> None:
    """Layers by their uncompressed digests, in order."""
    config = Config(
        architecture="arm64",
        os="linux",
        variant="v8",
        config={"User": "1000"},
        diff_ids=(Digest.of(b"1"), Digest.of(b"2")),
        history=({"created_by": "x"},),
        created="1980-01-01T00:00:00Z",
    )
    assert Config.from_json(config.to_json(), "c") == config
    assert config.platform == PLATFORMS["linux-aarch64"]
    assert json.loads(config.to_json())["rootfs"]["type"] == "layers"


def test_another_builders_config_is_read_without_what_is_not_named() -> None:
    """Fields of Docker's own are dropped; null is as good as absent."""
    data = b'{"architecture":"amd64","os":"linux","docker_version":"20.10","config":null,"history":null,'
    data += b'"rootfs":{"type":"layers","diff_ids":["sha256:' + b"0" * 64 + b'"]}}'
    found = Config.from_json(data, "c")
    assert found.diff_ids == (Digest("0" * 64),)
    assert found.config == {}
    assert found.history == ()


@pytest.mark.parametrize(
    ("rootfs", "message"),
    [
        ({"type": "tree", "diff_ids": []}, "m: rootfs.type: 'tree'; expected 'layers'"),
        (
            {"type": "layers", "diff_ids": [1]},
            "m: rootfs.diff_ids[0]: 1; expected sha256: and 64 lower-case hexadecimal digits",
        ),
    ],
)
def test_a_false_config_is_refused_with_its_place(rootfs: dict[str, Any], message: str) -> None:
    """A layer's digest must be one."""
    data = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    assert refusal(data, Config) == message
