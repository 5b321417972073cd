"""Pulling from registries that are honest, and from those that lie in every way."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registries import (
    Registry,
    answering,
    connect,
    cutting,
    cutting_after,
    index_of,
    named,
    picture,
    serving,
)
from servers import Notes
from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError, StoreError
from torchlock.oci.descriptor import (
    CONFIG,
    DOCKER_INDEX,
    INDEX,
    LAYER,
    LAYER_GZIP,
    LAYER_ZSTD,
    MANIFEST,
    PLATFORMS,
    Descriptor,
)
from torchlock.oci.manifest import Index, Manifest
from torchlock.registry.pull import Pulled, pull
from torchlock.storage.store import Partial

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlock.oci.blobs import Blobs

BIG = os.urandom(1 << 20)
IMAGE = picture(BIG, b"a small layer")
OTHER = picture(b"another layer")
DIGEST = IMAGE.descriptor.digest
SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that holds an image, tagged."""
    IMAGE.put(registry.repository("a/b"), "latest")
    return registry


def pulled(registry: Registry, blobs: Blobs, reference: str = f"@{DIGEST}", **options: object) -> Pulled:
    """Pull from a repository, by digest unless told otherwise."""
    client = connect(registry)
    return pull(client.repository.parse(f"{registry.host}/a/b{reference}"), blobs, client=client, **options)  # type: ignore[arg-type]


def refusal(registry: Registry, blobs: Blobs, reference: str = f"@{DIGEST}", **options: object) -> str:
    """Return the message that pulling ends with, its registry's address left out."""
    with pytest.raises((RegistryError, ImageError)) as caught:
        pulled(registry, blobs, reference, **options)
    return str(caught.value).replace(registry.host, "HOST")


def held(blobs: Blobs) -> set[str]:
    """Return the digests of the blobs that are there."""
    folder = blobs.root / "sha256"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_an_image_is_pulled_by_digest_and_every_blob_of_it(registry: Registry, blobs: Blobs) -> None:
    """The second time nothing is asked for."""
    first = pulled(registry, blobs)
    assert (first.top, first.manifests, first.present) == (IMAGE.descriptor, (IMAGE.descriptor,), 0)
    assert first.received == sum(len(data) for data in IMAGE.blobs.values())
    assert held(blobs) == {DIGEST.hex, *(digest[7:] for digest in IMAGE.blobs)}
    asked = len(registry.seen)
    again = pulled(registry, blobs)
    assert (again.received, again.present) == (0, 3)
    assert len(registry.seen) == asked


def test_a_damaged_blob_that_was_here_is_fetched_again(registry: Registry, blobs: Blobs) -> None:
    """What is here is verified like what comes."""
    pulled(registry, blobs)
    path = blobs.path(Digest.of(BIG))
    path.chmod(0o644)
    path.write_bytes(BIG[:-1] + b"!")
    again = pulled(registry, blobs)
    assert (again.received, again.present) == (len(BIG), 2)
    assert path.read_bytes() == BIG


def test_a_tag_is_resolved_once_and_then_only_the_digest_is_used(registry: Registry, blobs: Blobs) -> None:
    """A tag that moves during the pull moves nothing here."""

    def moving(handler: object) -> None:
        OTHER.put(registry.repository("a/b"), "latest")
        handler.serve()  # type: ignore[attr-defined]

    registry.fault("GET", "/blobs/", moving)
    assert pulled(registry, blobs, ":latest").top == IMAGE.descriptor
    assert len(registry.requests("GET", "/manifests/latest$")) == 1
    assert registry.repository("a/b").tags["latest"] == str(OTHER.descriptor.digest)
    assert DIGEST.hex in held(blobs)
    assert OTHER.descriptor.digest.hex not in held(blobs)


