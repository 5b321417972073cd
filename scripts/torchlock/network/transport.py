"""One HTTP request: the system's certificates, the environment's proxies, plain words for what failed."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
import truststore
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from torchlock.errors import NetworkError

_USER_AGENT = f"torchlock requests/{requests.__version__}"
_PROXIES = "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"


class StatusError(NetworkError):
    """A server answered with a status that means no; `code` is that status."""

    code = 0


class TransientError(NetworkError):
    """A failure that another try may mend; `wait` is the pause that the server asked for, in seconds."""

    wait: float = 0.0


def redact(url: str) -> str:
    """Return an address without what may be secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is no URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port; refuse what is not an http or https address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NetworkError("an index address", "its host or port is not one", "https://host[:port]/path/") from None
    scheme = parts.scheme.lower()
    if scheme not in {"http", "https"} or not parts.hostname:
        raise NetworkError(redact(url), "not an address that is fetched from", "http:// or https:// and a host")
    return scheme, parts.hostname.lower(), port or (443 if scheme == "https" else 80)


class _Deadline:
    """Cut a connection whose server does not finish its answer's headers in time, however it drips."""

    headers_within: float
    waiting: set[_Deadline]

    def getresponse(self) -> Any:
        self._late = False
        timer = threading.Timer(self.headers_within, self.cut)
        timer.daemon = True
        timer.start()
        self.waiting.add(self)
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            self.waiting.discard(self)
            timer.cancel()
        if self._late:  # http.client takes headers that were cut short for whole ones
            response.close()
            raise TimeoutError
        return response

    def cut(self) -> None:
        """Give up the answer, from another thread."""
        self._late = True
        sock = getattr(self, "sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Transport(HTTPAdapter):
    """Send single requests: no redirects, no cookies, no netrc, no retries, no user's bundle but the one named.

    Certificates are the system's (truststore), and those of REQUESTS_CA_BUNDLE where it is set.
    """

    def __init__(self, *, connect: float, read: float) -> None:
        self._timeout = (connect, read)
        self._context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bundle = os.environ.get("REQUESTS_CA_BUNDLE")
        if bundle:
            folder = Path(bundle).is_dir()
            self._context.load_verify_locations(None if folder else bundle, bundle if folder else None)
        self._waiting: set[_Deadline] = set()
        deadline = {"headers_within": connect + read, "waiting": self._waiting}
        plain = type("_Plain", (_Deadline, HTTPConnection), deadline)
        secure = type("_Secure", (_Deadline, HTTPSConnection), deadline)
        self._pools = {
            "http": type("_PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        super().__init__(pool_maxsize=32, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002 - the signature of the base class
        """Make the pools with the system's certificates and with a deadline on headers."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make a proxy's pools the same way."""
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        if not proxy.lower().startswith("socks"):  # its own classes are what leads through such a proxy
            manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002 - the signature of the base class
        """Require a certificate, and name no bundle beside the context's own."""
        conn.cert_reqs = "CERT_REQUIRED"

    def hang_up(self) -> None:
        """Break the connections whose answer has not begun."""
        for connection in list(self._waiting):
            connection.cut()

    def request(self, request: requests.Request, *, direct: bool = False) -> requests.Response:
        """Send one request, past the proxies if `direct`, and return its answer, the body unread.

        The answer's `url` is the request's, as it was given. Raise TransientError or NetworkError.
        """
        url = request.url
        try:
            prepared = request.prepare()
            prepared.headers.setdefault("User-Agent", _USER_AGENT)
            proxies = {} if direct else get_environ_proxies(url, no_proxy=None)
            response = self.send(prepared, stream=True, timeout=self._timeout, proxies=proxies)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise explained(url, error) from None
        response.url = url
        return response


def explained(url: str, error: BaseException) -> NetworkError:
    """Say in plain words why there was no answer; nothing of a library's message is quoted but the system's words."""
    where, chain = redact(url), _chain(error)
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            found = f"certificate not trusted ({cause.verify_message})"
            remedy = "SSL_CERT_FILE=<file with your certificate authority>"
            return NetworkError(where, found, "one that the system trusts", remedy)
    if any(isinstance(cause, requests.exceptions.InvalidURL | UnicodeError) for cause in chain):
        return NetworkError(where, "not a valid URL")
    if any(isinstance(cause, requests.exceptions.InvalidSchema) for cause in chain):
        return NetworkError(where, "a proxy of this kind cannot be used here", "http:// or https://", _PROXIES)
    if any(isinstance(cause, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError) for cause in chain):
        return TransientError(where, "the proxy did not let us through", "", _PROXIES)
    return TransientError(where, _symptom(chain))


def _symptom(chain: list[BaseException]) -> str:
    """Name a broken connection's symptom."""
    for cause in chain:
        if isinstance(cause, http.client.IncompleteRead):
            return f"the body ended {cause.expected} bytes early" if cause.expected else "the body ended early"
    for cause in chain:
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return f"no connection ({cause.strerror})"
    if any(isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError) for cause in chain):
        return "no answer in time"
    return "the connection broke"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error, its causes, and the errors that libraries keep in `reason` and `args`."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            waiting += [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]
    return found
