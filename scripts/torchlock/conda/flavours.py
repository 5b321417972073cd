"""Flavours: the same profile from wheels and from conda packages, side by side: builds, CUDA, BLAS, number and size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchlock.conda import gating

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torchlock.conda.channels import Record
    from torchlock.conda.document import Package
    from torchlock.locks.lock import Lock

_NONE = "none"
_INSIDE = "inside the wheels"
_ROWS = ("Python", "torch", "numpy", "build of torch", "CUDA", "BLAS of torch", "BLAS of numpy", "packages", "download")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavour:
    """One flavour on one platform; `size` is in bytes, None where that of some package is not known."""

    kind: str
    python: str
    torch: str
    numpy: str
    build: str
    cuda: str | None
    torch_blas: str
    numpy_blas: str
    count: int
    size: int | None

    @property
    def blas(self) -> str:
        """Return both libraries in one text."""
        return f"torch {self.torch_blas}, numpy {self.numpy_blas}"

    def to_json(self) -> dict[str, Any]:
        """Return the flavour as a JSON value."""
        return {name: getattr(self, name) for name in self.__slots__}

    def rows(self) -> tuple[str, ...]:
        """Return what a table shows of it."""
        size = "not known" if self.size is None else f"{self.size / 1_000_000_000:.2f} GB"
        shown = (self.torch, self.numpy, self.build, self.cuda or _NONE, self.torch_blas, self.numpy_blas)
        return (self.python, *shown, str(self.count), size)


def of_packages(packages: Iterable[Package], records: Mapping[str, Record] | None = None) -> Flavour:
    """Return the flavour of conda packages on one platform; `records` are those of the channels, by address."""
    known = {item.name: item for item in packages}
    torch, numpy, python = (known.get(name) for name in ("pytorch", "numpy", "python"))
    recorded = [(records or {}).get(item.url) for item in known.values()]
    found = [item.value.get("size") if item else None for item in recorded]
    sizes = [item for item in found if isinstance(item, int)]
    return Flavour(
        kind="conda",
        python=_minor(python.version) if python else _NONE,
        torch=torch.version if torch else _NONE,
        numpy=numpy.version if numpy else _NONE,
        build=f"{_channel(torch)}::{torch.build}" if torch else _NONE,
        cuda=_cuda(known),
        torch_blas=_torch_blas(known),
        numpy_blas=_blas(known) if numpy else _NONE,
        count=len(known),
        size=sum(sizes) if len(sizes) == len(found) else None,
    )


def of_wheels(lock: Lock) -> Flavour:
    """Return the flavour of a lock of wheels: what BLAS they hold is not in a lock."""
    known = {item.project: item for item in lock.artifacts}
    torch, numpy = known.get("torch"), known.get("numpy")
    sizes = [item.size for item in lock.artifacts if item.size is not None]
    blas = f"MKL {known['mkl'].version}" if "mkl" in known else _INSIDE
    return Flavour(
        kind="pip",
        python=lock.python,
        torch=torch.version if torch else _NONE,
        numpy=numpy.version if numpy else _NONE,
        build=f"{torch.index}::{torch.filename}" if torch else _NONE,
        cuda=lock.facts.cuda,
        torch_blas=blas,
        numpy_blas=blas,
        count=len(lock.artifacts),
        size=sum(sizes) if len(sizes) == len(lock.artifacts) else None,
    )


def table(title: str, pip: Flavour, conda: Flavour) -> Iterator[str]:
    """Yield a Markdown table of both flavours, a row for each property."""
    yield f"| {title} | pip | conda |"
    yield "|---|---|---|"
    for name, ours, theirs in zip(_ROWS, pip.rows(), conda.rows(), strict=True):
        yield f"| {name} | {ours} | {theirs} |"


def differences(pip: Flavour, conda: Flavour) -> list[str]:
    """List in words what differs."""
    rows = zip(_ROWS, pip.rows(), conda.rows(), strict=True)
    return [f"{name}: {ours} from wheels, {theirs} from conda" for name, ours, theirs in rows if ours != theirs]


def _cuda(known: Mapping[str, Package]) -> str | None:
    """Return the CUDA that torch was built for, and that of the runtime beside it."""
    torch = known.get("pytorch")
    built = gating.release(torch.build) if torch else None
    runtime = known.get("cuda-cudart")
    if built is None or runtime is None or runtime.version.startswith(f"{built}."):
        return built
    return f"{built} (runtime {runtime.version})"


def _torch_blas(known: Mapping[str, Package]) -> str:
    """Return what torch's own libraries are linked with: libtorch is a package of its own in conda-forge."""
    torch = known.get("libtorch") or known.get("pytorch")
    if torch is None:
        return _NONE
    if "mkl" in torch.depends and "mkl" in known:
        return f"MKL {known['mkl'].version}"
    return _blas(known) if {"libblas", "libcblas"} & torch.depends.keys() else "inside the package"


def _blas(known: Mapping[str, Package]) -> str:
    """Return which library stands behind `libblas`: its build string names it."""
    interface = known.get("libblas")
    name = interface.build.rpartition("_")[2] if interface else ""
    backing = {"mkl": ("MKL", "mkl"), "openblas": ("OpenBLAS", "libopenblas"), "accelerate": ("Accelerate", "")}
    shown, package = backing.get(name, (name or _NONE, ""))
    return f"{shown} {known[package].version}" if package in known else shown


def _channel(package: Package) -> str:
    return package.channel.rpartition("/")[2] or package.channel


def _minor(version: str) -> str:
    return re.sub(r"^(\d+\.\d+).*", r"\1", version)