def test_a_tag_must_be_the_digest_that_is_expected(registry: Registry, blobs: Blobs) -> None:
    """The message has both; nothing is fetched."""
    assert pulled(registry, blobs, ":latest", expected=DIGEST).top == IMAGE.descriptor
    other = OTHER.descriptor.digest
    assert refusal(registry, blobs, ":latest", expected=other) == (
        f"HOST/a/b:latest: the registry sends {DIGEST} ({IMAGE.descriptor.size} bytes); expected {other}"
    )
    assert refusal(registry, blobs, expected=other) == (
        f"HOST/a/b@{DIGEST}: is not {other}; expected the digest that is expected; try: name that digest"
    )


def test_the_expected_digest_serves_where_nothing_is_named(registry: Registry, blobs: Blobs) -> None:
    """And without it a reference must name something."""
    assert pulled(registry, blobs, "", expected=DIGEST).top == IMAGE.descriptor
    assert refusal(registry, blobs, "") == ("HOST/a/b: neither a tag nor a digest; expected host/repository@sha256:…")


def test_of_an_index_the_platforms_image_is_pulled(registry: Registry, blobs: Blobs) -> None:
    """And all of them where none is named."""
    arm = picture(b"for arm64", architecture="arm64")
    data = index_of(registry.repository("a/b"), IMAGE, arm)
    one = pulled(registry, blobs, f"@{Digest.of(data)}", platform=PLATFORMS["linux-aarch64"])
    assert [item.digest for item in one.manifests] == [arm.descriptor.digest]
    assert Digest.of(BIG).hex not in held(blobs)
    both = pulled(registry, blobs, f"@{Digest.of(data)}")
    assert [item.digest for item in both.manifests] == [DIGEST, arm.descriptor.digest]
    assert Digest.of(BIG).hex in held(blobs)


def test_a_tampered_manifest_is_refused(registry: Registry, blobs: Blobs) -> None:
    """Whatever its header says: the digest is that of its bytes."""
    data = OTHER.data
    registry.fault("GET", "/manifests/", answering(200, data, {"Docker-Content-Digest": str(DIGEST)}), times=9)
    message = f"the registry sends {OTHER.descriptor.digest} ({len(data)} bytes); expected {DIGEST}"
    assert refusal(registry, blobs) == f"HOST/a/b@{DIGEST}: {message}"
    assert refusal(registry, blobs, ":latest", expected=DIGEST) == f"HOST/a/b:latest: {message}"
    assert held(blobs) == set()


def test_a_lying_digest_header_is_refused(registry: Registry, blobs: Blobs) -> None:
    """With a manifest's own bytes, too; and one that is no digest."""
    other = str(OTHER.descriptor.digest)
    registry.fault("GET", "/manifests/", answering(200, IMAGE.data, {"Docker-Content-Digest": other}))
    assert refusal(registry, blobs, ":latest") == (
        f"HOST/a/b:latest: the registry says that it sends {other}, and sends {DIGEST}; expected the truth"
    )
    registry.fault("GET", "/manifests/", answering(200, IMAGE.data, {"Docker-Content-Digest": "sha256:x"}))
    assert refusal(registry, blobs) == (
        f"HOST/a/b@{DIGEST}: a Docker-Content-Digest that is none; expected sha256:<64 hexadecimal digits>"
    )


def test_a_lying_content_type_is_refused(registry: Registry, blobs: Blobs) -> None:
    """A manifest under an index's media type means another thing to another reader."""
    registry.fault("GET", "/manifests/", answering(200, IMAGE.data, {"Content-Type": DOCKER_INDEX}))
    assert refusal(registry, blobs) == (
        f"HOST/a/b@{DIGEST}: the registry says that it sends '{DOCKER_INDEX}'; expected {MANIFEST} as its bytes say"
    )


def test_a_schema_1_manifest_is_refused(registry: Registry, blobs: Blobs) -> None:
    """By name, since nothing in it can be verified."""
    data = b'{"schemaVersion":1,"name":"a/b","fsLayers":[],"history":[],"signatures":[]}'
    headers = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    registry.fault("GET", "/manifests/", answering(200, data, headers))
    assert refusal(registry, blobs, ":latest") == (
        "HOST/a/b:latest: a schema 1 manifest, which names no verifiable config; expected schema 2; "
        "try: push the image anew"
    )


