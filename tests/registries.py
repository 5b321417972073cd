"""A container registry on loopback, written from the distribution specification, that can lie in every way."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from torchlock.digest import Digest
from torchlock.network.budget import Limits
from torchlock.oci.descriptor import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Descriptor, Platform
from torchlock.oci.manifest import Config, Index, Manifest
from torchlock.registry.client import PULL, Client
from torchlock.registry.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from socketserver import BaseServer

LIMITS = Limits(
    tries=4, budget=20, pause=0.001, longest_pause=0.05, connect=10, read=10, rate=1000, rate_window=0.1, redirects=3
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One request: header names in lower case, `sent` the bytes of its body that were read."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def bare(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]


class Handler(BaseHTTPRequestHandler):
    """Answer as the specification has it, or with the fault that is scripted for the request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_any(self) -> None:
        """Serve one request."""
        registry = self.server.registry
        self.taken = False
        headers = {name.lower(): text for name, text in self.headers.items()}
        seen = Seen(method=self.command, path=self.path, headers=headers)
        with suppress(BrokenPipeError, ConnectionResetError):
            fault = registry.take(seen)
            if fault is not None:
                fault(self)
            else:
                self.serve()
            if not self.taken and int(self.headers.get("Content-Length", "0")):
                self.close_connection = True

    def __getattr__(self, name: str) -> object:
        """Serve every method alike."""
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""

    @property
    def registry(self) -> Registry:
        """The registry that is served."""
        return self.server.registry

    def body(self, limit: int | None = None) -> bytes:
        """Read the request's body, or its first bytes."""
        length = int(self.headers.get("Content-Length", "0"))
        data = self.rfile.read(length if limit is None else min(limit, length))
        self.taken = len(data) == length
        with self.registry.lock:
            self.registry.taken += len(data)
        return data

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            with self.registry.lock:
                self.registry.given += len(body)
            self.wfile.write(body)

    def error(self, status: int, code: str) -> None:
        """Send an error as the specification has it."""
        self.answer(status, json.dumps({"errors": [{"code": code, "message": "secret-of-the-server"}]}).encode())

    def cut(self) -> None:
        """Break the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer as a good registry does."""
        path = urlsplit(self.path).path
        if path == "/token":
            self.registry.token(self)
            return
        if not self.registry.admits(self):
            return
        for pattern, method in (
            (r"/v2/(.+)/blobs/uploads/([a-z0-9]*)", self._upload),
            (r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", self._blob),
            (r"/v2/(.+)/manifests/([^/]+)", self._manifest),
            (r"/v2/(.+)/referrers/(sha256:[0-9a-f]{64})", self._referrers),
        ):
            match = re.fullmatch(pattern, path)
            if match:
                method(*match.groups())
                return
        self.error(404, "UNSUPPORTED")

    def _blob(self, name: str, digest: str) -> None:
        data = self.registry.repository(name).blobs.get(digest)
        if data is None:
            self.error(404, "BLOB_UNKNOWN")
            return
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if self.command == "HEAD":
            self.answer(200, data, headers)
        elif match and int(match[1]) < len(data):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], headers)
        elif match:
            self.answer(416)
        else:
            self.answer(200, data, headers)

    def _manifest(self, name: str, reference: str) -> None:
        repository = self.registry.repository(name)
        if self.command == "PUT":
            self._put_manifest(repository, reference)
            return
        digest = repository.tags.get(reference, reference)
        if digest not in repository.manifests:
            self.error(404, "MANIFEST_UNKNOWN")
            return
        media_type, data = repository.manifests[digest]
        self.answer(200, data, {"Docker-Content-Digest": digest, "Content-Type": media_type})

    def _put_manifest(self, repository: Repository, reference: str) -> None:
        data = self.body()
        value = json.loads(data)
        digest = str(Digest.of(data))
        named = [
            item["digest"] for item in (*value.get("layers", []), *([value["config"]] if "config" in value else []))
        ]
        inner = [item["digest"] for item in value.get("manifests", [])]
        if ":" in reference and reference != digest:
            self.error(400, "DIGEST_INVALID")
        elif not (set(named) <= repository.blobs.keys() and set(inner) <= repository.manifests.keys()):
            self.error(400, "MANIFEST_BLOB_UNKNOWN")
        else:
            repository.manifests[digest] = (self.headers["Content-Type"], data)
            if ":" not in reference:
                repository.tags[reference] = digest
            headers = {"Docker-Content-Digest": digest}
            if "subject" in value and self.registry.referrers:
                headers["OCI-Subject"] = value["subject"]["digest"]
            self.answer(201, b"", headers)

    def _referrers(self, name: str, digest: str) -> None:
        if not self.registry.referrers:
            self.error(404, "UNSUPPORTED")
            return
        found = []
        for own, (media_type, data) in self.registry.repository(name).manifests.items():
            value = json.loads(data)
            if value.get("subject", {}).get("digest") == digest:
                item = {"mediaType": media_type, "digest": own, "size": len(data)}
                item["artifactType"] = value.get("artifactType") or value["config"]["mediaType"]
                found.append(item | ({"annotations": value["annotations"]} if "annotations" in value else {}))
        query = parse_qs(urlsplit(self.path).query)
        start = int(query.get("n", ["0"])[0])
        page = found[start : start + self.registry.page]
        headers = {"Content-Type": INDEX}
        if start + self.registry.page < len(found):
            headers["Link"] = f'<{urlsplit(self.path).path}?n={start + self.registry.page}>; rel="next"'
        self.answer(200, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": page}).encode(), headers)

    def _upload(self, name: str, session: str) -> None:
        repository = self.registry.repository(name)
        if self.command == "POST":
            self._begin(name, repository)
            return
        data = repository.uploads.get(session)
        if data is None:
            self.error(404, "BLOB_UPLOAD_UNKNOWN")
        elif self.command == "GET":
            self._session(name, session, 204)
        elif self.command == "DELETE":
            del repository.uploads[session]
            self.answer(204)
        elif self.command == "PATCH":
            start = int(self.headers.get("Content-Range", f"{len(data)}-").partition("-")[0])
            if start != len(data):
                self.answer(416)
                return
            data += self.body()
            self._session(name, session, 202)
        else:
            self._finish(repository, session)

    def _begin(self, name: str, repository: Repository) -> None:
        self.body()
        query = {key: text[0] for key, text in parse_qs(urlsplit(self.path).query).items()}
        wanted, source = query.get("mount"), query.get("from", "")
        blobs = self.registry.repository(source).blobs
        if wanted in blobs and self.registry.mounts:
            repository.blobs[wanted] = blobs[wanted]
            self.answer(201, b"", {"Location": f"/v2/{name}/blobs/{wanted}", "Docker-Content-Digest": wanted})
            return
        session = secrets.token_hex(8)
        repository.uploads[session] = bytearray()
        self._session(name, session, 202)

    def _session(self, name: str, session: str, status: int) -> None:
        size = len(self.registry.repository(name).uploads[session])
        headers = {"Location": f"/v2/{name}/blobs/uploads/{session}?state=a%2Fb", "Range": f"0-{max(0, size - 1)}"}
        self.answer(status, b"", headers)

    def _finish(self, repository: Repository, session: str) -> None:
        data = bytes(repository.uploads[session]) + self.body()
        wanted = parse_qs(urlsplit(self.path).query)["digest"][0]
        if str(Digest.of(data)) != wanted:
            self.error(400, "DIGEST_INVALID")
            return
        del repository.uploads[session]
        repository.blobs[wanted] = data
        self.answer(201, b"", {"Docker-Content-Digest": wanted, "Location": f"/v2/x/blobs/{wanted}"})


@dataclass(kw_only=True, slots=True)
class Repository:
    """What one repository holds: blobs and manifests by digest, tags, and uploads that are under way."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)


class Registry:
    """A registry: what it holds, what it asks for, which faults come next, and what it has seen."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.seen: list[Seen] = []
        self.faults: list[tuple[str, re.Pattern[str], Callable[[Handler], None], int]] = []
        self.host = ""
        self.given = self.taken = 0
        self.mounts = self.referrers = True
        self.page = 100
        # None, "basic" or "bearer"; how long a token is said to be good, and those that are good now.
        self.scheme: str | None = None
        self.user, self.password, self.identity = "someone", "pass:word-secret", "identity-secret"
        self.anonymous = False
        self.life = 300.0
        self.good: set[str] = set()

    def repository(self, name: str) -> Repository:
        """Return a repository, made now if it is new."""
        with self.lock:
            return self.repositories.setdefault(name, Repository())

    def fault(self, method: str, pattern: str, fault: Callable[[Handler], None], times: int = 1) -> None:
        """Script a fault for the next requests whose method and path match."""
        self.faults.append((method, re.compile(pattern), fault, times))

    def take(self, seen: Seen) -> Callable[[Handler], None] | None:
        """Note a request; return the fault that is scripted for it."""
        with self.lock:
            self.seen.append(seen)
            for number, (method, pattern, fault, times) in enumerate(self.faults):
                if method == seen.method and pattern.search(seen.path):
                    if times > 1:
                        self.faults[number] = (method, pattern, fault, times - 1)
                    else:
                        del self.faults[number]
                    return fault
        return None

    def requests(self, method: str, pattern: str = "") -> list[Seen]:
        """Return the requests seen so far that match."""
        return [item for item in self.seen if item.method == method and re.search(pattern, item.path)]

    def admits(self, handler: Handler) -> bool:
        """Whether a request is let in; it is answered 401 where not."""
        given = handler.headers.get("Authorization", "")
        with self.lock:
            if self.scheme is None:
                return True
            if self.scheme == "basic" and given == self.basic():
                return True
            if self.scheme == "bearer" and given.removeprefix("Bearer ") in self.good:
                return True
        realm = f'Bearer realm="http://{self.host}/token",service="a, \\"registry\\"",scope="repository:x:pull"'
        asked = {"WWW-Authenticate": realm if self.scheme == "bearer" else 'Basic realm="here"'}
        handler.answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', asked)
        return False

    def basic(self) -> str:
        """Return the header of the right user and password."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def token(self, handler: Handler) -> None:
        """Serve a token to whom it may have one."""
        body = parse_qs(handler.body().decode())
        good = handler.headers.get("Authorization") == self.basic() or body.get("refresh_token") == [self.identity]
        if not (good or self.anonymous):
            handler.answer(401)
            return
        with self.lock:
            made = secrets.token_urlsafe(8)
            self.good.add(made)
            key = "access_token" if body else "token"
            handler.answer(200, json.dumps({key: made, "expires_in": self.life}).encode())


class _Server(ThreadingHTTPServer):
    """Serve a registry; a broken connection is no error of the server's."""

    daemon_threads = True
    request_queue_size = 128
    registry: Registry

    def handle_error(self: BaseServer, request: object, client_address: object) -> None:
        """Say nothing."""


@contextmanager
def serving(registry: Registry) -> Iterator[Registry]:
    """Serve on a free port of loopback; `registry.host` is where."""
    server = _Server(("127.0.0.1", 0), Handler)
    server.registry = registry
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image as bytes, its layers not real ones: what a registry holds of it."""

    manifest: Manifest
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """The manifest's bytes."""
        return self.manifest.to_json()

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's descriptor."""
        return named(self.data, MANIFEST)

    @property
    def blobs(self) -> dict[str, bytes]:
        """The config and the layers by digest."""
        return {str(Digest.of(data)): data for data in (self.config, *self.layers)}

    def put(self, repository: Repository, tag: str | None = None) -> None:
        """Put it into a repository by hand."""
        repository.blobs.update(self.blobs)
        digest = str(self.descriptor.digest)
        repository.manifests[digest] = (MANIFEST, self.data)
        if tag is not None:
            repository.tags[tag] = digest


def named(data: bytes, media_type: str, platform: Platform | None = None) -> Descriptor:
    """Name bytes."""
    return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data), platform=platform)


