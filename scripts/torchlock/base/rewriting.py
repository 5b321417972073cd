"""A Debian root as a layer: mmdebstrap's tar written anew, without what the machine, its clock or the build left."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.layers import tar
from torchlock.layers.layer import Blob
from torchlock.layers.stream import BLOCK, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlock.layers.stream import Sink

# Links to folders below usr, through which packages give their paths.
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

_INFO = "var/lib/dpkg/info/"
_STATUS = "var/lib/dpkg/status"
# What a build leaves: devices, the host's names, apt's files (apt itself is not there), logs, locks and former states.
_GONE = frozenset({"etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list"})
_BELOW = ("dev/", "run/", "tmp/", "var/log/", "var/cache/apt/", "var/cache/ldconfig/", "var/lib/apt/", "proc/", "sys/")
_FORMER = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-")
_STALE = ("var/cache/debconf/", "var/lib/dpkg/")
# POSIX's own keywords of extended headers; all that they say stands in a header of ours, or is left out on purpose.
_ORDINARY = {
    "atime",
    "charset",
    "comment",
    "ctime",
    "gid",
    "gname",
    "linkpath",
    "mtime",
    "path",
    "size",
    "uid",
    "uname",
}
_LARGEST = 0o7777777
# PEP 552: the flags of byte code that is bound to its source's time, checked by hash, and not checked.
_TIMED, _CHECKED, _UNCHECKED = 0, 3, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A layer that was written, and what it holds.

    `packages` are names, versions and architectures as dpkg knows them; `contents` gives the digest of what each
    package owns, `generated` that of what no package owns, by folder; `altered` names the files of packages that are
    not what their packages ship.
    """

    blob: Blob
    packages: frozenset[tuple[str, str, str]]
    contents: Mapping[str, Digest] = field(hash=False)
    generated: Mapping[str, Digest] = field(hash=False)
    altered: Mapping[str, Sequence[str]] = field(hash=False)


def rewrite(source: Path, sink: Sink, progress: Callable[[int], None] | None = None) -> Written:
    """Write the layer of a root that mmdebstrap made; the same root gives the same bytes.

    Entries are sorted, times are the epoch, owners are numbers; a hard link becomes a symbolic one; byte code that is
    checked by hash becomes unchecked, and such as is bound to a file's time is left out. Raise ImageError for what no
    layer should hold.
    """
    with tarfile.open(source, "r:") as opened:
        root = _Root(opened)
        stream = Stream(sink, progress)
        plain = hashlib.sha256()
        pending = bytearray()
        for entry, owner, data in root.entries():
            for part in (_owned(tar.header(entry), *owner), data, tar.padding(len(data))):
                plain.update(part)
                pending += part
            if len(pending) >= BLOCK:
                stream.stored(bytes(pending))
                pending.clear()
        plain.update(tar.END)
        stream.stored(bytes(pending + tar.END))
        stream.flush()
        blob = Blob(digest=stream.digest, size=stream.size, diff_id=Digest(plain.hexdigest()))
        return root.written(blob)


