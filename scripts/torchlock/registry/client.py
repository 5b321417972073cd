"""A client of one repository: requests with authorisation, redirects that are looked at, and plain refusals."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from torchlock.digest import Digest
from torchlock.errors import NetworkError, RegistryError
from torchlock.network.answers import location
from torchlock.network.budget import Budget, Limits
from torchlock.network.transport import TransientError, origin, redact
from torchlock.registry import credentials
from torchlock.registry.tokens import Authority
from torchlock.registry.wire import Wire, led, refusing, transient
from torchlock.reporter import Silent

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import requests

    from torchlock.registry.credentials import Keychain
    from torchlock.registry.reference import Reference
    from torchlock.registry.wire import Body
    from torchlock.reporter import Reporter

T = TypeVar("T")

PULL = ("pull",)
PUSH = ("pull", "push")

_AGAIN = "the same again later: what was transferred is kept"
_ERROR_LIMIT = 64 << 10
_RENEWALS = 2
# How much longer a registry may think about what it was sent: some copy a blob before they answer.
_PATIENCE = 10


class StatusError(RegistryError):
    """A registry answered with a status that means no; `code` is that status, `names` the errors that it named."""

    code: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer without the body: its status, its headers with names in lower case, the address that gave it."""

    code: int
    headers: Mapping[str, str]
    url: str


class _Budget(Budget):
    """A budget for requests to a registry."""

    def spend(self, error: TransientError) -> None:
        """Wait before the next try; raise RegistryError where nothing is left to spend."""
        error.remedy = error.remedy or _AGAIN
        with refusing():
            super().spend(error)


class Client:
    """Talk to one repository; safe to use from several threads.

    Credentials go to the registry's own scheme, host and port and to its token server alone, whatever it redirects to.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each of its own kind
        self,
        repository: Reference,
        actions: Sequence[str] = PULL,
        *,
        readable: Sequence[str] = (),
        reporter: Reporter | None = None,
        limits: Limits | None = None,
        keychain: Keychain = credentials.find,
    ) -> None:
        """Make a client for some actions on a repository; those of `readable` are other ones to mount blobs from."""
        self.repository = repository
        self.reporter = reporter or Silent()
        self.limits = limits or Limits()
        self._wire = Wire(self.limits)
        self._patient = Wire(replace(self.limits, read=self.limits.read * _PATIENCE))
        scopes = [f"repository:{repository.repository}:{','.join(actions)}"]
        scopes += [f"repository:{name}:pull" for name in readable]
        self._authority = Authority(repository, scopes, self._wire, keychain)
        self._origin = origin(repository.url)

    def budget(self, stop: threading.Event | None = None) -> Budget:
        """Return a fresh budget of tries and seconds; set `stop` (and call `hang_up`) to end its waiting."""
        return _Budget(self.limits, self.reporter, stop)

    def hang_up(self) -> None:
        """Break every answer that is waited for or read now."""
        self._wire.hang_up()
        self._patient.hang_up()

    def close(self) -> None:
        """Close idle connections."""
        self._wire.close()
        self._patient.close()

    def url(self, path: str, repository: str | None = None) -> str:
        """Return the address of a path in this repository, or in another one of the registry."""
        return f"{self.repository.url}{repository or self.repository.repository}/{path}"

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        also: Collection[int] = (),
    ) -> Iterator[tuple[Answer, requests.Response]]:
        """Send one request; give an answer of 2xx or `also`, its body unread; raise TransientError or RegistryError.

        GET and HEAD follow redirects; an answer to another method that leads elsewhere is refused. PUT ends
        something, and may take ten times as long to be answered.
        """
        wire = self._patient if method == "PUT" else self._wire
        here, steps, renewals = url, 0, 0
        while True:
            own = origin(here) == self._origin
            sent = self._authority.header() if own else None
            authorised = {**(headers or {}), **({"Authorization": sent} if sent else {})}
            with wire.ask(method, here, authorised, body) as response:
                code = response.status_code
                if code == 401 and own and renewals < _RENEWALS:
                    renewals += 1
                    self._authority.refused(sent, response.headers.get("WWW-Authenticate", ""))
                    continue
                if method in {"GET", "HEAD"} and (there := location(response)) is not None:
                    steps += 1
                    if steps > self.limits.redirects:
                        found = f"redirected more than {self.limits.redirects} times"
                        raise RegistryError(redact(url), found, "an end to it")
                    here = led(here, there)
                    continue
                if 200 <= code < 300 or code in also:
                    lower = {name.lower(): text for name, text in response.headers.items()}
                    yield Answer(code=code, headers=lower, url=here), response
                    return
                raise self._refusal(response, here)

    def answer(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
    ) -> Answer:
        """Send one request and return its answer of 2xx without the body."""
        with self.ask(method, url, headers=headers, body=body) as (answer, response):
            if method != "HEAD":
                self._wire.small(response, _ERROR_LIMIT)
            return answer

    def small(self, url: str, accept: str, limit: int, also: Collection[int] = ()) -> tuple[Answer, bytes]:
        """Return a small answer and its whole body; one over `limit` bytes is refused."""
        with self.ask("GET", url, headers={"Accept": accept}, also=also) as (answer, response):
            return answer, self._wire.small(response, limit)

    def blocks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield a body as it comes; raise TransientError where it breaks, or is too slow."""
        return self._wire.blocks(response)

    def run(self, job: Callable[[], T], budget: Budget | None = None) -> T:
        """Do a job until it ends without a TransientError; raise RegistryError where the budget is spent."""
        return (budget or self.budget()).run(job)

    def _refusal(self, response: requests.Response, url: str) -> NetworkError:
        """Say what a status means; of the registry's own words only the names of errors are repeated."""
        code, where = response.status_code, redact(url)
        try:
            names = _names(self._wire.small(response, _ERROR_LIMIT))
        except NetworkError:
            names = ()
        said = ", ".join((str(code), *names))
        if (again := transient(response, said)) is not None:
            return again
        login = f"docker login {self.repository.registry}"
        refusal = {
            401: StatusError(where, f"does not let this user in ({said})", "", login),
            403: StatusError(where, f"forbids it ({said})", "", f"check the user's rights, or {login}"),
            404: StatusError(where, f"is not there ({said})", "", "check the name of the repository"),
        }.get(code) or StatusError(where, f"answered {said}")
        refusal.code, refusal.names = code, names
        return refusal


def digest_header(answer: Answer, where: str) -> Digest | None:
    """Return what an answer says its content's digest is; None where it says nothing, or in another algorithm."""
    text = answer.headers.get("docker-content-digest", "")
    if not text.startswith("sha256:"):
        return None
    try:
        return Digest.parse(text)
    except ValueError:
        raise RegistryError(where, "a Docker-Content-Digest that is none", "sha256:<64 hexadecimal digits>") from None


def _names(body: bytes) -> tuple[str, ...]:
    """Return the names of the errors in a registry's answer, such as MANIFEST_UNKNOWN."""
    try:
        errors = json.loads(body)["errors"]
        found = [item["code"] for item in errors]
        return tuple(sorted({name for name in found if re.fullmatch(r"[A-Z_]{1,40}", name)})[:4])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
