"""What torch was built for: CUDA, ROCm, MPS or the CPU alone, and the proof that a CPU build holds no CUDA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.result import Failed, NotRun, expect, same
from checks.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.suite import Lab

suite = Suite("device")

# Libraries that only a CUDA build carries, beside torch or inside it.
CUDA_LIBRARY = re.compile(r"(lib)?(torch_cuda|c10_cuda|cudart|cublas|cudnn|cufft|nccl)", re.IGNORECASE)
CUDA_LOCAL = re.compile(r"\+cu\d")
CUDA_PACKAGES = re.compile(r"nvidia-|cuda-(toolkit|bindings|pathfinder)$")


def describe(torch: Any) -> str:
    """Name what a torch was built for."""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    if getattr(torch.version, "hip", None):
        return f"ROCm {torch.version.hip}"
    return "MPS" if mps_built(torch) else "CPU"


def mps_built(torch: Any) -> bool:
    """Return whether a torch was built with MPS."""
    backend = getattr(torch.backends, "mps", None)
    return bool(backend is not None and backend.is_built())


def cuda_packages(names: Iterable[str]) -> list[str]:
    """Return the distributions that only CUDA needs."""
    return sorted(name for name in names if CUDA_PACKAGES.match(name))


def cuda_libraries(folder: Path) -> list[str]:
    """Return the names of CUDA's libraries in a folder."""
    return sorted(path.name for path in folder.glob("*") if CUDA_LIBRARY.match(path.name))


@suite.check("build")
def build(lab: Lab) -> str:
    """Be built for what the variant says."""
    found = describe(lab.torch)
    if lab.variant == "cpu" and found not in {"CPU", "MPS"}:
        raise Failed(f"torch {lab.torch.__version__} was built for {found}, and the variant is cpu")
    if lab.variant == "cuda" and not lab.torch.version.cuda:
        raise Failed(f"torch {lab.torch.__version__} was built for {found}, and the variant is cuda")
    if lab.variant == "mps" and not mps_built(lab.torch):
        raise Failed(f"torch {lab.torch.__version__} was built for {found}, and the variant is mps")
    return f"built for {found}"


def _for_cpu(lab: Lab) -> None:
    if lab.variant != "cpu":
        raise NotRun(f"the variant is {lab.variant}" if lab.variant else "no --variant cpu was given")


@suite.check("cpu.version")
def cpu_version(lab: Lab) -> str:
    """Name no CUDA and no ROCm release in torch.version."""
    _for_cpu(lab)
    same((lab.torch.version.cuda, getattr(lab.torch.version, "hip", None)), (None, None), "torch.version.cuda and hip")
    expect(not lab.torch.backends.cuda.is_built(), "torch.backends.cuda.is_built() is true")
    return "torch.version.cuda is None"


@suite.check("cpu.local_version")
def cpu_local(lab: Lab) -> str:
    """Carry no +cu local version, neither in the module nor in the distribution."""
    _for_cpu(lab)
    versions = [str(lab.torch.__version__), lab.distributions.get("torch", "")]
    for version in versions:
        expect(not CUDA_LOCAL.search(version), f"torch's version is {version}")
    return versions[0]


@suite.check("cpu.packages")
def cpu_packages(lab: Lab) -> str:
    """Have none of NVIDIA's distributions beside it."""
    _for_cpu(lab)
    found = cuda_packages(lab.distributions)
    expect(not found, f"{len(found)} distributions of CUDA are installed: {', '.join(found)}")
    return f"none among {len(lab.distributions)} distributions"


@suite.check("cpu.libraries")
def cpu_libraries(lab: Lab) -> str:
    """Hold no library of CUDA in torch/lib."""
    _for_cpu(lab)
    folder = Path(lab.torch.__file__).parent / "lib"
    found = cuda_libraries(folder)
    expect(not found, f"torch/lib holds {', '.join(found)}")
    return f"none among {len(list(folder.glob('*')))} files of torch/lib"
