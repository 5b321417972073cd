"""Pushing: only what a registry lacks, in an order that leaves nothing half there, whatever happens on the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from registries import LIMITS, Picture, Registry, answering, connect, cutting, named, picture
from servers import Notes
from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci.descriptor import INDEX, LAYER_GZIP, MANIFEST, Descriptor
from torchlock.oci.manifest import Config, Index
from torchlock.registry.client import PUSH
from torchlock.registry.credentials import Credentials
from torchlock.registry.push import Pushed, push

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlock.oci.blobs import Blobs

BIG = os.urandom(1 << 20)
IMAGE = picture(BIG, b"a small layer")
TOP = IMAGE.descriptor
SIZE = sum(len(data) for data in IMAGE.blobs.values())


@pytest.fixture
def blobs(blobs: Blobs) -> Blobs:
    """Make a folder of blobs that holds an image."""
    keep(blobs, IMAGE)
    return blobs


def keep(blobs: Blobs, image: Picture) -> None:
    """Put an image into a folder of blobs."""
    for data in (*image.blobs.values(), image.data):
        blobs.add_bytes(data)


def source(blobs: Blobs) -> Callable[[Descriptor], Path]:
    """Give the file of a blob, as commands do."""
    return lambda descriptor: blobs.path(descriptor.digest)


def pushed(
    registry: Registry, blobs: Blobs, top: Descriptor = TOP, repository: str = "a/b", **options: object
) -> Pushed:
    """Push to a repository."""
    mounts = options.get("mounts", ())
    client = connect(registry, repository.partition("@")[0].partition(":")[0], PUSH, readable=mounts)
    return push(top, source(blobs), client.repository.parse(f"{registry.host}/{repository}"), client=client, **options)  # type: ignore[arg-type]


def refusal(registry: Registry, blobs: Blobs, **options: object) -> str:
    """Return the message that pushing ends with, its registry's address left out."""
    with pytest.raises((RegistryError, ImageError)) as caught:
        pushed(registry, blobs, **options)  # type: ignore[arg-type]
    return str(caught.value).replace(registry.host, "HOST")


def test_an_image_is_there_whole_and_tags_come_last(registry: Registry, blobs: Blobs) -> None:
    """Blobs, then the manifest by its digest, then the tags; the bytes are counted as they are sent."""
    found = pushed(registry, blobs, repository="a/b:latest", tags=["2.2.2-cuda", "latest"])
    assert found == Pushed(
        reference=found.reference,
        sent=SIZE + 3 * TOP.size,
        uploaded=3,
        skipped=0,
        mounted=0,
        resumed=0,
        tags=("latest", "2.2.2-cuda"),
    )
    assert str(found.reference) == f"{registry.host}/a/b@{TOP.digest}"
    assert registry.taken == found.sent
    repository = registry.repository("a/b")
    assert repository.blobs == IMAGE.blobs
    assert repository.manifests == {str(TOP.digest): (MANIFEST, IMAGE.data)}
    assert repository.tags == {"latest": str(TOP.digest), "2.2.2-cuda": str(TOP.digest)}
    puts = [seen.bare.rpartition("/")[2] for seen in registry.requests("PUT", "/manifests/")]
    assert puts == [str(TOP.digest), "latest", "2.2.2-cuda"]
    last = max(number for number, seen in enumerate(registry.seen) if "/uploads/" in seen.path)
    first = min(
        number for number, seen in enumerate(registry.seen) if seen.method == "PUT" and "/manifests/" in seen.path
    )
    assert last < first


def test_what_is_there_is_not_sent_again(registry: Registry, blobs: Blobs) -> None:
    """Not a byte of it, and its file is not even asked for."""
    pushed(registry, blobs, repository="a/b:latest")
    blobs.path(Digest.of(BIG)).unlink()
    registry.taken = 0
    again = pushed(registry, blobs, repository="a/b:latest")
    assert (again.sent, again.uploaded, again.skipped, registry.taken) == (0, 0, 3, 0)


def test_one_new_layer_is_all_that_a_change_sends(registry: Registry, blobs: Blobs) -> None:
    """With its config and manifest."""
    pushed(registry, blobs)
    bumped = picture(BIG, b"a newer layer")
    keep(blobs, bumped)
    registry.taken = 0
    found = pushed(registry, blobs, bumped.descriptor)
    assert (found.uploaded, found.skipped) == (2, 1)
    assert found.sent == registry.taken == len(b"a newer layer") + len(bumped.config) + len(bumped.data)