def test_an_endless_manifest_is_refused(registry: Registry, blobs: Blobs) -> None:
    """Four mebibytes are enough for anybody."""
    registry.fault("GET", "/manifests/", answering(200, b" " * ((4 << 20) + 1)))
    assert refusal(registry, blobs) == (
        f"http://HOST/v2/a/b/manifests/{DIGEST}: more than 4194304 bytes; expected a smaller answer"
    )


def test_a_manifest_that_was_cut_is_asked_for_again(registry: Registry, blobs: Blobs) -> None:
    """As is one that did not come, or that the registry was too busy for."""
    registry.fault("GET", "/manifests/", cutting_after(100, IMAGE.data))
    registry.fault("GET", "/manifests/", answering(503, b"", {"Retry-After": "3600"}))
    registry.fault("GET", "/manifests/", cutting)
    assert pulled(registry, blobs).top == IMAGE.descriptor


WRONG = BIG[:-1] + bytes([BIG[-1] ^ 1])
NAMED = f"HOST/a/b@{Digest.of(BIG)}"
ELSEWHERE = "try: another registry: this one sends what it does not name"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (answering(200, WRONG), f"the bytes are {Digest.of(WRONG)}; expected {Digest.of(BIG)}"),
        (answering(200, BIG[:-5]), f"{len(BIG) - 5} bytes; expected {len(BIG)} bytes"),
        (answering(200, BIG + b"!"), f"{len(BIG) + 1} bytes; expected {len(BIG)} bytes"),
        (
            answering(200, BIG, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}),
            f"the registry says that it sends sha256:{'0' * 64}; expected {Digest.of(BIG)}",
        ),
        (
            answering(206, BIG, {"Content-Range": f"bytes 0-{len(BIG) - 1}/{len(BIG) + 7}"}),
            f"{len(BIG) + 7} bytes; expected {len(BIG)} bytes",
        ),
    ],
)
def test_a_false_blob_is_refused(
    registry: Registry, blobs: Blobs, fault: Callable[[object], None], message: str
) -> None:
    """Wrong bytes, too few, too many, under another digest: no blob, and no other attempt."""
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", fault, times=9)
    assert refusal(registry, blobs) == f"{NAMED}: {message}; {ELSEWHERE}"
    assert Digest.of(BIG).hex not in held(blobs)
    assert len(registry.requests("GET", f"/blobs/{Digest.of(BIG)}")) == 1
    registry.faults.clear()
    pulled(registry, blobs)


