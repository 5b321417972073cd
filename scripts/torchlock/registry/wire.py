"""Single HTTP requests to registries: any method, bodies from files, answers at a minimum rate, and no redirects."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.utils import get_environ_proxies, requote_uri

from torchlock.errors import RegistryError
from torchlock.network.transport import USER_AGENT, TransientError, Transport, explained, origin, redact
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
        self._limits = limits
        self._transport = Transport(connect=limits.connect, read=limits.read)
        self._live: set[Any] = set()
        self._guard = threading.Lock()

    def hang_up(self) -> None:
        """Break every answer that is waited for or read now."""
        with self._guard:
            live = list(self._live)
        self._transport.hang_up()
        for raw in live:
            with suppress(OSError, ValueError, RuntimeError, AttributeError):
                raw.shutdown()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    @contextmanager
    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None = None
    ) -> Iterator[requests.Response]:
        """Send one request and give its answer, the body unread; raise TransientError or NetworkError."""
        response = self._sent(method, url, headers, body)
        with self._guard:
            self._live.add(response.raw)
        try:
            yield response
        finally:
            with self._guard:
                self._live.discard(response.raw)
            response.close()

    def _sent(self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None) -> requests.Response:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        try:
            prepared = requests.Request(method, url, headers=headers, data=body).prepare()
            proxies = {} if loopback(urlsplit(url).hostname or "") else get_environ_proxies(url, no_proxy=None)
            timeout = (self._limits.connect, self._limits.read)
            response = self._transport.send(prepared, stream=True, timeout=timeout, proxies=proxies)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise broken(url, error) from None
        response.url = url
        return response

    def blocks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield a body as it comes; raise TransientError where it breaks, is short, or is too slow."""
        where, window = redact(response.url), self._limits.rate_window
        got, mark, since = 0, 0, time.monotonic()
        while True:
            try:
                block = response.raw.read1(_BLOCK, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise broken(where, error) from None
            if not block:
                return
            got += len(block)
            yield block
            spent = time.monotonic() - since
            if spent >= window:
                if got - mark < self._limits.rate * spent:
                    raise TransientError(where, f"too slow: {got - mark} bytes in {spent:.1f} s")
                mark, since = got, time.monotonic()

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
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and len(body) < int(length):
            raise TransientError(redact(response.url), f"the body ended after {len(body)} of {length} bytes")
        return bytes(body)


def broken(url: str, error: BaseException) -> TransientError | RegistryError:
    """Say in plain words why there was no answer, or not all of it."""
    said = explained(url, error)
    if isinstance(said, TransientError):
        return said
    return RegistryError(said.where, said.found, said.expected, said.remedy)


def transient(response: requests.Response, said: str) -> TransientError | None:
    """Return the error of an answer that another try may better; None for any other."""
    if response.status_code not in _TRANSIENT:
        return None
    error = TransientError(redact(response.url), f"answered {said}")
    text = response.headers.get("Retry-After", "").strip()
    # A date counts as an hour: the pause is capped in any case.
    error.wait = float(text[:9]) if text.isdigit() else 3600.0 if text else 0.0
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
