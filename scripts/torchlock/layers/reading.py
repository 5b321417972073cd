"""Layers read strictly: any tar or gzipped tar of an image, ours or a base's, entry by entry, never into memory."""

from __future__ import annotations

import hashlib
import posixpath
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from isal import igzip, isal_zlib

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.layers import headers
from torchlock.layers.headers import BLOCK, HeaderError
from torchlock.oci.descriptor import LAYER, LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A layer may hold so many entries and bytes, and above 64 MiB at most so many times the bytes of its blob.
ENTRIES = 500_000
TOTAL = 64 << 30
RATIO, RATIO_FLOOR = 100, 64 << 20

_CHUNK = 1 << 20
_DEPTH = 128
# Image specification 1.1, "Whiteouts".
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_IsalError = cast("type[Exception]", isal_zlib.error)  # its stub says instance


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One entry: `kind` is file, folder, link, hardlink, whiteout or opaque; `path` is relative, the root's is `.`.

    `sha256` is that of a file's bytes, else None; `target` is where a link leads, or the path that a hard link doubles.
    """

    path: str
    kind: str
    mode: int
    size: int
    sha256: Digest | None
    target: str
    uid: int
    gid: int
    mtime: int


def entries(path: Path, media_type: str, expected: Digest | None = None) -> Iterator[Read]:
    """Read a layer to its end; raise ImageError at the first thing that engines do not all take the same way.

    With `expected`, a diff_id, the last act is to hold the tar against it: until then nothing read is to be trusted.
    """
    with _opened(path, media_type) as stream:
        names = _Names()
        try:
            while (header := headers.read(stream.take)) is not None:
                item = names.admit(header)
                sha256 = stream.content(header.size) if item == "file" else None
                yield _read(header, item, sha256)
        except HeaderError as error:
            raise ImageError(stream.where, f"it holds {error}", "a layer that can be read in one way only") from error
        stream.end()
        if expected is not None and stream.digest != expected:
            raise ImageError(stream.where, f"its tar has the digest {stream.digest}", str(expected))


def diff_id(path: Path, media_type: str) -> Digest:
    """Return the digest of a layer's tar, which is not looked into; raise ImageError where it cannot be unpacked."""
    with _opened(path, media_type) as stream:
        while stream.some():
            pass
        return stream.digest


@contextmanager
def _opened(path: Path, media_type: str) -> Iterator[_Stream]:
    """Open a layer's tar; turn what its bytes provoke into ImageError."""
    where = f"the layer {path.name[:19]}"
    if media_type not in LAYERS:
        more = ": zstd is not read here" if media_type.endswith("zstd") else ""
        raise ImageError(where, f"its media type is {media_type!r}{more}", "a tar, or a tar in gzip")
    with path.open("rb") as file:
        if media_type == LAYER:
            yield _Stream(file, where, TOTAL)
            return
        limit = min(TOTAL, max(RATIO_FLOOR, RATIO * file.seek(0, 2)))
        file.seek(0)
        try:
            with igzip.IGzipFile(fileobj=file, mode="rb") as plain:  # type: ignore[no-untyped-call]
                yield _Stream(cast("BinaryIO", plain), where, limit)
        except (EOFError, OSError, _IsalError) as error:
            raise ImageError(where, f"it is not a whole gzip stream ({error})", "the bytes of its digest") from error


class _Stream:
    """The tar within a layer: taken in order, hashed and counted."""

    def __init__(self, file: BinaryIO, where: str, limit: int) -> None:
        self.where = where
        self._file, self._left = file, limit
        self._state = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        """The digest of what was taken."""
        return Digest(self._state.hexdigest())

    def some(self, most: int = _CHUNK) -> bytes:
        """Take some bytes, or none at the end."""
        data = self._file.read(most)
        self._left -= len(data)
        if self._left < 0:
            raise ImageError(self.where, "it unpacks to more bytes than any layer has", f"less than {RATIO}:1")
        self._state.update(data)
        return data

    def take(self, size: int) -> bytes:
        """Take exactly so many bytes."""
        data = self.some(size)
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                raise ImageError(self.where, "it ends in the middle", "a tar with its end")
            data += more
        return data

    def content(self, size: int) -> Digest:
        """Take a file's bytes and what fills its last block."""
        state, left = hashlib.sha256(), size
        while left:
            data = self.take(min(left, _CHUNK))
            state.update(data)
            left -= len(data)
        self.take(-size % BLOCK)
        return Digest(state.hexdigest())

    def end(self) -> None:
        """Take the second block of zeros, and no more than zeros after it."""
        data = self.take(BLOCK)
        while data:
            if data.count(0) != len(data):
                raise ImageError(self.where, "something follows its end", "zeros, or nothing")
            data = self.some()


