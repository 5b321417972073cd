"""A real docker-registry on loopback: what is pushed there others read, and what others push there can be pulled."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from registries import Picture, named
from torchlock.digest import Digest
from torchlock.errors import RegistryError
from torchlock.oci import layout
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import CONFIG, INDEX, LAYER_GZIP, MANIFEST, PLATFORMS, Descriptor, Platform
from torchlock.oci.manifest import Config, Index, Manifest
from torchlock.registry import referrers
from torchlock.registry.client import PUSH, Client
from torchlock.registry.pull import pull
from torchlock.registry.push import Pushed, push
from torchlock.registry.reference import Reference
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

USER, PASSWORD = "someone", "pass:word-secret"
# bcrypt of the password, as perl's crypt() computes it with the system's library.
BCRYPT = "print crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))"


def need(program: str) -> str:
    """Return a program's path, or say that this was not run."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str | Path, **variables: str) -> str:
    """Run a command and return what it prints."""
    made = subprocess.run(
        [str(item) for item in command], check=False, capture_output=True, text=True, env={**os.environ, **variables}
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


def docker() -> str:
    """Return the path of Docker's client whose daemon answers, or say that this was not run."""
    found = need("docker")
    if subprocess.run([found, "info"], check=False, capture_output=True).returncode:
        pytest.skip("no Docker daemon answers")
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A docker-registry: where it is, and the folder in which it keeps everything."""

    host: str
    storage: Path
    log: Path

    def size(self) -> int:
        """Return the bytes of all blobs that it keeps."""
        return sum(path.stat().st_size for path in self.storage.rglob("blobs/**/data"))

    def uploads(self) -> list[Path]:
        """Return the uploads that are under way."""
        return [path for path in self.storage.rglob("_uploads/*") if path.is_dir()]

    def received(self, method: str) -> int:
        """Return how many requests of a method the access log has."""
        return self.log.read_text(encoding="utf-8").count(f'"{method} /v2/')


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def docker_registry(folder: Path, htpasswd: str = "") -> Iterator[Served]:
    """Run a docker-registry with an empty storage."""
    program, port = need("docker-registry"), free_port()
    folder.mkdir()
    served = Served(host=f"127.0.0.1:{port}", storage=folder / "storage", log=folder / "log")
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(served.storage)}},
        "http": {"addr": served.host},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}
    (folder / "config.json").write_text(json.dumps(config))  # JSON is YAML
    with served.log.open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "config.json"], stdout=log, stderr=log)
    try:
        _wait_for(port)
        yield served
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail("docker-registry does not answer")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Served]:
    """Run a docker-registry that lets everybody in."""
    with docker_registry(tmp_path / "registry") as served:
        yield served


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name an empty folder as Docker's configuration; return the file that is not there yet."""
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Make an empty folder of blobs."""
    return Blobs(tmp_path / "blobs")


def packed(**files: bytes) -> tuple[bytes, Digest]:
    """Return a layer with some files, and the digest of its tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0), Digest.of(buffer.getvalue())


BIG = packed(big=os.urandom(3 << 20))


def image(*layers: tuple[bytes, Digest], platform: Platform = PLATFORMS["linux-64"]) -> Picture:
    """Make an image of real layers."""
    config = Config(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        diff_ids=tuple(diff_id for _, diff_id in layers),
        config={"Cmd": ["/nothing"]},
    ).to_json()
    described = tuple(named(data, LAYER_GZIP) for data, _ in layers)
    manifest = Manifest(config=named(config, CONFIG), layers=described)
    return Picture(manifest=manifest, config=config, layers=tuple(data for data, _ in layers))


def keep(blobs: Blobs, made: Picture) -> Descriptor:
    """Put an image into a folder of blobs; return its descriptor."""
    for data in (*made.blobs.values(), made.data):
        blobs.add_bytes(data)
    return made.descriptor


def pushed(served: Served, blobs: Blobs, top: Descriptor, name: str = "a/b", **options: object) -> Pushed:
    """Push to a repository."""
    target = Reference.parse(f"{served.host}/{name}")
    return push(top, lambda item: blobs.path(item.digest), target, **options)  # type: ignore[arg-type]