def test_an_endless_blob_is_stopped_at_its_size_plus_one(
    registry: Registry, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a length there is nothing to go by but the bytes; none after the one too many is written."""
    written, write = [], Partial.write

    def noting(self: Partial, block: bytes) -> None:
        write(self, block)
        written.append(self.size)

    monkeypatch.setattr(Partial, "write", noting)

    def endless(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.close_connection = True  # type: ignore[attr-defined]
        for _ in range(1000):
            handler.wfile.write(BIG)  # type: ignore[attr-defined]

    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", endless)
    assert refusal(registry, blobs) == f"{NAMED}: more than {len(BIG)} bytes; expected {len(BIG)} bytes; {ELSEWHERE}"
    assert blobs.received(named(BIG, LAYER)) == 0
    assert max(written) == len(BIG) + 1


def test_a_truncated_blob_is_refused_within_the_budget(registry: Registry, blobs: Blobs) -> None:
    """What came is kept; a registry that never sends the rest is given up."""
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", cutting_after(1000, BIG), times=99)
    message = refusal(registry, blobs)
    assert message.startswith(f"http://HOST/v2/a/b/blobs/{Digest.of(BIG)}: ")
    assert message.endswith("try: the same again later: what was transferred is kept")
    assert "(4 times in 0 s)" in message


def test_a_blob_that_was_cut_is_resumed(registry: Registry, blobs: Blobs) -> None:
    """By range, from where it broke: no byte comes twice."""
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", cutting_after(300_000, BIG))
    found = pulled(registry, blobs)
    assert found.received == sum(len(data) for data in IMAGE.blobs.values())
    ranges = [seen.headers.get("range") for seen in registry.requests("GET", str(Digest.of(BIG)))]
    assert ranges == [None, "bytes=300000-"]


def partial(blobs: Blobs, data: bytes) -> None:
    """Leave the beginning of the big layer, as an interrupted pull does."""
    with blobs.receiving(named(BIG, LAYER_GZIP)) as received:
        received.write(data)


def test_what_another_run_received_is_resumed(registry: Registry, blobs: Blobs) -> None:
    """An interrupted pull loses nothing."""
    partial(blobs, BIG[:500_000])
    assert pulled(registry, blobs).received == sum(len(data) for data in IMAGE.blobs.values()) - 500_000


@pytest.mark.parametrize(
    "answer",
    [
        answering(200, BIG),
        answering(206, BIG[400_000:], {"Content-Range": f"bytes 400000-{len(BIG) - 1}/{len(BIG)}"}),
        answering(206, BIG[500_000:]),
        answering(416),
    ],
    ids=["200", "another offset", "no Content-Range", "416"],
)
def test_another_range_than_the_one_asked_for_is_never_spliced(
    registry: Registry, blobs: Blobs, answer: Callable[[object], None]
) -> None:
    """The blob starts again from its first byte."""
    partial(blobs, BIG[:500_000])
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", answer)
    pulled(registry, blobs)
    assert blobs.get(named(BIG, LAYER_GZIP)) is not None


def test_a_wrong_beginning_is_fetched_anew_once(registry: Registry, blobs: Blobs, tmp_path: Path) -> None:
    """What was resumed may have been damaged here; what came whole is the registry's."""
    partial(blobs, b"?" * 500_000)
    notes = Notes()
    client = connect(registry, reporter=notes)
    pull(client.repository.at(DIGEST), blobs, client=client)
    assert notes.notes == [
        f"{registry.host}/a/b@{Digest.of(BIG)}: what was resumed is wrong; started again",
    ]


def test_a_slow_blob_is_refused_by_the_minimum_rate(registry: Registry, blobs: Blobs) -> None:
    """One byte in a while is no download."""
    stop = threading.Event()

    def drip(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("Content-Length", str(len(BIG)))  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        for start in range(60):
            handler.wfile.write(BIG[start : start + 1])  # type: ignore[attr-defined]
            stop.wait(0.02)
        handler.cut()  # type: ignore[attr-defined]

    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", drip, times=99)
    assert "too slow: " in refusal(registry, blobs)
    stop.set()


def test_a_blob_on_another_server_is_fetched_without_credentials(registry: Registry, blobs: Blobs) -> None:
    """As registries keep their blobs elsewhere: what is known here is not told there."""
    registry.scheme = "bearer"
    registry.anonymous = True
    with serving(Registry()) as storage:
        storage.repository("x").blobs[str(Digest.of(BIG))] = BIG
        there = f"http://{storage.host}/v2/x/blobs/{Digest.of(BIG)}?signature=secret"
        registry.fault("GET", f"/blobs/{Digest.of(BIG)}", answering(307, b"", {"Location": there}))
        pulled(registry, blobs)
        assert [seen.headers.get("authorization") for seen in storage.seen] == [None]
    assert any("authorization" in seen.headers for seen in registry.seen)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", "led to a file: address; expected https"),
        (
            "http://registry.example/blob",
            "led to http://registry.example/blob, which is not encrypted; expected https to the end",
        ),
        (
            "http://user:secret@127.0.0.1/blob",
            "led to an address with a user or password; expected one without",
        ),
        ("http://[::1/blob", "led to an address that is no URL; expected https://…"),
    ],
)
def test_a_redirect_leads_nowhere_dangerous(registry: Registry, blobs: Blobs, location: str, message: str) -> None:
    """Neither to a file, nor unencrypted to another machine, nor with credentials of somebody's."""
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", answering(307, b"", {"Location": location}), times=9)
    assert refusal(registry, blobs) == f"http://HOST/v2/a/b/blobs/{Digest.of(BIG)}: {message}"


