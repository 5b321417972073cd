"""Single requests: bodies that can be sent again, addresses that lead nowhere dangerous, and broken connections."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from registries import LIMITS, Handler, Registry, answering, cutting, cutting_after
from torchlock.errors import RegistryError
from torchlock.network.transport import TransientError
from torchlock.registry.wire import Wire, led

if TYPE_CHECKING:
    from collections.abc import Iterator


class Parts:
    """Some bytes in parts, counted."""

    def __init__(self, *parts: bytes) -> None:
        self.parts, self.times = parts, 0

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        self.times += 1
        return iter(self.parts)


def test_a_body_is_sent_with_its_length_and_can_be_sent_again(registry: Registry) -> None:
    """Not in chunks of HTTP's: registries and the proxies before them want to know."""
    bodies = []

    def noting(handler: Handler) -> None:
        bodies.append(handler.body())
        handler.answer(202)

    registry.fault("PATCH", "", noting, times=2)
    wire, body = Wire(LIMITS), Parts(b"one", b"", b"two")
    for _ in range(2):
        with wire.ask("PATCH", f"http://{registry.host}/x", {}, body) as response:
            assert response.status_code == 202
    wire.close()
    assert bodies == [b"onetwo", b"onetwo"]
    assert body.times == 2
    assert [seen.headers["content-length"] for seen in registry.seen] == ["6", "6"]
    assert all("transfer-encoding" not in seen.headers for seen in registry.seen)


def test_no_redirect_is_followed_and_no_coding_asked_for(registry: Registry) -> None:
    """What comes is what is hashed."""
    registry.fault("GET", "", answering(302, b"", {"Location": "/y"}))
    wire = Wire(LIMITS)
    with wire.ask("GET", f"http://{registry.host}/x", {}) as response:
        assert response.status_code == 302
    assert registry.seen[0].headers["accept-encoding"] == "identity"
    assert len(registry.seen) == 1


def test_what_breaks_may_be_tried_again(registry: Registry) -> None:
    """Before the answer, and within it."""
    wire = Wire(LIMITS)
    registry.fault("GET", "", cutting)
    with pytest.raises(TransientError), wire.ask("GET", f"http://{registry.host}/x", {}):
        pass
    registry.fault("GET", "", cutting_after(3, b"too short"))
    with wire.ask("GET", f"http://{registry.host}/x", {}) as response, pytest.raises(TransientError):
        wire.small(response, 100)


def test_an_answer_that_is_fast_enough_may_take_its_time(registry: Registry) -> None:
    """The rate is that of each window; ten times the least one passes several of them."""

    def steady(handler: Handler) -> None:
        handler.answer(200, b"", {"Content-Length": "5000"})
        for _ in range(10):
            threading.Event().wait(0.05)
            handler.wfile.write(b"x" * 500)

    registry.fault("GET", "", steady)
    wire = Wire(LIMITS)
    with wire.ask("GET", f"http://{registry.host}/x", {}) as response:
        assert wire.small(response, 5000) == b"x" * 5000


def test_hanging_up_ends_what_is_waited_for(registry: Registry) -> None:
    """From another thread: an answer that has not begun, and one that has."""
    stop = threading.Event()

    def silent(handler: Handler) -> None:
        stop.wait(5)
        handler.cut()

    def begun(handler: Handler) -> None:
        handler.answer(200, b"x", {"Content-Length": "100"})
        silent(handler)

    registry.fault("GET", "silent", silent)
    registry.fault("GET", "begun", begun)
    wire = Wire(LIMITS)
    failures = []

    def work(path: str) -> None:
        try:
            with wire.ask("GET", f"http://{registry.host}/{path}", {}) as response:
                wire.small(response, 1000)
        except TransientError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(path,)) for path in ("silent", "begun")]
    for thread in threads:
        thread.start()
    for _ in range(200):
        wire.hang_up()
        threads[0].join(0.01)
        threads[1].join(0.01)
        if not any(thread.is_alive() for thread in threads):
            break
    assert not stop.is_set()
    assert len(failures) == 2
    stop.set()


@pytest.mark.parametrize(
    ("here", "location", "there"),
    [
        ("https://a.example/v2/x?y", "/v2/z?state=a%2Fb", "https://a.example/v2/z?state=a%2Fb"),
        ("https://a.example/v2/x", "https://b.example:444/z", "https://b.example:444/z"),
        ("http://localhost:5000/v2/x", "http://127.0.0.1:5001/z", "http://127.0.0.1:5001/z"),
        ("http://localhost:5000/v2/x", "https://b.example/z", "https://b.example/z"),
        ("https://a.example/v2/x", "//b.example/z", "https://b.example/z"),
    ],
)
def test_an_address_may_lead_elsewhere(here: str, location: str, there: str) -> None:
    """Relative or not, encrypted, or within this machine."""
    assert led(here, location) == there


@pytest.mark.parametrize(
    ("here", "location", "message"),
    [
        (
            "https://user@a.example/x?secret",
            "http://a.example/z?secret",
            "https://a.example/x: led to http://a.example/z, which is not encrypted; expected https to the end",
        ),
        (
            "https://a.example/x",
            "http://127.0.0.1/z",
            "https://a.example/x: led to http://127.0.0.1/z, which is not encrypted; expected https to the end",
        ),
        (
            "http://localhost/x",
            "http://10.0.0.1/z",
            "http://localhost/x: led to http://10.0.0.1/z, which is not encrypted; expected https to the end",
        ),
        ("https://a.example/x", "ftp://b/z", "https://a.example/x: led to a ftp: address; expected https"),
        (
            "https://a.example/x",
            "https://u:p@b/z",
            "https://a.example/x: led to an address with a user or password; expected one without",
        ),
        (
            "https://a.example/x",
            "https://b:port/z",
            "https://a.example/x: led to an address that is no URL; expected https://…",
        ),
        (
            "https://a.example/x",
            "https://[b/z",
            "https://a.example/x: led to an address that is no URL; expected https://…",
        ),
    ],
)
def test_an_address_leads_nowhere_dangerous(here: str, location: str, message: str) -> None:
    """No secret of either is in the message."""
    with pytest.raises(RegistryError) as caught:
        led(here, location)
    assert str(caught.value) == message
