"""Referrers: attached and listed through the registry's interface, or through a tag where it has none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from registries import Handler, Registry, answering, picture
from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import EMPTY, INDEX, MANIFEST, Descriptor
from torchlock.oci.manifest import Index
from torchlock.registry.referrers import artifact, attach, read, referrers

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.registry.client import Client

IMAGE = picture(b"a layer")
SUBJECT = IMAGE.descriptor
KIND = "application/vnd.torchlock.evidence.v1+json"
DATA = b'{"passed":true}'
NOTES = {"dev.torchlock.device": "none"}


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that holds an image."""
    IMAGE.put(registry.repository("a/b"), "latest")
    return registry


def test_an_artifacts_bytes_are_a_function_of_what_it_says() -> None:
    """No clock, no name: the digest of evidence is known before it is attached."""
    made = artifact(SUBJECT, KIND, DATA, NOTES)
    assert json.loads(made.to_json()) == {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": KIND,
        "config": {"mediaType": EMPTY, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [{"mediaType": KIND, "digest": str(Digest.of(DATA)), "size": len(DATA)}],
        "subject": {"mediaType": MANIFEST, "digest": str(SUBJECT.digest), "size": SUBJECT.size},
        "annotations": NOTES,
    }


@pytest.mark.parametrize("interface", [True, False])
def test_an_artifact_is_attached_listed_and_read(
    registry: Registry, client: Client, tmp_path: Path, interface: bool
) -> None:
    """Through the interface without a tag; through the tag `sha256-<hex>` without the interface."""
    registry.referrers = interface
    one = attach(client, SUBJECT, KIND, DATA, NOTES)
    two = attach(client, SUBJECT, "application/vnd.other", b"other", {})
    assert one.by_tag is two.by_tag is not interface
    tags = registry.repository("a/b").tags.keys() - {"latest"}
    assert tags == (set() if interface else {f"sha256-{SUBJECT.digest.hex}"})
    encoded = artifact(SUBJECT, KIND, DATA, NOTES).to_json()
    wanted = Descriptor(
        media_type=MANIFEST, digest=Digest.of(encoded), size=len(encoded), annotations=NOTES, artifact_type=KIND
    )
    assert one.descriptor == wanted
    assert set(referrers(client, SUBJECT.digest)) == {one.descriptor, two.descriptor}
    assert referrers(client, SUBJECT.digest, KIND) == (wanted,)
    manifest, data = read(client, wanted, SUBJECT.digest, Blobs(tmp_path / "blobs"))
    assert (manifest, data) == (artifact(SUBJECT, KIND, DATA, NOTES), DATA)


@pytest.mark.parametrize("interface", [True, False])
def test_what_is_attached_already_stays_as_it_is(registry: Registry, client: Client, interface: bool) -> None:
    """Twice is once."""
    registry.referrers = interface
    attach(client, SUBJECT, KIND, DATA, NOTES)
    before = dict(registry.repository("a/b").tags)
    attach(client, SUBJECT, KIND, DATA, NOTES)
    assert len(referrers(client, SUBJECT.digest)) == 1
    assert registry.repository("a/b").tags == before


def test_a_list_of_several_pages_is_read_to_its_end(registry: Registry, client: Client) -> None:
    """Following the links; one that never ends is left."""
    registry.page = 2
    for number in range(5):
        attach(client, SUBJECT, KIND, b"%d" % number, {})
    found = referrers(client, SUBJECT.digest)
    assert len(found) == 5
    assert list(found) == sorted(found, key=lambda item: item.digest)
    link = {"Link": f'</v2/a/b/referrers/{SUBJECT.digest}>; rel="next"'}
    registry.fault("GET", "/referrers/", answering(200, Index(manifests=()).to_json(), link), times=999)
    with pytest.raises(RegistryError, match="more than 100 pages of referrers; expected an end to them"):
        referrers(client, SUBJECT.digest)


def test_an_image_without_referrers_has_an_empty_list(registry: Registry, client: Client) -> None:
    """With the interface or without."""
    assert referrers(client, SUBJECT.digest) == ()
    registry.referrers = False
    assert referrers(client, SUBJECT.digest) == ()


def test_two_writers_of_one_tag_lose_nothing(registry: Registry, client: Client) -> None:
    """Each looks whether its own is there, and adds it again where the other was later."""
    registry.referrers = False
    tag = f"sha256-{SUBJECT.digest.hex}"

    def overwritten(handler: Handler) -> None:
        with registry.lock:  # the next request waits for it
            handler.serve()
            data = Index(manifests=()).to_json()
            repository = registry.repository("a/b")
            repository.manifests[str(Digest.of(data))] = (INDEX, data)
            repository.tags[tag] = str(Digest.of(data))

    registry.fault("PUT", tag, overwritten, times=2)
    found = attach(client, SUBJECT, KIND, DATA, NOTES)
    assert referrers(client, SUBJECT.digest) == (found.descriptor,)
    registry.repository("a/b").tags.pop(tag)
    registry.fault("PUT", tag, overwritten, times=99)
    with pytest.raises(RegistryError, match=f"does not keep {found.descriptor.digest}; expected a tag that lists it"):
        attach(client, SUBJECT, KIND, DATA, NOTES)


def test_an_artifact_of_another_subject_is_refused(registry: Registry, client: Client, tmp_path: Path) -> None:
    """A list may say what it likes; the artifact names its subject itself."""
    found = attach(client, SUBJECT, KIND, DATA, NOTES)
    other = Digest.of(b"x")
    with pytest.raises(ImageError) as caught:
        read(client, found.descriptor, other, Blobs(tmp_path / "blobs"))
    where = f"{registry.host}/a/b@{found.descriptor.digest}"
    assert str(caught.value) == f"{where}: the subject {SUBJECT.digest}; expected {other}"
    with pytest.raises(ImageError, match=f"no subject; expected {other}"):
        read(client, SUBJECT, other, Blobs(tmp_path / "blobs"))


def test_a_tag_that_is_no_list_is_refused(registry: Registry, client: Client) -> None:
    """It is somebody's image, and is not replaced."""
    registry.referrers = False
    registry.repository("a/b").tags[f"sha256-{SUBJECT.digest.hex}"] = str(SUBJECT.digest)
    with pytest.raises(ImageError, match="a list of referrers"):
        attach(client, SUBJECT, KIND, DATA, NOTES)
    assert registry.repository("a/b").tags[f"sha256-{SUBJECT.digest.hex}"] == str(SUBJECT.digest)


def test_a_tampered_artifact_is_refused(registry: Registry, client: Client, tmp_path: Path) -> None:
    """Its data is verified like any blob."""
    found = attach(client, SUBJECT, KIND, DATA, NOTES)
    registry.repository("a/b").blobs[str(Digest.of(DATA))] = b'{"passed":TRUE}'
    with pytest.raises(RegistryError, match="the bytes are sha256:"):
        read(client, found.descriptor, SUBJECT.digest, Blobs(tmp_path / "blobs"))
