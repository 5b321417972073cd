"""Reading facts: of a wheel, from a file or by range, and of installed files; only the members that matter."""

from __future__ import annotations

import io
import mmap
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from torchlock.errors import WheelError
from torchlock.facts import binary
from torchlock.facts.facts import Facts, Module
from torchlock.facts.libraries import cuda_library, cuda_release, cudnn_generation
from torchlock.wheels.archive import REMEDY, UNREADABLE, Archive, Member

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# A compiled file of this size or less is read whatever it is called; of the larger ones, only modules.
SMALL = 4 << 20
# The largest known module, TensorFlow's, is under this.
LARGEST = 1 << 30
_MAX_RATIO, _RATIO_FLOOR = 50, 64 << 20
_LOCAL_SIZE, _LOCAL_MAGIC = 30, b"PK\x03\x04"
_COMPILED = re.compile(r".+?\.(?:so(?:\.\d+)*|pyd|dylib|dll)", re.IGNORECASE)
# What Python imports: anything with its tag in its name, .pyd, any other .so that is not named as a library; and the
# libraries that speak to Python (libtorch_python, libarrow_python).
_EXTENSION = re.compile(r".*python.*|.+\.(?:abi3|pypy.+)\.so|(?!lib).+\.so|.+\.pyd", re.IGNORECASE)
_ARCHITECTURES = re.compile(rb"\0((?:(?:sm|compute)_\d+[a-z]?)(?: (?:sm|compute)_\d+[a-z]?)*)\0")
_TORCH_PYTHON = re.compile(r"(?:lib)?torch_python\.(?:so|dylib|dll)")
_TORCH_VERSION = "torch/version.py"
_TORCH_CUDA = re.compile(r"^cuda(?:\s*:[^=\n]*)?\s*=\s*['\"](\d+\.\d+)(?:\.\d+)*['\"]", re.MULTILINE)
_RUNTIME = re.compile(r"nvidia_cuda_runtime(?:_cu\d+)?-(\d+\.\d+)[\d.]*\.dist-info/METADATA")
_VERSION = re.compile(r"(GLIBC|GLIBCXX)_(\d+(?:\.\d+)*)")


@dataclass(kw_only=True, slots=True)
class _Reading:
    """What has been read so far of one artifact; `where` names it in messages."""

    where: str
    names: list[str]
    marks: dict[str, tuple[binary.Mark, str]] = field(default_factory=dict)
    architectures: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    versions: dict[str, set[str]] = field(default_factory=dict)
    cuda: str | None = None

    def take(self, name: str, data: bytes) -> None:
        """Take the bytes of one file."""
        if name == _TORCH_VERSION:
            stated = _TORCH_CUDA.search(data.decode("utf-8", "replace"))
            self.cuda = stated[1] if stated else None
            return
        kind = binary.kind(data)
        if kind is None:
            return
        if mark := binary.mark(data):
            self.marks[name] = (mark, kind)
        if _TORCH_PYTHON.fullmatch(PurePosixPath(name).name) and (match := _ARCHITECTURES.search(data)):
            self.architectures |= set(match[1].decode().split())
        self.link(name, data)

    def link(self, name: str, data: bytes | mmap.mmap) -> None:
        """Take only what a file links."""
        links = binary.links(data, f"{self.where}: {name}")
        self.needed |= set(links.needed)
        for version in links.versions:
            if found := _VERSION.fullmatch(version):
                self.versions.setdefault(found[1], set()).add(found[2])

    def facts(self) -> Facts:
        """Put together what was read."""
        brought = {PurePosixPath(name).name for name in self.names if "/stubs/" not in name}
        bundled = {library for name in brought if (library := cuda_library(name))}
        needed = {library for name in self.needed - brought if (library := cuda_library(name))}
        runtime = next((match[1] for name in self.names if (match := _RUNTIME.fullmatch(name))), None)
        libraries = needed | bundled
        return Facts(
            modules=self._modules(),
            architectures=tuple(self.architectures),
            cuda=self.cuda or runtime or cuda_release(libraries),
            cudnn=cudnn_generation(libraries),
            glibc=_newest(self.versions.get("GLIBC")),
            libstdcxx=_newest(self.versions.get("GLIBCXX")),
            needed=tuple(needed),
            bundled=tuple(bundled),
        )

    def _modules(self) -> tuple[Module, ...]:
        """Decide what a sized module leaves open: one build has one NumPy, that which its plain neighbours name."""
        plain = {mark.numpy for mark, _ in self.marks.values() if mark.how == "plain"}
        unsaid = "1" if plain == {"1"} else "2"
        return tuple(
            Module(path=name, numpy=mark.numpy or unsaid, kind=kind, late=mark.how == "late")
            for name, (mark, kind) in self.marks.items()
        )


