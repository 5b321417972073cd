"""The GPU: the driver and the devices of this machine, and what torch was built for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from torchlock.doctor.findings import ERROR, NOTE, Evidence, Finding, Remedy
from torchlock.doctor.stack import VERSION_FILE, build, text
from torchlock.errors import GateError
from torchlock.preflight import covers
from torchlock.profiles.compat import minimum_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.doctor.findings import Case
    from torchlock.doctor.machine import Device

_HIP = re.compile(r"^hip\s*(?::[^=]*)?=\s*['\"]", re.MULTILINE)


def examine(case: Case) -> Iterator[Finding]:
    """Give a finding for a build without CUDA where a GPU is, and for a driver or a GPU that the build cannot use."""
    machine, torch = case.machine, case.packages.get("torch")
    if torch is None:
        return
    cuda = build(case)
    place = Evidence(where=str(torch.site / VERSION_FILE), mark=f"cuda = {cuda!r}")
    if cuda is None:
        if machine.devices and not _HIP.search(text(torch.site / VERSION_FILE)):
            yield _without(case, place)
        return
    if machine.trouble or (machine.cards and not machine.devices and machine.cuda is None):
        yield Finding(
            id="driver-missing",
            severity=NOTE,
            what=machine.trouble or "there is an NVIDIA device and no driver for it: torch finds no GPU",
            why="the driver is not part of any Python environment; a container gets it from its host (--gpus all)",
            evidence=(Evidence(where="/sys/bus/pci/devices", mark=f"{machine.cards} NVIDIA display devices"),),
        )
    yield from _driver(case, cuda, place)
    yield from _architecture(case)


def _without(case: Case, place: Evidence) -> Finding:
    torch = case.packages["torch"]
    version = torch.version.partition("+")[0]
    meant = case.wanted is not None and case.wanted.versions.get("torch") == torch.version
    gpu = case.machine.devices[0].named
    return Finding(
        id="cpu-build-with-gpu",
        severity=NOTE if meant else ERROR,
        what=f"{torch.named} was built without CUDA, and there is a GPU: {gpu}",
        why="the lock names this build"
        if meant
        else "torch.cuda.is_available() is False, and all work runs on the CPU",
        evidence=(place, Evidence(where=case.machine.source, mark=gpu)),
        remedy=Remedy() if meant else Remedy(install=(f"torch=={version}",), reinstall=("torch",)),
        packages=("torch",),
    )


def _driver(case: Case, cuda: str, place: Evidence) -> Iterator[Finding]:
    machine = case.machine
    try:
        least = minimum_driver(cuda, case.rules)
    except GateError:
        return
    major = int(cuda.partition(".")[0])
    spoken = f"{machine.cuda[0]}.{machine.cuda[1]}" if machine.cuda else ""
    old = bool(machine.cuda and machine.cuda[0] < major) or bool(
        not machine.cuda and machine.driver and _older(machine.driver, least.major)
    )
    behind = bool(machine.driver and least.release and _older(machine.driver, least.release))
    if not old and not behind:
        return
    found = f"driver {machine.driver or 'of an unknown version'}" + (f", which speaks CUDA {spoken}" if spoken else "")
    evidence = (
        place,
        Evidence(where="/proc/driver/nvidia/version" if machine.driver else machine.source, mark=found),
        Evidence(where=f"{case.rules.source}: drivers", mark=f"CUDA {cuda} runs from {least.major} on"),
    )
    if old:
        yield Finding(
            id="driver-old",
            what=f"the NVIDIA {found} is too old for torch's CUDA {cuda}: {least.major} at least",
            why="a driver runs CUDA releases of its own major number and older ones",
            evidence=evidence,
            remedy=Remedy(advice=f"update the NVIDIA driver to {least.release or least.major} or newer, on the host"),
            explains=("cuda-driver-old",),
            packages=("torch",),
        )
    else:
        yield Finding(
            id="driver-behind",
            severity=NOTE,
            what=f"the NVIDIA {found} is older than the one made for CUDA {cuda} ({least.release})",
            why="it runs the build by minor version compatibility, which leaves out what is compiled at run time (PTX)",
            evidence=evidence,
        )


def _architecture(case: Case) -> Iterator[Finding]:
    facts, torch = case.facts.get("torch"), case.packages["torch"]
    listed = facts.architectures if facts else ()
    for device in case.machine.devices if listed else ():
        entry = covers(listed, device.capability)
        if entry and not _cannot_compile(case, entry):
            continue
        if entry:
            yield _uncompiled(case, device, entry)
            continue
        newest = max(int(re.sub(r"\D", "", name)) for name in listed)
        newer = device.capability[0] * 10 + device.capability[1] > newest
        yield Finding(
            id="gpu-architecture",
            what=f"{torch.named} holds no code for {device.named}: it has {' '.join(listed)}",
            why="every operation on that GPU fails (no kernel image is available for execution on the device)",
            evidence=(
                Evidence(where=str(torch.site / "torch" / "lib"), mark=f"built for {' '.join(listed)}"),
                Evidence(where=case.machine.source, mark=device.named),
            ),
            remedy=Remedy(upgrade=("torch",))
            if newer
            else Remedy(
                advice=f"use an older torch, whose builds still hold sm_{device.capability[0]}{device.capability[1]}"
            ),
            explains=("no-kernel",),
            packages=("torch",),
        )


def _cannot_compile(case: Case, entry: str) -> bool:
    """Tell whether an entry is PTX of a newer CUDA than the driver's, which compiles it."""
    spoken, release = case.machine.cuda, (build(case) or "").split(".")
    numbers = tuple(int(part) for part in release[:2] if part)
    return entry.startswith("compute") and spoken is not None and spoken[: len(numbers)] < numbers


def _uncompiled(case: Case, device: Device, entry: str) -> Finding:
    torch, spoken = case.packages["torch"], ".".join(map(str, case.machine.cuda or ()))
    return Finding(
        id="driver-old",
        what=f"{torch.named} has PTX alone for {device.named}, and the driver of CUDA {spoken} cannot compile {entry}",
        why=f"PTX of CUDA {build(case)} needs a driver of that release at least",
        evidence=(
            Evidence(where=str(torch.site / "torch" / "lib"), mark=f"built for {entry}"),
            Evidence(where=case.machine.source, mark=f"CUDA {spoken}"),
        ),
        remedy=Remedy(advice=f"update the NVIDIA driver to one of CUDA {build(case)} or newer, on the host"),
        explains=("no-kernel", "cuda-driver-old"),
        packages=("torch",),
    )


def _older(left: str, right: str) -> bool:
    try:
        return Version(left) < Version(right)
    except InvalidVersion:
        return False
