"""Prefixes: what a conda environment says of itself in `conda-meta`, and holding its files to that."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from torchlock import files
from torchlock.digest import Digest
from torchlock.environment.manifest import keep, place_of
from torchlock.errors import CondaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlock.conda.document import Package
    from torchlock.reporter import Reporter

SCHEMA = 1
FILE = "torchlock.json"
META = "conda-meta"
HASHERS = 2
# What torchlock and the smoke script write beside what packages own.
OWN = frozenset((FILE, "evidence.json"))

_CLOBBERS = "__clobbers__"
_MADE = ("extracted_package_dir", "link", "package_tarball_full_path", "requested_specs", "requested_spec")
_BYTE_CODE = "__pycache__"
_PART, _SMALL = 64, 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, link or folder that a package owns; `sha256` is of a file's bytes, or of a link's target."""

    path: str
    kind: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """One package as `conda-meta` records it."""

    name: str
    version: str
    build: str
    url: str
    sha256: str | None
    record: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an environment was built as: digests of its lock, of its own path, and of each record in `conda-meta`."""

    schema: int = SCHEMA
    profile: str
    platform: str
    lock: str
    place: str
    records: Mapping[str, str]

    def write(self, env: Path) -> None:
        """Write the manifest, durably."""
        keep(env / FILE, asdict(self))


def read_manifest(env: Path) -> Manifest:
    """Read an environment's manifest; raise CondaError where there is none that can be read."""
    value = _object(env / FILE, "torchlock did not build this environment")
    kinds = {name: int if name == "schema" else dict if name == "records" else str for name in Manifest.__slots__}
    wrong = [name for name, kind in kinds.items() if type(value.get(name)) is not kind]
    if wrong or value.keys() != kinds.keys() or value["schema"] != SCHEMA:
        raise CondaError(env / FILE, "not a manifest that this torchlock writes", f"schema {SCHEMA}")
    return Manifest(**value)


def read(env: Path) -> list[Installed]:
    """Read the records of all packages in an environment, sorted by name."""
    found = [_installed(path) for path in (env / META).glob("*.json")]
    return sorted(found, key=lambda item: (item.name, item.record))


def settle(staging: Path, packages: Iterable[Package]) -> dict[str, str]:
    """Make the records that rattler wrote a function of the lock, and return the digest of each by its file.

    The real address takes the place of the store's, what names a folder of this machine goes, and so does the second
    copy of a file that two packages hold alike.
    """
    locked = {item.name: item for item in packages}
    digests = {}
    for path in sorted((staging / META).glob("*.json")):
        value = _object(path, "rattler wrote none")
        package = locked.pop(value["name"])
        value |= {"url": package.url, "channel": package.channel, "md5": package.md5, "fn": package.filename}
        for key in _MADE:
            value.pop(key, None)
        for entry in value["paths_data"]["paths"]:
            entry["_path"] = entry.pop("original_path", None) or entry["_path"]
        value["files"] = [entry["_path"] for entry in value["paths_data"]["paths"]]
        data = f"{json.dumps(value, sort_keys=True, indent=2)}\n".encode()
        path.unlink()
        files.write_atomic(path, data)
        digests[path.name] = str(Digest.of(data))
        _normalise(staging, value["paths_data"]["paths"])
    if locked:
        raise CondaError(staging.name, f"rattler did not install {', '.join(sorted(locked))}", "every locked package")
    files.remove(staging / _CLOBBERS)
    files.remove(staging / "CACHEDIR.TAG")
    (staging / META / "history").chmod(0o644)
    return digests


def verify(env: Path, manifest: Manifest, reporter: Reporter, final: Path | None = None) -> list[str]:
    """List what differs from how the environment was built: records and files changed, missing, or of no package.

    Byte code is left aside. `final` is where the environment will stand, if not where it is.
    """
    issues = [] if manifest.place == place_of(final or env) else [f"{env.name}: the environment was moved"]
    for name, digest in sorted(manifest.records.items()):
        path = env / META / name
        if not path.is_file() or str(Digest.of_file(path)) != digest:
            issues.append(f"{META}/{name}: changed or missing")
    there = {path.name for path in (env / META).glob("*.json")}
    issues += [f"{META}/{name}: not from the lock" for name in sorted(there - manifest.records.keys())]
    return issues or edited(env, read(env), reporter) + foreign(env, read(env))


