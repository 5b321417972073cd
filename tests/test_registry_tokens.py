"""Authorisation: challenges are read as they are written, and what answers them goes nowhere else."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from registries import LIMITS, Handler, Registry, answering, connect, picture
from torchlock.errors import RegistryError
from torchlock.registry import documents
from torchlock.registry.credentials import Credentials
from torchlock.registry.reference import Reference
from torchlock.registry.tokens import Authority, Challenge
from torchlock.registry.wire import Wire

IMAGE = picture(b"a layer")


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Serve a registry that holds an image."""
    IMAGE.put(registry.repository("a/b"), "latest")
    return registry


def read(registry: Registry, keys: Credentials | None = None) -> bytes:
    """Read the image's manifest."""
    client = connect(registry, keychain=lambda _: keys)
    data, _ = client.run(lambda: documents.read(client, client.repository.at(IMAGE.descriptor.digest)))
    return data


def refusal(registry: Registry, keys: Credentials | None = None) -> str:
    """Return the message that reading ends with."""
    with pytest.raises(RegistryError) as caught:
        read(registry, keys)
    return str(caught.value).replace(registry.host, "HOST")


def right(registry: Registry) -> Credentials:
    """Return the user and password that are let in."""
    return Credentials(username=registry.user, password=registry.password)


