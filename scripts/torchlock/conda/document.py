"""Locks of conda-lock: `conda-lock.yml` read strictly, package by package, with what torchlock adds to its metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torchlock.conda import metadata, values
from torchlock.digest import Digest
from torchlock.errors import CondaError, StaleError
from torchlock.platforms import PLATFORMS
from torchlock.profiles.document import show

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "conda-lock.yml"
# The folder beside the lock with what conda-lock was given: its own `metadata.sources` names the first.
INPUTS = "conda"
ENVIRONMENT, VIRTUAL = "environment.yml", "virtual-packages.yml"
SOURCE = f"{INPUTS}/{ENVIRONMENT}"

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,127}")
_PART = re.compile(r"[A-Za-z0-9_.!+~]{1,128}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One package on one platform; `channel` is the address of its channel, without the subdir and without a slash.

    `depends` maps the names of what it depends on to versions, virtual packages (`__glibc`) among them. `constrained`
    tells whether its record says what it may not stand beside: one that does not is less safe to solve with.
    """

    name: str
    version: str
    build: str
    platform: str
    subdir: str
    channel: str
    filename: str
    url: str
    sha256: Digest
    md5: str
    depends: Mapping[str, str] = field(hash=False)
    constrained: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaLock:
    """What a profile installs from conda channels, on each of its platforms.

    `content_hash` maps a platform to conda-lock's hash of its input; `channels` are names in the order of their
    priority; `solver` is what solved; `digest` that of every value in the file but itself, as it was computed now.
    """

    profile: str
    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    content_hash: Mapping[str, str] = field(hash=False)
    profile_digest: Digest
    snapshot_digest: Digest
    solver: str
    all_packages: tuple[Package, ...]
    digest: Digest

    def packages(self, platform: str) -> tuple[Package, ...]:
        """Return the packages of a platform, sorted by name; none where the lock is not for it."""
        return tuple(item for item in self.all_packages if item.platform == platform)

    @classmethod
    def from_yaml(cls, data: bytes, where: str) -> CondaLock:
        """Read a `conda-lock.yml` strictly; raise CondaError that names the place, such as `package[3].hash.sha256`."""
        value = values.load(data, where)
        top = _table(value, where, ("version", "metadata", "package"))
        if top["version"] != 1 or type(top["version"]) is not int:
            raise _error(f"{where}: version", top["version"], "1")
        place = f"{where}: metadata"
        meta = _table(top["metadata"], place, ("content_hash", "channels", "platforms", "sources", "custom_metadata"))
        own = _own(meta["custom_metadata"], f"{place}.custom_metadata")
        lock = cls(
            profile=own["torchlock-profile"],
            platforms=_platforms(meta["platforms"], f"{place}.platforms"),
            channels=_channels(meta["channels"], f"{place}.channels"),
            content_hash=_texts(meta["content_hash"], f"{place}.content_hash"),
            profile_digest=_digest(
                own["torchlock-profile-digest"], f"{place}.custom_metadata.torchlock-profile-digest"
            ),
            snapshot_digest=_digest(own["torchlock-snapshot-digest"], f"{place}.custom_metadata"),
            solver=own["torchlock-solver"],
            all_packages=_packages(top["package"], f"{where}: package", own["torchlock-without-constrains"].split()),
            digest=metadata.digest(value),
        )
        _verify(lock, meta, where)
        if own["torchlock-digest"] != str(lock.digest):
            found = f"edited by hand: {show(own['torchlock-digest'])} is not the content's"
            raise CondaError(
                f"{place}.custom_metadata.torchlock-digest", found, str(lock.digest), f"make lock-{lock.profile}"
            )
        return lock


def path(root: Path, profile: str) -> Path:
    """Return where the conda lock of a profile lies."""
    return root / "lockfiles" / profile / FILE


def read(file: Path, root: Path) -> CondaLock:
    """Read a lock file; its place in errors is relative to `root`. A missing file is a StaleError."""
    where = file.relative_to(root).as_posix()
    try:
        with file.open("rb") as opened:
            data = opened.read(values.SIZE + 1)
    except FileNotFoundError as error:
        raise StaleError(where, "there is no conda lock yet", remedy=f"make lock-{file.parent.name}") from error
    except OSError as error:
        raise CondaError(where, f"cannot be read: {error.strerror}") from error
    return CondaLock.from_yaml(data, where)


def _error(place: str, found: Any, expected: str) -> CondaError:
    return CondaError(place, f"found {show(str(found))!r}", expected)


