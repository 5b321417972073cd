"""Loading: Docker has an image by its digest, gets what it lacks, and is not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import engines
from servers import Notes
from torchlock.digest import Digest
from torchlock.engine import docker, loading
from torchlock.errors import EngineError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engines import Engine
    from torchlock.engine.docker import Docker

LAYERS = (b"base", b"torch", b"numpy")


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give a daemon."""
    with engines.serve() as made:
        yield made


@pytest.fixture
def daemon(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """Give the way to that daemon."""
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    with docker.connect() as found:
        yield found


def sent(engine: Engine) -> set[bytes]:
    """Return the layers of the last archive."""
    return set(LAYERS) & set(engine.archives[-1].values())


def test_docker_knows_an_image_by_the_digest_of_its_config(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """The classic store's ID is the config's digest; the image is tagged once it is there; progress ends at the end."""
    folder, top, config = engines.image(tmp_path, "demo", LAYERS)
    notes = Notes()
    found = loading.load(daemon, folder, top, ["torchlock/demo:1"], notes)
    assert found.image == str(Digest.of(config.to_json()))
    assert list(engine.images) == [found.image]
    assert engine.tags == {"torchlock/demo:1": found.image}
    assert (sent(engine), found.kept) == (set(LAYERS), 0)
    for task, total in ((loading.SENDING, found.sent), (loading.UNPACKING, sum(map(len, LAYERS)))):
        states = [state for state in notes.states if state[0] == task]
        assert states[-1] == (task, total, total)
        assert [state[1] for state in states] == sorted(state[1] for state in states)


def test_containerd_knows_an_image_by_the_digest_of_its_manifest(
    engine: Engine, daemon: Docker, tmp_path: Path
) -> None:
    """Where containerd keeps the images, the ID is the manifest's digest, and every layer is sent."""
    engine.info["DriverStatus"] = engines.CONTAINERD
    first, below, _ = engines.image(tmp_path, "first", LAYERS[:2])
    loading.load(daemon, first, below, [], Notes())
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    found = loading.load(daemon, folder, top, [], Notes())
    assert found.image == str(top.digest)
    assert sent(engine) == set(LAYERS)


def test_an_image_that_is_there_is_not_sent(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """By its ID alone; its tag is put right all the same."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    first = loading.load(daemon, folder, top, [], Notes())
    again = loading.load(daemon, folder, top, ["torchlock/demo:1"], Notes())
    assert (again.image, again.sent) == (first.image, 0)
    assert len(engine.archives) == 1
    assert engine.tags == {"torchlock/demo:1": first.image}


def test_layers_that_another_image_begins_with_are_not_sent(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """Docker has a layer where all layers below it are the same, too, and nowhere else."""
    for name, layers in (("one", (b"base", b"x")), ("two", LAYERS[:2]), ("three", (b"other", b"torch", b"numpy"))):
        folder, top, _ = engines.image(tmp_path, name, layers)
        loading.load(daemon, folder, top, [], Notes())
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    found = loading.load(daemon, folder, top, [], Notes())
    assert found.kept == 2
    assert sent(engine) == {b"numpy"}


def test_a_layer_that_returns_further_up_is_sent(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """Docker has it at the bottom only."""
    folder, top, _ = engines.image(tmp_path, "one", LAYERS[:1])
    loading.load(daemon, folder, top, [], Notes())
    folder, top, _ = engines.image(tmp_path, "demo", (*LAYERS, LAYERS[0]))
    loading.load(daemon, folder, top, [], Notes())
    assert sent(engine) == set(LAYERS)
    assert len(engine.archives) == 2


def test_what_was_left_out_is_sent_where_docker_misses_it(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """A daemon that wants every layer gets them at once; a second refusal is its last word."""
    folder, top, _ = engines.image(tmp_path, "one", LAYERS[:2])
    loading.load(daemon, folder, top, [], Notes())
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    engine.load_error = ["open /tmp/blobs/x: no such file or directory"]
    found = loading.load(daemon, folder, top, [], Notes())
    assert (found.kept, sent(engine)) == (0, set(LAYERS))
    engine.images.clear()
    engine.load_error = ["no", "no"]
    with pytest.raises(EngineError, match=r"^docker load: Docker says: no$"):
        loading.load(daemon, folder, top, [], Notes())


def test_an_image_that_docker_does_not_hold_afterwards_is_refused(
    engine: Engine, daemon: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's "loaded" is not believed, and nothing is tagged."""
    folder, top, config = engines.image(tmp_path, "demo", LAYERS)
    monkeypatch.setattr(engine, "take", lambda _: "")
    with pytest.raises(EngineError) as caught:
        loading.load(daemon, folder, top, ["torchlock/demo:1"], Notes())
    identity = Digest.of(config.to_json())
    assert str(caught.value) == f"{engine.url}: Docker took the image, but has none of its ID; expected {identity}"
    assert engine.tags == {}


def test_a_full_disk(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """Docker's own words, and the command that makes room."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    engine.load_error = ["Error processing tar file: write /x: no space left on device"]
    with pytest.raises(EngineError, match="no space left on device; try: docker system df"):
        loading.load(daemon, folder, top, [], Notes())


def test_a_request_that_is_refused_whole(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """A status instead of words about layers."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    engine.refusals["load"] = [(500, "authorization denied by plugin")]
    with pytest.raises(EngineError, match=r"^docker load: Docker says: authorization denied by plugin$"):
        loading.load(daemon, folder, top, [], Notes())


def test_a_damaged_layer_never_reaches_docker_whole(engine: Engine, daemon: Docker, tmp_path: Path) -> None:
    """The archive breaks off where a blob is not what it must be: Docker holds nothing of it."""
    folder, top, _ = engines.image(tmp_path, "demo", LAYERS)
    blob = folder / "blobs" / "sha256" / Digest.of(b"torch").hex
    blob.chmod(0o644)
    blob.write_bytes(b"tOrch")
    with pytest.raises(ImageError, match=f"expected {Digest.of(b'torch')}; try: remove that file"):
        loading.load(daemon, folder, top, [], Notes())
    assert (engine.images, engine.archives) == ({}, [])