class _Names:
    """The paths of a layer so far: each once, none beneath what is no folder, no link out of the root."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._above: set[str] = set()

    def admit(self, header: headers.Header) -> str:
        """Take an entry's path; return its kind, or raise HeaderError."""
        path = _normal(header.path)
        folder, name = posixpath.split(path)
        kind = header.kind
        if len(self._kinds) >= ENTRIES:
            raise HeaderError(f"more than {ENTRIES} entries")
        if path == "." and kind != "folder":
            raise HeaderError(f"a {kind} in the place of the root")
        if name.startswith(_WHITEOUT):
            kind = _whiteout(path, name, header)
        if kind == "link":
            _leads(header.target, folder, path)
        if kind == "hardlink" and self._kinds.get(_normal(header.target)) != "file":
            raise HeaderError(f"the hard link {path!r} to {header.target!r}, which is no file before it in this layer")
        self._claim(posixpath.join(folder, name.removeprefix(_WHITEOUT)) if kind == "whiteout" else path, kind)
        return kind

    def _claim(self, path: str, kind: str) -> None:
        if path in self._kinds:
            raise HeaderError(f"{path!r} twice")
        if path in self._above and kind != "folder":
            raise HeaderError(f"the {kind} {path!r} and something beneath it")
        self._kinds[path] = kind
        above = posixpath.dirname(path)
        while above:
            if self._kinds.get(above, "folder") != "folder":
                raise HeaderError(f"{path!r} beneath the {self._kinds[above]} {above!r}")
            if above in self._above:
                break
            self._above.add(above)
            above = posixpath.dirname(above)


def _normal(text: str) -> str:
    """Return a path relative to the root, or raise HeaderError; a leading `./` and a final slash are usual."""
    path = text.removeprefix("./").removesuffix("/") or "."
    parts = path.split("/")
    if text.startswith("/"):
        raise HeaderError(f"the absolute name {text!r}")
    if ".." in parts:
        raise HeaderError(f"the name {text!r}, which leaves its folder")
    if (not text or "" in parts or "." in parts) and (path != "." or text not in (".", "./")):
        raise HeaderError(f"the name {text!r}, which has an empty part")
    if len(parts) > _DEPTH:
        raise HeaderError(f"a name of {len(parts)} parts")
    return path


def _whiteout(path: str, name: str, header: headers.Header) -> str:
    """Return whether an entry removes one path or all that a folder had; a bare or unknown one is refused."""
    if header.kind != "file" or header.size:
        raise HeaderError(f"the whiteout {path!r}, a {header.kind} of {header.size} bytes")
    if name == _OPAQUE:
        return "opaque"
    removed = name.removeprefix(_WHITEOUT)
    if removed in ("", ".", "..") or removed.startswith(_WHITEOUT):
        raise HeaderError(f"the whiteout {path!r}, which names nothing that could be removed")
    return "whiteout"


def _leads(target: str, folder: str, path: str) -> None:
    """Refuse a symbolic link that climbs above the root."""
    depth = 0 if target.startswith("/") or not folder else folder.count("/") + 1
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise HeaderError(f"the link {path!r} to {target!r}, which leaves the root")
    if not target:
        raise HeaderError(f"the link {path!r} to nothing")


def _read(header: headers.Header, kind: str, sha256: Digest | None) -> Read:
    target = _normal(header.target) if kind == "hardlink" else header.target
    return Read(
        path=_normal(header.path),
        kind=kind,
        mode=header.mode,
        size=header.size,
        sha256=sha256,
        target=target,
        uid=header.uid,
        gid=header.gid,
        mtime=header.mtime,
    )
