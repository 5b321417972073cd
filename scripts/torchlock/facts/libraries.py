"""CUDA's libraries by their names: which file or SONAME is one of them, and which release it tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = (
    r"cudart|cublas(?:Lt)?|cudnn\w*?|cufftw?|curand|cusolver(?:Mg)?|cusparse(?:Lt)?|cudss\w*?|cufile\w*?|cupti|nccl|"
    r"npp\w+?|nvblas|nvjpeg|nvJitLink|nvperf\w*?|nvrtc(?:-builtins)?|nvshmem\w*?|nvToolsExt|nvtx\w*?"
)
_POSIX = re.compile(rf"lib({_NAMES})\.so((?:\.\d+)*)")
_WINDOWS = re.compile(rf"({_NAMES})(?:64|32)_([\d._]+)\.dll", re.IGNORECASE)
# What auditwheel and its like put into the names of the files that they bring into a wheel.
_GRAFTED = re.compile(r"-[0-9a-f]{8}(?=\.)")
# Whose names tell the release of CUDA, the most exact first.
_RELEASED = ("cudart", "nvrtc", "cublas")


def cuda_library(name: str) -> str | None:
    """Return the SONAME of one of CUDA's libraries, without what grafting added; None for any other."""
    plain = _GRAFTED.sub("", name)
    return plain if _POSIX.fullmatch(plain) or _WINDOWS.fullmatch(plain) else None


def cuda_release(names: Iterable[str]) -> str | None:
    """Return the major release of CUDA that its libraries' names tell."""
    found = {stem: major for name in names for stem, major in [_parts(name)] if stem in _RELEASED and major}
    return next((found[stem] for stem in _RELEASED if stem in found), None)


def cudnn_generation(names: Iterable[str]) -> str | None:
    """Return the generation of cuDNN that its libraries' names tell."""
    return next(
        (major for name in sorted(names) for stem, major in [_parts(name)] if stem.startswith("cudnn") and major), None
    )


def _parts(name: str) -> tuple[str, str]:
    """Return a library's stem and major release (`cudart64_110.dll` is of 11.0)."""
    if match := _POSIX.fullmatch(name):
        return match[1], match[2].removeprefix(".").partition(".")[0]
    if match := _WINDOWS.fullmatch(name):
        digits = match[2].partition("_")[0].partition(".")[0]
        return match[1].lower(), digits[:2] if len(digits) == 3 else digits
    return "", ""
