"""A daemon with Docker's interface on loopback: takes archives as Docker 20.10 does, plays scripted containers."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from torchlock.digest import Digest
from torchlock.oci import layout
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import CONFIG, LAYER_GZIP, MANIFEST, PLATFORMS, Descriptor
from torchlock.oci.manifest import Config, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# A smoke report as the script prints it: one check passed, one could not run.
REPORT: dict[str, Any] = {
    "schema": 1,
    "status": "pass",
    "totals": {"pass": 1, "fail": 0, "not run": 1},
    "versions": {"python": "3.11.2", "numpy": "1.26.4", "torch": "2.2.2", "distributions": {}},
    "platform": {"system": "linux", "machine": "x86_64", "implementation": "CPython", "libc": "glibc-2.36"},
    "device": {"build": "cpu", "driver": None, "cuda": [], "mps": False},
    "lock": str(Digest.of(b"pylock.toml")),
    "requested": {"groups": [], "variant": "cpu", "require_device": None},
    "checks": [
        {"id": "import.numpy", "group": "import", "status": "pass", "detail": "1.26.4"},
        {"id": "device.cuda.driver", "group": "device", "status": "not run", "detail": "no NVIDIA driver"},
    ],
}
INFO = {
    "ServerVersion": "20.10.24",
    "Architecture": "x86_64",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "Runtimes": {"runc": {}},
}
CONTAINERD = [["driver-type", "io.containerd.snapshotter.v1"]]
CONTAINER = "c" * 64


@dataclass(kw_only=True)
class Engine:
    """What the daemon has and does: `words` is what its container writes to each stream before it ends with `status`.

    `refusals` maps a path's last word to answers that it gives first, in turn: a status and a message, None for none.
    """

    url: str = ""
    info: dict[str, Any] = field(default_factory=lambda: dict(INFO))
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, list[tuple[int, str] | None]] = field(default_factory=dict)
    load_error: list[str] = field(default_factory=list)
    words: tuple[bytes, bytes] = (json.dumps(REPORT).encode(), b"")
    status: int = 0
    killed: bool = False
    wait: Callable[[], None] = lambda: None
    archives: list[dict[str, bytes]] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    platforms: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)

    def take(self, data: bytes) -> str:
        """Take an archive; return what is wrong with it, or nothing."""
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found = {item.name: tar.extractfile(item).read() for item in tar if item.isfile()}  # type: ignore[union-attr]
        self.archives.append(found)
        if self.load_error:
            return self.load_error.pop(0)
        (listed,) = json.loads(found["manifest.json"])
        config = found[listed["Config"]]
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        for number, path in enumerate(listed["Layers"]):
            if path not in found and not any(
                image["RootFS"]["Layers"][: number + 1] == diff_ids[: number + 1] for image in self.images.values()
            ):
                return f"open /tmp/{path}: no such file or directory"
        (top,) = json.loads(found["index.json"])["manifests"]
        named = (
            top["digest"] if self.info["DriverStatus"] == CONTAINERD else f"sha256:{hashlib.sha256(config).hexdigest()}"
        )
        self.images[named] = {"Id": named, "RootFS": {"Type": "layers", "Layers": diff_ids}}
        return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a question."""
        self._serve()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names that the base class calls

    def _serve(self) -> None:
        split = urlsplit(self.path)
        words = [unquote(word) for word in split.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        body = self._body()
        engine = self.server.engine
        queue = engine.refusals.get(words[-1]) or engine.refusals.get(self.command) or []
        refused = queue.pop(0) if queue else None
        if refused is not None:
            self._answer(refused[0], {"message": refused[1]})
            return
        words = words[1:] if words[0].startswith("v1.") else words
        answers = {"images": self._images, "containers": self._containers}.get(words[0], self._self)
        if not answers([self.command, *words], query, body):
            self._answer(404, {"message": f"page not found: {self.command} {self.path}"})

    def _self(self, words: list[str], _query: dict[str, str], _body: bytes) -> bool:
        found = {"version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "info": self.server.engine.info}
        if words[1] in found:
            self._answer(200, found[words[1]])
        return words[1] in found

    def _images(self, words: list[str], query: dict[str, str], body: bytes) -> bool:
        engine = self.server.engine
        match words:
            case ["GET", _, "json"]:
                self._answer(200, list(engine.images.values()))
            case ["GET", _, name, "json"]:
                found = engine.images.get(name)
                self._answer(200 if found else 404, found or {"message": f"No such image: {name}"})
            case ["POST", _, "load"]:
                wrong = engine.take(body)
                done = {"id": "a layer", "status": "Loading layer", "progressDetail": {"current": 3, "total": 9}}
                self._answer(200, done, {"error": wrong} if wrong else {"stream": "Loaded image"})
            case ["POST", _, name, "tag"]:
                engine.tags[f"{query['repo']}:{query['tag']}"] = name
                self._answer(201, {})
            case _:
                return False
        return True

    def _containers(self, words: list[str], query: dict[str, str], body: bytes) -> bool:
        engine = self.server.engine
        match words:
            case ["POST", _, "create"]:
                engine.started.clear()
                engine.created.append(json.loads(body))
                engine.platforms.append(query.get("platform", ""))
                self._answer(201, {"Id": CONTAINER, "Warnings": []})
            case ["GET", _, _, "json"]:
                self._answer(200, {"Config": {"Tty": False}, "State": {"OOMKilled": engine.killed}})
            case ["POST", _, _, "attach"]:
                self._attach(engine)
            case ["POST", _, _, "start"]:
                engine.started.set()
                self._answer(204)
            case ["POST", _, _, "wait"]:
                self._answer(200, {"StatusCode": engine.status})
            case ["DELETE", _, name]:
                engine.removed.append(name)
                self._answer(204)
            case _:
                return False
        return True

    def _attach(self, engine: Engine) -> None:
        """Give up HTTP on this connection and write frames, once the container is started."""
        self.close_connection = True
        lines = "HTTP/1.1 101 UPGRADED", "Connection: Upgrade", "Upgrade: tcp", "", ""
        self.wfile.write("\r\n".join(lines).encode())
        if engine.started.wait(5):
            engine.wait()
            with suppress(OSError):
                for number, words in enumerate(engine.words, 1):
                    self.wfile.write(struct.pack(">BxxxL", number, len(words)) + words)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, *values: Any) -> None:
        data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status == 200 and len(values) > 1:
            self.send_header("Transfer-Encoding", "chunked")
            data = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
        elif status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if status != 204 else b"")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up on purpose here."""


@contextmanager
def serve() -> Iterator[Engine]:
    """Run a daemon while the context lasts; its `url` is what DOCKER_HOST takes."""
    engine = Engine()
    with _Server(engine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        engine.url = f"tcp://127.0.0.1:{server.server_port}"
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()


def image(
    root: Path, name: str, layers: Sequence[bytes], platform: str = "linux-64"
) -> tuple[Path, Descriptor, Config]:
    """Write the layout of an image with these layers to a folder; their bytes stand for tars that are not packed."""
    blobs = Blobs(root / "blobs")
    config = Config(
        architecture=PLATFORMS[platform].architecture,
        os=PLATFORMS[platform].os,
        variant=PLATFORMS[platform].variant,
        diff_ids=tuple(Digest.of(layer) for layer in layers),
        config={"Labels": {"dev.torchlock.lock": str(Digest.of(b"lock"))}},
    )
    manifest = Manifest(
        config=blobs.add_bytes(config.to_json()).descriptor(CONFIG),
        layers=tuple(blobs.add_bytes(layer).descriptor(LAYER_GZIP) for layer in layers),
    )
    top = blobs.add_bytes(manifest.to_json()).descriptor(MANIFEST)
    layout.write(root / name, [top], blobs)
    return root / name, top, config
