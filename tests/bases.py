"""Small Debian roots as mmdebstrap makes them, and programs over a small archive in the places of Debian's tools."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from servers import Notes
from torchlock.base.packages import Package
from torchlock.base.workshop import Workshop
from torchlock.digest import Digest
from torchlock.oci.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

PROJECT = Path(__file__).parents[1]
NAMES = {"python3.11-minimal": "3.11.2-6+deb12u9", "netbase": "6.4", "libc6": "2.36-9"}

_APT = """
import pathlib, shutil, sys
archive, words = pathlib.Path({archive!r}), sys.argv[1:]
with open(archive / "asked", "a") as file: print(*words, file=file)
if "indextargets" in words:
    print((archive / "targets").read_text(), end="")
elif "update" in words and (archive / "broken").exists():
    print("E: Failed to fetch http://user:secret@mirror.test/x  404  Not Found"); sys.exit(100)
elif "install" in words:
    print((archive / "listed").read_text(), end="")
elif "download" in words:
    names = [word for word in words[words.index("download") + 1:]]
    gone = 0
    for word in names:
        name, _, version = word.partition("=")
        found = list(archive.glob(f"{{name}}_{{version.replace(':', '%3a')}}_*.deb"))
        if not found:
            print(f"E: Version '{{version}}' for '{{name}}' was not found"); gone = 100
        for path in found: shutil.copy(path, ".")
    sys.exit(gone)
"""
_DPKG = """
import pathlib, sys
print(pathlib.Path(sys.argv[-1]).read_text(), end="")
"""
_BOOTSTRAP = """
import os, pathlib, shutil, sys, time
sys.path[:0] = {path!r}
import bases
archive = pathlib.Path({archive!r})
(archive / "bootstrapped").write_text(repr((sys.argv[1:], dict(os.environ), os.umask(0o077))))
if (archive / "slow").exists():
    print("I: installing essential packages...", flush=True)
    (archive / "pid").write_text(str(os.getpid()))
    time.sleep(60)
if (archive / "failing").exists():
    print("I: chroot architecture"); print("E: arm64 can neither be executed natively nor via qemu"); sys.exit(1)
print("I: installing essential packages...")
repository = pathlib.Path(sys.argv[-1].split("copy://")[1].removesuffix(" ./").replace("%20", " "))
stanzas = (repository / "Packages").read_text().strip().split("\\n\\n")
rows = [dict(line.split(": ", 1) for line in stanza.splitlines()) for stanza in stanzas]
text = (archive / "text").read_bytes() if (archive / "text").exists() else b"bin"
bases.root({{row["Package"]: row["Version"] for row in rows}}, text=text).save(pathlib.Path(sys.argv[-2]))
"""


@dataclass(kw_only=True, slots=True)
class Root:
    """The members of a tar, in any order."""

    members: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)

    def file(self, name: str, data: bytes = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Add a file."""
        self._add(name, tarfile.REGTYPE, data, mode, uid, gid)

    def folder(self, name: str, mode: int = 0o755, gid: int = 0) -> None:
        """Add a folder."""
        self._add(name, tarfile.DIRTYPE, b"", mode, 0, gid)

    def other(self, name: str, kind: bytes, target: str = "") -> None:
        """Add a link of some kind, or a special file."""
        self._add(name, kind, b"", 0o755, 0, 0, target)

    def save(self, path: Path, *, time: float = 0, owner: str = "root", pax: Mapping[str, str] | None = None) -> Path:
        """Write the tar."""
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as opened:
            for item, data in self.members:
                item.mtime, item.uname, item.gname, item.pax_headers = time, owner, owner, dict(pax or {})
                opened.addfile(item, io.BytesIO(data))
        return path

    def _add(  # noqa: PLR0917 - one call for all kinds
        self, name: str, kind: bytes, data: bytes, mode: int, uid: int, gid: int, target: str = ""
    ) -> None:
        item = tarfile.TarInfo(f"./{name}")
        item.type, item.mode, item.uid, item.gid, item.size, item.linkname = kind, mode, uid, gid, len(data), target
        self.members.append((item, data))


def root(packages: Mapping[str, str], text: bytes = b"bin") -> Root:
    """Make a root with these packages installed, each with one program of its own."""
    made = Root()
    made.folder(".")
    for name in ("etc", "usr", "usr/bin", "var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "dev", "run"):
        made.folder(name)
    made.other("bin", tarfile.SYMTYPE, "usr/bin")
    status = []
    for name, version in packages.items():
        made.file(f"usr/bin/{name}", text if name == "netbase" else b"bin", 0o755)
        made.file(f"var/lib/dpkg/info/{name}.list", f"/.\n/bin\n/bin/{name}\n".encode())
        made.file(f"var/lib/dpkg/info/{name}.md5sums", f"c1111bd512b29e821b120b86446026b8  bin/{name}\n".encode())
        status.append(f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n")
    made.file("var/lib/dpkg/status", "\n".join(status).encode())
    made.file("etc/passwd", b"root:*:0:0\n")
    return made


def deb(name: str, version: str, size: int = 0) -> bytes:
    """Return the bytes of a package as the tools here read them: its control file."""
    return f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: {'x' * (size + 1)}\n".encode()


def package(name: str, version: str, size: int = 0) -> Package:
    """Return a package of the archive."""
    data = deb(name, version, size)
    return Package(name=name, version=version, architecture="amd64", sha256=Digest.of(data), size=len(data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A mirror's packages in a folder, and the programs that read it on a PATH of their own."""

    folder: Path
    programs: Path

    def offer(self, packages: Iterable[Package]) -> None:
        """Make the mirror have exactly these packages."""
        for path in self.folder.glob("*.deb"):
            path.unlink()
        lines = ["Reading package lists..."]
        for item in packages:
            (self.folder / item.filename).write_bytes(deb(item.name, item.version))
            lines.append(f"'http://mirror.test/{item.filename}' {item.filename} {item.size} SHA256:{item.sha256.hex}")
        (self.folder / "listed").write_text("".join(f"{line}\n" for line in lines))

    @property
    def asked(self) -> list[str]:
        """What apt-get was asked."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


def archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Make an archive, and let the base's modules find its programs before all others."""
    made = Archive(folder=folder / "archive", programs=folder / "programs")
    made.folder.mkdir(parents=True)
    made.programs.mkdir()
    (made.folder / "targets").write_text("Debian|bookworm||http://mirror.test bookworm main\n")
    path = [str(PROJECT / "scripts"), str(PROJECT / "tests"), *(item for item in sys.path if "site-packages" in item)]
    for name, text in (("apt-get", _APT), ("dpkg-deb", _DPKG), ("mmdebstrap", _BOOTSTRAP)):
        program = made.programs / name
        program.write_text(f"#!{sys.executable} -IS\n{text.format(archive=str(made.folder), path=path)}")
        program.chmod(0o755)
    search = f"{made.programs}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", search)
    monkeypatch.setattr("torchlock.base.debian.SEARCH", search)
    made.offer([package(name, version) for name, version in NAMES.items()])
    return made


def workshop(folder: Path, *, offline: bool = False, mirror: str | None = None) -> Workshop:
    """Make a workshop with a store of its own."""
    blobs = Blobs(folder / "blobs")
    return Workshop(store=folder, blobs=blobs, reporter=Notes(), mirror=mirror, offline=offline)
