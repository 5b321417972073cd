"""The client: what a status means, whose words are repeated, and where credentials go."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from registries import LIMITS, Handler, Registry, answering, connect, serving
from servers import Notes
from torchlock.errors import RegistryError
from torchlock.registry.client import StatusError


def refusal(registry: Registry, status: int, body: bytes = b"") -> StatusError:
    """Return what a status ends in."""
    registry.fault("GET", "", answering(status, body))
    client = connect(registry)
    with pytest.raises(StatusError) as caught:
        client.run(lambda: client.answer("GET", client.url("x")))
    return caught.value


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "answered 400"),
        (401, "asks"),
        (403, "forbids it (403); try: check the user's rights, or docker login HOST"),
        (404, "is not there (404); try: check the name of the repository"),
        (405, "answered 405"),
        (451, "answered 451"),
    ],
)
def test_a_status_is_said_in_words(registry: Registry, status: int, message: str) -> None:
    """With what to do about it, where something can be done."""
    if status == 401:
        with pytest.raises(RegistryError, match="asks for nothing as authorisation"):
            refusal(registry, status)
        return
    error = refusal(registry, status)
    assert str(error).replace(registry.host, "HOST") == f"http://HOST/v2/a/b/x: {message}"
    assert error.code == status


def test_of_a_registrys_words_only_the_names_of_errors_are_repeated(registry: Registry) -> None:
    """They are few and known; its prose may hold anything."""
    body = b'{"errors":[{"code":"DENIED","message":"a-secret"},{"code":"a-secret"},{"code":"TOOMANYREQUESTS"}]}'
    error = refusal(registry, 400, body)
    assert error.names == ("DENIED", "TOOMANYREQUESTS")
    assert error.found == "answered 400, DENIED, TOOMANYREQUESTS"
    for strange in (b'{"errors":7}', b'{"errors":[7]}', b"[" * 100_000, b'{"errors":[{"code":{}}]}'):
        assert refusal(registry, 400, strange).names == ()


def test_a_pause_that_is_asked_for_is_capped(registry: Registry) -> None:
    """In seconds or as a date; without one the pauses grow by themselves."""
    notes = Notes()
    for header in ("3600", "Fri, 31 Dec 2099 23:59:59 GMT"):
        registry.fault("GET", "", answering(429, b"", {"Retry-After": header}))
    registry.fault("GET", "", answering(503))
    registry.fault("GET", "", answering(204))
    client = connect(registry, reporter=notes)
    assert client.run(lambda: client.answer("GET", client.url("x"))).code == 204
    assert [note.rpartition("; ")[2] for note in notes.notes] == [
        "trying again in 0.1 s",
        "trying again in 0.1 s",
        "trying again in 0.0 s",
    ]


def test_a_redirect_back_carries_credentials_and_one_to_another_port_does_not(registry: Registry) -> None:
    """They are for one scheme, host and port."""
    registry.scheme, registry.anonymous = "bearer", True
    with serving(Registry()) as other:
        back = f"http://{registry.host}/v2/a/b/back"
        other.fault("GET", "", answering(302, b"", {"Location": back}))
        registry.fault("GET", "/start", lambda handler: handler.serve())
        registry.fault("GET", "/start", answering(302, b"", {"Location": f"http://{other.host}/there"}))
        registry.fault("GET", "/back", answering(204))
        client = connect(registry)
        assert client.run(lambda: client.answer("GET", client.url("start"))).url == back
        assert [seen.headers.get("authorization") for seen in other.seen] == [None]
    assert registry.seen[-1].headers["authorization"].startswith("Bearer ")


def test_a_registry_that_is_not_there_is_said_within_the_budget() -> None:
    """Nobody listens on port 1."""
    registry = Registry()
    registry.host = "127.0.0.1:1"
    client = connect(registry)
    with pytest.raises(RegistryError) as caught:
        client.run(lambda: client.answer("GET", client.url("x")))
    assert str(caught.value) == (
        "http://127.0.0.1:1/v2/a/b/x: no connection (Connection refused) (4 times in 0 s); "
        "try: the same again later: what was transferred is kept"
    )


def test_no_proxy_stands_before_this_machine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker has it, whatever HTTP_PROXY says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    registry.fault("GET", "", answering(204))
    client = connect(registry)
    assert client.run(lambda: client.answer("GET", client.url("x"))).code == 204


def test_an_answer_that_is_packed_is_refused(registry: Registry) -> None:
    """It was not asked for, and its digest would be that of other bytes."""
    registry.fault("GET", "", answering(200, b"xxx", {"Content-Encoding": "gzip"}))
    client = connect(registry)
    with pytest.raises(RegistryError, match="Content-Encoding 'gzip'; expected none, as was asked for"):
        client.run(lambda: client.small(client.url("x"), "*/*", 100))


def test_a_registry_may_think_longer_about_what_it_was_sent(registry: Registry) -> None:
    """Ten times as long: some copy a blob before they answer."""

    def slow(handler: Handler) -> None:
        threading.Event().wait(0.6)
        handler.answer(201)

    limits = replace(LIMITS, connect=0.1, read=0.2, tries=1)
    for method in ("PUT", "PATCH"):
        registry.fault(method, "", slow)
    client = connect(registry, limits=limits)
    assert client.run(lambda: client.answer("PUT", client.url("x"))).code == 201
    with pytest.raises(RegistryError, match="no answer in time"):
        client.run(lambda: client.answer("PATCH", client.url("x")))