def test_what_is_pushed_is_there_byte_for_byte_and_comes_back(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """The storage holds each blob once; the second push sends nothing."""
    made = image(BIG, packed(a=b"1"))
    found = pushed(registry, blobs, keep(blobs, made), "a/b:latest")
    everything = sum(len(data) for data in made.blobs.values()) + len(made.data)
    assert registry.size() == everything
    assert found.sent == everything + len(made.data)  # the manifest once more, for its tag
    assert (found.uploaded, found.skipped) == (3, 0)
    again = pushed(registry, blobs, made.descriptor, "a/b:latest")
    assert (again.sent, again.uploaded, again.skipped) == (0, 0, 3)
    assert registry.uploads() == []
    elsewhere = Blobs(tmp_path / "elsewhere")
    back = pull(Reference.parse(f"{registry.host}/a/b:latest"), elsewhere, expected=made.descriptor.digest)
    assert back.top == made.descriptor
    layout.write(tmp_path / "layout", [back.top], elsewhere)
    assert len(layout.verify(tmp_path / "layout")) == 4


def test_a_small_change_sends_little(registry: Served, blobs: Blobs) -> None:
    """Counted in the registry's storage, and by the push itself."""
    pushed(registry, blobs, keep(blobs, image(BIG, packed(a=b"1"))))
    before = registry.size()
    found = pushed(registry, blobs, keep(blobs, image(BIG, packed(a=b"2"))))
    assert registry.size() - before == found.sent < 2000
    assert (found.uploaded, found.skipped) == (2, 1)


def test_blobs_are_mounted_from_another_repository(registry: Served, blobs: Blobs) -> None:
    """No layer is sent twice to one registry."""
    made = image(BIG, packed(a=b"1"))
    pushed(registry, blobs, keep(blobs, made), "a/b")
    patches = registry.received("PATCH")
    found = pushed(registry, blobs, made.descriptor, "c/d", mounts=["none/such", "a/b"])
    assert (found.mounted, found.uploaded, found.sent) == (3, 0, made.descriptor.size)
    assert registry.received("PATCH") == patches
    assert pull(found.reference, Blobs(blobs.root / "x")).received


def test_skopeo_reads_and_copies_what_was_pushed(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """With every digest preserved."""
    skopeo, made = need("skopeo"), image(BIG, packed(a=b"1"))
    pushed(registry, blobs, keep(blobs, made), "a/b:latest")
    source = f"docker://{registry.host}/a/b:latest"
    inspected = json.loads(run(skopeo, "inspect", "--tls-verify=false", source))
    assert inspected["Digest"] == str(made.descriptor.digest)
    assert inspected["Layers"] == [str(item.digest) for item in made.manifest.layers]
    target = tmp_path / "copied"
    run(skopeo, "copy", "--preserve-digests", "--src-tls-verify=false", source, f"oci:{target}:latest")
    assert layout.read(target).manifests[0].digest == made.descriptor.digest
    assert len(layout.verify(target)) == 4


def test_what_skopeo_pushed_can_be_pulled(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """As an OCI image, and as Docker's kind of one."""
    skopeo, made = need("skopeo"), image(BIG, packed(a=b"1"))
    layout.write(tmp_path / "layout", [keep(blobs, made)], blobs)
    elsewhere = Blobs(tmp_path / "elsewhere")
    for kind in ("oci", "v2s2"):
        target = f"docker://{registry.host}/{kind}:x"
        run(skopeo, "copy", "--format", kind, "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}", target)
        found = pull(Reference.parse(f"{registry.host}/{kind}:x"), elsewhere, platform=PLATFORMS["linux-64"])
        manifest = Manifest.from_json(elsewhere.read(found.top), kind)
        assert [item.digest for item in manifest.layers] == [item.digest for item in made.manifest.layers]
        assert manifest.media_type == found.top.media_type
    assert manifest.media_type.startswith("application/vnd.docker.")


def test_docker_pulls_what_was_pushed_by_digest(registry: Served, blobs: Blobs) -> None:
    """The digest that it says is the one that was known before."""
    program, made = docker(), image(BIG, packed(a=b"1"))
    found = pushed(registry, blobs, keep(blobs, made), "a/b:latest")
    try:
        run(program, "pull", "--quiet", str(found.reference))
        inspected = json.loads(run(program, "image", "inspect", str(found.reference)))
        assert inspected[0]["RepoDigests"] == [str(found.reference)]
        assert inspected[0]["Id"] == str(made.manifest.config.digest)
    finally:
        subprocess.run([program, "rmi", str(found.reference)], check=False, capture_output=True)


def test_an_index_of_two_platforms_is_served(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """Each platform gets its own, and what they share is there once."""
    made = [image(BIG, packed(a=name.encode()), platform=platform) for name, platform in PLATFORMS.items()]
    manifests = tuple(
        named(item.data, MANIFEST, platform) for item, platform in zip(made, PLATFORMS.values(), strict=True)
    )
    for item in made:
        keep(blobs, item)
    data = Index(manifests=manifests).to_json()
    blobs.add_bytes(data)
    found = pushed(registry, blobs, named(data, INDEX), "a/b:multi")
    assert found.uploaded == 5
    for item, platform in zip(made, PLATFORMS.values(), strict=True):
        back = pull(found.reference, Blobs(tmp_path / platform.architecture), platform=platform)
        assert [one.digest for one in back.manifests] == [item.descriptor.digest]


def test_users_are_let_in_with_their_password_and_others_are_not(blobs: Blobs, tmp_path: Path, config: Path) -> None:
    """As Docker's own configuration has it; no message holds the password."""
    bcrypt = run(need("perl"), "-e", BCRYPT, PASSWORD)
    with docker_registry(tmp_path / "registry", f"{USER}:{bcrypt}\n") as served:
        top = keep(blobs, image(BIG, packed(a=b"1")))
        with pytest.raises(RegistryError) as caught:
            pushed(served, blobs, top)
        assert str(caught.value) == (
            f"{served.host}/a/b: asks for a user and password (401); try: docker login {served.host}"
        )
        for pair, right in ((f"{USER}:wrong-secret", False), (f"{USER}:{PASSWORD}", True)):
            auth = b64encode(pair.encode()).decode()
            config.write_text(json.dumps({"auths": {served.host: {"auth": auth}}}))
            if right:
                assert pushed(served, blobs, top).uploaded == 3
                assert pull(Reference.parse(f"{served.host}/a/b@{top.digest}"), Blobs(tmp_path / "x")).received
                continue
            with pytest.raises(RegistryError) as caught:
                pushed(served, blobs, top)
            assert str(caught.value) == (
                f"{served.host}/a/b: did not accept the user and password of Docker's configuration (401); "
                f"try: docker login {served.host}"
            )


def test_what_docker_logged_in_with_serves(blobs: Blobs, tmp_path: Path, config: Path) -> None:
    """`docker login` writes the configuration, and `push` and `pull` read it."""
    program, bcrypt = docker(), run(need("perl"), "-e", BCRYPT, PASSWORD)
    with docker_registry(tmp_path / "registry", f"{USER}:{bcrypt}\n") as served:
        command = [program, "login", "--username", USER, "--password-stdin", served.host]
        subprocess.run(command, check=True, capture_output=True, input=PASSWORD, text=True)
        assert config.is_file()
        found = pushed(served, blobs, keep(blobs, image(BIG)))
        assert pull(found.reference, Blobs(tmp_path / "x")).received


class Cutter:
    """Stands before a registry and breaks the first connection that has brought `after` bytes to it."""

    def __init__(self, served: Served, after: int) -> None:
        host, _, port = served.host.partition(":")
        self._there, self._after = (host, int(port)), after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[int] = []

    def __enter__(self) -> Cutter:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._threads[0].join()
        _shut(self._sockets)
        for thread in self._threads:
            thread.join()
        for sock in (*self._sockets, self._listener):
            sock.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                client.settimeout(None)
                pair = [client, socket.create_connection(self._there)]
                self._sockets += pair
                for job in (self._upwards, self._downwards):
                    self._threads.append(threading.Thread(target=job, args=pair))
                    self._threads[-1].start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        total = 0
        with suppress(OSError):
            while data := client.recv(1 << 16):
                total += len(data)
                server.sendall(data)
                if total > self._after and not self.cuts:
                    self.cuts.append(total)
                    break
        _shut([client, server])

    @staticmethod
    def _downwards(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
        _shut([client, server])


def _shut(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("after", [500_000, 3_000_000])
def test_an_upload_that_is_cut_ends_well(registry: Served, blobs: Blobs, after: int) -> None:
    """docker-registry 2.8 forgets a session that is cut within a chunk: the blob starts again, the rest does not."""
    made = image(BIG, packed(a=b"1"))
    top = keep(blobs, made)
    with Cutter(registry, after) as cutter:
        found = push(top, lambda item: blobs.path(item.digest), Reference.parse(f"{cutter.host}/a/b"))
        assert len(cutter.cuts) == 1
    assert found.uploaded == 3
    assert found.sent > sum(len(data) for data in made.blobs.values()) + len(made.data)
    assert pull(Reference.parse(f"{registry.host}/a/b@{top.digest}"), Blobs(blobs.root / "x")).received


def test_a_download_that_is_cut_is_resumed(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """By range: every byte of the blob comes once."""
    made = image(BIG, packed(a=b"1"))
    top = keep(blobs, made)
    pushed(registry, blobs, top)
    elsewhere = Blobs(tmp_path / "elsewhere", Silent())
    with elsewhere.receiving(made.manifest.layers[0]) as partial:
        partial.write(BIG[0][:1_000_000])
    found = pull(Reference.parse(f"{registry.host}/a/b@{top.digest}"), elsewhere)
    assert found.received == sum(len(data) for data in made.blobs.values()) - 1_000_000


def test_a_blob_that_was_damaged_in_the_registry_is_refused(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """docker-registry does not look at what it serves."""
    made = image(BIG, packed(a=b"1"))
    pushed(registry, blobs, keep(blobs, made))
    path = next(path for path in registry.storage.rglob("data") if path.stat().st_size == len(BIG[0]))
    data = bytearray(BIG[0])
    data[1_000_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(RegistryError, match=f"the bytes are {Digest.of(bytes(data))}; expected {Digest.of(BIG[0])}"):
        pull(Reference.parse(f"{registry.host}/a/b@{made.descriptor.digest}"), Blobs(tmp_path / "elsewhere"))


def test_evidence_is_attached_through_the_tag_schema(registry: Served, blobs: Blobs, tmp_path: Path) -> None:
    """docker-registry 2.8 has no referrers interface; skopeo reads the list that stands in for it."""
    top = keep(blobs, image(BIG))
    pushed(registry, blobs, top)
    client = Client(Reference.parse(f"{registry.host}/a/b"), PUSH)
    kind = "application/vnd.torchlock.evidence.v1+json"
    made = referrers.attach(client, top, kind, b'{"passed":true}', {"a": "b"})
    assert made.by_tag
    assert referrers.referrers(client, top.digest) == (made.descriptor,)
    manifest, data = referrers.read(client, made.descriptor, top.digest, Blobs(tmp_path / "x"))
    assert (manifest.artifact_type, data) == (kind, b'{"passed":true}')
    tag = f"docker://{registry.host}/a/b:sha256-{top.digest.hex}"
    listed = json.loads(run(need("skopeo"), "inspect", "--raw", "--tls-verify=false", tag))
    assert listed["manifests"] == [made.descriptor.to_dict()]


def test_several_pushes_of_one_image_at_once_end_well(registry: Served, blobs: Blobs) -> None:
    """As runners do that build the same; the registry has each blob once."""
    made = image(BIG, packed(a=b"1"))
    top = keep(blobs, made)
    failures: list[BaseException] = []

    def work(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - told to the thread that asserts
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(lambda: pushed(registry, blobs, top, "a/b:latest"),)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert registry.size() == sum(len(data) for data in made.blobs.values()) + len(made.data)
