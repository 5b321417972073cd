"""Real HTTP servers on loopback: a tree of files with ranges, simple-index pages, and scripted faults."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from socketserver import BaseServer

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.states: list[tuple[str, int, int | None]] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Keep a state."""
        self.states.append((task, done, total))


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One request as the server saw it: header names in lower case, the address of the client's socket."""

    path: str
    headers: Mapping[str, str]
    client: str


class Handler(BaseHTTPRequestHandler):
    """Answer from the server's files, or with the next fault that is scripted for the path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Serve one request."""
        site = self.server.site
        headers = {name.lower(): text for name, text in self.headers.items()}
        fault = site.take(Seen(path=self.path, headers=headers, client=str(self.client_address)))
        with suppress(BrokenPipeError, ConnectionResetError):
            if fault is not None:
                fault(self)
            else:
                self.serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""

    @property
    def content(self) -> bytes | None:
        """The bytes of the file that was asked for."""
        return self.server.site.files.get(self.path.partition("?")[0])

    def wanted(self, size: int) -> tuple[int, int] | None:
        """Return the range that was asked for as [start, stop)."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return None
        first, last = match.groups()
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def serve(self, *, ranges: bool = True) -> None:
        """Answer as a good server does."""
        content = self.content
        if content is None:
            self.answer(404, b"not here")
            return
        site = self.server.site
        headers = dict(site.headers.get(self.path.partition("?")[0], {}))
        wanted = self.wanted(len(content)) if ranges else None
        if wanted is None:
            self.answer(200, content, headers)
        elif wanted[0] >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            start, stop = wanted
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            self.answer(206, content[start:stop], headers)

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: bool = True
    ) -> None:
        """Send a whole answer; without `length` its end is the end of the connection."""
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        with self.server.site.lock:
            self.server.site.sent += len(body)
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site) -> None:
        self.site = site
        self.live: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self.live.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        self.live.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up on purpose here."""


@dataclass(kw_only=True)
class Site:
    """What a server serves (`files`), what goes wrong (`script`), and what it was asked (`seen`)."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    sent: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)
    faults: dict[str, list[Callable[[Handler], None] | None]] = field(default_factory=dict)
    always: dict[str, Callable[[Handler], None]] = field(default_factory=dict)

    def script(self, path: str, *faults: Callable[[Handler], None] | None, forever: bool = False) -> None:
        """Answer the next requests to a path with these faults (None: a good answer), the last one for ever."""
        self.faults[path] = list(faults)
        last = faults[-1]
        if forever and last is not None:
            self.always[path] = last

    def take(self, seen: Seen) -> Callable[[Handler], None] | None:
        """Note a request and return its fault, if one is scripted."""
        path = seen.path.partition("?")[0]
        with self.lock:
            self.seen.append(seen)
            queue = self.faults.get(path)
            if queue:
                return queue.pop(0)
            return self.always.get(path)

    def asked(self, path: str) -> int:
        """Return how often a path was asked for."""
        with self.lock:
            return sum(seen.path == path for seen in self.seen)

    def index(
        self,
        files: Mapping[str, bytes],
        *,
        root: str = "/simple/",
        kind: str = JSON,
        yanked: Sequence[str] = (),
        digests: bool = True,
    ) -> str:
        """Publish files and their project pages (PEP 691, or PEP 503 with `kind=HTML`); return the address."""
        projects: dict[str, list[str]] = {}
        for name, content in files.items():
            projects.setdefault(re.sub(r"[-_.]+", "-", name.split("-")[0]).lower(), []).append(name)
            self.files[f"/files{root}{name}"] = content
        for project, names in projects.items():
            sums = {name: hashlib.sha256(files[name]).hexdigest() if digests else "" for name in names}
            page = f"{root}{project}/"
            self.headers[page] = {"Content-Type": kind}
            make = _json if kind == JSON else _html
            self.files[page] = make(project, f"/files{root}", sums, set(yanked)).encode()
        return f"{self.url}{root}"


def _json(project: str, folder: str, sums: Mapping[str, str], yanked: set[str]) -> str:
    rows = [
        {"filename": name, "url": folder + name, "hashes": {"sha256": hexed} if hexed else {}, "yanked": name in yanked}
        for name, hexed in sums.items()
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": rows, "versions": []})


def _html(project: str, folder: str, sums: Mapping[str, str], yanked: set[str]) -> str:
    rows = []
    for name, hexed in sums.items():
        fragment = f"#sha256={hexed}" if hexed else ""
        mark = " data-yanked" if name in yanked else ""
        rows.append(f'<a href="{folder}{name}{fragment}"{mark}>{name}</a>')
    return f"<!DOCTYPE html><html><head><title>{project}</title></head><body>{' '.join(rows)}</body></html>"


@contextmanager
def serving(files: Mapping[str, bytes] | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Run a server on a free port of 127.0.0.1 until the end of the block; `site.url` has no slash at its end."""
    site = Site(files=dict(files or {}))
    server = _Server(site)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    site.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=_run, args=(server,))
    thread.start()
    try:
        yield site
    finally:
        site.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
        for request in list(server.live):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


