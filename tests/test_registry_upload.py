"""Uploads: cut at any point, they go on where the registry says or start again, and what is there is what was sent."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from registries import Handler, Registry, answering, connect, cutting, named, serving
from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci.descriptor import LAYER_GZIP
from torchlock.registry.client import PUSH
from torchlock.registry.credentials import Credentials
from torchlock.registry.upload import Uploaded, upload
from torchlock.storage.crew import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = os.urandom(1_000_000)
BLOB = named(DATA, LAYER_GZIP)
CHUNK = 300_000


def sent(registry: Registry, data: bytes = DATA, **options: Any) -> Uploaded:
    """Upload a blob in chunks and look whether it is there."""
    blob = named(data, LAYER_GZIP)
    client = connect(registry, "a/b", PUSH)
    found = upload(client, blob, lambda: io.BytesIO(data), threading.Event(), chunk=CHUNK, **options)
    assert registry.repository("a/b").blobs[str(blob.digest)] == data
    return found


def starts(registry: Registry) -> list[int]:
    """Return where the chunks that were sent began."""
    return [int(seen.headers["content-range"].partition("-")[0]) for seen in registry.requests("PATCH")]


def swallowing(count: int) -> Callable[[Handler], None]:
    """Take the beginning of a chunk into the session, then break the connection."""

    def fault(handler: Handler) -> None:
        session = handler.path.partition("?")[0].rpartition("/")[2]
        handler.registry.repository("a/b").uploads[session] += handler.body(count)
        handler.cut()

    return fault


def test_a_blob_goes_in_chunks(registry: Registry) -> None:
    """Each begins where the last one ended, and the digest closes the session."""
    assert sent(registry) == Uploaded(sent=len(DATA))
    assert [seen.headers["content-range"] for seen in registry.requests("PATCH")] == [
        "0-299999",
        "300000-599999",
        "600000-899999",
        "900000-999999",
    ]
    assert [seen.headers["content-length"] for seen in registry.requests("PATCH")] == ["300000"] * 3 + ["100000"]
    assert registry.requests("PUT")[0].path.endswith(f"?state=a%2Fb&digest=sha256%3A{BLOB.digest.hex}")


@pytest.mark.parametrize("size", [0, 1, 2, CHUNK, CHUNK + 1])
def test_a_blob_of_any_size_goes(registry: Registry, size: int) -> None:
    """Of nothing, of one byte (which registries write as `0-0`, as they do nothing), of whole chunks."""
    assert sent(registry, DATA[:size]).sent == size


def test_what_is_there_is_not_opened(registry: Registry) -> None:
    """Asking is enough."""
    registry.repository("a/b").blobs[str(BLOB.digest)] = DATA
    client = connect(registry, "a/b", PUSH)
    assert upload(client, BLOB, lambda: pytest.fail("opened"), threading.Event()) == Uploaded(there=True)


def test_an_upload_that_was_cut_goes_on_where_the_registry_has_it(registry: Registry) -> None:
    """In the middle of a chunk: the registry is asked, and only the rest is sent."""
    registry.fault("PATCH", "", lambda handler: handler.serve())
    registry.fault("PATCH", "", swallowing(123_456))
    found = sent(registry)
    assert found.resumed == 1
    assert starts(registry) == [0, 300_000, 423_456, 723_456]
    assert len(registry.requests("POST")) == 1


def test_an_upload_that_moves_on_is_never_given_up(registry: Registry) -> None:
    """However often it is cut: new ground renews the budget of four tries."""
    data = os.urandom(8 << 20)
    registry.fault("PATCH", "", swallowing(1_200_000), times=6)
    client = connect(registry, "a/b", PUSH)
    found = upload(client, named(data, LAYER_GZIP), lambda: io.BytesIO(data), threading.Event())
    assert found.resumed == 6
    assert len(registry.requests("POST")) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_an_upload_that_was_cut_at_its_beginning_begins_again(registry: Registry, count: int) -> None:
    """`0-0` says that the registry has nothing, or one byte: it counts as nothing, and 416 tells of the other."""
    registry.fault("PATCH", "", swallowing(count))
    found = sent(registry)
    assert found.resumed == 0
    assert starts(registry)[:2] == [0, 0]
    assert len(registry.requests("POST")) == 1 + count


def test_an_answer_that_was_lost_costs_nothing(registry: Registry) -> None:
    """The chunk had arrived, and is not sent again."""

    def lost(handler: Handler) -> None:
        session = handler.path.partition("?")[0].rpartition("/")[2]
        handler.registry.repository("a/b").uploads[session] += handler.body()
        handler.cut()

    registry.fault("PATCH", "", lost)
    assert sent(registry) == Uploaded(sent=len(DATA), resumed=1)


def test_a_lost_last_answer_is_looked_up(registry: Registry) -> None:
    """The session is gone since the blob is there."""

    def lost(handler: Handler) -> None:
        name = "a/b"
        session = handler.path.partition("?")[0].rpartition("/")[2]
        repository = handler.registry.repository(name)
        data = bytes(repository.uploads.pop(session))
        repository.blobs[str(Digest.of(data))] = data
        handler.cut()

    registry.fault("PUT", "", lost)
    assert sent(registry).sent == len(DATA)
    assert len(registry.requests("POST")) == 1


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_session_that_is_gone_starts_again(registry: Registry, method: str) -> None:
    """As registries forget them when they restart."""

    def gone(handler: Handler) -> None:
        handler.body()
        handler.registry.repository("a/b").uploads.clear()
        handler.error(404, "BLOB_UPLOAD_UNKNOWN")

    registry.fault("PATCH", "", lambda handler: handler.serve())
    registry.fault(method, "/uploads/", gone)
    assert sent(registry).sent > len(DATA)
    assert len(registry.requests("POST")) == 2


def test_a_session_that_cannot_be_resumed_starts_again(registry: Registry) -> None:
    """As docker-registry 2.8 gives up one whose offset is not what its last answer said."""
    registry.fault("PATCH", "", swallowing(1000))
    registry.fault("GET", "/uploads/", lambda handler: handler.error(404, "BLOB_UPLOAD_INVALID"))
    found = sent(registry)
    assert found.resumed == 0
    assert len(registry.requests("POST")) == 2


@pytest.mark.parametrize("reached", ["0-99", "0-999999999", "bytes=0-199999"])
def test_what_a_registry_says_it_has_is_believed_only_if_it_can_be_true(registry: Registry, reached: str) -> None:
    """Less than was sent is sent again, from there; more than was sent is another upload's."""

    def says(handler: Handler) -> None:
        session = handler.path.partition("?")[0].rpartition("/")[2]
        upload = handler.registry.repository("a/b").uploads[session]
        upload += handler.body()
        end = int(reached.partition("-")[2]) + 1
        del upload[end:]
        handler.answer(202, b"", {"Location": handler.path, "Range": reached})

    registry.fault("PATCH", "", says)
    sent(registry)
    end = int(reached.partition("-")[2]) + 1
    assert starts(registry)[1] == (0 if end > CHUNK else end)


