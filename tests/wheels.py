"""Wheels zipped from literal dicts: true by default, and broken in any one way on request."""

from __future__ import annotations

import base64
import hashlib
import warnings
import zipfile
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from torchlock.digest import Digest
from torchlock.locks.lock import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


def row(data: bytes, algorithm: str = "sha256") -> str:
    """Return the hash and size columns of a RECORD line for some bytes."""
    value = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    return f"{algorithm}={value},{len(data)}"


def metadata(name: str, version: str, requires: Iterable[str] = ()) -> str:
    """Return a METADATA text."""
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    return "\n".join(lines) + "\n"


def wheel_file(tag: str, version: str = "1.0") -> str:
    """Return a WHEEL text for a (possibly compressed) tag."""
    pythons, abis, platforms = (part.split(".") for part in tag.split("-"))
    tags = [f"Tag: {p}-{a}-{m}" for p in pythons for a in abis for m in platforms]
    return "\n".join([f"Wheel-Version: {version}", "Generator: tests", "Root-Is-Purelib: true", *tags]) + "\n"


def make(
    folder: Path,
    files: Mapping[str, bytes | str] | None = None,
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: Iterable[str] = (),
    record: str | Mapping[str, str | None] | None = None,
    omit: Iterable[str] = (),
    extra: Iterable[tuple[str | zipfile.ZipInfo, bytes]] = (),
    modes: Mapping[str, int] | None = None,
    method: int = zipfile.ZIP_DEFLATED,
    filename: str | None = None,
) -> Path:
    """Zip a wheel into `folder` and return its path.

    `files` maps member names to contents; METADATA, WHEEL and a true RECORD are added beside them, and a member of
    that name in `files` takes their place. `record` is the whole text of RECORD, or maps paths to what stands after
    the first comma (None drops the line). `omit` leaves members out of the ZIP only. `extra` members come last, as
    they are, and RECORD does not list them. `modes` maps member names to Unix modes (default 0o100644).
    """
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    contents: dict[str, bytes | str] = {
        **(files if files is not None else {f"{name.replace('-', '_')}/__init__.py": "value = 1\n"}),
    }
    contents.setdefault(f"{info}/METADATA", metadata(name, version, requires))
    contents.setdefault(f"{info}/WHEEL", wheel_file(tag))
    members = {path: data.encode() if isinstance(data, str) else data for path, data in contents.items()}
    if not isinstance(record, str):
        rows: dict[str, str | None] = {path: row(data) for path, data in members.items()}
        rows |= {f"{info}/RECORD": ",", **(record or {})}
        record = "".join(f"{path},{rest}\n" for path, rest in rows.items() if rest is not None)
    members.setdefault(f"{info}/RECORD", record.encode())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (filename or f"{name.replace('-', '_')}-{version}-{tag}.whl")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")  # a name given twice on purpose
        for member, data in members.items():
            if member not in set(omit):
                file.writestr(entry(member, (modes or {}).get(member, 0o100644), method), data)
        for spec, data in extra:
            file.writestr(entry(spec, method=method) if isinstance(spec, str) else spec, data)
    return path


def entry(name: str, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    """Return a ZIP entry with a fixed time and this Unix mode."""
    info = zipfile.ZipInfo(name)
    info.compress_type = method
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def edit(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Change a file's bytes in place."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def local(path: Path, member: str) -> int:
    """Return the offset of a member's local header."""
    with zipfile.ZipFile(path) as file:
        return file.getinfo(member).header_offset


def payload(path: Path, member: str) -> int:
    """Return the offset of a member's (compressed) bytes."""
    data, start = path.read_bytes(), local(path, member)
    return (
        start
        + 30
        + int.from_bytes(data[start + 26 : start + 28], "little")
        + int.from_bytes(data[start + 28 : start + 30], "little")
    )


def central(path: Path, member: str) -> int:
    """Return the offset of a member's central directory header."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        at = file.start_dir
        for info in file.infolist():
            if info.filename == member:
                return at
            at += 46 + sum(int.from_bytes(data[at + field : at + field + 2], "little") for field in (28, 30, 32))
    raise KeyError(member)


def flip(path: Path, member: str) -> Path:
    """Flip the lowest bit of the middle byte of a member's compressed bytes."""
    with zipfile.ZipFile(path) as file:
        size = file.getinfo(member).compress_size
    at = payload(path, member) + size // 2

    def change(data: bytearray) -> None:
        data[at] ^= 1

    return edit(path, change)


def artifact(path: Path) -> Artifact:
    """Return the artifact that a wheel is, as if from `pypi`."""
    project, version, _, _ = parse_wheel_filename(path.name)
    return Artifact(
        project=project,
        version=str(version),
        filename=path.name,
        sha256=Digest.of_file(path),
        size=path.stat().st_size,
        upload_time=None,
        index="pypi",
    )