def test_blobs_of_another_repository_are_mounted(registry: Registry, blobs: Blobs) -> None:
    """Where the registry will; where it begins an upload instead, that one is used."""
    pushed(registry, blobs, repository="a/base")
    found = pushed(registry, blobs, mounts=["a/none", "a/base"])
    assert (found.mounted, found.uploaded, found.sent) == (3, 0, TOP.size)
    registry.mounts = False
    found = pushed(registry, blobs, repository="a/c", mounts=["a/base"])
    assert (found.mounted, found.uploaded) == (0, 3)
    assert len(registry.requests("POST", r"/a/c/.*mount=")) == len(registry.requests("POST", "/a/c/")) == 3
    assert registry.repository("a/c").uploads == {}


def test_the_scopes_of_other_repositories_are_asked_for(registry: Registry, blobs: Blobs) -> None:
    """Reading them is all that is asked."""
    registry.scheme, registry.anonymous = "bearer", True
    pushed(registry, blobs, mounts=["a/base"])
    assert registry.requests("GET", "/token")[0].path == (
        "/token?service=a%2C+%22registry%22&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Aa%2Fbase%3Apull"
    )


def test_an_index_comes_after_its_manifests(registry: Registry, blobs: Blobs) -> None:
    """All platforms are there before what names them, and what they share is sent once."""
    arm = picture(BIG, b"for arm64", architecture="arm64")
    keep(blobs, arm)
    manifests = tuple(named(item.data, MANIFEST, Config.from_json(item.config, "c").platform) for item in (IMAGE, arm))
    data = Index(manifests=manifests).to_json()
    blobs.add_bytes(data)
    found = pushed(registry, blobs, named(data, INDEX), repository="a/b:multi")
    puts = [seen.bare.rpartition("/")[2] for seen in registry.requests("PUT", "/manifests/")]
    assert puts == [str(TOP.digest), str(arm.descriptor.digest), str(Digest.of(data)), "multi"]
    assert found.uploaded == 5
    assert registry.repository("a/b").manifests[str(Digest.of(data))] == (INDEX, data)


def test_a_damaged_local_blob_is_never_there(registry: Registry, blobs: Blobs) -> None:
    """It is found while it is sent, the upload is forgotten, and no manifest is put."""
    path = blobs.path(Digest.of(BIG))
    path.chmod(0o644)
    for data, what in (
        (BIG[:-1] + bytes([BIG[-1] ^ 1]), None),
        (BIG[:-5], f"{len(BIG) - 5} bytes"),
        (BIG + b"!", f"{Digest.of(BIG)}"),
    ):
        path.write_bytes(data)
        assert refusal(registry, blobs) == (
            f"a blob to be sent: its file holds {what or Digest.of(data)}; "
            f"expected {Digest.of(BIG)} ({len(BIG)} bytes); try: build the image again"
        )
        assert str(Digest.of(BIG)) not in registry.repository("a/b").blobs
        assert registry.repository("a/b").manifests == {}


def test_a_damaged_local_manifest_is_refused_first(registry: Registry, blobs: Blobs) -> None:
    """Before the registry hears of it."""
    path = blobs.path(TOP.digest)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert refusal(registry, blobs) == (
        f"{TOP.digest.hex}: holds {Digest.of(b'{}')}; expected {TOP.digest}; try: build the image again"
    )
    assert registry.seen == []


def test_another_digest_than_the_references_is_refused(registry: Registry, blobs: Blobs) -> None:
    """A reference by digest names one image."""
    wanted = Digest.of(b"x")
    assert refusal(registry, blobs, repository=f"a/b@{wanted}") == (
        f"HOST/a/b@{wanted}: this image is {TOP.digest}; expected the digest of the reference, or none"
    )


def test_a_manifest_that_the_registry_altered_is_refused(registry: Registry, blobs: Blobs) -> None:
    """What it names in its answer, and what it has afterwards."""
    other = f"sha256:{'0' * 64}"
    registry.fault("PUT", "/manifests/", answering(201, b"", {"Docker-Content-Digest": other}))
    assert refusal(registry, blobs) == (
        f"HOST/a/b@{TOP.digest}: the registry says that it took {other}; expected {TOP.digest}"
    )
    registry.fault("PUT", "/manifests/", answering(201))
    assert refusal(registry, blobs) == (
        f"HOST/a/b@{TOP.digest}: was put there, and is not there; expected {TOP.digest}"
    )


