"""A Python out of an image's layers, that runs where it lies: no root, no container, only its own loader."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import struct
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from isal import igzip, isal_zlib

from torchlock.errors import ImageError
from torchlock.oci.descriptor import LAYER, LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

_LIBRARIES = re.compile(r"((usr/)?(local/)?lib(64)?)(/[a-z0-9_]+-linux-gnu)?/[^/]+\.so(\.[^/]*)?")
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_HOPS = 40
_PT_INTERP = 3
_IsalError = cast("type[Exception]", isal_zlib.error)  # its stub says instance


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """An interpreter of a base: the words that start it before its own options."""

    command: tuple[str, ...]


def unpack(layers: Sequence[tuple[Path, str]], python: str, folder: Path) -> Unpacked:
    """Write into `folder` what of layers (file and media type, bottom first) the interpreter at `python` needs to run.

    The layers have been read strictly before. No path that they give is followed on the disk: links are resolved
    among their own paths, and files are written below `folder` in plain folders.
    """
    view = _View(folder / "raw", re.compile(rf"(.+/)?({_stdlib(python)}|bin/{posixpath.basename(python)}$)"))
    for path, media_type in layers:
        view.add(path, media_type)
    binary = view.find(python.lstrip("/"))
    if binary is None:
        raise ImageError("the base", f"no {python} in its layers", "its interpreter")
    root = folder / "root"
    prefix = posixpath.dirname(posixpath.dirname(binary))
    for name in view.below(f"{prefix}/lib/python{python.rpartition('python')[2]}/"):
        view.place(name, root / name)
    view.place(binary, root / binary).chmod(0o755)
    libraries = root / "libraries"
    for name in view.matching(_LIBRARIES):
        target = libraries / posixpath.basename(name)
        if not target.exists():
            view.place(name, target)
    loader = view.find(_interpreter(root / binary, python).lstrip("/"))
    if loader is None:
        raise ImageError("the base", f"no dynamic loader for {python} in its layers", "a base that can run it")
    view.place(loader, root / "loader").chmod(0o755)
    shutil.rmtree(folder / "raw")
    return Unpacked(command=(str(root / "loader"), "--library-path", str(libraries), str(root / binary)))


class _View:
    """The paths of layers, one upon the other; the bytes of the wanted ones lie in a folder, by number."""

    def __init__(self, folder: Path, wanted: re.Pattern[str]) -> None:
        self._folder, self._wanted = folder, wanted
        self._files: dict[str, Path] = {}
        self._links: dict[str, str] = {}
        self._count = 0
        folder.mkdir()

    def add(self, path: Path, media_type: str) -> None:
        """Put a layer upon the others."""
        if media_type not in LAYERS:
            raise ImageError(
                f"the layer {path.name[:19]}", f"its media type is {media_type!r}", "a tar, or one in gzip"
            )
        with path.open("rb") as file:
            plain = file if media_type == LAYER else igzip.IGzipFile(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
            try:
                with tarfile.open(fileobj=cast("BinaryIO", plain), mode="r|") as opened:
                    for item in opened:
                        self._take(opened, item)
            except (tarfile.TarError, EOFError, _IsalError) as error:
                raise ImageError(f"the layer {path.name[:19]}", f"cannot be unpacked: {error}") from error

    def find(self, path: str) -> str | None:
        """Return the path of a file after all links on the way, or None where there is none."""
        done: list[str] = []
        left = path.split("/")[::-1]
        for _ in range(_HOPS * 10):
            if not left:
                found = "/".join(done)
                return found if found in self._files else None
            part = left.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            target = self._links.get("/".join(done))
            if target is not None:
                done = [] if target.startswith("/") else done[:-1]
                left += target.split("/")[::-1]
        return None

    def below(self, above: str) -> list[str]:
        """Return the files whose paths begin so."""
        return sorted(name for name in self._files if name.startswith(above))

    def matching(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """Give the paths, of files and of links to files, that a pattern describes; those of `usr/local` first."""
        names = {*self._files, *self._links}
        for name in sorted(names, key=lambda name: (not name.startswith("usr/local/"), name)):
            if pattern.fullmatch(name) and self.find(name) is not None:
                yield name

    def place(self, name: str, target: Path) -> Path:
        """Make a file's bytes lie at a path of the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        found = self.find(name)
        if found is None:
            raise ImageError("the base", f"{name} leads nowhere", "a file")
        os.link(self._files[found], target)
        return target

    def _take(self, opened: tarfile.TarFile, item: tarfile.TarInfo) -> None:
        name = posixpath.normpath(item.name).lstrip("/")
        above, base = posixpath.split(name)
        if base == _OPAQUE:
            self._forget(above, itself=False)
        elif base.startswith(_WHITEOUT):
            self._forget(posixpath.join(above, base.removeprefix(_WHITEOUT)), itself=True)
        elif item.issym():
            self._forget(name, itself=True)
            self._links[name] = item.linkname
        elif item.islnk():
            first = posixpath.normpath(item.linkname).lstrip("/")
            if first in self._files:
                self._files[name] = self._files[first]
            elif first in self._links:
                self._links[name] = self._links[first]
        elif item.isreg():
            self._forget(name, itself=True)
            if self._wanted.match(name) or _LIBRARIES.fullmatch(name):
                self._files[name] = self._write(opened, item)

    def _write(self, opened: tarfile.TarFile, item: tarfile.TarInfo) -> Path:
        self._count += 1
        target = self._folder / str(self._count)
        source = opened.extractfile(item)
        if source is not None:
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        return target

    def _forget(self, path: str, *, itself: bool) -> None:
        if itself:
            self._files.pop(path, None)
            if self._links.pop(path, None) is not None:
                return
        else:
            for kept in (self._files, self._links):
                for name in [name for name in kept if name.startswith(f"{path}/")]:
                    del kept[name]


def _stdlib(python: str) -> str:
    """Return a pattern of the few files of the standard library that a compiler needs, after the prefix."""
    name = re.escape(posixpath.basename(python))
    return rf"lib/{name}/((collections|encodings|importlib|re)/)?[^/]+\.py$"


def _interpreter(binary: Path, where: str) -> str:
    """Return the dynamic loader that a program names (ELF64, little-endian: program header PT_INTERP)."""
    data = binary.read_bytes()
    if data[:6] == b"\x7fELF\x02\x01":
        start, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
        for at in range(start, start + size * count, size):
            kind, _, offset = struct.unpack_from("<LLQ", data, at)
            if kind == _PT_INTERP:
                return data[offset : data.index(b"\0", offset)].decode()
    raise ImageError("the base", f"{where} is not a program for Linux that names its loader", "a CPython of 64 bits")
