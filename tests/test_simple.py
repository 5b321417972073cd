"""Simple pages: JSON and HTML, as indexes serve them and as broken ones do."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from servers import HTML, JSON, serving
from torchlock.errors import NetworkError
from torchlock.indexes import simple
from torchlock.network.remote import Answer, Remote

WHEEL = "alpha-1.0-py3-none-any.whl"
ROW = {"filename": WHEEL, "url": f"../../files/{WHEEL}", "hashes": {"sha256": "0" * 64}}


def answer(body: str | bytes, kind: str = JSON, url: str = "http://host.test/simple/alpha/") -> Answer:
    """Return an index's answer."""
    return Answer(url=url, headers={"content-type": kind}, body=body.encode() if isinstance(body, str) else body)


def page(*rows: Any, version: Any = "1.1", **more: Any) -> str:
    """Return a page in JSON."""
    return json.dumps({"meta": {"api-version": version}, "name": "alpha", "files": rows, **more})


def test_an_index_is_a_mirror_or_its_address_or_the_librarys_default() -> None:
    """A mirror comes first; an index without an address is the client library's own."""
    indexes = {"pypi": None, "private": "http://host.test/simple/", "other": "http://other.test/"}
    assert simple.roots(indexes, {"other": "http://mirror.test/"}) == {
        "pypi": PYPI_SIMPLE_ENDPOINT,
        "private": "http://host.test/simple/",
        "other": "http://mirror.test/",
    }
    assert simple.roots(indexes, {"pypi": "http://mirror.test/"})["pypi"] == "http://mirror.test/"


def test_a_page_in_json_is_read() -> None:
    """PEP 691, 700, 714 and 592: hashes, size, time, requires-python, metadata and yanking."""
    row = {
        **ROW,
        "size": 7,
        "upload-time": "2024-02-05T23:58:36.155264Z",
        "requires-python": ">=3.9",
        "yanked": "why not",
        "core-metadata": {"sha256": "1" * 64},
    }
    (item,) = simple.parse(answer(page(row)), "alpha")
    assert item.url == f"http://host.test/files/{WHEEL}"
    assert item.digests == {"sha256": "0" * 64}
    assert (item.size, item.requires_python) == (7, ">=3.9")
    assert item.upload_time == datetime(2024, 2, 5, 23, 58, 36, 155264, tzinfo=timezone.utc)
    assert (item.is_yanked, item.yanked_reason) == (True, "why not")
    assert item.metadata_digests == {"sha256": "1" * 64}


def test_a_page_in_html_is_read_with_its_upload_times() -> None:
    """PEP 503, 592, 658 and the `data-upload-time` that the PyTorch index writes."""
    link = (
        f'<a href="/files/{WHEEL}#sha256={"0" * 64}" data-requires-python="&gt;=3.9" data-yanked="why not" '
        f'data-core-metadata="sha256={"1" * 64}" data-upload-time="2024-02-05T23:58:36.5Z">{WHEEL}</a>'
    )
    (item,) = simple.parse(answer(f"<!DOCTYPE html><html><body>{link}</body></html>", HTML), "alpha")
    assert item.url == f"http://host.test/files/{WHEEL}"
    assert item.digests == {"sha256": "0" * 64}
    assert item.requires_python == ">=3.9"
    assert item.upload_time == datetime(2024, 2, 5, 23, 58, 36, 500000, tzinfo=timezone.utc)
    assert (item.is_yanked, item.yanked_reason) == (True, "why not")
    assert item.metadata_digests == {"sha256": "1" * 64}


@pytest.mark.parametrize("time", ["yesterday", "2024-02-05T23:58:36", "2024-02-30T00:00:00Z", ""])
def test_a_time_in_html_that_is_none_is_not_known(time: str) -> None:
    """The attribute is no standard: what makes no sense, or names no zone, is left out."""
    (item,) = simple.parse(answer(f'<a href="/{WHEEL}" data-upload-time="{time}">{WHEEL}</a>', HTML), "alpha")
    assert item.upload_time is None


def test_a_link_may_be_relative_to_a_base() -> None:
    """The page's <base> is respected, and a + in a name may be written %2B."""
    name = "torch-2.2.2+cpu-cp311-cp311-linux_x86_64.whl"
    body = f'<html><head><base href="http://files.test/whl/"></head><a href="{name.replace("+", "%2B")}">{name}</a>'
    (item,) = simple.parse(answer(body, HTML), "torch")
    assert item.filename == name
    assert item.url == "http://files.test/whl/torch-2.2.2%2Bcpu-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, "<html>maintenance</html>"),
        (JSON, "[]"),
        (JSON, "5"),
        (JSON, "{}"),
        (JSON, "[" * 100_000),
        (JSON, b"\xff\xfe"),
        (JSON, page(ROW, version="2.0")),
        (JSON, page(ROW, version=1)),
        (JSON, page({**ROW, "hashes": []})),
        (JSON, page({**ROW, "size": "huge"})),
        (JSON, page({**ROW, "filename": None})),
        (JSON, page("row")),
        (JSON, page(files=5)),
        ("application/json; charset=utf-8", "not json"),
        (HTML, f'<meta name="pypi:repository-version" content="2.0"><a href="x">{WHEEL}</a>'),
        (HTML, f'<a href="http://[x/{WHEEL}">{WHEEL}</a>'),
    ],
)
def test_a_page_that_cannot_be_read_is_refused(kind: str, body: str | bytes) -> None:
    """Broken, newer or senseless pages are one NetworkError without secrets, never another exception."""
    url = "http://host.test/simple/alpha/?token=s3cret"
    with pytest.raises(NetworkError) as caught:
        simple.parse(answer(body, kind, url), "alpha")
    message = str(caught.value)
    assert message.startswith("http://host.test/simple/alpha/: not a simple page that can be read (")
    assert "s3cret" not in message
    assert len(message) < 250


def test_a_newer_minor_version_is_read() -> None:
    """PEP 629: a client goes on, in silence."""
    assert len(simple.parse(answer(page(ROW, version="1.99")), "alpha")) == 1


def test_a_listing_asks_for_json_and_takes_html(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request under the root, with or without its last slash, that prefers JSON."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as site:
        site.index({WHEEL: b"wheel"}, kind=HTML)
        for root in (f"{site.url}/simple", f"{site.url}/simple/"):
            assert [item.filename for item in simple.listing(Remote(), root, "alpha")] == [WHEEL]
        assert [seen.path for seen in site.seen] == ["/simple/alpha/"] * 2
        preferred = site.seen[0].headers["accept"].split(",")[0]
        assert preferred.strip() == JSON
