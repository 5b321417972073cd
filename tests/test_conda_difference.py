"""The difference of two conda locks in words: what moved, was rebuilt, comes from elsewhere, or has other bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from channels import Package, python
from condas import locked
from torchlock.conda.difference import diff
from torchlock.digest import Digest

if TYPE_CHECKING:
    from torchlock.conda.document import CondaLock

URL = "https://conda.anaconda.org/conda-forge"
TORCH = Package(name="pytorch", version="2.4.1", build="cpu_mkl_py311h0_102", depends=("mkl", "libblas"))
BLAS = Package(name="libblas", version="3.11.0", build="9_h4a7cf45_openblas")
MKL = Package(name="mkl", version="2023.2.0")
NUMPY = Package(name="numpy", version="2.1.3")
BASE = (python(version="3.11.9"), TORCH, BLAS, MKL, NUMPY)
OLD = locked(URL, BASE)


def lines(new: CondaLock, old: CondaLock = OLD) -> list[str]:
    """Return the difference in words, without the head."""
    found = list(diff(old, new).lines())
    assert found[0] == "demo-cpu on linux-64, conda:" + ("" if found[1:] else " no change")
    return found[1:]


def swapped(name: str, **changes: object) -> CondaLock:
    """Return the lock with other values of one package."""
    items = [replace(item, **changes) if item.name == name else item for item in OLD.all_packages]  # type: ignore[arg-type]
    return replace(OLD, all_packages=tuple(items))


def test_none() -> None:
    """Locks of the same packages do not differ."""
    assert lines(OLD) == []
    assert not diff(OLD, OLD).changes


def test_packages() -> None:
    """Packages that came, went, and moved up, down, or in a way that PEP 440 does not order."""
    more = (*BASE, Package(name="openssl", version="1.1.1w"))
    new = [python(version="3.11.9"), TORCH, BLAS, replace(NUMPY, version="2.1.2"), Package(name="zlib", version="1.3")]
    found = lines(locked(URL, [*new, Package(name="openssl", version="1.1.1x")]), locked(URL, more))
    assert found == [
        "  BLAS: torch MKL 2023.2.0, numpy OpenBLAS -> torch OpenBLAS, numpy OpenBLAS",
        "  removed mkl 2023.2.0 0",
        "  down numpy 2.1.3 -> 2.1.2",
        "  moved openssl 1.1.1w -> 1.1.1x",
        "  added zlib 1.3 0",
    ]


def test_build() -> None:
    """A CUDA build in a CPU build's place shows in the package and in the facts."""
    cuda = replace(TORCH, build="cuda120_py311h0_302")
    found = lines(locked(URL, [cuda, *(item for item in BASE if item is not TORCH)]))
    assert found == [
        "  torch build: conda-forge::cpu_mkl_py311h0_102 -> conda-forge::cuda120_py311h0_302",
        "  CUDA: none -> 12.0",
        "  rebuilt pytorch 2.4.1: cpu_mkl_py311h0_102 -> cuda120_py311h0_302",
    ]


def test_channel() -> None:
    """A package that comes from another channel is named with both."""
    other = "https://conda.anaconda.org/pytorch"
    assert lines(swapped("numpy", channel=other)) == ["  channel of numpy 2.1.3 (channel conda-forge -> pytorch)"]


def test_alarm() -> None:
    """Other bytes under an address that was known before are an alarm, and come first."""
    zero = Digest("0" * 64)
    new = swapped("numpy", sha256=zero)
    before = next(item.sha256 for item in OLD.all_packages if item.name == "numpy")
    found = diff(OLD, new)
    assert [change.name for change in found.alarms] == ["numpy"]
    assert lines(new) == [f"  ALARM: other bytes under the name numpy-2.1.3-0.conda: {before} -> {zero}"]
    assert found.to_json()["alarm"] is True


def test_facts() -> None:
    """What a lock comes from is told, and a record that says less than it did."""
    new = replace(swapped("mkl", constrained=False), snapshot_digest=Digest("1" * 64))
    assert lines(new) == [
        "  records without constrains: none -> mkl",
        f"  snapshot digest: {OLD.snapshot_digest} -> sha256:{'1' * 64}",
        "  facts of mkl 2023.2.0",
    ]


def test_platform() -> None:
    """A platform that only one lock has shows as packages that came."""
    items = tuple(replace(item, platform="osx-arm64") for item in OLD.all_packages)
    new = replace(OLD, platforms=("linux-64", "osx-arm64"), all_packages=(*OLD.all_packages, *items))
    found = list(diff(OLD, new).lines())
    assert found[:2] == ["demo-cpu on linux-64, conda: no change", "demo-cpu on osx-arm64, conda:"]
    assert sum("  added" in line for line in found) == len(items)


def test_json() -> None:
    """The JSON form has both sides of each change."""
    (change,) = diff(OLD, swapped("numpy", version="2.1.4")).to_json()["changes"]
    assert (change["name"], change["platform"], change["kind"]) == ("numpy", "linux-64", "up")
    assert (change["old"]["version"], change["new"]["version"]) == ("2.1.3", "2.1.4")
