"""Containers: what smoke gets and does not get there, what comes of its words and its end, and that none is left."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

import engines
from servers import Notes
from torchlock.engine import container, docker
from torchlock.errors import EngineError, SmokeError
from torchlock.oci.descriptor import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines import Engine
    from torchlock.engine.container import Run
    from torchlock.engine.docker import Docker

IMAGE = f"sha256:{'a' * 64}"
HERE = PLATFORMS["linux-64"]
NO_DRIVER = 'could not select device driver "" with capabilities: [[gpu]]'
TOOLKIT = "install NVIDIA's container toolkit, then nvidia-ctk runtime configure --runtime=docker and restart Docker"

# The Docker SDK leaves the socket of a container that never ran to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give a daemon; whatever a test does, its containers are removed."""
    with engines.serve() as made:
        yield made
        assert len(made.removed) == len(made.created)


@pytest.fixture
def daemon(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """Give the way to that daemon."""
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    with docker.connect() as found:
        yield found
    gc.collect()


def smoke(daemon: Docker, notes: Notes | None = None, require: str | None = None, *, gpu: bool = False) -> Run:
    """Smoke the image on this machine's platform."""
    return container.smoke(daemon, IMAGE, HERE, gpu=gpu, require=require, reporter=notes or Notes())


def test_the_container_is_shut_in(engine: Engine, daemon: Docker) -> None:
    """The image by its ID and as its own user; read-only but for /tmp; no network, no capability, no new privilege."""
    found = smoke(daemon)
    assert (found.report.document, found.status, found.gpu) == (engines.REPORT, 0, False)
    (created,) = engine.created
    assert (created["Image"], created["Cmd"], created.get("User")) == (IMAGE, ["smoke", "--json"], None)
    host = created["HostConfig"]
    assert (host["ReadonlyRootfs"], host["NetworkMode"]) == (True, "none")
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert list(host["Tmpfs"]) == ["/tmp"]  # noqa: S108 - the container's own
    assert "DeviceRequests" not in host
    assert not {"Binds", "Privileged", "Volumes"} & host.keys()
    assert engine.platforms == ["linux/amd64"]
    assert engine.removed == [engines.CONTAINER]


def test_all_gpus_are_given(engine: Engine, daemon: Docker) -> None:
    """As `docker run --gpus all` asks for them; a required device reaches the script."""
    found = smoke(daemon, require="cuda", gpu=True)
    (request,) = engine.created[0]["HostConfig"]["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])
    assert engine.created[0]["Cmd"] == ["smoke", "--json", "--require-device", "cuda"]
    assert found.gpu


def test_a_daemon_without_nvidias_toolkit_runs_it_without_a_gpu(engine: Engine, daemon: Docker) -> None:
    """That is said, with what gives containers the GPU, and the run does not count as one with it."""
    engine.refusals["start"] = [(500, NO_DRIVER)]
    notes = Notes()
    found = smoke(daemon, notes, gpu=True)
    assert ["DeviceRequests" in item["HostConfig"] for item in engine.created] == [True, False]
    assert notes.notes == [f"this container has no GPU: Docker says: {NO_DRIVER}; {TOOLKIT}"]
    assert not found.gpu


def test_a_required_gpu_is_not_given_up(engine: Engine, daemon: Docker) -> None:
    """REQUIRE=cuda means that it runs with the GPU or not at all."""
    engine.refusals["start"] = [(500, NO_DRIVER)]
    with pytest.raises(EngineError) as caught:
        smoke(daemon, require="cuda", gpu=True)
    assert str(caught.value) == (
        f"docker start: Docker says: {NO_DRIVER}; expected a container with the GPU; try: {TOOLKIT}"
    )


def test_another_refusal_is_not_taken_for_a_missing_gpu(engine: Engine, daemon: Docker) -> None:
    """The container is not tried again where the GPU is not the trouble."""
    engine.refusals["start"] = [(500, "cgroups: no")]
    with pytest.raises(EngineError, match=r"^docker start: Docker says: cgroups: no$"):
        smoke(daemon, gpu=True)
    assert len(engine.created) == 1


@pytest.mark.parametrize("words", ["start", "output"])
def test_a_foreign_program_that_does_not_run(engine: Engine, daemon: Docker, words: str) -> None:
    """Whether the start fails or the program's first word is the kernel's: it says how to enable the emulator."""
    text = "exec /opt/torchlock/env/bin/python: exec format error"
    if words == "start":
        engine.refusals["start"] = [(500, text)]
    else:
        engine.words, engine.status = (b"", text.encode()), 1
    notes = Notes()
    with pytest.raises(EngineError) as caught:
        container.smoke(daemon, IMAGE, PLATFORMS["linux-aarch64"], gpu=False, require=None, reporter=notes)
    assert str(caught.value) == (
        f"{engine.url}: this daemon's machine (amd64) does not run programs of arm64; expected an emulator registered"
        " with binfmt_misc; try: apt-get install qemu-user-static binfmt-support && update-binfmts --enable"
        " qemu-aarch64 (or docker run --privileged --rm tonistiigi/binfmt --install arm64)"
    )
    assert engine.platforms == ["linux/arm64/v8"]
    assert notes.notes == ["arm64 is emulated on amd64: this takes minutes"]


def test_its_exit_status_is_kept(engine: Engine, daemon: Docker) -> None:
    """A report of failures comes with a status of its own; what it says on standard error is no part of it."""
    report = engines.REPORT | {"status": "fail"}
    engine.words, engine.status = (json.dumps(report).encode(), b"a warning"), 1
    found = smoke(daemon)
    assert (found.status, found.report.passed) == (1, False)


def test_an_end_without_a_report(engine: Engine, daemon: Docker) -> None:
    """Status and last words are all that there is."""
    engine.words, engine.status = (b"", b"python: cannot\n open libc"), 127
    with pytest.raises(SmokeError) as caught:
        smoke(daemon)
    assert str(caught.value) == (
        f"{IMAGE}: the smoke script ended with status 127 before it could report: python: cannot open libc"
    )


def test_out_of_memory_is_named(engine: Engine, daemon: Docker) -> None:
    """The kernel's kill looks like any other without Docker's word for it."""
    engine.words, engine.status, engine.killed = (b"", b""), 137, True
    with pytest.raises(SmokeError, match="the container ran out of memory; expected a report; try: give Docker more"):
        smoke(daemon)


def test_endless_words_are_stopped(engine: Engine, daemon: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that writes without an end fills no memory here."""
    monkeypatch.setattr(container, "LIMIT", 1000)
    engine.words = (b"", b"x" * 2000)
    with pytest.raises(SmokeError, match="the container wrote more than 1000 bytes; expected a report"):
        smoke(daemon)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interruption_removes_the_container(
    engine: Engine, daemon: Docker, number: signal.Signals, kind: type[BaseException]
) -> None:
    """Ctrl-C and SIGTERM while it runs: it is ended and removed (the fixture counts them)."""

    def interrupt() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.2)

    def terminate(*_: object) -> None:
        raise SystemExit(143)

    engine.wait = interrupt
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(kind):
            smoke(daemon)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert engine.removed == [engines.CONTAINER]


def test_a_container_that_is_gone_already(engine: Engine, daemon: Docker) -> None:
    """Somebody else's `docker rm` is no failure of the run."""
    engine.refusals["DELETE"] = [(404, "No such container")]
    assert smoke(daemon).report.passed
    engine.removed.append(engines.CONTAINER)