WRONG = Credentials(username="someone", password="else")  # noqa: S106 - of a test


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Negotiate", [("negotiate", {})]),
        ('Basic realm="x, y"', [("basic", {"realm": "x, y"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        ('bearer realm=https://a/t , service = "s\\"t"', [("bearer", {"realm": "https://a/t", "service": 's"t'})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate, Basic realm="Bearer realm=z"', [("negotiate", {}), ("basic", {"realm": "Bearer realm=z"})]),
    ],
)
def test_a_challenge_is_read_with_its_parameters(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    """Several in one header, quoted or not, commas within quotes."""
    assert [(item.scheme, dict(item.parameters)) for item in Challenge.all(header)] == expected


def test_a_user_and_password_are_sent_when_they_are_asked_for(registry: Registry) -> None:
    """Not before: an open registry never sees them."""
    assert read(registry, right(registry)) == IMAGE.data
    assert [seen.headers.get("authorization") for seen in registry.seen] == [None]
    registry.scheme = "basic"
    assert read(registry, right(registry)) == IMAGE.data
    assert registry.seen[-1].headers["authorization"] == registry.basic()


def test_a_token_is_asked_for_with_the_scope_that_is_needed(registry: Registry) -> None:
    """Whatever scope the challenge names: to read is all that reading needs."""
    registry.scheme = "bearer"
    assert read(registry, right(registry)) == IMAGE.data
    asked = registry.requests("GET", "/token")[0]
    assert parse_qs(asked.path.partition("?")[2]) == {"service": ['a, "registry"'], "scope": ["repository:a/b:pull"]}
    assert asked.headers["authorization"] == registry.basic()
    assert registry.seen[-1].headers["authorization"].startswith("Bearer ")


def test_a_token_is_asked_for_without_a_user_where_there_is_none(registry: Registry) -> None:
    """As public repositories are read."""
    registry.scheme, registry.anonymous = "bearer", True
    assert read(registry) == IMAGE.data
    assert all("Basic" not in seen.headers.get("authorization", "") for seen in registry.seen)


def test_an_identity_token_is_exchanged(registry: Registry) -> None:
    """By a form that no address shows (OAuth 2)."""
    registry.scheme = "bearer"
    assert read(registry, Credentials(identity_token=registry.identity)) == IMAGE.data
    asked = registry.requests("POST", "/token")[0]
    assert asked.path == "/token"
    assert "authorization" not in asked.headers


def test_the_form_of_an_identity_token_is_as_specified(registry: Registry) -> None:
    """grant_type, client_id, service, scope and refresh_token."""
    forms = []

    def noting(handler: Handler) -> None:
        forms.append(parse_qs(handler.body().decode()))
        handler.answer(200, b'{"access_token":"x"}')

    registry.scheme = "bearer"
    registry.fault("POST", "/token", noting)
    registry.good.add("x")
    read(registry, Credentials(identity_token=registry.identity))
    assert forms == [
        {
            "grant_type": ["refresh_token"],
            "client_id": ["torchlock"],
            "service": ['a, "registry"'],
            "scope": ["repository:a/b:pull"],
            "refresh_token": [registry.identity],
        }
    ]


LOGIN = "try: docker login HOST"


def test_who_is_not_let_in_is_told_what_to_do(registry: Registry) -> None:
    """With and without credentials, by the registry and by its token server."""
    registry.scheme = "basic"
    assert refusal(registry) == f"HOST/a/b: asks for a user and password (401); {LOGIN}"
    assert refusal(registry, WRONG) == (
        f"HOST/a/b: did not accept the user and password of Docker's configuration (401); {LOGIN}"
    )
    assert refusal(registry, Credentials(identity_token="x")) == (  # noqa: S106 - of a test
        f"HOST/a/b: asks for a user and password (401); {LOGIN}"
    )
    registry.scheme = "bearer"
    assert refusal(registry) == (
        f"HOST/a/b: the token server http://HOST/token did not accept a request without a user (401); {LOGIN}"
    )
    assert refusal(registry, WRONG) == (
        "HOST/a/b: the token server http://HOST/token did not accept the user and password of Docker's configuration"
        f" (401); {LOGIN}"
    )


def test_a_token_that_is_never_good_enough_ends(registry: Registry) -> None:
    """Two are fetched, and no more."""
    registry.scheme, registry.anonymous = "bearer", True
    registry.fault("GET", "/token", answering(200, b'{"token":"useless"}'), times=99)
    where = f"http://HOST/v2/a/b/manifests/{IMAGE.descriptor.digest}"
    assert refusal(registry) == f"{where}: does not let this user in (401, UNAUTHORIZED); {LOGIN}"
    assert len(registry.requests("GET", "/token")) == 2


def test_a_token_server_that_is_busy_is_asked_again(registry: Registry) -> None:
    """Like the registry itself."""
    registry.scheme, registry.anonymous = "bearer", True
    registry.fault("GET", "/token", answering(503), times=2)
    assert read(registry) == IMAGE.data


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "HOST/a/b: asks for nothing as authorisation (401); expected Basic or Bearer"),
        ("Negotiate", "HOST/a/b: asks for negotiate as authorisation (401); expected Basic or Bearer"),
        (
            'Bearer service="x"',
            "HOST/a/b: asks for a token without saying whose (401); expected the address of a token server",
        ),
        (
            'Bearer realm="http://elsewhere.example/token"',
            "http://HOST/v2/: led to http://elsewhere.example/token, which is not encrypted; expected https to the end",
        ),
        ('Bearer realm="file:///etc/passwd"', "http://HOST/v2/: led to a file: address; expected https"),
    ],
)
def test_a_challenge_that_cannot_be_answered_is_refused(registry: Registry, header: str, message: str) -> None:
    """Nor is a password sent unencrypted to another machine."""
    registry.fault("GET", "/manifests/", answering(401, b"", {"WWW-Authenticate": header}))
    assert refusal(registry, WRONG).removesuffix(f"; {LOGIN}") == message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"token":"a b"}', b'{"token":"x\\r\\ny"}', b'{"token":"x","expires_in":"1"}']
)
def test_a_token_that_is_none_is_refused(registry: Registry, body: bytes) -> None:
    """What is not a token is not sent."""
    registry.scheme = "bearer"
    registry.fault("GET", "/token", answering(200, body))
    assert refusal(registry, WRONG) == f"HOST/a/b: the token server http://HOST/token gave no token; {LOGIN}"


def test_a_redirecting_token_server_is_refused(registry: Registry) -> None:
    """The user and password are for the realm that the registry named."""
    registry.scheme = "bearer"
    registry.fault("GET", "/token", answering(307, b"", {"Location": "/elsewhere"}))
    assert refusal(registry, WRONG) == f"HOST/a/b: the token server http://HOST/token answered 307; {LOGIN}"


def test_threads_that_are_refused_at_once_fetch_one_token(registry: Registry) -> None:
    """The first one does; the others find it done."""
    registry.scheme, registry.anonymous = "bearer", True
    repository = Reference.parse(f"{registry.host}/a/b")
    authority = Authority(repository, ["repository:a/b:pull"], Wire(LIMITS), lambda _: None)
    assert authority.header() is None
    for _ in range(3):
        authority.refused(None, f'Bearer realm="http://{registry.host}/token"')
    assert len(registry.requests("GET", "/token")) == 1
    sent = authority.header()
    authority.refused(sent, f'Bearer realm="http://{registry.host}/token"')
    assert len(registry.requests("GET", "/token")) == 2
    assert authority.header() != sent
