"""References: the grammar of the distribution specification, Docker's short names, and nothing else."""

from __future__ import annotations

import pytest

from torchlock.digest import Digest
from torchlock.errors import RegistryError
from torchlock.registry.reference import Reference, loopback, repository

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "url"),
    [
        ("localhost:5000/torchlock", "localhost:5000/torchlock", "http://localhost:5000/v2/"),
        ("127.0.0.1:5000/a/b:1.0", "127.0.0.1:5000/a/b:1.0", "http://127.0.0.1:5000/v2/"),
        ("127.9.9.9/a", "127.9.9.9/a", "http://127.9.9.9/v2/"),
        ("[::1]:5000/a/b", "[::1]:5000/a/b", "http://[::1]:5000/v2/"),
        ("localhost/a", "localhost/a", "http://localhost/v2/"),
        ("ghcr.io/some-one/torch.lock", "ghcr.io/some-one/torch.lock", "https://ghcr.io/v2/"),
        ("GHCR.IO/a/b", "ghcr.io/a/b", "https://ghcr.io/v2/"),
        ("localhost.example/a", "localhost.example/a", "https://localhost.example/v2/"),
        ("10.0.0.1:5000/a", "10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/"),
        (f"ghcr.io/a/b:t@sha256:{HEX}", f"ghcr.io/a/b:t@sha256:{HEX}", "https://ghcr.io/v2/"),
        (f"ghcr.io/a/b@sha256:{HEX}", f"ghcr.io/a/b@sha256:{HEX}", "https://ghcr.io/v2/"),
        ("python", "docker.io/library/python", "https://registry-1.docker.io/v2/"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim", "https://registry-1.docker.io/v2/"),
        ("someone/image", "docker.io/someone/image", "https://registry-1.docker.io/v2/"),
        ("docker.io/python", "docker.io/library/python", "https://registry-1.docker.io/v2/"),
        ("index.docker.io/a/b", "docker.io/a/b", "https://registry-1.docker.io/v2/"),
        ("a__b/c-d--e.f:X_.-9", "docker.io/a__b/c-d--e.f:X_.-9", "https://registry-1.docker.io/v2/"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, full: str, url: str) -> None:
    """Short names are Docker Hub's; loopback hosts alone are spoken to without encryption."""
    found = Reference.parse(text)
    assert str(found) == full
    assert found.url == url
    assert Reference.parse(full) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "localhost:5000/",
        "localhost:5000",
        "localhost",
        "ghcr.io:443",
        "a//b",
        "a/B",
        "A",
        "-a/b",
        "a/-b",
        "a/b-",
        "a/b..c",
        "a/_b",
        "a/b:",
        "a/b:-x",
        "a/b:x y",
        f"a/b:{'x' * 129}",
        "a/b@",
        "a/b@sha256:12",
        f"a/b@sha256:{HEX.upper()}",
        f"a/b@sha512:{HEX}{HEX}",
        f"a/b@sha256:{HEX}:tag",
        f"localhost/{'a' * 250}",
        "host:port/a",
        "host:123456/a",
        "host..name/a",
        "-host.name/a",
        "host_name.x/a",
        "[::1/a",
        "[::x]/a",
        "a/b;rm",
        "a/$(id)",
        "a/`id`",
        "a/b|c",
        "a/b&c",
        "a/b>c",
        "a/b\nc",
        "a/b c",
        "a/b'c",
        'a/b"c',
        "a/b\\c",
        "a/b*",
        "a/../b",
        "a/b?x",
        "a/b#x",
        "a/ü",
        "a/b\x00",
        "a/b\n",
        "https://host/a",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Shell metacharacters, schemes, upper case, half a digest: one line that says what is expected."""
    with pytest.raises(RegistryError) as caught:
        Reference.parse(text)
    assert str(caught.value).startswith("a reference to an image: ")
    assert str(caught.value).endswith(
        "expected host[:port]/repository[:tag][@sha256:…], without a scheme, user or password; "
        "try: REGISTRY=localhost:5000/torchlock"
    )


@pytest.mark.parametrize(
    "text", ["user:pa55word@host/a", "https://user:pa55word@host/a", "u:pa55word@host/a@sha256:12"]
)
def test_a_password_in_a_reference_is_not_repeated(text: str) -> None:
    """Somebody will try it."""
    with pytest.raises(RegistryError) as caught:
        Reference.parse(text)
    assert "pa55word" not in str(caught.value)


def test_a_reference_is_led_to_a_digest_or_a_tag() -> None:
    """Of the same repository."""
    one = Reference.parse("localhost:5000/a/b:x")
    assert str(one.at(Digest(HEX))) == f"localhost:5000/a/b@sha256:{HEX}"
    assert str(one.at(Digest(HEX)).tagged("y")) == "localhost:5000/a/b:y"
    with pytest.raises(RegistryError) as caught:
        one.tagged("a;b")
    assert (
        str(caught.value)
        == "localhost:5000/a/b: the tag 'a;b'; expected letters, digits, _ . - and at most 128 of them"
    )


def test_a_repository_alone_is_read_in_the_same_grammar() -> None:
    """As blobs are mounted from."""
    assert repository("a/b", "x") == "a/b"
    with pytest.raises(RegistryError, match="x: the repository 'A'; expected lower-case names joined by /"):
        repository("A", "x")


def test_loopback_is_this_machine_and_no_other() -> None:
    """By name or address, as they are written."""
    assert all(loopback(host) for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.255.0.9", "::1", "[::1]"))
    assert not any(loopback(host) for host in ("localhost.x", "128.0.0.1", "126.0.0.1", "::2", "", "x"))