def test_a_chunk_out_of_step_is_put_right_by_asking(registry: Registry) -> None:
    """416 says that the registry has another offset in mind."""
    registry.fault("PATCH", "", lambda handler: handler.serve())
    registry.fault("PATCH", "", answering(416))
    sent(registry)
    assert len(registry.requests("GET", "/uploads/")) == 1
    assert len(registry.requests("POST")) == 1


def test_a_registry_that_received_other_bytes_is_sent_them_once_more(registry: Registry) -> None:
    """Damage on the way is mended by another attempt; a registry that insists is refused."""
    registry.fault("PUT", "", lambda handler: handler.error(400, "DIGEST_INVALID"))
    sent(registry)
    assert len(registry.requests("POST")) == 2
    registry.repository("a/b").blobs.clear()
    registry.fault("PUT", "", lambda handler: handler.error(400, "DIGEST_INVALID"), times=2)
    with pytest.raises(RegistryError, match=r"answered 400, DIGEST_INVALID|answered 400"):
        sent(registry)


def test_a_registry_that_took_another_blob_is_refused(registry: Registry) -> None:
    """By the digest in its last answer; also when it says that it has mounted one."""
    other = f"sha256:{'0' * 64}"
    registry.fault("PUT", "", answering(201, b"", {"Docker-Content-Digest": other}))
    with pytest.raises(RegistryError) as caught:
        sent(registry)
    message = f"{registry.host}/a/b@{BLOB.digest}: the registry says that it took {other}; expected {BLOB.digest}"
    assert str(caught.value) == message
    registry.repository("x").blobs[str(BLOB.digest)] = DATA
    registry.fault("POST", "mount=", answering(201, b"", {"Docker-Content-Digest": other}))
    with pytest.raises(RegistryError) as caught:
        sent(registry, mounts=["x"])
    assert str(caught.value) == message


def test_a_proxy_that_refuses_large_parts_gets_smaller_ones(registry: Registry) -> None:
    """413 is what proxies before registries say."""
    data = os.urandom(3 << 20)
    blob = named(data, LAYER_GZIP)
    registry.fault("PATCH", "", answering(413))
    client = connect(registry, "a/b", PUSH)
    upload(client, blob, lambda: io.BytesIO(data), threading.Event(), chunk=4 << 20)
    assert [int(seen.headers["content-length"]) for seen in registry.requests("PATCH")] == [3 << 20, *[1 << 20] * 3]