def test_redirects_have_an_end(registry: Registry, blobs: Blobs) -> None:
    """A circle is left after a few rounds."""
    url = f"/v2/a/b/blobs/{Digest.of(BIG)}"
    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", answering(302, b"", {"Location": url}), times=99)
    assert refusal(registry, blobs) == (f"http://HOST{url}: redirected more than 3 times; expected an end to it")
    assert len(registry.requests("GET", str(Digest.of(BIG)))) == 4


def test_what_is_not_there_is_said_with_the_registrys_word_for_it(registry: Registry, blobs: Blobs) -> None:
    """The name of its error, but nothing of its prose."""
    missing = Digest.of(b"nothing")
    assert refusal(registry, blobs, f"@{missing}") == (
        f"http://HOST/v2/a/b/manifests/{missing}: is not there (404, MANIFEST_UNKNOWN); "
        "try: check the name of the repository"
    )


def store(registry: Registry, manifest: Manifest) -> str:
    """Put a manifest into the repository and return the reference to it."""
    data = manifest.to_json()
    registry.repository("a/b").manifests[str(Digest.of(data))] = (MANIFEST, data)
    return f"@{Digest.of(data)}"


def test_a_layer_of_zstd_is_refused_before_anything_is_fetched(registry: Registry, blobs: Blobs) -> None:
    """With a message that says what would do; so is a layer that lies elsewhere."""
    config = IMAGE.manifest.config
    for media_type, why in (
        (LAYER_ZSTD, ", which torchlock does not unpack"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""),
    ):
        reference = store(registry, Manifest(config=config, layers=(named(BIG, media_type),)))
        assert refusal(registry, blobs, reference) == (
            f"HOST/a/b{reference}: layers[0]: '{media_type}'{why}; expected a layer of tar or tar+gzip"
        )
    assert registry.requests("GET", "/blobs/") == []


def test_a_false_size_in_a_manifest_is_refused(registry: Registry, blobs: Blobs) -> None:
    """Smaller or larger than what the digest has, or two sizes of one blob."""
    config, size = IMAGE.manifest.config, len(b"a small layer")
    for lie in (size - 1, size + 1):
        false = Descriptor(media_type=LAYER_GZIP, digest=Digest.of(b"a small layer"), size=lie)
        reference = store(registry, Manifest(config=config, layers=(named(BIG, LAYER_GZIP), false)))
        assert refusal(registry, blobs, reference) == (
            f"HOST/a/b@{false.digest}: {size} bytes; expected {lie} bytes; {ELSEWHERE}"
        )
    true = named(b"a small layer", LAYER_GZIP)
    reference = store(registry, Manifest(config=config, layers=(true, false)))
    assert refusal(registry, blobs, reference) == f"HOST/a/b{reference}: two sizes of {true.digest}; expected one"


def test_a_gigantic_size_is_refused_before_anything_is_fetched(registry: Registry, blobs: Blobs) -> None:
    """The disk's room is looked at, and a config is small."""
    config = IMAGE.manifest.config
    huge = Descriptor(media_type=LAYER_GZIP, digest=Digest.of(BIG), size=1 << 62)
    with pytest.raises(StoreError, match="bytes are needed and"):
        pulled(registry, blobs, store(registry, Manifest(config=config, layers=(huge,))))
    huge = Descriptor(media_type=CONFIG, digest=config.digest, size=1 << 30)
    reference = store(registry, Manifest(config=huge, layers=()))
    assert refusal(registry, blobs, reference) == (
        f"HOST/a/b{reference}: config.size: 1073741824 bytes; expected at most 4194304"
    )
    assert registry.requests("GET", "/blobs/") == []