def _table(value: Any, place: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a mapping that has exactly these keys."""
    if not isinstance(value, dict):
        raise CondaError(place, "is not a mapping", f"a mapping of {', '.join(keys)}")
    if strange := sorted(set(value) ^ set(keys)):
        what = "is missing" if strange[0] in keys else "is unknown"
        raise CondaError(place, f"the key {show(strange[0])!r} {what}", f"exactly {', '.join(keys)}")
    return value


def _texts(value: Any, place: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise CondaError(place, "is not a mapping of texts", "a mapping of texts")
    return value


def _digest(text: str, place: str) -> Digest:
    try:
        return Digest.parse(text)
    except ValueError:
        raise _error(place, text, "sha256, 64 lower-case hexadecimal digits") from None


def _own(value: Any, place: str) -> dict[str, str]:
    own = _texts(_table(value, place, metadata.KEYS), place)
    schema = own["torchlock-schema"]
    if schema != str(metadata.SCHEMA):
        raise _error(f"{place}.torchlock-schema", schema, f"'{metadata.SCHEMA}', which this torchlock writes")
    return own


def _platforms(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len({*map(str, value)}) != len(value):
        raise _error(place, value, "one platform or more, each once")
    for item in value:
        if item not in PLATFORMS:
            raise _error(place, item, f"one of {', '.join(PLATFORMS)}")
    return tuple(value)


def _channels(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _error(place, value, "one channel or more")
    names = []
    for number, item in enumerate(value):
        table = _table(item, f"{place}[{number}]", ("url", "used_env_vars"))
        if table["used_env_vars"] or not isinstance(table["url"], str) or not _CHANNEL.fullmatch(table["url"]):
            raise _error(f"{place}[{number}]", table, "the name of a channel, without variables")
        names.append(table["url"])
    return tuple(names)


def _packages(value: Any, place: str, loose: list[str]) -> tuple[Package, ...]:
    if not isinstance(value, list) or not value:
        raise CondaError(place, "no packages: that is not an environment", "at least one")
    found = tuple(_package(item, f"{place}[{number}]", loose) for number, item in enumerate(value))
    keys = [(item.name, item.platform) for item in found]
    for number, (before, key) in enumerate(pairwise(keys), 1):
        if key <= before:
            raise _error(f"{place}[{number}]", " on ".join(key), "each package once, sorted by name and platform")
    if strange := sorted({*loose} - {f"{platform}/{name}" for name, platform in keys}):
        raise _error(f"{place}: torchlock-without-constrains", strange[0], "packages of this lock alone")
    return found


def _package(value: Any, place: str, loose: list[str]) -> Package:
    keys = ("name", "version", "manager", "platform", "dependencies", "url", "hash", "category", "optional")
    table = _table(value, place, keys)
    for key, known in (("manager", "conda"), ("category", "main"), ("optional", False)):
        if table[key] != known or type(table[key]) is not type(known):
            raise _error(f"{place}.{key}", table[key], str(known).lower())
    for key, pattern in (("name", _NAME), ("version", _PART)):
        if not isinstance(table[key], str) or not pattern.fullmatch(table[key]):
            raise _error(f"{place}.{key}", table[key], f"a {key} of a conda package")
    hashes = _texts(_table(table["hash"], f"{place}.hash", ("md5", "sha256")), f"{place}.hash")
    if not _MD5.fullmatch(hashes["md5"]):
        raise _error(f"{place}.hash.md5", hashes["md5"], "32 lower-case hexadecimal digits")
    channel, subdir, filename, build = _place(table, f"{place}.url")
    return Package(
        name=table["name"],
        version=table["version"],
        build=build,
        platform=table["platform"],
        subdir=subdir,
        channel=channel,
        filename=filename,
        url=table["url"],
        sha256=_digest(f"sha256:{hashes['sha256']}", f"{place}.hash.sha256"),
        md5=hashes["md5"],
        depends=_texts(table["dependencies"], f"{place}.dependencies"),
        constrained=f"{table['platform']}/{table['name']}" not in loose,
    )


def _place(table: Mapping[str, Any], place: str) -> tuple[str, str, str, str]:
    """Return the channel, subdir, file name and build that an address states; it must be that of this package."""
    url, platform = table["url"], table["platform"]
    if not isinstance(url, str) or platform not in PLATFORMS:
        raise _error(place, f"{url} on {platform}", f"an address, on one of {', '.join(PLATFORMS)}")
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not safe or "@" in parts.netloc or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise _error(place, url, "https://host/channel/subdir/file, without credentials")
    file = PurePosixPath(parts.path)
    match = _FILE.fullmatch(file.name)
    if match is None or (match["name"], match["version"]) != (table["name"], table["version"]):
        raise _error(place, file.name, f"{table['name']}-{table['version']}-build.conda or .tar.bz2")
    if file.parent.name not in {platform, "noarch"} or ".." in file.parts or "$" in url:
        raise _error(place, url, f"a file under {platform}/ or noarch/")
    return url.removesuffix(f"/{file.parent.name}/{file.name}"), file.parent.name, file.name, match["build"]


def _verify(lock: CondaLock, meta: Mapping[str, Any], where: str) -> None:
    """Hold the parts of a lock against each other."""
    if meta["sources"] != [SOURCE]:
        raise _error(f"{where}: metadata.sources", meta["sources"], f"[{SOURCE}]")
    if set(lock.content_hash) != set(lock.platforms):
        raise _error(f"{where}: metadata.content_hash", ", ".join(lock.content_hash), "one for each platform")
    for platform in lock.platforms:
        names = {item.name for item in lock.packages(platform)}
        if "python" not in names:
            raise CondaError(f"{where}: package", f"no python on {platform}", "an environment with Python")
        for item in lock.packages(platform):
            if lacking := [name for name in item.depends if not name.startswith("__") and name not in names]:
                found = f"{item.name} on {platform} depends on {lacking[0]}, which is not in the lock"
                raise CondaError(f"{where}: package", found, "all that a package depends on")
    if strange := {item.platform for item in lock.all_packages} - {*lock.platforms}:
        raise _error(f"{where}: package", ", ".join(sorted(strange)), f"packages for {', '.join(lock.platforms)}")