class _Root:
    """The files of a root, in a tar, and an account of those that went into the layer."""

    def __init__(self, opened: tarfile.TarFile) -> None:
        self._tar = opened
        self._members = {name: item for item in opened if (name := posixpath.normpath(item.name)) != "."}
        self._owners = dict(self._owned_paths())
        self._contents: defaultdict[str, list[Any]] = defaultdict(list)
        self._generated: defaultdict[str, list[Any]] = defaultdict(list)
        self._sums: dict[str, str] = {}

    def entries(self) -> Iterator[tuple[tar.Entry, tuple[int, int], bytes]]:
        """Give each entry with its owner's numbers and its bytes, sorted by path."""
        for path in sorted(self._members):
            item = self._members[path]
            if _left_out(path, item):
                continue
            data = self._bytes(item) if item.isreg() else b""
            if path.endswith(".pyc"):
                flags = int.from_bytes(data[4:8], "little")
                if flags == _TIMED:
                    continue
                if flags == _CHECKED:
                    data = data[:4] + _UNCHECKED.to_bytes(4, "little") + data[8:]
            entry = self._entry(path, item, len(data))
            self._enter(entry, item, data)
            yield entry, (item.uid, item.gid), data

    def written(self, blob: Blob) -> Written:
        """Return the account."""
        return Written(
            blob=blob,
            packages=frozenset(self._installed()),
            contents={name: Digest.of_json(entries) for name, entries in self._contents.items()},
            generated={name: Digest.of_json(entries) for name, entries in self._generated.items()},
            altered=dict(self._altered()),
        )

    def _entry(self, path: str, item: tarfile.TarInfo, size: int) -> tar.Entry:
        if extra := ", ".join(sorted(item.pax_headers.keys() - _ORDINARY)):
            raise ImageError(f"the base: {path}", f"it has {extra}", "no extended attributes")
        if not 0 <= min(item.uid, item.gid) <= max(item.uid, item.gid) <= _LARGEST:
            raise ImageError(f"the base: {path}", f"the owner {item.uid}:{item.gid}", f"numbers up to {_LARGEST}")
        mode = item.mode & 0o7777
        if item.isdir():
            return tar.Entry(path=path, kind="folder", mode=mode)
        if item.issym():
            return tar.Entry(path=path, kind="link", mode=0o777, target=item.linkname)
        if item.islnk():
            target = posixpath.relpath(posixpath.normpath(item.linkname), posixpath.dirname(path) or ".")
            return tar.Entry(path=path, kind="link", mode=0o777, target=target)
        if not item.isreg():
            raise ImageError(f"the base: {path}", f"a special file (type {item.type!r})", "files, folders and links")
        return tar.Entry(path=path, mode=mode, size=size)

    def _enter(self, entry: tar.Entry, item: tarfile.TarInfo, data: bytes) -> None:
        path = entry.path
        folder = "/".join(path.split("/")[:-1][:3]) or "/"
        package = self._owners.get(path) if entry.kind != "folder" else None
        account = self._contents[package] if package else self._generated[folder]
        content = entry.target or (Digest.of(data).hex if entry.kind == "file" else "")
        account.append([path, entry.kind, entry.mode, item.uid, item.gid, content])
        if entry.kind == "file" and path in self._owners:
            self._sums[path] = hashlib.md5(data, usedforsecurity=False).hexdigest()

    def _bytes(self, item: tarfile.TarInfo) -> bytes:
        file = self._tar.extractfile(item)
        if file is None:
            raise ImageError(f"the base: {item.name}", "it has no bytes", "a file")
        return file.read()

    def _owned_paths(self) -> Iterator[tuple[str, str]]:
        """Give the path and the owner of each file that a package owns; of several owners the last is taken."""
        for name, item in sorted(self._members.items(), key=lambda pair: pair[0]):
            if name.startswith(_INFO) and name.endswith(".list"):
                package = name.removeprefix(_INFO).removesuffix(".list").partition(":")[0]
                for line in self._bytes(item).decode().splitlines():
                    yield _merged(line.lstrip("/")), package

    def _installed(self) -> Iterator[tuple[str, str, str]]:
        """Give what dpkg has installed; raise ImageError for a package that it did not finish."""
        for stanza in self._bytes(self._members[_STATUS]).decode().strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
            if fields.get("Status") != "install ok installed":
                found = f"{fields.get('Package')} is {fields.get('Status')!r}"
                raise ImageError("the base", found, "every package installed")
            yield fields["Package"], fields["Version"], fields["Architecture"]

    def _altered(self) -> Iterator[tuple[str, list[str]]]:
        """Give the files of each package whose bytes are not those that it ships."""
        for name, item in self._members.items():
            package = name.removeprefix(_INFO).removesuffix(".md5sums").partition(":")[0]
            if name.startswith(_INFO) and name.endswith(".md5sums"):
                rows = (line.split("  ", 1) for line in self._bytes(item).decode().splitlines())
                bad = [path for sum_, path in rows if self._sums.get(_merged(path), sum_) != sum_]
                if bad:
                    yield package, bad


def _left_out(path: str, item: tarfile.TarInfo) -> bool:
    """Whether a path is no part of the layer; folders of what is left out stay, but for those of apt."""
    if path in _GONE or path in _FORMER or path.startswith("etc/apt/apt.conf.d/99mmdebstrap"):
        return True
    if path.startswith(_STALE) and (path.endswith("-old") or posixpath.basename(path).startswith("lock")):
        return True
    return path.startswith(_BELOW) and not (item.isdir() and path in _KEPT)


# Folders that something expects to find, though what is in them is left out.
_KEPT = frozenset({"run/lock"})


def _merged(path: str) -> str:
    """Return a package's path with the links of the merged usr followed."""
    return f"usr/{path}" if path.split("/", 1)[0] in MERGED and "/" in path else path


def _owned(header: bytes, uid: int, gid: int) -> bytes:
    """Put an owner's numbers into the last block of a header, which has those of root (POSIX ustar)."""
    block = bytearray(header[-tar.BLOCK :])
    block[108:124] = b"%07o\x00%07o\x00" % (uid, gid)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    return header[: -tar.BLOCK] + bytes(block)
