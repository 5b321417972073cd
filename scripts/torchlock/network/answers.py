"""Answers while they are read: broken off from another thread, and never slower than the least rate."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import urllib3

from torchlock.network.transport import TransientError, Transport, explained, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from torchlock.network.budget import Limits

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NUMBER = re.compile(r"[0-9]+")


class Answers(Transport):
    """Send single requests and hold their answers while they are read; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(connect=limits.connect, read=limits.read)
        self._rate, self._window = limits.rate, limits.rate_window
        self._live: set[Any] = set()
        self._guard = threading.Lock()

    def hang_up(self) -> None:
        """Break every answer that is waited for or read now."""
        with self._guard:
            live = list(self._live)
        super().hang_up()
        for raw in live:
            with suppress(OSError, ValueError, RuntimeError, AttributeError):
                raw.shutdown()

    @contextmanager
    def held(self, response: requests.Response) -> Iterator[requests.Response]:
        """Let `hang_up` know of an answer while it is read, and close it then."""
        with self._guard:
            self._live.add(response.raw)
        try:
            yield response
        finally:
            with self._guard:
                self._live.discard(response.raw)
            response.close()

    def blocks(self, response: requests.Response, most: int) -> Iterator[bytes]:
        """Yield a body as it comes, up to `most` bytes at once, never decoded.

        Raise TransientError where it breaks, is short, or is too slow; NetworkError for what no other try betters.
        """
        where = redact(response.url)
        got, mark, since = 0, 0, time.monotonic()
        while True:
            try:
                block = response.raw.read1(most, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise explained(where, error) from None
            if not block:
                return
            got += len(block)
            yield block
            spent = time.monotonic() - since
            if spent >= self._window:
                if got - mark < self._rate * spent:
                    raise TransientError(where, f"too slow: {got - mark} bytes in {spent:.1f} s")
                mark, since = got, time.monotonic()


def location(response: requests.Response) -> str | None:
    """Return where an answer redirects to, as it says; None for one that does not."""
    return response.headers.get("Location") if response.status_code in _REDIRECTS else None


def length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length of headers whose names are in lower case, or of any case; None where there is none."""
    return number(headers.get("content-length", ""))


def number(text: str) -> int | None:
    """Return the number that a header says, of a longer one the first 18 digits; None where it says none."""
    return int(text[:18]) if _NUMBER.fullmatch(text) else None
