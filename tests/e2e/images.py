"""For the tests of images: a registry on loopback that counts what it is sent, Docker, and images in their clones."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.project import HOST, environment
from torchlock.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from e2e.project import Clone, Result, Runner

ARM = "linux-aarch64"
USER, PASSWORD = "alice", "secret"
# What `htpasswd -Bn` makes of these two (bcrypt).
HTPASSWD = "alice:$2y$05$7qWK5t0eMMUxNIw8tERvrO0JSUDs0vN9Rab0fNDjv9LAzvbeKr52S"
START_SECONDS = 20
_BLOCK = 1 << 16
_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: torchlock, path: {folder}/htpasswd}}}}
"""


class Counter:
    """A port of loopback that passes everything on to another, and counts the bytes that clients send."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._guard = threading.Lock()
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that clients use."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server, counted=True)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, *, counted: bool = False) -> None:
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                if counted:
                    with self._guard:
                        self.received += len(block)
                target.sendall(block)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """A docker-registry that asks for a user; `config` is the Docker configuration of one who may."""

    counter: Counter
    folder: Path
    config: Path

    @property
    def host(self) -> str:
        """Its name and port."""
        return f"127.0.0.1:{self.counter.port}"

    def repository(self, name: str) -> str:
        """Return a repository, as REGISTRY takes it."""
        return f"{self.host}/{name}"

    @property
    def size(self) -> int:
        """The bytes of the blobs that it keeps."""
        return sum(path.stat().st_size for path in self.folder.glob("data/docker/registry/v2/blobs/sha256/*/*/data"))


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run a registry whose data lies in a folder; all of it is removed afterwards."""
    config = folder / "client"
    config.mkdir(parents=True)
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _answers(port, folder / "log", process)
            counter = Counter(port)
            login = ["docker", "login", f"127.0.0.1:{counter.port}", "--username", USER, "--password-stdin"]
            extra = {"DOCKER_CONFIG": str(config)}
            subprocess.run(login, input=PASSWORD, text=True, check=True, capture_output=True, env=environment(extra))
            yield Registry(counter=counter, folder=folder, config=config)
            counter.close()
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder)


def _answers(port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until it takes connections; raise with its own words where it does not."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"docker-registry does not answer: {log.read_text(encoding='utf-8')[-2000:]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Docker, by its own client; what `remove` holds is removed at the end, nothing else."""

    runner: Runner
    folder: Path
    remove: list[str] = field(default_factory=list)

    def __call__(self, *words: str, status: int | None = 0, seconds: float = 600, **extra: str) -> str:
        """Return what `docker` prints."""
        done = self.runner.run(["docker", *words], folder=self.folder, status=status, seconds=seconds, extra=extra)
        return done.output

    def has(self, identity: str) -> bool:
        """Whether it has an image of this ID."""
        return identity in self("images", "--all", "--quiet", "--no-trunc").split()

    def containers(self) -> set[str]:
        """Return the IDs of all containers."""
        return set(self("ps", "--all", "--quiet", "--no-trunc").split())

    def clean(self) -> None:
        """Remove what is to be removed: the newest first, which may stand on older ones."""
        for identity in dict.fromkeys(reversed(self.remove)):
            if self.has(identity):
                self("rmi", "--force", identity, seconds=120)
        self.remove.clear()


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image that `make image-<p>` made in a clone, and what that printed."""

    clone: Clone
    profile: str
    result: Result
    platform: str = HOST

    @property
    def layout(self) -> Path:
        """Its OCI layout."""
        return self.clone.folder / "images" / f"{self.profile}-{self.platform}"

    @property
    def committed(self) -> Path:
        """The folder of its committed manifest and config."""
        return self.clone.lock(self.profile, self.platform) / "image"

    @property
    def manifest(self) -> Any:
        """The committed manifest."""
        return json.loads((self.committed / "manifest.json").read_bytes())

    @property
    def digest(self) -> Digest:
        """The committed digest."""
        return Digest.of_file(self.committed / "manifest.json")

    @property
    def identity(self) -> str:
        """By which Docker's classic store knows it."""
        return str(Digest.of_file(self.committed / "config.json"))

    def blob(self, digest: str) -> Path:
        """Return a file of its layout."""
        return self.layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def layers(image: Image) -> dict[str, int]:
    """Return the digests and sizes of an image's layers, bottom first."""
    return {item["digest"]: item["size"] for item in image.manifest["layers"]}


def forget(page: Path, filename: str) -> None:
    """Take a file out of a recorded page of the index, where it is one line, as if it had never been published."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if f'"{filename}"' not in line]
    assert len(kept) == len(lines) - 1
    page.write_text("".join(kept), encoding="utf-8")


def elsewhere(words: Sequence[str], variables: dict[str, str], *, cores: str = "0") -> list[str]:
    """Return a command that runs another as another user, on another host, under other settings, on few cores."""
    become = 'hostname elsewhere.example && umask 0077 && exec unshare --user --map-user=4321 --map-group=4321 "$@"'
    settings = [f"{name}={value}" for name, value in sorted(variables.items())]
    return [
        "unshare",
        "--uts",
        "sh",
        "-c",
        become,
        "elsewhere",
        "taskset",
        "--cpu-list",
        cores,
        "env",
        *settings,
        *words,
    ]
