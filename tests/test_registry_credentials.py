"""Credentials: what Docker would send, from its configuration and its helpers, and never in a message."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from torchlock.errors import RegistryError
from torchlock.registry.credentials import Credentials, find

if TYPE_CHECKING:
    from pathlib import Path

HOST = "localhost:5000"
PAIR = b64encode(b"me:pass:word").decode()
MINE = Credentials(username="me", password="pass:word")  # noqa: S106 - of a test
OTHERS = Credentials(username="helped", password="by a helper")  # noqa: S106 - of a test


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name an empty folder as Docker's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a credential helper `test` on the path."""
    path = folder / "bin" / "docker-credential-test"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def test_nothing_is_found_where_nothing_is() -> None:
    """Anonymous it is."""
    assert find(HOST) is None


@pytest.mark.parametrize(
    ("auths", "registry", "expected"),
    [
        ({HOST: {"auth": PAIR}}, HOST, MINE),
        ({f"http://{HOST}": {"auth": PAIR}}, HOST, MINE),
        ({f"https://{HOST}/v1/": {"auth": PAIR}}, HOST, MINE),
        ({"https://index.docker.io/v1/": {"auth": PAIR}}, "docker.io", MINE),
        ({"docker.io": {"auth": PAIR}}, "docker.io", MINE),
        ({HOST: {"username": "me", "password": "pass:word"}}, HOST, MINE),
        ({HOST: {"auth": PAIR, "identitytoken": "token"}}, HOST, Credentials(identity_token="token")),  # noqa: S106
        ({HOST: {"auth": PAIR, "identitytoken": ""}}, HOST, MINE),
        ({HOST: {}}, HOST, None),
        ({"localhost:5001": {"auth": PAIR}}, HOST, None),
        ({}, HOST, None),
    ],
)
def test_an_entry_is_found_by_its_registry(config: Path, auths: Any, registry: str, expected: object) -> None:
    """With or without a scheme; Docker Hub by its old name; another port is another registry."""
    config.write_text(json.dumps({"auths": auths, "HttpHeaders": {"X": "y"}}))
    assert find(registry) == expected


def test_the_folder_in_the_home_serves_where_no_other_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/.docker/config.json`."""
    monkeypatch.delenv("DOCKER_CONFIG")
    path = tmp_path / "home" / ".docker" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {HOST: {"auth": PAIR}}}))
    assert find(HOST) == MINE


@pytest.mark.parametrize("named", [{"credsStore": "test"}, {"credHelpers": {HOST: "test"}}])
def test_a_helper_is_asked_before_the_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Any
) -> None:
    """With the registry's name."""
    helper(
        tmp_path, monkeypatch, f"""test "$server" = {HOST} && echo '{{"Username":"helped","Secret":"by a helper"}}'"""
    )
    config.write_text(json.dumps({"auths": {HOST: {"auth": PAIR}}, **named}))
    assert find(HOST) == OTHERS


def test_a_helpers_token_is_an_identity_token(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user is `<token>`."""
    helper(tmp_path, monkeypatch, """echo '{"Username":"<token>","Secret":"abc"}'""")
    config.write_text(json.dumps({"credsStore": "test"}))
    assert find(HOST) == Credentials(identity_token="abc")  # noqa: S106 - of a test


def test_a_helper_that_knows_nothing_leaves_it_to_the_file(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Docker has it."""
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    config.write_text(json.dumps({"auths": {HOST: {"auth": PAIR}}, "credsStore": "test"}))
    assert find(HOST) == MINE


@pytest.mark.parametrize(
    "script",
    [
        "echo the-secret; exit 1",
        "echo the-secret",
        """echo '{"Secret":"the-secret"}'""",
        """echo '["the-secret"]'""",
        None,
    ],
)
def test_a_helper_that_fails_is_said_and_not_quoted(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """Its output may hold anything; one that is not installed is the same."""
    if script is not None:
        helper(tmp_path, monkeypatch, script)
    config.write_text(json.dumps({"credsStore": "test"}))
    with pytest.raises(RegistryError) as caught:
        find(HOST)
    assert str(caught.value) == (
        f"Docker's configuration config.json: gives no credentials for {HOST}; try: docker login {HOST}"
    )
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"auths": the-secret', "is not a JSON object; try: mend or remove config.json, then docker login"),
        ("[]", "is not a JSON object; try: mend or remove config.json, then docker login"),
        (
            json.dumps({"auths": {HOST: {"auth": "the-secret!"}}}),
            f"gives no credentials for {HOST}; try: docker login {HOST}",
        ),
        (
            json.dumps({"auths": {HOST: {"auth": b64encode(b"the-secret").decode()}}}),
            f"gives no credentials for {HOST}; try: docker login {HOST}",
        ),
        (json.dumps({"auths": ["the-secret"]}), f"gives no credentials for {HOST}; try: docker login {HOST}"),
        (json.dumps({"auths": {HOST: "the-secret"}}), f"gives no credentials for {HOST}; try: docker login {HOST}"),
    ],
)
def test_a_damaged_configuration_is_refused_and_not_quoted(config: Path, text: str, message: str) -> None:
    """Going on as nobody would only be refused later, by the registry and with a worse reason."""
    config.write_text(text)
    with pytest.raises(RegistryError) as caught:
        find(HOST)
    assert str(caught.value) == f"Docker's configuration config.json: {message}"


def test_credentials_are_not_shown() -> None:
    """Neither whole nor in part."""
    assert repr(Credentials(username="me", password="x", identity_token="y")) == "Credentials()"  # noqa: S106
