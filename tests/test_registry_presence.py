"""Presence: a blob that a registry says it has is of the right size and digest, or it is refused."""

from __future__ import annotations

import pytest

from registries import Registry, answering, named
from torchlock.errors import RegistryError
from torchlock.oci.descriptor import LAYER_GZIP
from torchlock.registry.client import Client, StatusError
from torchlock.registry.presence import exists, mount

DATA = b"a layer"
BLOB = named(DATA, LAYER_GZIP)


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that has a blob in one repository."""
    registry.repository("a/base").blobs[str(BLOB.digest)] = DATA
    return registry


def test_a_blob_is_there_or_not(client: Client) -> None:
    """In this repository, or in another."""
    assert not exists(client, BLOB)
    assert exists(client, BLOB, "a/base")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Length": "8"}, "8 bytes at the registry; expected 7 bytes"),
        ({"Content-Length": "9" * 5000}, f"{'9' * 18} bytes at the registry; expected 7 bytes"),
        (
            {"Content-Length": "7", "Docker-Content-Digest": f"sha256:{'0' * 64}"},
            f"the registry says that it has sha256:{'0' * 64}; expected {BLOB.digest}",
        ),
    ],
)
def test_a_blob_that_is_something_else_is_refused(
    registry: Registry, client: Client, headers: dict[str, str], message: str
) -> None:
    """It could not be mended by sending the right one: it counts as there."""
    registry.fault("HEAD", "", answering(200, b"", headers))
    with pytest.raises(RegistryError) as caught:
        exists(client, BLOB)
    assert str(caught.value) == f"{registry.host}/a/b@{BLOB.digest}: {message}"


def test_a_closed_repository_has_nothing_to_mount(registry: Registry, client: Client) -> None:
    """But the one that is pushed to must be open."""
    registry.fault("HEAD", "", answering(403), times=2)
    assert not exists(client, BLOB, "a/base")
    with pytest.raises(StatusError, match="forbids it"):
        exists(client, BLOB)


def test_a_blob_is_mounted_or_an_upload_begins(registry: Registry, client: Client) -> None:
    """As the registry likes."""
    assert mount(client, BLOB, "a/base") is None
    assert registry.repository("a/b").blobs == {str(BLOB.digest): DATA}
    registry.mounts = False
    answer = mount(client, BLOB, "a/base")
    assert answer is not None
    assert "location" in answer.headers
