"""The gate over conda sets: NumPy's generation, and builds that do not belong together."""

from __future__ import annotations

from typing import Any

import pytest

from recorded import RULES, TARGET, asking
from torchlock.conda import gating
from torchlock.conda.document import Package
from torchlock.digest import Digest
from torchlock.errors import GateError

PLACE = TARGET.where


def package(text: str) -> Package:
    """Return a locked package of `name version build`."""
    name, version, build = text.split()
    filename = f"{name}-{version}-{build}.conda"
    channel = "https://conda.anaconda.org/main"
    return Package(
        name=name,
        version=version,
        build=build,
        platform="linux-64",
        subdir="linux-64",
        channel=channel,
        filename=filename,
        url=f"{channel}/linux-64/{filename}",
        sha256=Digest.of(text.encode()),
        md5="0" * 32,
        depends={},
        constrained=True,
    )


CPU = (
    "pytorch 2.4.1 cpu_mkl_py311_0",
    "libtorch 2.4.1 cpu_mkl_0",
    "numpy 2.1.3 py311_0",
    "libcurl 8.1 h0",
    "blas 1.0 mkl",
)
CUDA = ("pytorch 2.4.1 cuda120_py312_0", "libtorch 2.4.1 cuda120_0", "numpy 2.1.3 py312_0", "cuda-version 12.9 h0_3")


def refusal(texts: tuple[str, ...], **changes: Any) -> str:
    """Return what the gate says of a set."""
    target = asking(**changes).targets[0]
    with pytest.raises(GateError) as caught:
        gating.after(target, [package(text) for text in texts], RULES)
    assert str(caught.value).startswith(f"{PLACE}: ")
    return str(caught.value).removeprefix(f"{PLACE}: ")


def test_good() -> None:
    """CPU builds in a cpu set and CUDA builds in a cuda set pass."""
    gating.before(TARGET, RULES)
    gating.after(TARGET, [package(text) for text in CPU], RULES)
    gating.after(asking(variant="cuda", cuda="12.0").targets[0], [package(text) for text in CUDA], RULES)


def test_generation() -> None:
    """NumPy 2 with torch 2.2 is refused before anything is solved, and after."""
    with pytest.raises(GateError) as caught:
        gating.before(asking(torch="2.2.2").targets[0], RULES)
    assert str(caught.value).startswith(f"{PLACE}: found numpy 2.1.3 with torch 2.2.2: torch before 2.3 was compiled")
    assert str(caught.value).endswith("; expected numpy<2; try: numpy<2, or torch>=2.4.1")
    old = ("pytorch 2.2.2 py3.11_0", "numpy 2.0.0 py311_0")
    assert refusal(old).startswith("found numpy 2.0.0 with torch 2.2.2: ")


def test_mixed() -> None:
    """A CPU torch beside a CUDA libtorch is refused: records without constrains once let it happen."""
    mixed = (CPU[0], CUDA[1], CPU[2])
    assert refusal(mixed) == "found libtorch 2.4.1 cuda120_0, a cuda build; expected cpu builds alone"
    found = refusal((CUDA[0], CPU[1], CUDA[2]), variant="cuda", cuda="12.0")
    assert found == "found libtorch 2.4.1 cpu_mkl_0, a cpu build; expected cuda builds alone"
    assert "found cpuonly in a cuda set" in refusal((*CUDA, "cpuonly 2.0 0"), variant="cuda", cuda="12.0")


@pytest.mark.parametrize(
    "text", ["cuda-version 12.9 h0_3", "cudnn 9.1 h0", "libcublas 12.1 0", "pytorch-cuda 11.8 h0", "nccl 2 h0"]
)
def test_no_cuda(text: str) -> None:
    """A cpu set holds no part of CUDA; libcurl is none."""
    found = refusal((*CPU, text))
    name = " ".join(text.split()[:2])
    assert found.startswith(f"found {name}: a cpu environment holds no CUDA")
    assert found.endswith("; expected no CUDA in cpu")


def test_release() -> None:
    """The CUDA release of the build is the profile's."""
    found = refusal(CUDA, variant="cuda", cuda="12.1")
    assert "found cuda 12.1, but pytorch cuda120_py312_0 is a CUDA 12.0 build; expected 12.0" in found
    plain = ("pytorch 2.4.1 py3.11_0", *CUDA[2:])
    assert refusal(plain, variant="cuda", cuda="12.0").startswith("found pytorch 2.4.1 py3.11_0, which names no CUDA")


def test_incomplete() -> None:
    """A set without torch or numpy is refused."""
    assert refusal(CPU[:2]) == "found no numpy; expected both torch and numpy"


@pytest.mark.parametrize(
    ("build", "kind", "release"),
    [
        ("py3.11_cuda11.8_cudnn8.7.0_0", "cuda", "11.8"),
        ("cuda120_py312hf8d5e09_302", "cuda", "12.0"),
        ("cuda118_py311_0", "cuda", "11.8"),
        ("cpu_generic_py311h0_0", "cpu", None),
        ("py3.11_cpu_0", "cpu", None),
        ("py3.11_0", "", None),
        ("cuda", "cuda", None),
        ("cpu", "cpu", None),
    ],
)
def test_builds(build: str, kind: str, release: str | None) -> None:
    """What a build was made for stands in its build string."""
    assert (gating.kind(build), gating.release(build)) == (kind, release)
