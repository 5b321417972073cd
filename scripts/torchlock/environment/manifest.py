"""Manifests: the `torchlock.json` that an environment keeps of itself, and holding the environment's files to it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import posixpath
import stat
import threading
from base64 import urlsafe_b64encode
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from installer.records import InvalidRecordEntry, parse_record_file

from torchlock import files
from torchlock.digest import Digest
from torchlock.environment.placement import Layout
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torchlock.reporter import Reporter

SCHEMA = 1
FILE = "torchlock.json"
HASHERS = 2
_BLOCK = 256 << 10
# A link is no file, and a pipe is not waited for.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
# A link, or a folder, in the place of a file or of a folder above it.
_DAMAGE = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
_HASHES = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an environment was built as; every value but the names of versions is a digest.

    `place` is that of the environment's own path (scripts start the interpreter there), `base` holds those of the files
    that came with the virtual environment, `records` those of the RECORDs, by the name of their `.dist-info` folder.
    """

    schema: int = SCHEMA
    profile: str
    platform: str
    python: str
    lock: str
    place: str
    base: Mapping[str, str]
    records: Mapping[str, str]

    @property
    def layout(self) -> Layout:
        """Return the environment's folders."""
        return Layout.of(self.python, self.platform)

    def write(self, env: Path) -> None:
        """Write the manifest, durably."""
        keep(env / FILE, asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """One file that RECORD lists; the path is relative to the environment's root."""

    path: str
    hash: str
    size: int


def keep(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON into an environment, durably, in one canonical form."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    files.write_atomic(path, f"{text}\n".encode())


def name_of(final: Path) -> str:
    """Return an environment's name in messages: its folder's, and its own."""
    return f"{final.parent.name}/{final.name}"


def place_of(final: Path) -> str:
    """Return the digest of an environment's path."""
    return str(Digest.of(os.fsencode(final.absolute())))


def read(env: Path) -> Manifest:
    """Read an environment's manifest; raise EnvError where there is none that can be read."""
    where = env / FILE
    try:
        document: Any = json.loads(where.read_bytes())
    except FileNotFoundError:
        raise EnvError(where, "there is none: torchlock did not build this environment") from None
    except (OSError, ValueError) as error:
        raise EnvError(where, f"cannot be read: {error}") from error
    fields: Mapping[str, type] = {
        **dict.fromkeys(("profile", "platform", "python", "lock", "place"), str),
        "schema": int,
        "base": dict,
        "records": dict,
    }
    if not isinstance(document, dict) or document.keys() != fields.keys():
        raise EnvError(where, "not the keys of a manifest", ", ".join(sorted(fields)))
    wrong = [name for name, kind in fields.items() if type(document[name]) is not kind]
    if wrong or document["schema"] != SCHEMA:
        raise EnvError(where, f"{(wrong or ['schema'])[0]} is not what this torchlock writes", f"schema {SCHEMA}")
    return Manifest(**document)


def verify(env: Path, manifest: Manifest, reporter: Reporter, final: Path | None = None) -> list[str]:
    """List what differs from the manifest: files changed, missing, or foreign in `site-packages` (byte code aside).

    `final` is where the environment will stand, if not where it is.
    """
    issues = [] if manifest.place == place_of(final or env) else [f"{env.name}: the environment was moved"]
    for path, digest in sorted(manifest.base.items()):
        if not _is(env / path, digest):
            issues.append(f"{path}: changed or missing")
    expected: dict[str, _Expected] = {}
    records = set()
    site = manifest.layout.site
    for name, digest in sorted(manifest.records.items()):
        record = f"{site}/{name}/RECORD"
        if not _is(env / record, digest):
            issues.append(f"{record}: changed or missing")
            continue
        records.add(record)
        for item in _listed(env, site, record):
            expected[item.path] = item
    foreign = (path for path in _present(os.fspath(env), site) if path not in expected and path not in records)
    issues += [f"{path}: not from the lock" for path in sorted({_top(path, site) for path in foreign})]
    return issues + _changed(env, list(expected.values()), reporter)


def _is(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and str(Digest.of_file(path)) == digest
    except OSError:
        return False


def _top(path: str, site: str) -> str:
    """Return the part of a foreign path that names what does not belong there."""
    return posixpath.relpath(path, site).partition("/")[0]


def _listed(env: Path, site: str, record: str) -> Iterator[_Expected]:
    """Give what an installed RECORD lists; it has no hash for itself, which the manifest has."""
    try:
        text = (env / record).read_text(encoding="utf-8")
        for path, value, size in parse_record_file(text.splitlines()):
            if f"{site}/{path}" != record:
                yield _Expected(path=posixpath.normpath(f"{site}/{path}"), hash=value, size=int(size))
    except (InvalidRecordEntry, ValueError) as error:
        raise EnvError(env / record, f"cannot be read: {error}") from error


def _present(root: str, folder: str) -> Iterator[str]:
    """Give every file and link below a folder of the environment, but no byte code."""
    try:
        found = os.scandir(f"{root}/{folder}")
    except FileNotFoundError:
        return
    with found as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                yield path
            elif entry.name != "__pycache__":
                yield from _present(root, path)


class _Count:
    """Bytes that are done, told as they grow by a two-hundredth of all."""

    def __init__(self, reporter: Reporter, task: str, total: int) -> None:
        self._reporter, self._task, self._total = reporter, task, total
        self._done = self._said = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Count the bytes of one file."""
        with self._lock:
            self._done += size
            if self._done == self._total or self._done - self._said > self._total // 200:
                self._said = self._done
                self._reporter.progress(self._task, self._done, self._total)


def _changed(env: Path, expected: list[_Expected], reporter: Reporter) -> list[str]:
    """Hash files in threads, the largest first; return what is wrong with each that is not as it must be."""
    queue = deque(sorted(expected, key=lambda item: -item.size))
    count = _Count(reporter, f"checking {env.name}", sum(item.size for item in queue))
    with ThreadPoolExecutor(HASHERS) as pool:
        try:
            jobs = [pool.submit(_hash, os.fspath(env), queue, count) for _ in range(HASHERS)]
            return sorted(issue for job in jobs for issue in job.result())
        finally:
            queue.clear()


def _hash(root: str, queue: deque[_Expected], count: _Count) -> list[str]:
    """Take files off a queue until it is empty."""
    buffer = memoryview(bytearray(_BLOCK))
    issues = []
    while queue:
        try:
            item = queue.popleft()
        except IndexError:
            break
        issue = _issue(root, item, buffer)
        if issue:
            issues.append(f"{item.path}: {issue}")
        count.add(item.size)
    return issues


def _issue(root: str, item: _Expected, buffer: memoryview) -> str:
    """Return what is wrong with one file, or nothing."""
    algorithm, _, value = item.hash.partition("=")
    try:
        descriptor = os.open(f"{root}/{item.path}", _FLAGS)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - there is no path to open
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != item.size or algorithm not in _HASHES:
                return "changed"
            state = hashlib.new(algorithm)
            while read := file.readinto(buffer):
                state.update(buffer[:read])
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return "changed" if error.errno in _DAMAGE else f"cannot be read: {error.strerror}"
    return "" if urlsafe_b64encode(state.digest()).rstrip(b"=").decode() == value else "changed"
