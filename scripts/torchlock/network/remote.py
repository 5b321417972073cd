"""The network: HTTP with a budget for retries, a minimum rate, and redirects that are looked at."""

from __future__ import annotations

import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import requests
from requests.utils import requote_uri

from torchlock.errors import NetworkError
from torchlock.network.answers import Answers, length, location, number
from torchlock.network.budget import Budget, Limits
from torchlock.network.ranges import ContentRange, RangeFile
from torchlock.network.transport import StatusError, TransientError, origin, redact
from torchlock.reporter import Silent

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from torchlock.reporter import Reporter

__all__ = ["Answer", "Body", "Budget", "Limits", "Remote", "StatusError", "TransientError", "redact"]

_PIECE = 64 << 10
_BLOCK = 256 << 10
_HELD = 0.05
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_REFUSALS = {
    401: ("asks for a user and password (401)", "put them into the index's address, https://user:password@host/…"),
    403: ("forbids it (403)", "check the address and the rights of its user"),
    404: ("has nothing there (404)", "check the address of the index, or name another with MIRROR="),
    407: ("the proxy asks for a user and password (407)", "put them into HTTPS_PROXY and HTTP_PROXY"),
    410: ("has nothing there any more (410)", "name another index with MIRROR="),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A small answer: the address after redirects (without credentials), its headers in lower case, its body."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Body(NamedTuple):
    """A large answer: the offset of its first byte (what was asked for, or 0), the file's size, its bytes."""

    start: int
    total: int | None
    blocks: Iterator[bytes]


class Remote:
    """Fetch over HTTP; safe to use from several threads.

    Credentials in an address are used for its own scheme, host and port alone, also for links found there,
    and are never repeated in a message.
    """

    def __init__(self, reporter: Reporter | None = None, limits: Limits | None = None) -> None:
        self._reporter = reporter or Silent()
        self.limits = limits or Limits()
        self._answers = Answers(self.limits)
        self._credentials: dict[tuple[str, str, int], tuple[bytes, bytes]] = {}

    def budget(self, stop: threading.Event | None = None) -> Budget:
        """Return a fresh budget; set `stop` (and call `hang_up`) to end its waiting."""
        return Budget(self.limits, self._reporter, stop)

    def hang_up(self) -> None:
        """Break every answer that is waited for or read now; a reader with budget left connects anew."""
        self._answers.hang_up()

    def close(self) -> None:
        """Close idle connections."""
        self._answers.close()

    def get(
        self, url: str, accept: str | None = None, limit: int | None = None, budget: Budget | None = None
    ) -> Answer:
        """Return a small answer whole; one over `limit` bytes (default `limits.small`) is refused."""
        limit = self.limits.small if limit is None else limit
        headers = {"Accept-Encoding": "gzip", "Accept": accept or "*/*"}
        budget = budget or self.budget()

        def once() -> Answer:
            with self._opened(url, headers, budget) as response:
                lower = {name.lower(): text for name, text in response.headers.items()}
                return Answer(url=response.url, headers=lower, body=self._small(response, limit))

        return budget.run(once)

    @contextmanager
    def stream(self, url: str, offset: int = 0, budget: Budget | None = None) -> Iterator[Body]:
        """Open a large answer at `offset`; a server that serves another offset is asked again for all, from 0.

        Reading the blocks raises TransientError where the connection breaks or ends early: open it again at
        the offset reached. The bytes are those of the file, never decoded.
        """
        headers = {"Accept-Encoding": "identity"}
        budget = budget or self.budget()
        if offset:
            with self._opened(url, {**headers, "Range": f"bytes={offset}-"}, budget, also=(416,)) as response:
                ranged = ContentRange.of(response.headers.get("Content-Range"))
                if response.status_code == 206 and ranged and ranged.start == offset:
                    yield Body(offset, ranged.total, self._blocks(response))
                    return
                if response.status_code == 200:
                    yield Body(0, length(response.headers), self._blocks(response))
                    return
        with self._opened(url, headers, budget) as response:
            yield Body(0, length(response.headers), self._blocks(response))

    def range_reader(self, url: str) -> RangeFile:
        """Open a remote file for random access: seekable, read by range in cached blocks, `size` known.

        A server without ranges costs one whole download into an unnamed temporary file.
        """
        return RangeFile(self, url, block=self.limits.block, limit=self.limits.large)

    @contextmanager
    def range(self, url: str, wanted: str, budget: Budget) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """Ask for one range (`first-last` or `-count`): a raw answer of status 200, 206, 400, 416 or 501."""
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={wanted}"}
        with self._opened(url, headers, budget, also=(400, 416, 501)) as response:
            yield response, self._blocks(response)

    @contextmanager
    def _opened(
        self, url: str, headers: Mapping[str, str], budget: Budget, also: tuple[int, ...] = ()
    ) -> Iterator[requests.Response]:
        """Open an answer of status 200, 206 or one of `also`; transient failures are tried again here."""
        response = budget.run(lambda: self._followed(url, headers, also))
        with self._answers.held(response):
            yield response

    def _followed(self, url: str, headers: Mapping[str, str], also: tuple[int, ...]) -> requests.Response:
        """Send a request, follow its redirects, and turn every other status into an error."""
        here, asked = self._clean(url), redact(url)
        for _ in range(self.limits.redirects + 1):
            request = requests.Request("GET", here, headers=headers, auth=self._credentials.get(origin(here)))
            response = self._answers.request(request)
            code = response.status_code
            if there := location(response):
                response.close()
                here = self._next(asked, here, there)
                continue
            if code in {200, 206, *also}:
                return response
            wait = _wait(response.headers.get("Retry-After"))
            response.close()
            raise _refusal(here, code, wait)
        raise NetworkError(asked, f"redirected more than {self.limits.redirects} times", "an end to it")

    def _next(self, asked: str, here: str, location: str) -> str:
        """Return where a redirect leads, if it may lead there."""
        try:
            there = urljoin(here, requote_uri(location))
            scheme = urlsplit(there).scheme.lower()
        except ValueError as error:
            raise NetworkError(asked, f"redirected to what is no address ({error})", "http or https") from error
        if scheme not in {"http", "https"}:
            raise NetworkError(asked, f"redirected to a {scheme or 'strange'}: address", "http or https")
        if origin(here)[0] == "https" and scheme == "http":
            raise NetworkError(asked, f"redirected from https to {redact(there)}", "https to the end")
        return self._clean(there)

    def _clean(self, url: str) -> str:
        """Take the credentials out of an address and keep them for its origin."""
        key = origin(url)
        parts = urlsplit(url)
        user, found, host = parts.netloc.rpartition("@")
        if found:
            name, _, password = user.partition(":")
            self._credentials[key] = (unquote(name).encode(), unquote(password).encode())
        return urlunsplit((parts.scheme, host, parts.path, parts.query, ""))

    def _blocks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield a body in blocks large enough that threads seldom hand over to each other, none held back for long."""
        held, size, since = [], 0, time.monotonic()
        try:
            for piece in self._answers.blocks(response, _PIECE):
                held.append(piece)
                size += len(piece)
                if size >= _BLOCK or time.monotonic() - since >= _HELD:
                    yield b"".join(held)
                    held, size, since = [], 0, time.monotonic()
        except TransientError:
            yield b"".join(held)
            raise
        yield b"".join(held)

    def _small(self, response: requests.Response, limit: int) -> bytes:
        """Read a body whole, inflating gzip, but no more than `limit` bytes of it."""
        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding not in {"identity", "gzip", "x-gzip"}:
            raise NetworkError(redact(response.url), f"Content-Encoding {coding!r}", "gzip or none")
        inflate = None if coding == "identity" else zlib.decompressobj(31)
        body = bytearray()
        for block in self._blocks(response):
            try:
                body += block if inflate is None else inflate.decompress(block, limit + 1 - len(body))
            except zlib.error:
                raise TransientError(redact(response.url), "its gzip is broken") from None
            if len(body) > limit:
                raise NetworkError(redact(response.url), f"more than {limit} bytes", "a smaller answer")
        if inflate is not None and not inflate.eof:
            raise TransientError(redact(response.url), "its gzip ended early")
        return bytes(body)


def _refusal(url: str, code: int, wait: float) -> NetworkError:
    if code in _TRANSIENT:
        transient = TransientError(redact(url), f"answered {code}")
        transient.wait = wait
        return transient
    found, remedy = _REFUSALS.get(code, (f"answered {code}", ""))
    refusal = StatusError(redact(url), found, "", remedy)
    refusal.code = code
    return refusal


def _wait(text: str | None) -> float:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3), 0 where it says nothing."""
    if not text:
        return 0.0
    if (seconds := number(text.strip())) is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
