"""Single HTTP requests to registries: any method, bodies from files, answers at a minimum rate, and no redirects."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

import requests
from requests.utils import requote_uri

from torchlock.errors import NetworkError, RegistryError
from torchlock.network.answers import Answers, length, number
from torchlock.network.transport import TransientError, origin, redact
from torchlock.registry.reference import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlock.network.budget import Limits

_BLOCK = 256 << 10
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class Body(Protocol):
    """What is sent: its length is known, and it can be iterated again."""

    def __len__(self) -> int:
        """Return the number of bytes."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield them from the beginning."""


class Wire:
    """Send requests, each of its own; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        self._answers = Answers(limits)

    def hang_up(self) -> None:
        """Break every answer that is waited for or read now."""
        self._answers.hang_up()

    def close(self) -> None:
        """Close idle connections."""
        self._answers.close()

    @contextmanager
    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None = None
    ) -> Iterator[requests.Response]:
        """Send one request and give its answer, the body unread; raise TransientError or RegistryError."""
        request = requests.Request(method, url, headers={"Accept-Encoding": "identity", **headers}, data=body)
        with refusing():
            response = self._answers.request(request, direct=loopback(urlsplit(url).hostname or ""))
        with self._answers.held(response):
            yield response

    def blocks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield a body as it comes; raise TransientError where it breaks, is short, or is too slow."""
        with refusing():
            yield from self._answers.blocks(response, _BLOCK)

    def small(self, response: requests.Response, limit: int) -> bytes:
        """Return a whole small body; refuse one that is packed or has more than `limit` bytes."""
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity":
            raise RegistryError(redact(response.url), f"Content-Encoding {coding[:40]!r}", "none, as was asked for")
        body = bytearray()
        for block in self.blocks(response):
            body += block
            if len(body) > limit:
                raise RegistryError(redact(response.url), f"more than {limit} bytes", "a smaller answer")
        size = length(response.headers)
        if size is not None and len(body) < size:
            raise TransientError(redact(response.url), f"the body ended after {len(body)} of {size} bytes")
        return bytes(body)


@contextmanager
def refusing() -> Iterator[None]:
    """Make a RegistryError of what no other try betters; a TransientError stays one."""
    try:
        yield
    except (TransientError, RegistryError):
        raise
    except NetworkError as error:
        raise RegistryError(error.where, error.found, error.expected, error.remedy) from None


def transient(response: requests.Response, said: str) -> TransientError | None:
    """Return the error of an answer that another try may better; None for any other."""
    if response.status_code not in _TRANSIENT:
        return None
    error = TransientError(redact(response.url), f"answered {said}")
    text = response.headers.get("Retry-After", "").strip()
    seconds = number(text)
    # A date counts as an hour: the pause is capped in any case.
    error.wait = 3600.0 if text and seconds is None else float(seconds or 0)
    return error


def led(here: str, location: str) -> str:
    """Return where a Location leads, if it may: never from https to http, nor over http to another machine."""
    where = redact(here)
    try:
        there = urljoin(here, requote_uri(location))
        parts = urlsplit(there)
        scheme, host, _ = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError:
        raise RegistryError(where, "led to an address that is no URL", "https://…") from None
    if scheme not in {"http", "https"}:
        raise RegistryError(where, f"led to a {ascii(scheme)[1:-1] or 'strange'}: address", "https")
    if "@" in parts.netloc:
        raise RegistryError(where, "led to an address with a user or password", "one without")
    if scheme == "http" and (origin(here)[0] == "https" or not loopback(host)):
        raise RegistryError(where, f"led to {redact(there)}, which is not encrypted", "https to the end")
    return there