def test_a_registry_that_wants_larger_chunks_gets_them(registry: Registry) -> None:
    """`OCI-Chunk-Min-Length` is heeded."""

    def begins(handler: Handler) -> None:
        handler.registry.repository("a/b").uploads["x"] = bytearray()
        handler.answer(202, b"", {"Location": "/v2/a/b/blobs/uploads/x", "OCI-Chunk-Min-Length": "400000"})

    registry.fault("POST", "", begins)
    sent(registry)
    assert starts(registry) == [0, 400_000, 800_000]


@pytest.mark.parametrize("times", [1, 3])
def test_a_registry_that_is_busy_is_asked_again(registry: Registry, times: int) -> None:
    """With a capped pause, whatever it asks for."""
    registry.fault("POST", "", answering(429, b"", {"Retry-After": "3600"}), times=times)
    registry.fault("HEAD", "", cutting)
    sent(registry)


def test_an_upload_without_an_address_is_refused(registry: Registry) -> None:
    """And one that leads where it may not."""
    registry.fault("POST", "", answering(202))
    with pytest.raises(RegistryError) as caught:
        sent(registry)
    assert str(caught.value) == (
        f"{registry.host}/a/b@{BLOB.digest}: began an upload without a Location; expected its address"
    )
    registry.fault("POST", "", answering(202, b"", {"Location": "http://elsewhere.example/upload"}))
    with pytest.raises(RegistryError, match=r"led to http://elsewhere.example/upload, which is not encrypted"):
        sent(registry)


def test_an_upload_to_another_server_carries_no_credentials(registry: Registry) -> None:
    """The session's address may be anywhere; the registry's token is the registry's."""
    registry.scheme, registry.anonymous = "bearer", True
    with serving(Registry()) as storage:
        storage.repository("a/b").uploads["x"] = bytearray()
        there = f"http://{storage.host}/v2/a/b/blobs/uploads/x"
        registry.fault("POST", "/uploads/", answering(202, b"", {"Location": there}))
        client = connect(registry, "a/b", PUSH)
        upload(client, BLOB, lambda: io.BytesIO(DATA), threading.Event())
        assert storage.repository("a/b").blobs == {str(BLOB.digest): DATA}
        assert [seen for seen in storage.seen if "authorization" in seen.headers] == []


def test_a_redirected_upload_is_refused(registry: Registry) -> None:
    """The specification has none: bytes go where the Location of the session says."""
    registry.fault("PATCH", "", answering(307, b"", {"Location": "/elsewhere"}))
    with pytest.raises(RegistryError, match="answered 307"):
        sent(registry)


def test_a_stopped_upload_gives_way(registry: Registry) -> None:
    """Another blob's failure ends it between two blocks."""
    stop = threading.Event()

    def stopping(handler: Handler) -> None:
        stop.set()
        handler.serve()

    registry.fault("PATCH", "", stopping)
    client = connect(registry, "a/b", PUSH)
    with pytest.raises(StoppedError):
        upload(client, BLOB, lambda: io.BytesIO(DATA), stop, chunk=CHUNK)


def test_a_false_blob_is_taken_back(registry: Registry) -> None:
    """Its session is closed without a digest."""
    client = connect(registry, "a/b", PUSH)
    with pytest.raises(ImageError, match="a blob to be sent: its file holds sha256:"):
        upload(client, BLOB, lambda: io.BytesIO(DATA[:-1] + b"!"), threading.Event())
    assert registry.repository("a/b").uploads == {}
    assert registry.repository("a/b").blobs == {}


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_a_token_that_expires_is_renewed_and_the_request_sent_again(registry: Registry, method: str) -> None:
    """In the middle of an upload, too, with the same bytes."""
    registry.scheme = "bearer"
    keys = Credentials(username=registry.user, password=registry.password)

    def revoked(handler: Handler) -> None:
        registry.good.clear()
        handler.serve()

    registry.fault(method, "/blobs/", revoked, times=2)
    client = connect(registry, "a/b", PUSH, keychain=lambda _: keys)
    upload(client, BLOB, lambda: io.BytesIO(DATA), threading.Event(), chunk=CHUNK)
    assert registry.repository("a/b").blobs[str(BLOB.digest)] == DATA
    assert len(registry.requests("GET", "/token")) == (1 if method == "HEAD" else 3) + (method == "HEAD")
    assert len(registry.requests("POST")) == (3 if method == "POST" else 1)