def of_wheel(file: BinaryIO, filename: str) -> Facts:
    """Read the facts of a wheel from any seekable reader; raise WheelError where it is damaged.

    Read are the directory at its end, and the members that `_matters` names: of a torch wheel of 755 MB, 8 MB.
    """
    try:
        with zipfile.ZipFile(file) as reader:
            infos = {info.filename: info for info in reader.infolist() if not info.is_dir()}
    except UNREADABLE as error:
        raise WheelError(filename, f"its central directory cannot be read ({error})", remedy=REMEDY) from error
    reading = _Reading(where=filename, names=list(infos))
    for name, info in sorted(infos.items(), key=lambda item: item[1].header_offset):
        if _matters(name, info.file_size):
            reading.take(name, _member(file, info, filename))
    return reading.facts()


def of_folder(folder: Path, files: Iterable[Path]) -> Facts:
    """Read the facts of installed files, named relative to `folder` or absolutely; absent ones are passed over.

    What the large libraries link is read here too, for a file system costs no more than the pages that are touched.
    """
    paths = {
        path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix(): path for path in files
    }
    found = {name: full for name, path in sorted(paths.items()) if (full := folder / path).is_file()}
    reading = _Reading(where=str(folder), names=list(found))
    for name, path in found.items():
        size = path.stat().st_size
        if _matters(name, size):
            reading.take(name, path.read_bytes())
        elif size and _COMPILED.fullmatch(path.name):
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                reading.link(name, data)
    return reading.facts()


def _matters(name: str, size: int) -> bool:
    """Tell whether a file is read: torch's version, every module, and the small ones of the libraries."""
    base = PurePosixPath(name).name
    if name == _TORCH_VERSION:
        return True
    return bool(_COMPILED.fullmatch(base)) and (size <= SMALL or bool(_EXTENSION.fullmatch(base)))


def _member(file: BinaryIO, info: zipfile.ZipInfo, where: str) -> bytes:
    """Read one member in one piece, as the central directory describes it."""
    name = info.filename
    if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise WheelError(where, f"{name!r} is encrypted, or neither stored nor deflated", remedy=REMEDY)
    if info.file_size > max(_RATIO_FLOOR, _MAX_RATIO * info.compress_size):
        found = f"the {info.compress_size} bytes of {name!r} claim to hold {info.file_size}"
        raise WheelError(where, found, f"at most {_MAX_RATIO}:1", REMEDY)
    try:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_SIZE)
        if not header.startswith(_LOCAL_MAGIC):
            raise WheelError(where, f"{name!r} has no local header", remedy=REMEDY)
        file.seek(info.header_offset + _LOCAL_SIZE + sum(struct.unpack_from("<2H", header, 26)))
        packed = file.read(info.compress_size)
    except (struct.error, ValueError) as error:
        raise WheelError(where, f"{name!r} cannot be read ({error})", remedy=REMEDY) from error
    member = Member(
        name=name,
        method=info.compress_type,
        crc=info.CRC,
        size=info.file_size,
        compressed_size=info.compress_size,
        offset=0,
        mode=0,
    )
    return Archive(where=where, file=io.BytesIO(packed), members={name: member}).bytes_of(member, LARGEST)


def _newest(versions: Iterable[str] | None) -> str | None:
    """Return the newest of dotted releases."""
    return max(versions or (), key=lambda text: [int(part) for part in text.split(".")], default=None)
