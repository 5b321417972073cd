"""Debian's packages through apt, in folders of its own: which ones a base needs, and their files, as signed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from torchlock.base.child import complaints, work
from torchlock.base.packages import PULL, UPDATE, Package
from torchlock.digest import Digest
from torchlock.errors import ImageError, NetworkError
from torchlock.network.transport import redact
from torchlock.process import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torchlock.reporter import Reporter

# Debian's names of the platforms.
ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}
ARCHIVE_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"

_MIRROR = "DEBIAN=<the address of a Debian mirror>"
# '<address>' <file name> <size> SHA256:<hex>
_LISTED = re.compile(r"'[^']*' ([^ _/]+)_([^ _/]+)_([^ _/]+)\.deb ([0-9]+) SHA256:([0-9a-f]{64})")
_NO_VERSION = re.compile(r"E: Version '[^']*' for '([^']*)' was not found")
_NO_PACKAGE = re.compile(r"E: Unable to locate package (\S+)")
_ADDRESS = re.compile(r"[a-z+]+://\S+")

# `#clear` takes away what the machine does after each update; apt itself counts as essential unless told otherwise.
_SETTINGS = """
APT::Architecture "{architecture}"; #clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
#clear APT::Update;
#clear DPkg;
APT::Update::Error-Mode "any";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
pkgCacheGen::ForceEssential ",";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none";
Dir::Etc::preferences "{folder}/none/preferences";
Dir::Etc::preferencesparts "{folder}/none";
"""


class Apt:
    """One architecture of one Debian release, as a mirror has it now; everything apt keeps lies in `folder`."""

    def __init__(self, folder: Path, suite: str, platform: str, mirror: str | None, reporter: Reporter) -> None:
        self._folder = folder
        self._suite, self._architecture = suite, ARCHITECTURES[platform]
        self._mirror, self._reporter = mirror, reporter
        self._fresh = False

    def choose(self, packages: Sequence[str]) -> list[Package]:
        """Return the essential packages, the named ones, and what these need, in their newest versions."""
        lines = self._asked("install", "--assume-yes", "--print-uris", "?essential", *packages)
        found = sorted(_listed(lines))
        if not found:
            raise ImageError("apt", "it lists no package", "the essential ones at least", _MIRROR)
        return found

    def download(self, packages: Sequence[Package], target: Path) -> None:
        """Bring the files of exactly these packages into a folder; raise ImageError for one that is not there now."""
        target.mkdir()
        self._asked("download", *(f"{item.name}={item.version}" for item in packages), folder=target, wanted=packages)
        for item in packages:
            path = target / item.filename
            if not path.is_file():
                raise ImageError(item.filename, "apt did not bring it", "the locked file", _MIRROR)
            if (size := path.stat().st_size) != item.size or (found := Digest.of_file(path)) != item.sha256:
                said = f"{size} bytes" if size != item.size else str(found)
                expected = f"{item.size} bytes and {item.sha256}, as locked"
                raise ImageError(f"the mirror's {item.filename}", said, expected, "DEBIAN=<another mirror>")

    def _asked(self, *words: str, folder: Path | None = None, wanted: Sequence[Package] = ()) -> list[str]:
        """Return what apt-get answers; the first question is preceded by an update."""
        if not self._fresh:
            self._prepare()
            self._reporter.note(f"reading the package lists of Debian {self._suite} for {self._architecture}")
            self._run("update", folder=self._folder)
            self._fresh = True
        return self._run(*words, folder=folder or self._folder, wanted=wanted)

    def _run(self, *words: str, folder: Path, wanted: Sequence[Package] = ()) -> list[str]:
        environment = clean_environment({"LC_ALL": "C.UTF-8"}, proxies=True)
        command = ["apt-get", "-c", str(self._folder / "apt.conf"), "--quiet=2", *words]
        listed: list[str] = []
        status, lines = work(command, environment=environment, folder=folder, heard=listed.append)
        if status:
            self._refuse_missing(lines, wanted)
            said = _ADDRESS.sub(lambda match: redact(match[0]), complaints(lines))
            raise NetworkError(f"apt-get {words[0]}", said, "packages of Debian", _MIRROR)
        return listed

    def _refuse_missing(self, lines: Sequence[str], wanted: Sequence[Package]) -> None:
        """Raise ImageError where versions are no longer on the mirror."""
        names = {match[1] for line in lines for pattern in (_NO_VERSION, _NO_PACKAGE) if (match := pattern.match(line))}
        gone = [item for item in wanted if item.name in names]
        if gone:
            raise ImageError(
                "the mirror of Debian",
                f"no longer has {', '.join(f'{item.name} {item.version} ({item.architecture})' for item in gone)}",
                "every locked package",
                f"{PULL}, or {UPDATE} for newer packages",
            )

    def _prepare(self) -> None:
        folder = self._folder
        for name in ("state/lists/partial", "cache/archives/partial", "none"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in self._sources()), encoding="utf-8")
        settings = _SETTINGS.format(architecture=self._architecture, folder=folder)
        (folder / "apt.conf").write_text(settings, encoding="utf-8")

    def _sources(self) -> list[str]:
        """Return lines of a sources.list: of the mirror that is named, this machine's, or mmdebstrap's own choice."""
        if self._mirror:
            return _mirrored(self._mirror, self._suite)
        return self._machine() or self._default()

    def _machine(self) -> list[str]:
        """Return this machine's sources of the release."""
        wanted = "$(ORIGIN)|$(CODENAME)|$(SIGNED_BY)|$(REPO_URI) $(CODENAME) $(COMPONENT)"
        command = ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]
        listed: list[str] = []
        work(command, environment=clean_environment({"LC_ALL": "C.UTF-8"}), folder=self._folder, heard=listed.append)
        found = set()
        for line in listed:
            origin, _, rest = line.partition("|")
            codename, _, rest = rest.partition("|")
            signed, _, source = rest.partition("|")
            if origin == "Debian" and (codename == self._suite or codename.startswith(f"{self._suite}-")):
                found.add(f"deb [signed-by={signed}] {source}" if signed.startswith("/") else f"deb {source}")
        return sorted(found)

    def _default(self) -> list[str]:
        """Return the sources that mmdebstrap takes where none are named."""
        root = self._folder / "default"
        command = ["mmdebstrap", "--simulate", f"--architectures={self._architecture}", "--variant=essential"]
        mode = "root" if os.geteuid() == 0 else "unshare"
        environment = clean_environment({"LC_ALL": "C.UTF-8"}, proxies=True)
        status, lines = work(
            [*command, f"--mode={mode}", "--format=directory", self._suite, str(root)],
            environment=environment,
            folder=self._folder,
        )
        sources = root / "etc" / "apt" / "sources.list"
        if status or not sources.is_file():
            raise NetworkError("mmdebstrap", complaints(lines), f"a source of Debian {self._suite}", _MIRROR)
        return [line for line in sources.read_text(encoding="utf-8").splitlines() if line]


def _mirrored(mirror: str, suite: str) -> list[str]:
    """Return the sources of a mirror: one address, or that of the release and that of its security updates."""
    words = mirror.split()
    if len(words) > 2 or not all(re.fullmatch(r"[a-z]+://[^\s\[\]]+", word) for word in words):
        raise ImageError("DEBIAN", repr(redact(mirror)), "one address, or two: the mirror's, and its security updates'")
    keys = f"[signed-by={ARCHIVE_KEYS}] " if os.path.isfile(ARCHIVE_KEYS) else ""  # noqa: PTH113 - a constant text
    suites = [(words[0], suite), (words[0], f"{suite}-updates"), *((word, f"{suite}-security") for word in words[1:])]
    return [f"deb {keys}{address} {name} main" for address, name in suites]


def _listed(lines: Sequence[str]) -> Iterator[Package]:
    for line in lines:
        if line.startswith("'"):
            match = _LISTED.fullmatch(line)
            if match is None:
                raise ImageError("apt", f"it says {line!r}", "a package with its size and SHA256")
            name, version, architecture, size, digest = match.groups()
            yield Package(
                name=name,
                version=version.replace("%3a", ":"),
                architecture=architecture,
                sha256=Digest(digest),
                size=int(size),
            )
