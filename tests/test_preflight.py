"""The preflight: machines as values, and the one line or the refusal that each gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torchlock.doctor.machine import Device, Machine
from torchlock.errors import EnvError
from torchlock.locks.summary import Summary
from torchlock.preflight import covers, preflight

NAME = "torch2.2-cuda"
NEEDS = Summary(
    cuda="12.1",
    architectures=("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
    driver="525.60.13",
    driver_release="530.30.02",
)
H200 = Device(name="NVIDIA H200", capability=(9, 0))
T4 = Device(name="Tesla T4", capability=(7, 5))
K80 = Device(name="Tesla K80", capability=(3, 7))
B200 = Device(name="NVIDIA B200", capability=(10, 0))
NEWEST = Machine(driver="550.54.14", cuda=(12, 4), devices=(H200,), cards=1, source="libcuda")
HIDE = "CUDA_VISIBLE_DEVICES= before the same command leaves the GPU out"


def test_a_gpu_that_the_build_has_code_for_is_named_with_its_driver() -> None:
    """The good case is one line: profile, CUDA, GPU, driver, and the entry of the build that the GPU runs."""
    line = preflight(NAME, NEEDS, NEWEST)
    assert line == ("torch2.2-cuda (CUDA 12.1): NVIDIA H200 (sm_90), driver 550.54.14: the build holds sm_90")


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(), "no NVIDIA GPU here"),
        (Machine(cards=2), "no driver here for 2 NVIDIA cards"),
        (Machine(driver="550.54.14"), "no GPU to be seen here, though there is NVIDIA's driver 550.54.14"),
        (Machine(driver="550.54.14", trouble="CUDA error 803"), "NVIDIA's driver does not start: CUDA error 803"),
    ],
)
def test_a_machine_without_a_gpu_gets_a_note(machine: Machine, said: str) -> None:
    """No GPU is no error: the note says what is missing, and that the CPU will serve."""
    assert preflight(NAME, NEEDS, machine) == f"torch2.2-cuda (CUDA 12.1): {said}; it will run on the CPU alone"


def test_a_machine_without_a_gpu_is_refused_where_one_is_required() -> None:
    """With REQUIRE=cuda the end is known before the gigabytes move."""
    with pytest.raises(EnvError) as caught:
        preflight(NAME, NEEDS, Machine(), required=True)
    assert str(caught.value) == (
        "torch2.2-cuda: REQUIRE=cuda, but no NVIDIA GPU here; expected an NVIDIA GPU with its driver"
    )


def test_a_driver_of_an_older_major_cuda_is_refused() -> None:
    """What the driver says of itself decides; the message names the driver that would do, and the way past."""
    machine = replace(NEWEST, driver="470.256.02", cuda=(11, 4))
    with pytest.raises(EnvError) as caught:
        preflight(NAME, NEEDS, machine)
    assert str(caught.value) == (
        "torch2.2-cuda: the driver 470.256.02 speaks CUDA 11.4, too old for 12.1; expected driver 525.60.13 or newer; "
        f"try: a newer driver, or make env-cpu; {HIDE}"
    )


def test_a_driver_that_does_not_say_its_cuda_is_judged_by_its_version() -> None:
    """nvidia-smi tells only the version, which is held against the oldest that runs the CUDA release."""
    with pytest.raises(EnvError) as caught:
        preflight(NAME, NEEDS, replace(NEWEST, driver="525.60.12", cuda=None))
    assert caught.value.found == "the driver 525.60.12 is too old for CUDA 12.1"
    assert preflight(NAME, NEEDS, replace(NEWEST, driver="525.60.13", cuda=None)).startswith(f"{NAME} (CUDA 12.1): NV")


def test_a_driver_of_the_same_major_cuda_runs_a_newer_minor_one() -> None:
    """CUDA 12.0's driver runs binaries of 12.1: minor version compatibility."""
    assert "driver 525.60.13" in preflight(NAME, NEEDS, replace(NEWEST, driver="525.60.13", cuda=(12, 0)))


@pytest.mark.parametrize("device", [K80, B200])
def test_a_gpu_that_the_build_has_no_code_for_is_refused(device: Device) -> None:
    """Too old or too new, with no PTX to compile: the message lists what the build holds."""
    with pytest.raises(EnvError) as caught:
        preflight(NAME, NEEDS, replace(NEWEST, devices=(device,)))
    assert caught.value.found == f"no code in the build for {device.named}"
    assert caught.value.expected == "one of sm_50, sm_60, sm_70, sm_75, sm_80, sm_86, sm_90"
    assert caught.value.remedy == f"another build of torch, or make env-cpu; {HIDE}"


def test_one_gpu_of_several_without_code_is_told_and_goes() -> None:
    """The others are enough to go on; equal ones are counted."""
    line = preflight(NAME, NEEDS, replace(NEWEST, devices=(K80, H200, H200)))
    assert "2 x NVIDIA H200 (sm_90), driver 550.54.14: the build holds sm_90" in line
    assert line.endswith("; no code in it for Tesla K80 (sm_37)")


def test_ptx_serves_a_newer_gpu_where_the_driver_can_compile_it() -> None:
    """PTX needs a driver that is not older than the CUDA release of the build."""
    needs = replace(NEEDS, architectures=(*NEEDS.architectures, "compute_90"))
    machine = replace(NEWEST, devices=(B200,))
    assert preflight(NAME, needs, machine).endswith("holds compute_90, compiled by the driver at first use")
    for old in (replace(machine, cuda=(12, 0)), replace(machine, cuda=None, driver="525.60.13")):
        with pytest.raises(EnvError) as caught:
            preflight(NAME, needs, old)
        assert "would run its PTX alone (compute_90), which the driver" in caught.value.found
        assert caught.value.expected == "driver 530.30.02 or newer"


def test_architectures_that_nobody_read_are_said_to_be_unknown() -> None:
    """A lock whose torch was not read refuses no GPU."""
    line = preflight(NAME, replace(NEEDS, architectures=()), replace(NEWEST, devices=(T4,)))
    assert line == (
        "torch2.2-cuda (CUDA 12.1): Tesla T4 (sm_75), driver 550.54.14; the build's architectures are not known"
    )


@pytest.mark.parametrize(
    ("architectures", "capability", "entry"),
    [
        (("sm_80", "sm_86"), (8, 6), "sm_86"),
        (("sm_80",), (8, 9), "sm_80"),
        (("sm_86",), (8, 0), ""),
        (("sm_90a",), (9, 0), "sm_90a"),
        (("sm_90a",), (10, 0), ""),
        (("compute_90a",), (10, 0), ""),
        (("sm_120",), (12, 0), "sm_120"),
        (("sm_120",), (12, 1), "sm_120"),
        (("sm_100",), (12, 0), ""),
        (("compute_70", "sm_75"), (8, 0), "compute_70"),
        (("compute_80", "sm_80"), (8, 0), "sm_80"),
        (("compute_86", "sm_80"), (8, 6), "sm_80"),
        (("compute_90",), (8, 0), ""),
        (("lto_90",), (9, 0), ""),
    ],
)
def test_binaries_and_ptx_run_where_nvidia_says(
    architectures: tuple[str, ...], capability: tuple[int, int], entry: str
) -> None:
    """The same major and no lower minor for a binary, anything newer for PTX, that very one for an `a`."""
    assert covers(architectures, capability) == entry
