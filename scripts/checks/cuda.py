"""A CUDA device, used for real: driver, architecture, copies, a product, bandwidth, peers."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from checks import driver
from checks.comparison import close
from checks.dtypes import DTYPES, same_values, sample
from checks.result import Failed, NotRun, expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checks.suite import Lab

suite = Suite("device.cuda")

ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
BLOCK = 64 << 20  # bytes copied each way when bandwidth is measured


def available(torch: Any) -> bool:
    """Return whether torch finds a device, without the warnings that it gives where it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(torch.cuda.is_available())


def ready(lab: Lab) -> int:
    """Return the number of devices; raise NotRun where there is none, Failed where one is there and unusable."""
    if not lab.torch.version.cuda:
        raise NotRun(f"torch {lab.torch.__version__} was not built for CUDA")
    if available(lab.torch):
        return int(lab.torch.cuda.device_count())
    state = driver.query()
    if state.devices:
        raise Failed(f"the driver sees {state.devices} device(s) and speaks CUDA {state.words}, but torch finds none")
    if state.broken:
        raise Failed(f"the NVIDIA driver does not start: {state.reason}")
    raise NotRun(state.reason or "torch finds no CUDA device")


def covers(architectures: Sequence[str], capability: tuple[int, int]) -> str:
    """Return the entry of a build's list that runs on a device, or nothing.

    A binary (sm_XY) runs on the same major and a minor not below its own; with `a` on that very one. PTX
    (compute_XY) is compiled by the driver for any device not older.
    """
    best = ""
    for entry in architectures:
        match = ARCHITECTURE.fullmatch(entry)
        if match is None:
            continue
        kind, major, minor, suffix = match[1], int(match[2]), int(match[3]), match[4]
        exact = (major, minor) == capability
        binary = kind == "sm" and major == capability[0] and minor <= capability[1]
        if exact and kind == "sm":
            return entry
        if (suffix != "a" and binary) or (
            kind == "compute" and not suffix and (major, minor) <= capability and not best
        ):
            best = entry
    return best


@suite.check("driver")
def driver_check(lab: Lab) -> str:
    """Have a driver for the CUDA release of the build (the same major is enough)."""
    ready(lab)
    state = driver.query()
    if state.cuda is None:
        raise NotRun("the driver does not say which CUDA release it speaks")
    major = int(lab.torch.version.cuda.split(".")[0])
    if state.cuda[0] < major:
        raise Failed(f"the driver speaks CUDA {state.words}, the build needs {major}.x")
    return f"build CUDA {lab.torch.version.cuda}, driver CUDA {state.words}"


@suite.check("architecture")
def architecture(lab: Lab) -> str:
    """Have code in the build for every device that is there."""
    words = []
    listed = lab.torch.cuda.get_arch_list() if ready(lab) else []
    for index in range(ready(lab)):
        name = lab.torch.cuda.get_device_name(index)
        capability = tuple(lab.torch.cuda.get_device_capability(index))
        entry = covers(listed, (capability[0], capability[1]))
        label = f"{name} (sm_{capability[0]}{capability[1]})"
        expect(entry, f"{label} is not covered by the build's {' '.join(listed)}")
        words.append(f"{label} by {entry}")
    return ", ".join(words)


@suite.check("round_trip", over=DTYPES)
def round_trip(lab: Lab, dtype: str) -> str:
    """Bring every dtype there and back."""
    ready(lab)
    array = sample(lab, dtype, (33, 65))
    there = lab.torch.from_numpy(array).to("cuda")
    same(there.device.type, "cuda", "the device")
    doubled = there.logical_not() if dtype == "bool" else there + there
    same_values(array, there.cpu())
    wanted = ~array if dtype == "bool" else array + array
    same(doubled.cpu().numpy().tolist(), wanted.tolist(), "the sum computed on the device")
    return dtype


@suite.check("numpy_refuses")
def numpy_refuses(lab: Lab) -> str:
    """Refuse to give a device's memory to NumPy."""
    ready(lab)
    return refuses(lambda: lab.torch.ones(2, device="cuda").numpy(), TypeError, "cuda")


@suite.check("pinned")
def pinned(lab: Lab) -> str:
    """Copy through page-locked memory."""
    ready(lab)
    array = sample(lab, "float32", (1024, 256))
    host = lab.torch.from_numpy(array).pin_memory()
    expect(host.is_pinned(), "pin_memory gave memory that is not pinned")
    same_values(array, host)
    expect((host.to("cuda").cpu().numpy() == array).all(), "the copy differs")
    return "pinned"


@suite.check("non_blocking")
def non_blocking(lab: Lab) -> str:
    """Copy both ways without blocking, and see the content after an event."""
    ready(lab)
    torch = lab.torch
    array = sample(lab, "float32", (1024, 1024))
    host = torch.from_numpy(array).pin_memory()
    back = torch.zeros(host.shape, dtype=host.dtype).pin_memory()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        back.copy_(host.to("cuda", non_blocking=True) * 2, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
    done.synchronize()
    expect((back.numpy() == array * 2).all(), "the content after the event differs")
    return "both ways, on a stream of its own"


@suite.check("product", over=("float16", "float32", "float64", "complex64"))
def product(lab: Lab, dtype: str) -> str:
    """Multiply two matrices as NumPy does."""
    ready(lab)
    random = lab.np.random.default_rng(5)
    imaginary = 1j if dtype == "complex64" else 0
    wide = "complex128" if imaginary else "float64"
    left, right = (
        ((1 + imaginary) * random.standard_normal((192, 192)) / 16).astype(wide).astype(dtype) for _ in range(2)
    )
    wanted = (left.astype(wide) @ right.astype(wide)).astype(dtype)
    torch = lab.torch
    found = (torch.from_numpy(left).to("cuda") @ torch.from_numpy(right).to("cuda")).cpu().numpy()
    close(lab, found, wanted)
    return "192 x 192"


def _rate(torch: Any, copy: Callable[[], object]) -> float:
    """Return the best of three rates in GB/s."""
    copy()
    best = 0.0
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        copy()
        end.record()
        end.synchronize()
        best = max(best, BLOCK / start.elapsed_time(end) / 1e6)
    return best


@suite.check("bandwidth")
def bandwidth(lab: Lab) -> str:
    """Measure copies of 64 MiB of pinned memory both ways."""
    ready(lab)
    torch = lab.torch
    host = torch.ones(BLOCK // 4).pin_memory()
    device = torch.zeros(BLOCK // 4, device="cuda")
    there = _rate(torch, lambda: device.copy_(host, non_blocking=True))
    host.zero_()
    back = _rate(torch, lambda: host.copy_(device, non_blocking=True))
    expect(bool((host == 1).all()), "what came back differs from what went there")
    return f"to the device {there:.1f} GB/s, back {back:.1f} GB/s"


@suite.check("peer", optional=True)
def peer(lab: Lab) -> str:
    """Copy from each device to each other one, where there are several."""
    count = ready(lab)
    if count < 2:
        raise NotRun("there is one CUDA device")
    array = sample(lab, "float32", (64, 64))
    direct = 0
    for source in range(count):
        here = lab.torch.from_numpy(array).to(f"cuda:{source}")
        for target in range(count):
            if source != target:
                there = here.to(f"cuda:{target}")
                expect((there.cpu().numpy() == array).all(), f"the copy from {source} to {target} differs")
                direct += lab.torch.cuda.can_device_access_peer(source, target)
    return f"{count} devices, {direct} of {count * (count - 1)} ways direct"
