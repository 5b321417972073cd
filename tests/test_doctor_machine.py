"""The machine's GPU as the kernel, libcuda and nvidia-smi tell it, whatever they do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from torchlock import process
from torchlock.doctor import machine
from torchlock.doctor.machine import Device, Machine

if TYPE_CHECKING:
    from pathlib import Path

NVRM = "NVRM version: NVIDIA UNIX {0}x86_64 Kernel Module  {1}  Sat Aug 12 23:58:29 UTC 2023\nGCC version: 12.2.0\n"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a machine without any sign of NVIDIA, and a folder for commands on its path."""
    monkeypatch.setattr(machine, "VERSION", tmp_path / "version")
    monkeypatch.setattr(machine, "DEVICES", tmp_path / "devices")
    monkeypatch.setattr(machine, "_QUESTION", "import ctypes; ctypes.CDLL('libcuda-that-is-not-there.so.1')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_a_machine_without_nvidia(bare: Path) -> None:
    """Without a driver, a library and a card there is nothing, and nothing is wrong."""
    assert machine.look() == Machine()


@pytest.mark.parametrize(
    ("kind", "version"), [("", "535.104.05"), ("Open Kernel Module for ", "550.54"), ("", "580.65.06")]
)
def test_the_driver_is_read_from_the_kernel(bare: Path, kind: str, version: str) -> None:
    """The kernel module's own line gives the driver's version, of the open module too."""
    (bare / "version").write_text(NVRM.format(kind, version), encoding="utf-8")
    assert machine.look() == Machine(driver=version, source="the kernel")


def test_a_card_without_a_driver_is_counted(bare: Path) -> None:
    """NVIDIA's display devices on the PCI bus count; its audio devices and other makers' do not."""
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        (bare / "devices" / name).mkdir(parents=True)
        (bare / "devices" / name / "vendor").write_text(f"{vendor}\n", encoding="utf-8")
        (bare / "devices" / name / "class").write_text(f"{kind}\n", encoding="utf-8")
    assert machine.look() == Machine(cards=1)


def test_libcuda_answers_in_a_child(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libcuda says is taken as it is, and an error of its start is trouble, but not that it sees no device."""
    answer = '{"status": %d, "cuda": 12040, "devices": [["H100", 9, 0]]}'
    monkeypatch.setattr(machine, "_QUESTION", f"print('{answer % 0}')")
    found = machine.look()
    assert (found.cuda, found.devices, found.trouble) == ((12, 4), (Device(name="H100", capability=(9, 0)),), "")
    monkeypatch.setattr(machine, "_QUESTION", f"print('{answer % 803}')")
    assert machine.look().trouble == "cuInit gives CUDA error 803"
    monkeypatch.setattr(machine, "_QUESTION", f"print('{answer % 100}')")
    assert machine.look().trouble == ""


def test_a_libcuda_that_crashes_or_hangs_is_trouble(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library does to its process, the doctor lives to tell."""
    monkeypatch.setattr(machine, "_QUESTION", "import os; os.kill(os.getpid(), 11)")
    assert machine.look().trouble == "asking libcuda ended with status -11"
    monkeypatch.setattr(machine, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(machine, "_QUESTION", "import time; time.sleep(60)")
    assert machine.look().trouble == "libcuda gives no answer within 0.5 s"


def test_nvidia_smi_is_asked_where_libcuda_is_not_found(bare: Path) -> None:
    """The tool's rows give the devices and the driver."""
    tool = bare / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, 8.0, 535.104.05'\n", encoding="utf-8")
    tool.chmod(0o755)
    assert machine.look() == Machine(
        driver="535.104.05", devices=(Device(name="NVIDIA A100-SXM4-80GB", capability=(8, 0)),), source="nvidia-smi"
    )


def test_the_question_runs_against_a_real_library(tmp_path: Path) -> None:
    """The code of the question is Python that loads a library by name; without one it says so and no more."""
    done = process.run([sys.executable, "-I", "-c", machine._QUESTION], environment={}, seconds=30)
    assert done.returncode == 0 or "libcuda.so.1" in done.stderr