def _run(server: BaseServer) -> None:
    server.serve_forever(poll_interval=0.01)


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Callable[[Handler], None]:
    """Answer with a status."""
    return lambda handler: handler.answer(code, body, headers)


def redirect(url: str, code: int = 302) -> Callable[[Handler], None]:
    """Point elsewhere."""
    return status(code, {"Location": url})


def reset(handler: Handler) -> None:
    """Hang up without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut(count: int, *, length: bool = True) -> Callable[[Handler], None]:
    """Hang up after `count` bytes of the body, with or without a Content-Length that promised more."""

    def fault(handler: Handler) -> None:
        content = handler.content or b""
        wanted = handler.wanted(len(content))
        start, stop = wanted or (0, len(content))
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        if length:
            handler.send_header("Content-Length", str(stop - start))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(content[start : min(stop, start + count)])
        handler.close_connection = True

    return fault


def drip(pause: float, head: int = 0) -> Callable[[Handler], None]:
    """Send `head` bytes of the file at once, then one byte every `pause` seconds."""

    def fault(handler: Handler) -> None:
        content = handler.content or b""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:head])
        for byte in content[head:]:
            if handler.server.site.ended.wait(pause):
                return
            handler.wfile.write(bytes([byte]))

    return fault


def drip_headers(pause: float) -> Callable[[Handler], None]:
    """Send one byte of a status line every `pause` seconds, for ever."""

    def fault(handler: Handler) -> None:
        handler.close_connection = True
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60_000:
            if handler.server.site.ended.wait(pause):
                return
            handler.wfile.write(bytes([byte]))

    return fault


def endless(handler: Handler) -> None:
    """Send a body without end and without Content-Length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.site.ended.is_set():
        handler.wfile.write(b"x" * 65536)


def ignoring_range(handler: Handler) -> None:
    """Answer 200 with the whole file, whatever range was asked for."""
    handler.serve(ranges=False)


def wrong_offset(handler: Handler) -> None:
    """Answer a range with the bytes one before it, and say so in Content-Range."""
    content = handler.content or b""
    start, stop = handler.wanted(len(content)) or (0, len(content))
    start, stop = max(0, start - 1), max(0, stop - 1)
    handler.answer(206, content[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})


def instead(content: bytes) -> Callable[[Handler], None]:
    """Answer with other bytes than the file's, whatever range was asked for."""
    return status(200, body=content)


def stall(handler: Handler) -> None:
    """Take the request and never answer."""
    handler.server.site.ended.wait()


def slow(pause: float) -> Callable[[Handler], None]:
    """Answer well, after a pause."""

    def fault(handler: Handler) -> None:
        time.sleep(pause)
        handler.serve()

    return fault
