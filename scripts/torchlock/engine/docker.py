"""Docker's daemon: the way to it, what it is, and its refusals in words that say what to do."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from docker import APIClient, ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import kwargs_from_env

from torchlock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Docker unpacks gigabytes between two words.
PATIENCE = 3600
CONNECT_PATIENCE = 20
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_NAMED = "DOCKER_HOST=<where its daemon listens>"
_REMEDIES = {
    errno.EACCES: "sudo usermod -aG docker <you>, then log in again",
    errno.ENOENT: f"sudo systemctl start docker (or start Docker Desktop), or {_NAMED}",
    errno.ECONNREFUSED: f"sudo systemctl restart docker (or start Docker Desktop), or {_NAMED}",
}
_UNREACHED = f"docker info, which says whether the Docker client reaches it, or {_NAMED}"
_SPACE = "docker system df, then docker image prune (or docker system prune) for room"
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a daemon says of itself: `architecture` in Go's words; `containerd` whether that keeps its images.

    `nvidia` is whether it names NVIDIA's runtime or devices; a daemon may be able to use a GPU without naming them.
    """

    version: str
    architecture: str
    containerd: bool
    nvidia: bool

    @classmethod
    def of(cls, info: dict[str, Any]) -> Facts:
        """Read what `docker info` says."""
        status = [tuple(item) for item in info.get("DriverStatus") or ()]
        devices = [str(item.get("ID", "")) for item in info.get("DiscoveredDevices") or ()]
        machine = str(info.get("Architecture", ""))
        return cls(
            version=str(info.get("ServerVersion", "")),
            architecture=_MACHINES.get(machine, machine),
            containerd=("driver-type", "io.containerd.snapshotter.v1") in status,
            nvidia="nvidia" in (info.get("Runtimes") or {}) or any(item.startswith("nvidia.com/") for item in devices),
        )


class Docker:
    """A daemon that answers; `where` is its address. Use it as a context, which closes the connections at its end."""

    def __init__(self, client: APIClient, where: str) -> None:
        self.client = client
        self.where = where

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @cached_property
    def facts(self) -> Facts:
        """What the daemon is."""
        with self.asked("docker info"):
            return Facts.of(self.client.info())

    def image(self, identity: str) -> dict[str, Any] | None:
        """Return what the daemon knows of the image that has this ID, None where it has none."""
        with self.asked(f"docker image inspect {identity}"):
            try:
                found: dict[str, Any] = self.client.inspect_image(identity)  # type: ignore[no-untyped-call]  # in its stubs
            except ImageNotFound:
                return None
        return found if found["Id"] == identity else None

    def images(self) -> list[dict[str, Any]]:
        """Return what the daemon knows of each of its images; one that goes meanwhile is left out."""
        with self.asked("docker images"):
            listed = {str(item["Id"]) for item in self.client.images()}
        return [found for identity in sorted(listed) if (found := self.image(identity)) is not None]

    @contextmanager
    def asked(self, what: str) -> Iterator[None]:
        """Turn the daemon's refusal, or its silence, into an EngineError; `what` is the command that asks the same."""
        try:
            yield
        except APIError as error:
            raise refusal(what, str(error.explanation or error)) from error
        except (DockerException, *_BROKEN) as error:
            raise EngineError(self.where, f"Docker broke off {what}: {_said(error)}", "", _UNREACHED) from error


def connect() -> Docker:
    """Return the daemon that the Docker client of this user would use; raise EngineError where none answers."""
    chosen = _chosen()
    where = str(chosen.get("base_url", "unix:///var/run/docker.sock")).removeprefix("http+")
    try:
        client = APIClient(version="auto", timeout=CONNECT_PATIENCE, **chosen)
    except (DockerException, *_BROKEN) as error:
        raise _unreached(where, error) from error
    client.timeout = PATIENCE
    return Docker(client, where)


def _chosen() -> dict[str, Any]:
    """Return address and certificates from DOCKER_HOST, or else from the client's context."""
    try:
        found: dict[str, Any] = {**(kwargs_from_env() or ContextAPI.kwargs_from_context())}
    except DockerException as error:
        raise EngineError("DOCKER_HOST", _said(error), "the address of a daemon", _UNREACHED) from error
    except Exception as error:  # the library raises plain Exceptions for a context that is damaged
        raise EngineError("Docker's contexts", _said(error), "a sound context", "docker context ls") from error
    name = os.environ.get("DOCKER_CONTEXT") or "default"
    if not found and name != "default":
        raise EngineError("Docker's contexts", f"no context {name}", "a sound context", "docker context ls")
    return found


def refusal(where: str, text: str) -> EngineError:
    """Return the error for words of the daemon."""
    lower = text.lower()
    full = "no space left" in lower or os.strerror(errno.EDQUOT).lower() in lower
    return EngineError(where, f"Docker says: {text.strip().rstrip('.')}", "", _SPACE if full else "")


def _unreached(where: str, error: BaseException) -> EngineError:
    cause = _system(error)
    if cause is None or cause.errno not in _REMEDIES:
        return EngineError(where, f"no Docker daemon answers there: {_said(error)}", "", _UNREACHED)
    found = "permission denied" if cause.errno == errno.EACCES else f"no Docker daemon answers there: {cause.strerror}"
    return EngineError(where, found, "", _REMEDIES[cause.errno])


def _system(error: BaseException) -> OSError | None:
    """Return the operating system's error beneath a library's, however deep."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, OSError) and item.errno is not None:
            return item
        inner = [item.__cause__, item.__context__, *item.args]
        pending.extend(other for other in inner if isinstance(other, BaseException))
    return None


def _said(error: BaseException) -> str:
    cause = _system(error)
    return str(cause.strerror) if cause is not None and cause.strerror else " ".join(str(error).split())[:300]
