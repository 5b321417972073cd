"""Documents at a registry: what is read is what was named, and what is written is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registries import Registry, answering, picture
from torchlock.errors import RegistryError
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import MANIFEST
from torchlock.registry import documents
from torchlock.registry.client import Client, StatusError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = picture(b"a layer")
DIGEST = IMAGE.descriptor.digest


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that holds an image, tagged."""
    IMAGE.put(registry.repository("a/b"), "latest")
    return registry


def test_a_document_that_is_here_is_not_asked_for(registry: Registry, client: Client, tmp_path: Path) -> None:
    """Unless by a tag, which may have moved; a damaged one is fetched anew."""
    blobs = Blobs(tmp_path / "blobs")
    assert documents.document(client, client.repository.at(DIGEST), blobs) == IMAGE.descriptor
    assert documents.document(client, client.repository.at(DIGEST), blobs) == IMAGE.descriptor
    assert len(registry.seen) == 1
    assert documents.document(client, client.repository.tagged("latest"), blobs) == IMAGE.descriptor
    assert len(registry.seen) == 2
    path = blobs.path(DIGEST)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert documents.document(client, client.repository.at(DIGEST), blobs) == IMAGE.descriptor
    assert blobs.read(IMAGE.descriptor) == IMAGE.data
    assert len(registry.seen) == 3


def test_a_document_is_there_or_not(registry: Registry, client: Client) -> None:
    """By digest or under a tag; a registry that will not say is no answer."""
    other = picture(b"other").descriptor.digest
    assert documents.has(client, client.repository.at(DIGEST), DIGEST)
    assert documents.has(client, client.repository.tagged("latest"), DIGEST)
    assert not documents.has(client, client.repository.tagged("latest"), other)
    assert not documents.has(client, client.repository.tagged("none"), DIGEST)
    assert not documents.has(client, client.repository.at(other), other)
    registry.fault("GET", "", answering(403))
    with pytest.raises(StatusError, match="forbids it"):
        documents.has(client, client.repository.at(DIGEST), DIGEST)
    registry.fault("GET", "", answering(200, b"{}"))
    with pytest.raises(RegistryError, match=f"the registry sends .* expected {DIGEST}"):
        documents.has(client, client.repository.at(DIGEST), DIGEST)


def test_a_document_is_written_under_its_media_type(registry: Registry, client: Client) -> None:
    """And the registry's word for it is looked at."""
    answer = documents.write(client, client.repository.tagged("x"), IMAGE.data, MANIFEST)
    assert answer.code == 201
    assert registry.seen[-1].headers["content-type"] == MANIFEST
    assert registry.repository("a/b").tags["x"] == str(DIGEST)
    other = f"sha256:{'0' * 64}"
    registry.fault("PUT", "", answering(201, b"", {"Docker-Content-Digest": other}))
    with pytest.raises(RegistryError, match=f"the registry says that it took {other}; expected {DIGEST}"):
        documents.write(client, client.repository.tagged("x"), IMAGE.data, MANIFEST)
