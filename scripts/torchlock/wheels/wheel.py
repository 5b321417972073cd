"""A wheel whose name, metadata, scripts and RECORD are all true, read strictly and unpacked while it is hashed."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zipfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from torchlock.digest import Digest
from torchlock.errors import WheelError
from torchlock.wheels.archive import REMEDY, UNREADABLE, Archive, listing
from torchlock.wheels.description import Description

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from packaging.tags import Tag
    from packaging.version import Version

    from torchlock.reporter import Reporter
    from torchlock.wheels.archive import Member
    from torchlock.wheels.description import Row

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_METADATA_LIMIT = 16 << 20
_STEP = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One unpacked file: the digest of its bytes, its size, and its mode (0o644 or 0o755)."""

    sha256: Digest
    size: int
    mode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """A wheel of which everything but the files' hashes has been checked; `info` is its .dist-info folder."""

    where: str
    name: str
    version: Version
    tags: frozenset[Tag]
    info: str
    archive: Archive
    record: Mapping[str, Row]

    @classmethod
    def read(cls, file: BinaryIO, filename: str, reporter: Reporter) -> Wheel:
        """Check a wheel by its structure and its own description; raise WheelError that lists every issue."""
        try:
            name, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename as error:
            raise WheelError(filename, str(error), "name-version-python-abi-platform.whl", REMEDY) from error
        archive = Archive.read(file, filename)
        tops = {path.partition("/")[0] for path in archive.members}
        infos = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(infos) != 1:
            found = f"it has {len(infos)} .dist-info folders ({', '.join(infos) or 'none'})"
            raise WheelError(filename, found, "one", REMEDY)
        description = Description(archive=archive, info=infos[0], name=name, version=version)
        record, issues = description.record()
        issues += description.issues(reporter)
        if issues:
            raise WheelError(filename, listing(issues), "a wheel that is what it says", REMEDY)
        return cls(where=filename, name=name, version=version, tags=tags, info=infos[0], archive=archive, record=record)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(member.size for member in self.archive.members.values())

    def mode(self, member: Member) -> int:
        """Return the mode that a file is unpacked with: 0o755 for what is or must be executable, else 0o644."""
        script = member.name.startswith(f"{self.info.removesuffix('.dist-info')}.data/scripts/")
        return 0o755 if member.executable or script else 0o644

    def unpack(self, folder: Path, reporter: Reporter) -> dict[str, Entry]:
        """Write each file into an empty folder, inflated once and hashed against RECORD while it is written.

        Return what was written; raise WheelError, with files left behind, where RECORD or a CRC is not true.
        """
        made: set[str] = set()

        def create(member: Member) -> BinaryIO:
            path, mode = f"{folder}/{member.name}", self.mode(member)  # text: pathlib is dear ten thousand times
            above = path.rpartition("/")[0]
            if above not in made:
                os.makedirs(above, exist_ok=True)  # noqa: PTH103 - as above
                made.add(above)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
            os.chmod(path, mode)  # noqa: PTH101 - as above; whatever the umask
            return os.fdopen(descriptor, "wb")

        return self._copy(create, reporter)

    def check(self, reporter: Reporter) -> dict[str, Entry]:
        """Do all that `unpack` does, except writing."""
        return self._copy(lambda _: nullcontext(), reporter)

    def _copy(
        self, create: Callable[[Member], AbstractContextManager[BinaryIO | None]], reporter: Reporter
    ) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        issues = []
        total, done, said = self.size, 0, 0
        for name, member in self.archive.members.items():
            row, state = self.record.get(name), hashlib.sha256()
            stated = state if row is None or row.algorithm == "sha256" else hashlib.new(row.algorithm)
            with create(member) as file:
                for block in self.archive.blocks(member):
                    state.update(block)
                    if stated is not state:
                        stated.update(block)
                    if file is not None:
                        file.write(block)
                    done += len(block)
                    if done - said >= _STEP or done == total:
                        reporter.progress(f"unpack {self.where}", done, total)
                        said = done
            if row is not None and row.hash != _base64(stated.digest()):
                issues.append(f"{name!r} does not have the {row.algorithm} in RECORD")
            entries[name] = Entry(sha256=Digest(state.hexdigest()), size=member.size, mode=self.mode(member))
        if issues:
            raise WheelError(self.where, listing(issues), "a RECORD that is true", REMEDY)
        return entries


def unpack(path: Path, folder: Path, reporter: Reporter, filename: str = "") -> dict[str, Entry]:
    """Check a wheel and unpack it into an empty folder; `filename` is the wheel's name where `path` has another."""
    with path.open("rb") as file:
        return Wheel.read(file, filename or path.name, reporter).unpack(folder, reporter)


def check(path: Path, reporter: Reporter, filename: str = "") -> dict[str, Entry]:
    """Check a wheel wholly, every file's hash included; `filename` as for `unpack`."""
    with path.open("rb") as file:
        return Wheel.read(file, filename or path.name, reporter).check(reporter)


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def metadata(file: BinaryIO, where: str = "METADATA") -> bytes:
    """Return a wheel's METADATA from any seekable reader, touching only the end of the file and that member."""
    try:
        with zipfile.ZipFile(file) as reader:
            found = [info for info in reader.infolist() if _METADATA.fullmatch(info.orig_filename)]
            if len(found) != 1:
                raise WheelError(where, f"it has {len(found)} .dist-info/METADATA files", "one", REMEDY)
            with reader.open(found[0]) as member:
                data = member.read(_METADATA_LIMIT + 1)
    except UNREADABLE as error:
        raise WheelError(where, f"its METADATA cannot be read ({error})", "a whole wheel", REMEDY) from error
    if len(data) > _METADATA_LIMIT:
        raise WheelError(where, f"its METADATA holds more than {_METADATA_LIMIT} bytes", remedy=REMEDY)
    return data
