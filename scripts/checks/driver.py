"""NVIDIA's driver, asked without torch: is it there, which CUDA does it speak, how many devices does it see."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

# CUresult values, from the CUDA driver API's documentation.
ERRORS = {
    34: "the driver is a stub library (CUDA_ERROR_STUB_LIBRARY)",
    46: "the device is in use or unavailable (CUDA_ERROR_DEVICE_UNAVAILABLE)",
    100: "no CUDA device is visible (CUDA_ERROR_NO_DEVICE)",
    101: "an invalid device was named (CUDA_ERROR_INVALID_DEVICE)",
    304: "an operating system call failed (CUDA_ERROR_OPERATING_SYSTEM)",
    802: "the system is not yet ready (CUDA_ERROR_SYSTEM_NOT_READY)",
    803: "driver library and kernel module differ (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)",
    999: "an unknown error (CUDA_ERROR_UNKNOWN)",
}
NO_DEVICE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """What the driver says; `cuda` is the newest CUDA release that it runs, such as (12, 4)."""

    present: bool
    cuda: tuple[int, int] | None = None
    devices: int = 0
    reason: str = ""
    broken: bool = False

    @property
    def words(self) -> str:
        """Return the CUDA release as people write it."""
        return ".".join(map(str, self.cuda)) if self.cuda else "of an unknown release"


def release(number: int) -> tuple[int, int]:
    """Read CUDA's way of writing a release: 12040 is 12.4."""
    return number // 1000, number % 1000 // 10


def _load() -> Any | None:
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def query(library: Any | None = None) -> Driver:
    """Ask the driver; a machine without one is no error, a driver that does not start is `broken`."""
    library = _load() if library is None else library
    if library is None:
        return Driver(present=False, reason="no NVIDIA driver: libcuda was not found")
    status = int(library.cuInit(0))
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    cuda = release(number.value) if number.value else None
    if status:
        text = ERRORS.get(status, f"CUDA error {status}")
        return Driver(present=True, cuda=cuda, reason=text, broken=status != NO_DEVICE)
    count = ctypes.c_int(0)
    status = int(library.cuDeviceGetCount(ctypes.byref(count)))
    reason = "" if count.value else "no CUDA device is visible"
    return Driver(present=True, cuda=cuda, devices=count.value, reason=reason, broken=bool(status))
