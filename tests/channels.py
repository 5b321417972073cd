"""Small conda channels of real packages: `.conda` and `.tar.bz2` files built in code, and their repodata."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from servers import Site

# Where conda-build would have built the package: an installer puts the environment's own path in its place.
PREFIX = "/opt/conda/conda-bld/" + "placehold_" * 23 + "p"
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
FULL = ".".join(map(str, sys.version_info[:3]))
EPOCH = 315532800


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A symbolic link in a package."""

    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """What a package is built from; `files` map paths to contents, and what holds PREFIX is marked so in `paths.json`.

    `noarch` is "python" (its modules under `site-packages/`), "generic" or None; `info` are more files under `info/`,
    and take the place of those that are made. A link script is a file such as `bin/.name-post-link.sh`.
    """

    name: str
    version: str = "1.0"
    build: str = "0"
    subdir: str = "linux-64"
    noarch: str | None = None
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    files: Mapping[str, str | bytes | Link] = field(default_factory=dict)
    entry_points: tuple[str, ...] = ()
    ending: str = ".conda"
    info: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """The name of the package's file."""
        return f"{self.name}-{self.version}-{self.build}{self.ending}"

    @property
    def place(self) -> str:
        """The folder of the channel that the package belongs into."""
        return "noarch" if self.noarch else self.subdir

    @property
    def index(self) -> dict[str, Any]:
        """The package's `info/index.json`."""
        value: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": int("".join(filter(str.isdigit, self.build.rpartition("_")[2])) or 0),
            "depends": list(self.depends),
            "constrains": list(self.constrains),
            "license": "MIT",
            "subdir": self.place,
            "timestamp": 1_700_000_000_000,
        }
        return {**value, "noarch": self.noarch} if self.noarch else value


def pack(package: Package) -> bytes:
    """Return the bytes of a package's file, the same every time."""
    files = {path: data.encode() if isinstance(data, str) else data for path, data in package.files.items()}
    info: dict[str, bytes | Link] = {path: text.encode() for path, text in _info(package, files).items()}
    if package.ending == ".tar.bz2":
        return bz2.compress(archive({**info, **files}))
    stem = package.filename.removesuffix(package.ending)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, data in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", zstd.compress(archive(files))),
            (f"info-{stem}.tar.zst", zstd.compress(archive(info))),
        ):
            file.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def record(package: Package, data: bytes) -> dict[str, Any]:
    """Return the record of a package in `repodata.json`."""
    sums = {kind: hashlib.new(kind, data).hexdigest() for kind in ("md5", "sha256")}
    return {**package.index, **sums, "size": len(data)}


def repodata(packages: Iterable[Package], subdir: str) -> dict[str, Any]:
    """Return the `repodata.json` of one folder of a channel."""
    mine = [package for package in packages if package.place == subdir]
    return {
        "info": {"subdir": subdir},
        "packages": {item.filename: record(item, pack(item)) for item in mine if item.ending == ".tar.bz2"},
        "packages.conda": {item.filename: record(item, pack(item)) for item in mine if item.ending == ".conda"},
        "repodata_version": 1,
    }


def publish(site: Site, packages: Iterable[Package], name: str = "demo", subdirs: Iterable[str] = ("linux-64",)) -> str:
    """Serve a channel of these packages and return its address."""
    packages = list(packages)
    for subdir in (*subdirs, "noarch"):
        site.files[f"/{name}/{subdir}/repodata.json"] = json.dumps(repodata(packages, subdir)).encode()
    for package in packages:
        site.files[f"/{name}/{package.place}/{package.filename}"] = pack(package)
    return f"{site.url}/{name}"


def python(**changes: Any) -> Package:
    """Return a package of the running Python, which is lent to the environment, as a virtual environment does it."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    files: dict[str, str | bytes | Link] = {
        f"bin/python{RUNNING}": Link(target=str(base)),
        "bin/python3": Link(target=f"python{RUNNING}"),
        "bin/python": Link(target=f"python{RUNNING}"),
        "pyvenv.cfg": f"home = {base.parent}\ninclude-system-site-packages = false\n",
        f"lib/python{RUNNING}/site-packages/README.txt": "packages lie here\n",
    }
    build = f"h0_0_cp{RUNNING.replace('.', '')}"
    return Package(**{"name": "python", "version": FULL, "build": build, "files": files, **changes})


def _info(package: Package, files: Mapping[str, bytes | Link]) -> dict[str, str]:
    paths = {"paths": [_path(name, data) for name, data in sorted(files.items())], "paths_version": 1}
    made = {
        "info/index.json": json.dumps(package.index),
        "info/paths.json": json.dumps(paths),
        "info/files": "".join(f"{name}\n" for name in sorted(files)),
        "info/about.json": "{}",
    }
    if package.noarch == "python":
        link = {"type": "python", "entry_points": list(package.entry_points)}
        made["info/link.json"] = json.dumps({"noarch": link, "package_metadata_version": 1})
    return {**made, **package.info}


def _path(name: str, data: bytes | Link) -> dict[str, Any]:
    if isinstance(data, Link):
        return {"_path": name, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
    found = {
        "_path": name,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if PREFIX.encode() in data:
        found |= {"prefix_placeholder": PREFIX, "file_mode": "binary" if b"\0" in data else "text"}
    return found


def archive(files: Mapping[str, bytes | Link]) -> bytes:
    """Return a tar of files and links, sorted, with a fixed time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.mtime = EPOCH
            if isinstance(data, Link):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, data.target, 0o777
                file.addfile(member)
                continue
            member.mode = 0o755 if name.startswith(("bin/", "python-scripts/")) else 0o644
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()
