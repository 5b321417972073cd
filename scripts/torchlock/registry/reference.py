"""References to images, `host[:port]/repository[:tag][@digest]`, in the grammar of the distribution specification."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from torchlock.digest import Digest
from torchlock.errors import RegistryError

HUB = "docker.io"
# Where Docker Hub's registry answers, and what it was called before.
_HUB_HOST = "registry-1.docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]{{2,39}}\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REGISTRY = re.compile(_HOST)
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_NAME = re.compile(rf"(?P<name>[^@]*?)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?")
_ONLY_TAG = re.compile(_TAG)
_LONGEST = 255
_EXPECTED = "host[:port]/repository[:tag][@sha256:…], without a scheme, user or password"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A repository of a registry, and in it what a tag or a digest names."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def name(self) -> str:
        """The registry and the repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def url(self) -> str:
        """The address of the registry's interface: http for a loopback host, as Docker has it, https for all others."""
        host = _HUB_HOST if self.registry == HUB else self.registry
        return f"{'http' if self.loopback else 'https'}://{host}/v2/"

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine."""
        return loopback(re.sub(r":[0-9]+$", "", self.registry))

    def at(self, digest: Digest) -> Reference:
        """Return the same repository's content of a digest."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Reference:
        """Return the same repository's content of a tag; raise RegistryError for what cannot be one."""
        if not _ONLY_TAG.fullmatch(tag):
            raise RegistryError(self.name, f"the tag {_shown(tag)}", "letters, digits, _ . - and at most 128 of them")
        return replace(self, tag=tag, digest=None)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference; Docker Hub's short names are completed as Docker completes them."""
        match = _NAME.fullmatch(text)
        if not match:
            raise _refusal(text)
        first, slash, rest = match["name"].partition("/")
        if not slash and ("." in first or first == "localhost"):
            raise _refusal(text)  # a host without a repository, which Docker takes for a repository of Docker Hub
        if not slash or not (set(first) & set(".:[") or first == "localhost" or first != first.lower()):
            first, rest = HUB, match["name"]
        registry = HUB if first.lower() in _HUB_NAMES else first.lower()
        if registry == HUB and rest and "/" not in rest:
            rest = f"library/{rest}"
        digest = None if match["digest"] is None else Digest.parse(match["digest"])
        found = cls(registry=registry, repository=rest, tag=match["tag"], digest=digest)
        if not (_REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(rest)) or len(found.name) > _LONGEST:
            raise _refusal(text)
        return found


def repository(text: str, where: str) -> str:
    """Return the name of a repository without its registry; raise RegistryError for what cannot be one."""
    if not _REPOSITORY.fullmatch(text) or len(text) > _LONGEST:
        raise RegistryError(where, f"the repository {_shown(text)}", "lower-case names joined by /")
    return text


def loopback(host: str) -> bool:
    """Whether a host's name or address is one of this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _refusal(text: str) -> RegistryError:
    return RegistryError("a reference to an image", _shown(text), _EXPECTED, "REGISTRY=localhost:5000/torchlock")


def _shown(text: str) -> str:
    """Return a text for a message, without what may be a password."""
    text = re.sub(r".*@(?!sha256:)", "***@", text, flags=re.DOTALL)
    return ascii(text if len(text) <= 120 else f"{text[:117]}...")
