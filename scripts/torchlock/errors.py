"""Refusals: what was found, where, what was expected, and the next command to type."""

from __future__ import annotations

from typing import ClassVar


class TorchlockError(Exception):
    """Refuse to go on; `status` is the exit status of the command that meets it."""

    status: ClassVar[int] = 1

    def __init__(self, where: object, found: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(where, found, expected, remedy)
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.remedy:
            text += f"; try: {self.remedy}"
        return " ".join(text.split())


class ProfileError(TorchlockError):
    """A file under `environments/` does not say what it must, or says it twice."""


class GateError(TorchlockError):
    """A set of versions that is known to break."""


class SnapshotError(TorchlockError):
    """The index snapshot lacks something, or contradicts its index."""


class NetworkError(TorchlockError):
    """A server did not answer, or answered with something that is not to be trusted."""


class ResolveError(TorchlockError):
    """No set of versions satisfies the profile, or two resolvers chose different sets."""


class LockError(TorchlockError):
    """A lock, or a file derived from it, is broken."""


class StaleError(TorchlockError):
    """A lock is sound, but its profile or snapshot has moved since it was written."""

    status = 3


class WheelError(TorchlockError):
    """A wheel is ambiguous, damaged or not what its name says."""


class StoreError(TorchlockError):
    """The store cannot take or give an artifact."""


class EnvError(TorchlockError):
    """An environment cannot be built here, or is not what its lock says."""


class SmokeError(TorchlockError):
    """The smoke script failed."""


class ImageError(TorchlockError):
    """An image, a layer or a base is not what it must be."""


class RegistryError(NetworkError):
    """A container registry refused, or answered with something that is not to be trusted."""


class EngineError(TorchlockError):
    """Docker is not here, or does not do what it was asked."""


class CondaError(TorchlockError):
    """A conda channel, lock or environment is not what it must be."""
