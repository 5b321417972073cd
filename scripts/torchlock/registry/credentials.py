"""Credentials for registries, from Docker's own configuration and its credential helpers."""

from __future__ import annotations

import base64
import json
import subprocess
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torchlock.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Keychain: TypeAlias = "Callable[[str], Credentials | None]"

# What the SDK lets through where a configuration or a helper's answer is not what it must be.
_FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, subprocess.SubprocessError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A user and a password, or an identity token that an OAuth 2 server exchanges; none of it is ever shown."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def find(registry: str) -> Credentials | None:
    """Return what Docker would send to a registry (`docker.io` is Docker Hub), or None.

    `DOCKER_CONFIG` or `~/.docker/config.json`: `credHelpers` before `credsStore` before `auths`. Raise RegistryError
    where the file is damaged or a helper fails; neither is quoted.
    """
    auth = _module("docker.auth")
    path = _module("docker.utils.config").find_config_file()
    if path is None:
        return None
    where = f"Docker's configuration {Path(path).name}"
    try:
        config = auth.load_config(config_dict=_entries(_read(Path(path), where)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a helper that is not installed, which ends in an error, too
            found = config.resolve_authconfig(registry)
    except (*_FAULTS, _module("docker.errors").DockerException):
        remedy = f"docker login {registry}"
        raise RegistryError(where, f"gives no credentials for {registry}", "", remedy) from None
    return _credentials(found)


def _module(name: str) -> Any:
    """Import a module of the Docker SDK, which has no types."""
    return import_module(name)


def _read(path: Path, where: str) -> dict[str, Any]:
    """Return the configuration's object; the SDK takes a file that is no JSON for an empty one."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise RegistryError(where, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RegistryError(where, "is not a JSON object", "", f"mend or remove {path.name}, then docker login")
    return value


def _entries(value: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as the SDK wants it: empty tokens left out, a plain user and password packed."""
    auths = value.get("auths") or {}
    wanted = ("auths", "credsStore", "credHelpers")
    found = {key: value[key] for key in wanted if value.get(key)}
    # Never empty: an empty one the SDK would look for again, and take the whole file for a list of registries.
    return found | {"auths": {name: _entry(entry) for name, entry in auths.items()}}


def _entry(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    entry = {key: item for key, item in entry.items() if item}
    if "auth" not in entry and "username" in entry:
        pair = f"{entry['username']}:{entry.get('password', '')}"
        entry["auth"] = base64.b64encode(pair.encode()).decode()
    return entry


def _credentials(found: Mapping[str, Any] | None) -> Credentials | None:
    """Return the SDK's answer as a value: its keys are capitalised where a helper gave them."""
    lower = {key.lower(): item for key, item in (found or {}).items() if isinstance(item, str)}
    if lower.get("identitytoken"):
        return Credentials(identity_token=lower["identitytoken"])
    if lower.get("username"):
        return Credentials(username=lower["username"], password=lower.get("password", ""))
    return None
