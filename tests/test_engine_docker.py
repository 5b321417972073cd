"""Docker's daemon: found as the Docker client finds it, asked, and refused in words that say what to do."""

from __future__ import annotations

import gc
import hashlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

import engines
from torchlock.engine import docker
from torchlock.engine.docker import Facts
from torchlock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engines import Engine


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the settings of the person who runs this."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give a daemon that DOCKER_HOST names."""
    with engines.serve() as made:
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made


def context(folder: Path) -> Path:
    """Return where Docker's client keeps its context "elsewhere"."""
    meta = folder / "config" / "contexts" / "meta" / hashlib.sha256(b"elsewhere").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    (folder / "config" / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
    return meta


def test_a_daemon_says_what_it_is(engine: Engine) -> None:
    """Version, architecture in Go's words, kind of image store, NVIDIA's runtime."""
    engine.info |= {"Runtimes": {"nvidia": {}}, "DriverStatus": engines.CONTAINERD, "Architecture": "aarch64"}
    with docker.connect() as found:
        assert found.facts == Facts(version="20.10.24", architecture="arm64", containerd=True, nvidia=True)
        assert found.where == engine.url


def test_nvidia_devices_count_without_its_runtime() -> None:
    """Devices that the daemon discovered by CDI say as much as a runtime; another maker's do not."""
    assert Facts.of({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}).nvidia
    assert not Facts.of({"DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=all"}], "Runtimes": None}).nvidia


def test_a_context_names_the_daemon(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DOCKER_HOST, the Docker client's current context says where the daemon is."""
    monkeypatch.delenv("DOCKER_HOST")
    meta = context(tmp_path)
    meta.write_text(json.dumps({"Name": "elsewhere", "Metadata": {}, "Endpoints": {"docker": {"Host": engine.url}}}))
    with docker.connect() as found:
        assert found.facts.version == "20.10.24"


def test_a_damaged_context_is_named(tmp_path: Path) -> None:
    """A context whose file cannot be read is refused, and says which command lists them."""
    meta = context(tmp_path)
    meta.write_text("{")
    with pytest.raises(EngineError, match=r"^Docker's contexts: .*expected a sound context; try: docker context ls$"):
        docker.connect()


def test_a_context_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no context has is refused: the local daemon is not what was asked for."""
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(EngineError) as caught:
        docker.connect()
    assert str(caught.value) == (
        "Docker's contexts: no context nowhere; expected a sound context; try: docker context ls"
    )


# The Docker SDK does not close a socket that nobody answers on.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no daemon was ever started, the address is named and the command that starts it."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineError) as caught:
        docker.connect()
    assert str(caught.value) == (
        f"unix://{tmp_path}/docker.sock: no Docker daemon answers there: No such file or directory; try: sudo systemctl"
        " start docker (or start Docker Desktop), or DOCKER_HOST=<where its daemon listens>"
    )
    del caught
    gc.collect()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port where nothing listens: the daemon is down."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", where)
        with pytest.raises(
            EngineError, match="no Docker daemon answers there: Connection refused; try: sudo systemctl"
        ):
            docker.connect()


def test_no_permission() -> None:
    """A socket that this user may not open: the group that may is named."""
    error = docker._unreached("unix:///run/docker.sock", PermissionError(13, "Permission denied"))
    assert str(error) == (
        "unix:///run/docker.sock: permission denied; try: sudo usermod -aG docker <you>, then log in again"
    )


def test_the_systems_error_is_found_beneath_a_librarys() -> None:
    """The Docker SDK hides it in arguments and causes; errors that contain each other end the search."""
    inner, outer = ValueError("x"), RuntimeError("aborted", PermissionError(13, "Permission denied"))
    inner.__cause__, outer.__cause__ = outer, inner
    found = docker._system(inner)
    assert found is not None
    assert found.errno == 13
    assert docker._system(ValueError(ValueError())) is None


def test_a_host_that_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST with another protocol is refused before anything is asked."""
    monkeypatch.setenv("DOCKER_HOST", "gopher://x")
    with pytest.raises(EngineError, match=r"^gopher://x: no Docker daemon answers there: .*gopher"):
        docker.connect()


def test_an_image_is_found_by_its_id_alone(engine: Engine) -> None:
    """An answer for a name that is not the image's ID, as a tag or a short form gives it, is not that image."""
    engine.images["sha256:1"] = {"Id": "sha256:1"}
    engine.images["latest"] = {"Id": "sha256:1"}
    with docker.connect() as found:
        assert found.image("sha256:1") == {"Id": "sha256:1"}
        assert found.image("latest") is None
        assert found.image("sha256:2") is None
        assert found.images() == [{"Id": "sha256:1"}]


def test_a_refusal_is_one_line(engine: Engine) -> None:
    """What the daemon says of its own is in the error, with the command that asks the same."""
    engine.refusals["info"] = [(500, "something\n broke.")]
    with docker.connect() as found, pytest.raises(EngineError) as caught:
        found.facts  # noqa: B018 - it asks
    assert str(caught.value) == "docker info: Docker says: something broke"


def test_a_full_disk_says_how_to_make_room() -> None:
    """Docker's words for a full disk come with the commands that show and free its space."""
    error = docker.refusal("docker load", "write /var/lib/docker/x: no space left on device")
    assert error.remedy == "docker system df, then docker image prune (or docker system prune) for room"


def test_a_daemon_that_goes_away(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks is told from a refusal, and names the daemon."""
    text = r"^tcp://127.0.0.1:\d+: Docker broke off docker info: Connection refused"
    with docker.connect() as found, monkeypatch.context() as patch:
        patch.setattr(found.client, "base_url", "http://127.0.0.1:9")
        with pytest.raises(EngineError, match=text):
            found.facts  # noqa: B018 - it asks
