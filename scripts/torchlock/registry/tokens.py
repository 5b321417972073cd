"""Authorisation at a registry: Basic, or Bearer tokens of its token server, renewed before and when they expire."""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from torchlock.errors import RegistryError
from torchlock.network.transport import redact
from torchlock.registry.wire import led, transient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import requests

    from torchlock.registry.credentials import Credentials, Keychain
    from torchlock.registry.reference import Reference
    from torchlock.registry.wire import Wire

_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+(?=[A-Za-z0-9_-]+\s*=)|\s*(?=,|$))")
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,65536}")
_CLIENT = "torchlock"
# What the token specification grants where an answer names no time, and how much of it is left unused, in seconds.
_DEFAULT_LIFE = 60.0
_MARGIN = 10.0
_LIMIT = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """What a registry asks for in `WWW-Authenticate`: a scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]

    @classmethod
    def all(cls, header: str) -> list[Challenge]:
        """Read the header, which may hold several challenges (RFC 9110 section 11.6.1)."""
        masked = re.sub(r'"(?:[^"\\]|\\.)*"', lambda match: '"' + "x" * (len(match[0]) - 2) + '"', header)
        starts = list(_SCHEME.finditer(masked))
        found = []
        for number, start in enumerate(starts):
            stop = starts[number + 1].start() if number + 1 < len(starts) else len(header)
            pairs = _PARAMETER.findall(header[start.end() : stop])
            parameters = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in pairs}
            found.append(cls(scheme=start[1].lower(), parameters=parameters))
        return found


class Authority:
    """Knows what to send to one registry as `Authorization`; safe to use from several threads."""

    def __init__(self, registry: Reference, scopes: Sequence[str], wire: Wire, keychain: Keychain) -> None:
        self._registry, self._scopes, self._wire, self._keychain = registry, tuple(scopes), wire, keychain
        self._guard = threading.Lock()
        self._header: str | None = None
        self._until = float("inf")
        self._challenge: Challenge | None = None
        self._credentials: Credentials | None = None
        self._asked = False

    def header(self) -> str | None:
        """Return what to send now; a token that is about to expire is renewed first."""
        with self._guard:
            if self._challenge is not None and time.monotonic() >= self._until:
                self._renew(self._challenge)
            return self._header

    def refused(self, sent: str | None, header: str) -> None:
        """Take a 401 in answer to a request that sent `sent`; raise RegistryError where nothing else can be sent."""
        with self._guard:
            if self._header != sent:
                return  # another thread has renewed it meanwhile
            challenge = self._answerable(Challenge.all(header[:8192]))
            if challenge.scheme == "basic" and sent is not None:
                raise self._refusal("did not accept the user and password of Docker's configuration (401)")
            self._renew(challenge)

    def _answerable(self, challenges: Sequence[Challenge]) -> Challenge:
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme == scheme:
                    return challenge
        schemes = ", ".join(sorted({challenge.scheme for challenge in challenges})) or "nothing"
        raise self._refusal(f"asks for {schemes} as authorisation (401)", "Basic or Bearer")

    def _renew(self, challenge: Challenge) -> None:
        if not self._asked:
            self._credentials, self._asked = self._keychain(self._registry.registry), True
        if challenge.scheme == "basic":
            if self._credentials is None or not self._credentials.username:
                raise self._refusal("asks for a user and password (401)")
            self._header, self._until = _basic(self._credentials), float("inf")
        else:
            token, life = self._token(challenge, self._credentials)
            self._header = f"Bearer {token}"
            self._until = time.monotonic() + max(life - _MARGIN, life / 2)
        self._challenge = challenge

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> tuple[str, float]:
        """Ask the token server that the challenge names (distribution: token authentication, OAuth 2)."""
        if "://" not in challenge.parameters.get("realm", ""):
            raise self._refusal("asks for a token without saying whose (401)", "the address of a token server")
        realm = led(self._registry.url, challenge.parameters["realm"])
        fields = [("scope", scope) for scope in self._scopes]
        if "service" in challenge.parameters:
            fields.insert(0, ("service", challenge.parameters["service"]))
        headers, body, method = {"Accept": "application/json"}, None, "GET"
        if credentials is not None and credentials.identity_token:
            method, headers["Content-Type"] = "POST", "application/x-www-form-urlencoded"
            secret = ("refresh_token", credentials.identity_token)
            scope = ("scope", " ".join(self._scopes))
            kept = [field for field in fields if field[0] != "scope"]
            body = urlencode([("grant_type", "refresh_token"), ("client_id", _CLIENT), *kept, scope, secret]).encode()
        else:
            realm += ("&" if "?" in realm else "?") + urlencode(fields)
            if credentials is not None:
                headers["Authorization"] = _basic(credentials)
        with self._wire.ask(method, realm, headers, body) as response:
            return self._granted(response, known=credentials is not None)

    def _granted(self, response: requests.Response, *, known: bool) -> tuple[str, float]:
        code, where = response.status_code, redact(response.url)
        if code in {401, 403}:
            what = "the user and password of Docker's configuration" if known else "a request without a user"
            raise self._refusal(f"the token server {where} did not accept {what} ({code})")
        if (again := transient(response, str(code))) is not None:
            raise again
        if code != 200:
            raise self._refusal(f"the token server {where} answered {code}")
        try:
            value: Any = json.loads(self._wire.small(response, _LIMIT))
            token, life = value.get("token") or value.get("access_token"), value.get("expires_in", _DEFAULT_LIFE)
            if not _TOKEN.fullmatch(token) or isinstance(life, bool) or not 0 <= life < 1e9:
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise self._refusal(f"the token server {where} gave no token") from None
        return token, float(life) or _DEFAULT_LIFE

    def _refusal(self, found: str, expected: str = "") -> RegistryError:
        return RegistryError(self._registry.name, found, expected, f"docker login {self._registry.registry}")


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return f"Basic {b64encode(pair.encode()).decode()}"