def test_a_config_must_be_of_its_manifest(registry: Registry, blobs: Blobs) -> None:
    """As many layers, and the platform that was asked for."""
    reference = store(registry, Manifest(config=IMAGE.manifest.config, layers=IMAGE.manifest.layers[:1]))
    assert refusal(registry, blobs, reference) == (
        f"HOST/a/b{reference}: 2 diff_ids in the config; expected 1, one for each layer"
    )
    assert refusal(registry, blobs, platform=PLATFORMS["linux-aarch64"]) == (
        f"HOST/a/b@{DIGEST}: an image for linux/amd64; expected linux/arm64/v8"
    )


def test_an_index_must_tell_the_truth(registry: Registry, blobs: Blobs) -> None:
    """A manifest of another size than its index says, and an index in place of a manifest."""
    false = Descriptor(media_type=MANIFEST, digest=DIGEST, size=3)
    data = Index(manifests=(false,)).to_json()
    registry.repository("a/b").manifests[str(Digest.of(data))] = (INDEX, data)
    size = IMAGE.descriptor.size
    assert refusal(registry, blobs, f"@{Digest.of(data)}") == (
        f"HOST/a/b@{DIGEST}: '{MANIFEST}' of {size} bytes; expected '{MANIFEST}' of 3 bytes, as its index says"
    )
    outer = Index(manifests=(named(data, INDEX),)).to_json()
    registry.repository("a/b").manifests[str(Digest.of(outer))] = (INDEX, outer)
    assert refusal(registry, blobs, f"@{Digest.of(outer)}") == (
        f"HOST/a/b@{Digest.of(data)}: an index within an index; expected a manifest"
    )


def test_progress_is_told_in_bytes(registry: Registry, blobs: Blobs) -> None:
    """Each blob by its digest's beginning, and whole in the end."""
    notes = Notes()
    client = connect(registry, reporter=notes)
    pull(client.repository.at(DIGEST), blobs, client=client)
    over = {state for state in notes.states if state[1] == state[2]}
    assert over == {(f"a/b {digest[7:19]}", len(data), len(data)) for digest, data in IMAGE.blobs.items()}


def test_processes_that_pull_the_same_image_download_each_blob_once(registry: Registry, blobs: Blobs) -> None:
    """The others wait for the one that does, and verify what it left."""
    script = f"""
        import sys
        from pathlib import Path
        from torchlock.oci.blobs import Blobs
        from torchlock.registry.client import Client
        from torchlock.registry.pull import pull
        from torchlock.registry.reference import Reference
        reference = Reference.parse("{registry.host}/a/b@{DIGEST}")
        client = Client(reference, keychain=lambda _: None)
        sys.stdin.readline()
        pull(reference, Blobs(Path({str(blobs.root)!r})), client=client)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) for _ in range(3)]
    for process in started:
        process.communicate(b"\n")
    assert [process.wait() for process in started] == [0, 0, 0]
    assert sorted(seen.path for seen in registry.requests("GET", "/blobs/")) == sorted(
        f"/v2/a/b/blobs/{digest}" for digest in IMAGE.blobs
    )


def test_the_first_failure_stops_the_other_downloads(registry: Registry, blobs: Blobs) -> None:
    """What they had is kept for the next time."""
    stop = threading.Event()

    def hanging(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("Content-Length", str(len(BIG)))  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(BIG[:100_000])  # type: ignore[attr-defined]
        handler.wfile.flush()  # type: ignore[attr-defined]
        stop.wait(5)

    registry.fault("GET", f"/blobs/{Digest.of(BIG)}", hanging, times=9)
    small = Digest.of(b"a small layer")

    def late(handler: object) -> None:
        threading.Event().wait(0.2)
        handler.answer(200, b"A small layer")  # type: ignore[attr-defined]

    registry.fault("GET", f"/blobs/{small}", late, times=9)
    assert refusal(registry, blobs).startswith(f"HOST/a/b@{small}: the bytes are ")
    stop.set()
    assert blobs.received(named(BIG, LAYER_GZIP)) == 100_000
