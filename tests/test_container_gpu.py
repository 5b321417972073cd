"""Whether the GPU that a container sees can run the build: the preflight answers, from the image's own facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import inside
from container import gpu
from torchlock.doctor import machine
from torchlock.doctor.machine import Device, Machine

if TYPE_CHECKING:
    from pathlib import Path

A100 = Device(name="NVIDIA A100", capability=(8, 0))
OLD = "the driver 470.57.02 speaks CUDA 11.4, too old for 12.1"
GOOD = Machine(driver="550.54.14", cuda=(12, 4), devices=(A100,), cards=1)


def test_a_gpu_is_visible_by_its_device_nodes(tmp_path: Path) -> None:
    """Which a container has only if it was given one; the driver of the host shows in /proc all the same."""
    node = tmp_path / "nvidiactl"
    assert not gpu.visible([str(node)])
    node.touch()
    assert gpu.visible([str(tmp_path / "dxg"), str(node)])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (GOOD, ""),
        (Machine(), ""),
        (
            Machine(driver="470.57.02", cuda=(11, 4), devices=(A100,), cards=1),
            f"{OLD}; expected driver 525.60.13 or newer; try: {gpu.REMEDY}",
        ),
        (
            Machine(driver="550.54.14", cuda=(12, 4), devices=(Device(name="Tesla V100", capability=(7, 0)),), cards=1),
            f"no code in the build for Tesla V100 (sm_70); expected one of compute_90, sm_80; try: {gpu.REMEDY}",
        ),
    ],
)
def test_a_gpu_that_cannot_run_the_build_is_told(
    monkeypatch: pytest.MonkeyPatch, found: Machine, expected: str
) -> None:
    """A driver that is too old, an architecture that is not covered; no GPU is no refusal."""
    monkeypatch.setattr(machine, "look", lambda: found)
    assert gpu.refusal(inside.facts()) == expected


def test_a_gpu_that_can_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the line of the preflight."""
    monkeypatch.setattr(machine, "look", lambda: GOOD)
    assert gpu.line(inside.facts()) == (
        "torch2.2-cuda (CUDA 12.1): NVIDIA A100 (sm_80), driver 550.54.14: the build holds sm_80"
    )
