"""Flavours: what a profile is as wheels and as conda packages, taken from the locks alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

import locks
from channels import Package, python
from condas import locked
from torchlock.conda import flavours
from torchlock.conda.channels import Record
from torchlock.locks.summary import Summary

URL = "https://conda.anaconda.org/conda-forge"
BLAS = Package(name="libblas", version="3.11.0", build="9_h4a7cf45_openblas")
OPENBLAS = Package(name="libopenblas", version="0.3.34")
MKL = Package(name="mkl", version="2023.2.0")
NUMPY = Package(name="numpy", version="2.1.3", depends=("libcblas",))
CPU = Package(name="pytorch", version="2.4.1", build="cpu_mkl_py311h0_102", depends=("mkl", "libtorch"))
CUDA = Package(name="pytorch", version="2.4.1", build="cuda120_py312h0_302", depends=("libcblas",))
LOCK = locked(URL, [python(version="3.11.9"), CPU, BLAS, OPENBLAS, MKL, NUMPY])


def test_conda() -> None:
    """The build is told with its channel, the BLAS of torch and of NumPy apart: they need not be the same."""
    found = flavours.of_packages(LOCK.all_packages)
    assert (found.kind, found.python, found.torch, found.numpy) == ("conda", "3.11", "2.4.1", "2.1.3")
    assert (found.build, found.cuda) == ("conda-forge::cpu_mkl_py311h0_102", None)
    assert (found.torch_blas, found.numpy_blas) == ("MKL 2023.2.0", "OpenBLAS 0.3.34")
    assert (found.count, found.size) == (6, None)


@pytest.mark.parametrize(
    ("build", "runtime", "shown"),
    [
        ("cuda120_py312h0_302", "12.9.79", "12.0 (runtime 12.9.79)"),
        ("py3.11_cuda11.8_cudnn8.7.0_0", "11.8.89", "11.8"),
        ("py3.11_cuda12.1_cudnn8.9.2_0", None, "12.1"),
    ],
)
def test_cuda(build: str, runtime: str | None, shown: str) -> None:
    """CUDA is that of the build; a runtime of another release is told beside it."""
    more = [Package(name="cuda-cudart", version=runtime)] if runtime else []
    found = flavours.of_packages(locked(URL, [python(), replace(CUDA, build=build), NUMPY, *more]).all_packages)
    assert found.cuda == shown


def test_torch_of_one_piece() -> None:
    """A torch that asks for no BLAS has it inside; one that asks for the interface has what stands behind that."""
    alone = locked(URL, [python(), replace(CPU, depends=()), BLAS, OPENBLAS, NUMPY]).all_packages
    assert flavours.of_packages(alone).torch_blas == "inside the package"
    asking = locked(URL, [python(), replace(CPU, depends=("libcblas",)), BLAS, OPENBLAS, NUMPY]).all_packages
    assert flavours.of_packages(asking).torch_blas == "OpenBLAS 0.3.34"


def test_size() -> None:
    """The download is the sum of the recorded sizes, or not known where one is not."""
    records = {}
    for item in LOCK.all_packages:
        value = {"name": item.name, "version": item.version, "build": item.build, "size": 1000}
        records[item.url] = Record(filename=item.filename, value=value)
    assert flavours.of_packages(LOCK.all_packages, records).size == 6000
    records.pop(LOCK.all_packages[0].url)
    assert flavours.of_packages(LOCK.all_packages, records).size is None


def test_wheels() -> None:
    """A lock of wheels has its own facts; what BLAS the wheels hold it does not say."""
    found = flavours.of_wheels(locks.make(facts=Summary(cuda="12.1", glibc="2.17")))
    assert (found.kind, found.torch, found.numpy, found.cuda) == ("pip", "2.2.2+cpu", "1.26.4", "12.1")
    assert found.build == "pytorch-cpu::torch-2.2.2+cpu-cp311-cp311-linux_x86_64.whl"
    assert (found.torch_blas, found.count, found.size) == ("inside the wheels", 2, None)


def test_table() -> None:
    """Both stand side by side in a table, and what differs is told in words."""
    pip, conda = flavours.of_wheels(locks.make()), flavours.of_packages(LOCK.all_packages)
    rows = list(flavours.table("torch2.2-cpu on linux-64", pip, conda))
    assert rows[:3] == ["| torch2.2-cpu on linux-64 | pip | conda |", "|---|---|---|", "| Python | 3.11 | 3.11 |"]
    assert rows[-2:] == ["| packages | 2 | 6 |", "| download | not known | not known |"]
    assert flavours.differences(pip, conda)[:2] == [
        "torch: 2.2.2+cpu from wheels, 2.4.1 from conda",
        "numpy: 1.26.4 from wheels, 2.1.3 from conda",
    ]
    assert conda.to_json()["torch_blas"] == "MKL 2023.2.0"
