"""The loopback index: what resolvers are told, over real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit

import pytest

import snapshots
from snapshots import file
from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.indexes.server import JSON, LoopbackIndex, serve
from torchlock.indexes.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "alpha-1.0-py3-none-any.whl"


@pytest.fixture
def loopback() -> Iterator[LoopbackIndex]:
    """Run an index for one test."""
    with serve() as index:
        yield index


def get(url: str) -> tuple[int, str, bytes]:
    """Return the status, content type and body of an answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def page(url: str, project: str) -> dict[str, Any]:
    """Return a project's page."""
    status, kind, body = get(f"{url}{project}/")
    assert (status, kind) == (200, JSON)
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_page_tells_what_is_known_of_each_wheel(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """PEP 691 with PEP 700 and 714: names, hashes, sizes, times, requires-python, metadata."""
    known = file(NAME, ["beta"], upload_time="2024-02-05T23:58:36Z", requires_python=">=3.9")
    bare = file("alpha-2.0-py3-none-any.whl", None, sha256=None, size=None)
    url = loopback.add(View(snapshots.write(tmp_path, known, bare), snapshots.target()))
    answer = page(url, "alpha")
    assert (answer["meta"], answer["name"]) == ({"api-version": "1.1"}, "alpha")
    first, second = answer["files"]
    metadata = get(url.replace("simple/", f"files/{NAME}.metadata"))[2]
    assert first == {
        "filename": NAME,
        "url": f"../../files/{NAME}",
        "hashes": {"sha256": Digest.of(NAME.encode()).hex},
        "core-metadata": {"sha256": Digest.of(metadata).hex},
        "requires-python": ">=3.9",
        "size": 1000,
        "upload-time": "2024-02-05T23:58:36Z",
    }
    assert second == {
        "filename": bare.name,
        "url": f"../../files/{bare.name}",
        "hashes": {},
        "core-metadata": True,
    }


def test_metadata_holds_what_resolving_reads(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """Name and version come from the file's name, requirements and extras from the record."""
    name = "torch-2.2.2+cpu-py3-none-any.whl"
    snapshot = snapshots.write(tmp_path, file(name, ["beta ; extra == 'x'"], requires_python=">=3.8"))
    url = loopback.add(View(snapshot, snapshots.target()))
    (listed,) = page(url, "torch")["files"]
    status, _, body = get(urljoin(f"{url}torch/", f"{listed['url']}.metadata"))
    assert status == 200
    assert body.decode().splitlines() == [
        "Metadata-Version: 2.1",
        "Name: torch",
        "Version: 2.2.2+cpu",
        "Requires-Python: >=3.8",
        "Requires-Dist: beta ; extra == 'x'",
    ]


def test_a_record_cannot_add_a_field(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """A line end in a recorded value ends no line of the metadata that is served."""
    snapshot = snapshots.write(tmp_path, file(NAME, ["beta\nRequires-Dist: evil"], requires_python=">=3\n\nX: y"))
    url = loopback.add(View(snapshot, snapshots.target()))
    body = get(url.replace("simple/", f"files/{NAME}.metadata"))[2].decode()
    assert body.splitlines()[3:] == ["Requires-Python: >=3 X: y", "Requires-Dist: beta Requires-Dist: evil"]


def test_each_view_has_its_own_root(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """Two targets over one snapshot see their own wheels at the same time."""
    snapshot = snapshots.write(tmp_path, file("alpha-1.0-cp311-cp311-win_amd64.whl"), file(NAME))
    windows = loopback.add(View(snapshot, snapshots.target(platform="win-64", python="3.11")))
    linux = loopback.add(View(snapshot, snapshots.target(platform="linux-64", python="3.11")))
    assert len(page(windows, "alpha")["files"]) == 2
    assert [item["filename"] for item in page(linux, "Alpha")["files"]] == [NAME]


def test_what_cannot_be_served_is_404_and_kept_for_the_error(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """A resolver sees that there is nothing; the view keeps why."""
    view = View(snapshots.write(tmp_path, file(NAME, None)), snapshots.target())
    url = loopback.add(view)
    assert get(f"{url}beta/")[0] == 404
    assert get(url.replace("simple/", f"files/{NAME}.metadata"))[0] == 404
    assert all(isinstance(error, SnapshotError) for error in view.problems)
    assert [error.where for error in view.problems] == [
        "lockfiles/index/pypi/beta.json",
        "lockfiles/index/pypi/alpha.json",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "files/alpha-1.0-py3-none-any.whl",
        "files/alpha-9.0-py3-none-any.whl.metadata",
        "files/.metadata",
        "files/..%2f..%2fetc%2fpasswd.metadata",
        "files/nonsense.metadata",
        "simple/",
        "simple/..%2f..%2fsecret/",
        "simple/al%0apha/",
        "other/alpha/",
    ],
)
def test_nothing_else_is_served(tmp_path: Path, loopback: LoopbackIndex, path: str) -> None:
    """Wheels themselves, unknown files, and names that are none are 404, and no problem of the view."""
    view = View(snapshots.write(tmp_path, file(NAME)), snapshots.target())
    url = loopback.add(view)
    assert get(url.replace("simple/", path))[0] == 404
    assert view.problems == []
    assert get(url.replace("/0/", "/7/") + "alpha/")[0] == 404


def test_an_answer_leaves_at_once(tmp_path: Path, loopback: LoopbackIndex) -> None:
    """Many requests on one connection take no delayed acknowledgement (40 ms) each."""
    url = urlsplit(loopback.add(View(snapshots.write(tmp_path, file(NAME)), snapshots.target())))
    connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=10)
    since = time.monotonic()
    for _ in range(60):
        connection.request("GET", f"{url.path}alpha/")
        assert connection.getresponse().read()
    connection.close()
    assert time.monotonic() - since < 60 * 0.040 * 0.8


def test_a_client_that_hangs_up_is_no_news(
    tmp_path: Path, loopback: LoopbackIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resolver that is killed leaves no traceback, and the index serves on."""
    names = [f"alpha-{number}.0-py3-none-any.whl" for number in range(5_000)]
    url = loopback.add(View(snapshots.write(tmp_path, *map(file, names)), snapshots.target()))
    parts = urlsplit(url)
    with socket.create_connection(("127.0.0.1", parts.port or 0)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(f"GET {parts.path}alpha/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.recv(100)
    assert len(page(url, "alpha")["files"]) == len(names)
    assert capsys.readouterr().err == ""


def test_a_defect_is_shown(
    tmp_path: Path, loopback: LoopbackIndex, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is nobody's refusal is not swallowed."""
    view = View(snapshots.write(tmp_path, file(NAME)), snapshots.target())

    def broken(_: str) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(view, "files", broken)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        get(f"{loopback.add(view)}alpha/")
    assert "ZeroDivisionError: a defect" in capsys.readouterr().err
