"""What the conda channels said when they were recorded: one JSON file a channel and subdir, one line a package."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torchlock.digest import Digest
from torchlock.errors import CondaError
from torchlock.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

SCHEMA = 1
NOARCH = "noarch"
# The file that solvers read in each subdir of a channel.
REPODATA = "repodata.json"
# The kind of evidence whose records say nothing of `constrains`: what a package may not stand beside is not known.
LOOSE = "conda-lock"

_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "version", "build", "sha256", "md5", "noarch", "license", "track_features"), str),
    **dict.fromkeys(("depends", "constrains"), list),
    **dict.fromkeys(("build_number", "size", "timestamp"), int),
    "evidence": dict,
}
_REQUIRED = ("name", "version", "build", "build_number", "depends", "sha256")
_FILENAME = re.compile(r"[A-Za-z0-9_.!+~-]{1,250}\.(conda|tar\.bz2)")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One package of a channel; `value` is what its repodata says, `evidence` how it is known if not from there."""

    filename: str
    value: Mapping[str, Any] = field(hash=False)
    evidence: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """Return the package's name."""
        return str(self.value["name"])

    @property
    def sha256(self) -> Digest:
        """Return the digest of the package's file."""
        return Digest(self.value["sha256"])

    @property
    def constrained(self) -> bool:
        """Tell whether the record says all of what the package may not stand beside."""
        return self.evidence.get("kind") != LOOSE

    @classmethod
    def make(cls, filename: str, value: Mapping[str, Any], evidence: Mapping[str, Any]) -> Record:
        """Return a record of the keys that solving and installing read; raise ValueError or TypeError if malformed."""
        kept: dict[str, Any] = {
            key: item for key, item in value.items() if key in _KINDS and (item or type(item) is int)
        }
        kept.setdefault("depends", [])
        if isinstance(kept.get("track_features"), list):
            kept["track_features"] = " ".join(kept["track_features"])
        record = cls(filename=filename, value=kept, evidence=dict(evidence))
        record.verify()
        return record

    def verify(self) -> None:
        """Raise ValueError or TypeError where a value is not what it must be."""
        for key, item in self.value.items():
            kind = _KINDS.get(key)
            texts = item if kind is list else [item] if kind is str else []
            if type(item) is not kind or not all(type(text) is str and text.isprintable() for text in texts):
                raise TypeError(f"{self.filename}: {key} is {item!r}"[:200])
        if lacking := [key for key in _REQUIRED if key not in self.value]:
            raise ValueError(f"{self.filename[:100]!r} has no {lacking[0]}")
        stem = "-".join((self.value["name"], self.value["version"], self.value["build"]))
        if not _FILENAME.fullmatch(self.filename) or not self.filename.startswith(f"{stem}."):
            raise ValueError(f"{self.filename[:100]!r} is no file of {stem[:100]}")
        if "md5" in self.value and not _MD5.fullmatch(self.value["md5"]):
            raise ValueError(f"{self.filename}: md5 is {self.value['md5']!r}"[:200])
        Digest(self.value["sha256"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Subdir:
    """One subdir of one channel: its records by file name, and the address that they are below (CEP 15)."""

    channel: str
    subdir: str
    base_url: str
    records: Mapping[str, Record] = field(hash=False)

    def to_json(self) -> bytes:
        """Return the file as it is stored: one line a package, sorted."""
        lines = []
        for filename, record in sorted(self.records.items()):
            value = {**dict(sorted(record.value.items())), **({"evidence": record.evidence} if record.evidence else {})}
            lines.append(f"  {json.dumps(filename)}: {json.dumps(value)}")
        head = {"schema": SCHEMA, "channel": self.channel, "subdir": self.subdir, "base-url": self.base_url}
        body = f"\n{_joined(lines)}\n" if lines else ""
        return f'{json.dumps(head)[:-1]}, "records": {{{body}}}}}\n'.encode()

    def repodata(self, wanted: Callable[[Record], bool]) -> bytes:
        """Return the wanted records as the `repodata.json` that solvers read."""
        packages: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
        for filename, record in sorted(self.records.items()):
            if wanted(record):
                kind = "packages.conda" if filename.endswith(".conda") else "packages"
                packages[kind][filename] = {**record.value, "subdir": self.subdir}
        info = {"subdir": self.subdir, "base_url": self.base_url}
        return json.dumps({"info": info, **packages, "repodata_version": 2}).encode()


class Channels:
    """The recorded channels under one folder, `lockfiles/index/conda`, each file read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._subdirs: dict[tuple[str, str], Subdir | None] = {}

    def path(self, channel: str, subdir: str) -> Path:
        """Return where a subdir is stored."""
        return self.root / channel / f"{subdir}.json"

    def subdir(self, channel: str, subdir: str) -> Subdir | None:
        """Return a recorded subdir, None where nothing of it was recorded."""
        key = (channel, subdir)
        if key not in self._subdirs:
            path = self.path(channel, subdir)
            self._subdirs[key] = _read(path, channel, subdir) if path.is_file() else None
        return self._subdirs[key]

    def write(self, subdir: Subdir) -> bool:
        """Store a subdir; return False where nothing changed."""
        self._subdirs[subdir.channel, subdir.subdir] = subdir
        return write_atomic(self.path(subdir.channel, subdir.subdir), subdir.to_json())

    def records(self, channels: Iterable[str], platform: str) -> dict[str, Record]:
        """Return the records of channels for a platform, by their addresses."""
        found = (self.subdir(channel, name) for channel in channels for name in (platform, NOARCH))
        return {f"{item.base_url}{name}": record for item in found if item for name, record in item.records.items()}

    def digest(self, channels: Iterable[str], wanted: Mapping[str, Iterable[str]]) -> Digest:
        """Return the digest of all that is recorded under the names that are wanted on each platform."""
        value = {}
        for platform, names in wanted.items():
            known = {*names}
            records = self.records(channels, platform)
            value[platform] = {
                url: [dict(item.value), dict(item.evidence)] for url, item in records.items() if item.name in known
            }
        return Digest.of_json(value)

    def publish(self, folder: Path, channels: Iterable[str], platforms: Iterable[str], *, loose: bool) -> None:
        """Write `repodata.json` of each channel below a folder; without `loose`, of constrained records alone."""
        for channel in channels:
            for name in (*platforms, NOARCH):
                empty = Subdir(channel=channel, subdir=name, base_url=f"file:///{channel}/{name}/", records={})
                target = folder / channel / name
                target.mkdir(parents=True)
                found = self.subdir(channel, name) or empty
                (target / REPODATA).write_bytes(found.repodata(lambda record: loose or record.constrained))


def check_address(text: str) -> str:
    """Return the address of a channel's subdir, ending in a slash; raise ValueError where it is none, or holds more."""
    parts = urlsplit(text)
    local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
    plain = re.fullmatch(r"[!-~]+", text) and not (parts.query or parts.fragment or "@" in parts.netloc or "$" in text)
    if not (parts.scheme == "https" or local) or not plain or not text.endswith("/"):
        raise ValueError("base-url is no https://host/channel/subdir/ without credentials")
    return text


def _joined(lines: list[str]) -> str:
    return ",\n".join(lines)


def _read(path: Path, channel: str, subdir: str) -> Subdir:
    """Read a file that is byte for byte what `to_json` writes."""
    where = f"lockfiles/index/conda/{channel}/{subdir}.json"
    remedy = f"git checkout -- {where}, or make update"
    try:
        data = path.read_bytes()
        value = json.loads(data)
        if type(value["schema"]) is int and value["schema"] > SCHEMA:
            raise CondaError(where, f"schema {value['schema']}", f"{SCHEMA} at most", "a newer torchlock")
        if (value["channel"], value["subdir"]) != (channel, subdir):
            raise CondaError(where, f"{value['channel']}/{value['subdir']}", f"{channel}/{subdir}", remedy)
        records = {name: _record(name, item) for name, item in value["records"].items()}
        found = Subdir(channel=channel, subdir=subdir, base_url=check_address(value["base-url"]), records=records)
        if found.to_json() != data:
            raise ValueError("it is not as torchlock writes it")
    except OSError as error:
        raise CondaError(where, f"cannot be read: {error.strerror}", remedy=remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"not a recorded channel ({type(error).__name__}: {str(error)[:200]})"
        raise CondaError(where, what, "JSON as torchlock writes it", remedy) from error
    return found


def _record(filename: str, item: Mapping[str, Any]) -> Record:
    value = {key: found for key, found in item.items() if key != "evidence"}
    record = Record(filename=filename, value=value, evidence=item.get("evidence", {}))
    record.verify()
    return record