def test_a_tag_that_names_another_image_moves(registry: Registry, blobs: Blobs) -> None:
    """A tag is a convenience, and may have named what nobody can read."""
    pushed(registry, blobs, repository="a/b:latest")
    other = picture(b"other")
    keep(blobs, other)
    pushed(registry, blobs, other.descriptor, repository="a/b:latest")
    assert registry.repository("a/b").tags["latest"] == str(other.descriptor.digest)
    old = b'{"schemaVersion":1}'
    registry.repository("a/b").manifests[str(Digest.of(old))] = ("text/plain", old)
    registry.repository("a/b").tags["latest"] = str(Digest.of(old))
    pushed(registry, blobs, repository="a/b:latest")
    assert registry.repository("a/b").tags["latest"] == str(TOP.digest)


@pytest.mark.parametrize("tag", ["-x", "a b", "a;b", "x" * 129, "", "ü"])
def test_a_tag_that_is_none_is_refused(registry: Registry, blobs: Blobs, tag: str) -> None:
    """Before anything is sent."""
    assert refusal(registry, blobs, tags=[tag]).startswith("HOST/a/b: the tag ")
    assert registry.seen == []


def test_a_token_is_renewed_before_it_expires(registry: Registry, blobs: Blobs) -> None:
    """A request with one that is over would be for nothing: none is refused but the first of each thread."""
    registry.scheme, registry.anonymous, registry.life = "bearer", True, 1e-9
    pushed(registry, blobs)
    bare = [seen for seen in registry.seen if seen.bare != "/token" and "authorization" not in seen.headers]
    assert {seen.method for seen in bare} == {"HEAD"}
    assert len(bare) <= 3
    assert len(registry.requests("GET", "/token")) > 5


def test_no_secret_is_in_any_error_or_note(registry: Registry, blobs: Blobs, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, and whatever the registry says in return."""
    registry.scheme = "bearer"
    keys = Credentials(username=registry.user, password=registry.password)
    notes = Notes()
    said = [repr(keys)]
    for method, pattern, fault in (
        ("GET", "/token", answering(401, b'{"errors":[{"code":"NO","message":"pass:word-secret"}]}')),
        ("GET", "/token", answering(500, b"pass:word-secret")),
        ("GET", "/token", answering(200, b'{"token":"bad token-secret"}')),
        ("GET", "/token", answering(200, b'{"token":7}')),
        ("GET", "/token", cutting),
        ("PATCH", "", answering(403, b'{"errors":[{"code":"DENIED","message":"pass:word-secret"}]}')),
        ("PATCH", "", answering(401)),
        ("PUT", "", answering(400, b"pass:word-secret")),
    ):
        registry.faults.clear()
        registry.fault(method, pattern, fault, times=99)
        client = connect(registry, "a/b", PUSH, keychain=lambda _: keys, reporter=notes)
        with pytest.raises(RegistryError) as caught:
            push(TOP, source(blobs), client.repository, client=client)
        said += [str(caught.value), repr(caught.value.args)]
    text = "\n".join([*said, *notes.notes, caplog.text])
    assert "secret" not in text
    assert registry.good
    assert not [token for token in registry.good if token in text]
    assert registry.basic().partition(" ")[2] not in text


def test_progress_is_told_in_bytes(registry: Registry, blobs: Blobs) -> None:
    """Each blob by its digest's beginning, and whole in the end."""
    notes = Notes()
    client = connect(registry, "a/b", PUSH, reporter=notes)
    push(TOP, source(blobs), client.repository, client=client)
    over = {state for state in notes.states if state[1] == state[2]}
    assert over == {(f"a/b {digest[7:19]}", len(data), len(data)) for digest, data in IMAGE.blobs.items()}


def test_a_failure_puts_no_manifest(registry: Registry, blobs: Blobs) -> None:
    """An image that is not whole cannot be named."""
    registry.fault("PATCH", "", answering(500), times=999)
    message = refusal(registry, blobs)
    assert "answered 500 (4 times" in message
    assert message.endswith("try: the same again later: what was transferred is kept")
    assert registry.repository("a/b").manifests == {}
    assert LIMITS.tries == 4


def test_a_layer_in_two_images_is_described_alike(registry: Registry, blobs: Blobs) -> None:
    """Its media type and size are those of its descriptor; another size at the registry is refused."""
    repository = registry.repository("a/b")
    repository.blobs[str(Digest.of(BIG))] = BIG[:-1]
    assert refusal(registry, blobs) == (
        f"HOST/a/b@{named(BIG, LAYER_GZIP).digest}: {len(BIG) - 1} bytes at the registry; expected {len(BIG)} bytes"
    )
