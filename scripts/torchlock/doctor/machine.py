"""The machine: NVIDIA's driver and its devices, asked of the kernel, of libcuda in a child, and of nvidia-smi."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchlock import process

ASK_SECONDS = 30.0
VERSION = Path("/proc/driver/nvidia/version")
DEVICES = Path("/sys/bus/pci/devices")
_RELEASE = re.compile(r"\b(\d{3}\.\d{2,3}(?:\.\d{2})?)\b")
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, from the CUDA driver API's documentation.
_QUESTION = """
import ctypes, json, sys
cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
number, name = ctypes.c_int(0), ctypes.create_string_buffer(100)
status = cuda.cuInit(0)
cuda.cuDriverGetVersion(ctypes.byref(number))
answer = {"status": status, "cuda": number.value, "devices": []}
count = ctypes.c_int(0)
if status == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
    for ordinal in range(count.value):
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, 100, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        answer["devices"].append([name.value.decode("utf-8", "replace"), major.value, minor.value])
sys.stdout.write(json.dumps(answer))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One GPU; `capability` is its architecture, such as (8, 0) for sm_80."""

    name: str
    capability: tuple[int, int]

    @property
    def named(self) -> str:
        """Return name and architecture in words."""
        return f"{self.name} (sm_{self.capability[0]}{self.capability[1]})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """NVIDIA's part of a machine: the driver's version and the newest CUDA that it speaks, None where unknown.

    `cards` counts NVIDIA's display devices on the PCI bus, whether there is a driver or not; `source` says who told.
    """

    driver: str | None = None
    cuda: tuple[int, int] | None = None
    devices: tuple[Device, ...] = ()
    cards: int = 0
    source: str = ""
    trouble: str = ""


def look() -> Machine:
    """Return what there is here; nothing that a driver does raises."""
    driver = _driver(VERSION)
    cards = _cards(DEVICES)
    answer, trouble = _ask()
    if answer is not None:
        return Machine(
            driver=driver or _smi_driver(),
            cuda=(answer["cuda"] // 1000, answer["cuda"] % 1000 // 10) if answer["cuda"] else None,
            devices=tuple(Device(name=name, capability=(major, minor)) for name, major, minor in answer["devices"]),
            cards=cards,
            source="libcuda",
            trouble=f"cuInit gives CUDA error {answer['status']}" if answer["status"] not in {0, 100} else "",
        )
    return _smi(driver, cards, trouble)


def _driver(path: Path) -> str | None:
    """Return the driver's version from the kernel module's own words."""
    try:
        match = _RELEASE.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return match[1] if match else None


def _cards(folder: Path) -> int:
    count = 0
    for device in folder.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        count += vendor == "0x10de" and kind.startswith("0x03")
    return count


def _ask() -> tuple[dict[str, Any] | None, str]:
    """Ask libcuda in a child, which may crash or hang; return its answer, or what went wrong."""
    command = [sys.executable, "-I", "-c", _QUESTION]
    try:
        done = process.run(command, environment=dict(os.environ), seconds=ASK_SECONDS)
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return None, f"libcuda gives no answer within {ASK_SECONDS:g} s"
    except ValueError:
        absent = "cannot open shared object" in done.stderr or "Could not find module" in done.stderr
        return None, "" if absent else f"asking libcuda ended with status {done.returncode}"
    return answer, ""


def _smi_rows(query: str) -> list[list[str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = process.run(
            [tool, f"--query-gpu={query}", "--format=csv,noheader"], environment=dict(os.environ), seconds=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def _smi_driver() -> str | None:
    rows = _smi_rows("driver_version")
    return rows[0][0] if rows and _RELEASE.fullmatch(rows[0][0]) else None


def _smi(driver: str | None, cards: int, trouble: str) -> Machine:
    devices = []
    for row in _smi_rows("name,compute_cap,driver_version"):
        match = re.fullmatch(r"(\d+)\.(\d)", row[-2]) if len(row) >= 3 else None
        if match:
            driver = driver or row[-1]
            devices.append(Device(name=", ".join(row[:-2]), capability=(int(match[1]), int(match[2]))))
    source = "nvidia-smi" if devices else "the kernel" if driver else ""
    return Machine(driver=driver, devices=tuple(devices), cards=cards, source=source, trouble=trouble)
