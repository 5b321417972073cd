"""The loopback index: serves the snapshot to any resolver (PEP 503 paths, PEP 691 JSON, PEP 658 metadata)."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from packaging.utils import InvalidName, canonicalize_name

from torchlock.digest import Digest
from torchlock.errors import TorchlockError
from torchlock.indexes.view import project_of, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.indexes.snapshot import File
    from torchlock.indexes.view import View

JSON = "application/vnd.pypi.simple.v1+json"


def _metadata_text(file: File) -> bytes:
    """Write the fields that resolving reads as a METADATA file (core metadata 2.1), each on one line."""
    assert file.metadata is not None  # noqa: S101 - `known` has just filled it
    lines = ["Metadata-Version: 2.1", f"Name: {project_of(file.name)}", f"Version: {version_of(file.name)}"]
    if file.requires_python:
        lines.append(f"Requires-Python: {file.requires_python}")
    lines += [f"Provides-Extra: {extra}" for extra in file.metadata.provides_extra]
    lines += [f"Requires-Dist: {requirement}" for requirement in file.metadata.requires_dist]
    return "\n".join([*(" ".join(line.split()) for line in lines), ""]).encode()


def _listed(file: File) -> dict[str, object]:
    """Describe a file as PEP 691 and PEP 714 have it; a digest of the metadata only where it is known already."""
    value: dict[str, object] = {
        "filename": file.name,
        "url": f"../../files/{quote(file.name)}",
        "hashes": {"sha256": file.sha256.hex} if file.sha256 else {},
        "core-metadata": {"sha256": Digest.of(_metadata_text(file)).hex} if file.metadata else True,
    }
    if file.requires_python:
        value["requires-python"] = file.requires_python
    if file.size is not None:
        value["size"] = file.size
    if file.upload_time is not None:
        value["upload-time"] = file.upload_time
    return value


def _answer(view: View, kind: str, name: str) -> tuple[str, bytes]:
    """Return the content type and bytes of `simple/<project>` or `files/<wheel>.metadata`."""
    if kind == "simple":
        project = str(canonicalize_name(name, validate=True))
        files = [_listed(file) for file in view.files(project)]
        return JSON, json.dumps(
            {"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": []}
        ).encode()
    filename = name.removesuffix(".metadata")
    project = str(canonicalize_name(project_of(filename), validate=True))
    file = view.page(project).files[filename]
    return "text/plain", _metadata_text(view.known(file))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one piece and at once: in two, Nagle's algorithm costs 40 ms a request.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer `/<number of the view>/simple/<project>/` and `/<number>/files/<wheel>.metadata`."""
        number, _, rest = unquote(self.path.partition("?")[0]).strip("/").partition("/")
        kind, _, name = rest.partition("/")
        view = self.server.views.get(number)
        if view is None or kind not in {"simple", "files"} or (kind == "files" and not name.endswith(".metadata")):
            self._send(404, "text/plain", b"not served here\n")
            return
        try:
            self._send(200, *_answer(view, kind, name))
        except TorchlockError as error:
            view.problems.append(error)
            self._send(404, "text/plain", f"{error}\n".encode())
        except (KeyError, InvalidName):
            self._send(404, "text/plain", b"no such project or file\n")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server uses
        """Say nothing: what goes wrong is in the view's problems."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.views: dict[str, View] = {}

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that hung up; anything else is a defect, and shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class LoopbackIndex:
    """A running index on 127.0.0.1; each view that is added has its own simple root."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def add(self, view: View) -> str:
        """Serve a view; return the URL of its simple root."""
        number = str(len(self._server.views))
        self._server.views[number] = view
        return f"http://127.0.0.1:{self._server.server_address[1]}/{number}/simple/"


@contextmanager
def serve() -> Iterator[LoopbackIndex]:
    """Run a loopback index while the context lasts."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield LoopbackIndex(server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
