"""What a wheel says of itself: METADATA, WHEEL, RECORD, entry points and scripts, and whether that is sound."""

from __future__ import annotations

import configparser
import csv
import io
import re
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from torchlock.wheels.names import unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.reporter import Reporter
    from torchlock.wheels.archive import Archive

# The specification of RECORD: "sha256 or better", and these three files are not hashed.
_ALGORITHMS = {"sha256": 43, "sha384": 64, "sha512": 86}  # and how many base64 digits without padding
_BASE64 = re.compile(r"[A-Za-z0-9_-]+")
_EXEMPT = ("RECORD", "RECORD.jws", "RECORD.p7s")
_SCHEMES = ("data", "headers", "platlib", "purelib", "scripts")
_INTERPRETER = re.compile(r"pythonw?[0-9.]*t?(\.(exe|com|bat|cmd|ps1|py|pyw))?", re.IGNORECASE)
_REFERENCE = re.compile(r"[\w.]+\s*:\s*[\w.]+\s*(\[.*\])?")
_WHEEL_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What RECORD says of one file: the hash in URL-safe base64 without padding, and the size in bytes."""

    algorithm: str
    hash: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """The parts of a wheel that describe it, held against the name and version of its file name."""

    archive: Archive
    info: str
    name: str
    version: Version

    def text(self, name: str) -> str:
        """Return a text of the .dist-info folder; raise ValueError where it is absent or not UTF-8."""
        member = self.archive.members.get(f"{self.info}/{name}")
        if member is None:
            raise ValueError(f"it has no {self.info}/{name}")
        try:
            return self.archive.bytes_of(member).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"its {self.info}/{name} is not UTF-8 ({error.reason})") from error

    def is_mine(self, name: str, version: str) -> bool:
        """Tell whether these are the name and version in the file name, in whatever spelling."""
        try:
            return canonicalize_name(name) == self.name and Version(version.replace("_", "-")) == self.version
        except InvalidVersion:
            return False

    @property
    def data(self) -> str:
        """The name of the .data folder, whether there is one or not."""
        return self.info.removesuffix(".dist-info") + ".data"

    def folders(self) -> Iterator[str]:
        """Yield the folders that bear another wheel's name."""
        name, _, version = self.info.removesuffix(".dist-info").rpartition("-")
        if not self.is_mine(name, version):
            yield f"its folder {self.info} is not {self.name} {self.version}"
        for top in sorted({path.partition("/")[0] for path in self.archive.members}):
            if top.endswith(".data") and top != self.data:
                yield f"its folder {top} is not {self.data}"

    def metadata(self) -> Iterator[str]:
        """Yield where METADATA is about something else."""
        try:
            raw, _ = parse_email(self.text("METADATA"))
        except ValueError as error:
            yield str(error)
            return
        name, version = raw.get("name", ""), raw.get("version", "")
        if not self.is_mine(name, version):
            yield f"its METADATA says {name or 'no name'} {version or 'no version'}, not {self.name} {self.version}"

    def wheel(self, reporter: Reporter) -> Iterator[str]:
        """Yield why WHEEL cannot be understood; note it where it is only newer."""
        try:
            text = self.text("WHEEL")
        except ValueError as error:
            yield str(error)
            return
        stated = HeaderParser().parsestr(text).get_all("Wheel-Version", [])
        match = _WHEEL_VERSION.fullmatch(stated[0].strip()) if len(stated) == 1 else None
        if match is None or int(match[1]) != 1:
            yield f"its Wheel-Version is {', '.join(stated) or 'absent'}, and only 1.x can be read"
        elif int(match[2]) > 0:
            reporter.note(f"{self.archive.where}: its Wheel-Version is {match[0]}, newer than the 1.0 known here")

    def issues(self, reporter: Reporter) -> Iterator[str]:
        """Yield everything that is wrong, but for RECORD."""
        yield from self.folders()
        yield from self.metadata()
        yield from self.wheel(reporter)
        yield from self.scripts()

    def record(self) -> tuple[dict[str, Row], list[str]]:
        """Return the rows of RECORD that vouch for a file, and what is wrong with it."""
        rows: dict[str, Row] = {}
        exempt = [f"{self.info}/{name}" for name in _EXEMPT]
        issues = []
        try:
            lines = list(csv.reader(io.StringIO(self.text("RECORD"), newline=""), strict=True))
        except (ValueError, csv.Error) as error:
            return rows, [str(error)]
        listed: set[str] = set()
        for line in lines:
            path, stated, size = line if len(line) == 3 else (",".join(line), "", "")
            algorithm, _, value = stated.partition("=")
            member = self.archive.members.get(path)
            if path in listed:
                issues.append(f"RECORD lists {path!r} twice")
            elif member is None:
                issues.append(f"RECORD lists {path!r}, which is absent")
            elif path not in exempt and (algorithm not in _ALGORITHMS or not value):
                issues.append(f"RECORD gives {path!r} {algorithm or 'no hash'}, not sha256 or better")
            elif path not in exempt and not (_BASE64.fullmatch(value) and len(value) == _ALGORITHMS[algorithm]):
                issues.append(f"RECORD gives {path!r} a {algorithm} that is not URL-safe base64 without padding")
            elif path not in exempt and size != str(member.size):
                issues.append(f"RECORD gives {path!r} {size or 'no'} bytes, yet it has {member.size}")
            elif path not in exempt:
                rows[path] = Row(algorithm=algorithm, hash=value, size=member.size)
            listed.add(path)
        missing = sorted(self.archive.members.keys() - listed - set(exempt))
        return rows, issues + [f"{path!r} is not in RECORD" for path in missing]

    def scripts(self) -> Iterator[str]:
        """Yield what would be installed outside its folder or in place of an interpreter."""
        for name in self.archive.members:
            if not name.startswith(f"{self.data}/"):
                continue
            scheme, _, below = name.removeprefix(f"{self.data}/").partition("/")
            folder, _, program = below.rpartition("/")
            if scheme not in _SCHEMES or not below:
                yield f"{name!r} is in no scheme that wheels have ({', '.join(_SCHEMES)})"
            runs = (scheme == "scripts" and not folder) or (
                scheme == "data" and folder.casefold() in ("bin", "scripts")
            )
            if runs and _INTERPRETER.fullmatch(program):
                yield f"{name!r} would replace the interpreter"
            if (scheme, below.casefold()) == ("data", "pyvenv.cfg"):
                yield f"{name!r} would replace the environment's settings"
        if f"{self.info}/entry_points.txt" in self.archive.members:
            yield from self.entry_points()

    def entry_points(self) -> Iterator[str]:
        """Yield the scripts that must not be generated."""
        parser = configparser.RawConfigParser(delimiters=("=",), strict=True)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(self.text("entry_points.txt"))
        except (ValueError, configparser.Error) as error:
            yield f"its entry_points.txt cannot be read ({error})"
            return
        for section in ("console_scripts", "gui_scripts"):
            for name, value in parser.items(section) if parser.has_section(section) else ():
                if unsafe(name) or "/" in name:
                    yield f"its entry point {name!r} leaves its folder"
                if _INTERPRETER.fullmatch(name):
                    yield f"its entry point {name!r} would replace the interpreter"
                if not _REFERENCE.fullmatch(value or ""):
                    yield f"its entry point {name!r} is {value!r}, not module:name"
