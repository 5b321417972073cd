"""The preflight: whether the GPU of this machine can run what a lock holds, said in one line before gigabytes move."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ARCHITECTURE = re.compile(r"(?P<kind>sm|compute)_(?P<major>[0-9]{1,2})(?P<minor>[0-9])(?P<suffix>[a-z]?)")
# With a GPU hidden nothing is asked of it: the way past a refusal.
_HIDE = "CUDA_VISIBLE_DEVICES= before the same command leaves the GPU out"


class Device(Protocol):
    """One GPU; `capability` is its architecture, (8, 0) for sm_80."""

    @property
    def name(self) -> str:
        """Return what its maker calls it."""

    @property
    def capability(self) -> tuple[int, int]:
        """Return its architecture."""


class Machine(Protocol):
    """What NVIDIA's driver says: doctor.machine asks it."""

    @property
    def driver(self) -> str | None:
        """Return the driver's version, such as 550.54.14."""

    @property
    def cuda(self) -> tuple[int, int] | None:
        """Return the newest CUDA that it speaks."""

    @property
    def devices(self) -> Sequence[Device]:
        """Return the GPUs that may be used."""

    @property
    def cards(self) -> int:
        """Return the count of NVIDIA's cards, with a driver or without."""

    @property
    def trouble(self) -> str:
        """Return why the driver does not start."""


class Needs(Protocol):
    """What the bytes of a lock's wheels ask for: the facts of the lock."""

    @property
    def cuda(self) -> str | None:
        """Return the CUDA release of the build, such as 12.1."""

    @property
    def architectures(self) -> Sequence[str]:
        """Return what it holds code for, such as sm_80 and compute_90; nothing where it was not read."""

    @property
    def driver(self) -> str | None:
        """Return the oldest driver for Linux that runs this CUDA at all."""

    @property
    def driver_release(self) -> str | None:
        """Return the oldest driver for Linux that was made for this CUDA."""


def preflight(profile: str, needs: Needs, machine: Machine, *, required: bool = False) -> str:
    """Return one line: which GPU runs the build, or that none is here, which is an error only where one is required.

    Raise EnvError where there are GPUs and none of them can run the build: torch would find no device, or stop at its
    first kernel, so the gigabytes would be useless here. One GPU of several that cannot is told, and goes.
    """
    build = f"CUDA {needs.cuda or 'of an unknown release'}"
    if not machine.devices:
        line = f"{profile} ({build}): {_absence(machine)}"
        if required:
            raise EnvError(profile, f"REQUIRE=cuda, but {_absence(machine)}", "an NVIDIA GPU with its driver")
        return f"{line}; it will run on the CPU alone"
    if why := _too_old(needs, machine):
        raise EnvError(profile, why, _driver_wanted(needs), f"a newer driver, or make env-cpu; {_HIDE}")
    answers = {device: covers(needs.architectures, device.capability) for device in machine.devices}
    able = [device for device in machine.devices if (entry := answers[device]) and not _stale(entry, needs, machine)]
    unable = [device for device in machine.devices if device not in able]
    if needs.architectures and not able:
        raise EnvError(profile, *_no_code(needs, machine, unable), f"another build of torch, or make env-cpu; {_HIDE}")
    driver = f"driver {machine.driver or 'of an unknown version'}"
    if not needs.architectures:
        return f"{profile} ({build}): {_names(machine.devices)}, {driver}; the build's architectures are not known"
    without = f"; no code in it for {_names(unable)}" if unable else ""
    return f"{profile} ({build}): {_names(able)}, {driver}: {_ways(able, answers)}{without}"


def covers(architectures: Iterable[str], capability: tuple[int, int]) -> str:
    """Return the entry of a build's list that runs on a device, a binary before PTX, or nothing.

    A binary (sm_XY) runs on the same major and no lower minor; with `a` on that very one. PTX (compute_XY) is compiled
    by the driver for any device that is not older. CUDA C++ programming guide, "Compute capability compatibility".
    """
    fitting = []
    for entry in architectures:
        if match := _ARCHITECTURE.fullmatch(entry):
            built = int(match["major"]), int(match["minor"])
            same = match["kind"] == "sm" and built[0] == capability[0] and built <= capability
            later = match["kind"] == "compute" and built <= capability
            if built == capability or (not match["suffix"] and (same or later)):
                fitting.append((match["kind"] == "sm", built, entry))
    return max(fitting, default=(False, (0, 0), ""))[2]


def _absence(machine: Machine) -> str:
    if machine.trouble:
        return f"NVIDIA's driver does not start: {machine.trouble}"
    if machine.driver:
        return f"no GPU to be seen here, though there is NVIDIA's driver {machine.driver}"
    if machine.cards:
        return f"no driver here for {machine.cards} NVIDIA card{'s' * (machine.cards > 1)}"
    return "no NVIDIA GPU here"


def _too_old(needs: Needs, machine: Machine) -> str:
    """Say that a driver is older than the build's major CUDA release: within one, a newer minor one runs, too."""
    if needs.cuda is None:
        return ""
    major, name = int(needs.cuda.partition(".")[0]), machine.driver or "here"
    if machine.cuda is not None:
        old = machine.cuda[0] < major
        return f"the driver {name} speaks CUDA {_dotted(machine.cuda)}, too old for {needs.cuda}" if old else ""
    if machine.driver and needs.driver and _numbers(machine.driver) < _numbers(needs.driver):
        return f"the driver {machine.driver} is too old for CUDA {needs.cuda}"
    return ""


def _stale(entry: str, needs: Needs, machine: Machine) -> bool:
    """Tell whether an entry is PTX of a newer CUDA than the driver can compile."""
    if not entry.startswith("compute") or needs.cuda is None:
        return False
    if machine.cuda is not None:
        return machine.cuda < _numbers(needs.cuda)[:2]
    return bool(machine.driver and needs.driver_release and _numbers(machine.driver) < _numbers(needs.driver_release))


def _no_code(needs: Needs, machine: Machine, devices: Sequence[Device]) -> tuple[str, str]:
    entries = {covers(needs.architectures, device.capability) for device in devices} - {""}
    if entries:
        found = f"{_names(devices)} would run its PTX alone ({', '.join(sorted(entries))}), which the driver "
        found += f"{machine.driver or 'here'} cannot compile: it is older than CUDA {needs.cuda}"
        return found, _driver_wanted(needs, newest=True)
    return f"no code in the build for {_names(devices)}", f"one of {', '.join(needs.architectures)}"


def _driver_wanted(needs: Needs, *, newest: bool = False) -> str:
    wanted = needs.driver_release if newest else needs.driver
    return f"driver {wanted} or newer" if wanted else f"a driver for CUDA {needs.cuda}"


def _ways(able: Sequence[Device], answers: dict[Device, str]) -> str:
    entries = sorted({answers[device] for device in able})
    compiled = any(entry.startswith("compute") for entry in entries)
    return f"the build holds {', '.join(entries)}" + (", compiled by the driver at first use" if compiled else "")


def _names(devices: Iterable[Device]) -> str:
    named = [f"{device.name} (sm_{device.capability[0]}{device.capability[1]})" for device in devices]
    return ", ".join(
        f"{named.count(name)} x {name}" if named.count(name) > 1 else name for name in dict.fromkeys(named)
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _dotted(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