def edited(env: Path, installed: Sequence[Installed], reporter: Reporter) -> list[str]:
    """List the files and links of packages that are no longer what their records say, each with what is wrong."""
    wanted = [(item, entry) for item in installed for entry in item.entries if _BYTE_CODE not in entry.path.split("/")]
    parts = [wanted[at : at + _PART] for at in range(0, len(wanted), _PART)]
    task = f"checking {env.name}"

    def one(part: Sequence[tuple[Installed, Entry]]) -> list[str]:
        found = ((item, entry, _issue(env / entry.path, entry)) for item, entry in part)
        return [f"{entry.path}: {issue} ({item.name} {item.version})" for item, entry, issue in found if issue]

    issues: list[str] = []
    with ThreadPoolExecutor(HASHERS) as pool:
        try:
            for number, found in enumerate(pool.map(one, parts), 1):
                issues += found
                reporter.progress(task, min(number * _PART, len(wanted)), len(wanted))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(issues)


def foreign(env: Path, installed: Iterable[Installed]) -> list[str]:
    """List what no package owns, whole folders by their name; byte code and what torchlock writes are let pass."""
    owned = {entry.path for item in installed for entry in item.entries}
    folders = {path[:at] for path in owned for at in range(len(path)) if path[at] == "/"}
    return sorted(f"{path}: of no package" for path in _foreign(env, "", owned, folders))


def _foreign(env: Path, below: str, owned: set[str], folders: set[str]) -> Iterator[str]:
    with os.scandir(env / below) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if path in owned or path in OWN or path == META or entry.name == _BYTE_CODE:
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield path
            elif path in folders:
                yield from _foreign(env, f"{path}/", owned, folders)
            else:
                yield f"{path}/"


def _issue(path: Path, entry: Entry) -> str:
    """Return what is wrong with one entry, or nothing."""
    try:
        if entry.kind == "softlink":
            found = sha256(os.fsencode(path.readlink())).hexdigest()
        elif entry.kind == "directory":
            return "" if path.is_dir() else "missing"
        elif path.is_symlink() or not path.is_file():
            return "changed" if os.path.lexists(path) else "missing"
        else:
            found = _hash(path).hex
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return "changed" if entry.kind == "softlink" else f"cannot be read: {error.strerror}"
    return "" if found == entry.sha256 else "changed"


def _hash(path: Path) -> Digest:
    """Return a file's digest; a small one is read at once, which costs no buffer."""
    return Digest.of(path.read_bytes()) if path.stat().st_size < _SMALL else Digest.of_file(path)


def _normalise(staging: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Give files the modes 0644 or 0755, whatever the umask and the archive say."""
    for entry in entries:
        path = staging / entry["_path"]
        if not path.is_symlink() and path.is_file():
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _installed(path: Path) -> Installed:
    value = _object(path, "a record of conda")
    try:
        return Installed(
            name=str(value["name"]),
            version=str(value["version"]),
            build=str(value["build"]),
            url=str(value.get("url", "")),
            sha256=value.get("sha256"),
            record=path.name,
            entries=tuple(_entry(item) for item in value.get("paths_data", {}).get("paths", [])),
        )
    except (KeyError, TypeError, AttributeError):
        raise CondaError(path, "not a record of conda", "name, version, build and paths_data") from None


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(
        path=str(item["_path"]),
        kind=str(item.get("path_type", "hardlink")),
        sha256=item.get("sha256_in_prefix") or item.get("sha256"),
    )


def _object(path: Path, absent: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CondaError(path, f"there is none: {absent}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CondaError(path, f"cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CondaError(path, "is not a mapping", "a JSON object")
    return value