def picture(*layers: bytes, architecture: str = "amd64", media_type: str = LAYER_GZIP) -> Picture:
    """Make an image of these layers."""
    config = Config(
        os="linux", architecture=architecture, diff_ids=tuple(Digest.of(layer) for layer in layers)
    ).to_json()
    manifest = Manifest(config=named(config, CONFIG), layers=tuple(named(layer, media_type) for layer in layers))
    return Picture(manifest=manifest, config=config, layers=layers)


def index_of(repository: Repository, *pictures: Picture) -> bytes:
    """Put an index of images into a repository; return its bytes."""
    manifests = []
    for item in pictures:
        item.put(repository)
        config = Config.from_json(item.config, "config")
        manifests.append(named(item.data, MANIFEST, config.platform))
    data = Index(manifests=tuple(manifests)).to_json()
    repository.manifests[str(Digest.of(data))] = (INDEX, data)
    return data


def connect(registry: Registry, name: str = "a/b", actions: tuple[str, ...] = PULL, **options: Any) -> Client:
    """Make an impatient client of a repository, without credentials unless a keychain is given."""
    reference = Reference.parse(f"{registry.host}/{name}")
    return Client(reference, actions, **{"limits": LIMITS, "keychain": lambda _: None, **options})


def answering(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Callable[[Handler], None]:
    """Take the request's body and answer with something else; a Content-Length in `headers` may lie."""

    def fault(handler: Handler) -> None:
        handler.body()  # else the client may meet a broken connection before it reads the answer
        handler.answer(status, body, headers)

    return fault


def cutting(handler: Handler) -> None:
    """Break the connection without an answer."""
    handler.cut()


def cutting_after(count: int, body: bytes, headers: Mapping[str, str] | None = None) -> Callable[[Handler], None]:
    """Send the beginning of a body and break the connection."""

    def fault(handler: Handler) -> None:
        handler.answer(200, body[:count], {"Content-Length": str(len(body)), **(headers or {})})
        handler.cut()

    return fault
