"""Apple's MPS device, used for real: copies, a product, bandwidth, and float64 refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from checks.build import mps_built
from checks.comparison import close
from checks.dtypes import DTYPES, same_values, sample
from checks.result import NotRun, expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from checks.suite import Lab

suite = Suite("device.mps")

# MPS has no double precision.
REFUSED = ("float64", "complex128")
BLOCK = 64 << 20  # bytes copied each way when bandwidth is measured


def available(torch: Any) -> bool:
    """Return whether torch finds an MPS device."""
    return mps_built(torch) and bool(torch.backends.mps.is_available())


def ready(lab: Lab) -> None:
    """Raise NotRun where there is no MPS device."""
    if not mps_built(lab.torch):
        raise NotRun(f"torch {lab.torch.__version__} was not built for MPS")
    if not available(lab.torch):
        raise NotRun("torch finds no MPS device: it needs an Apple GPU and macOS 12.3 or later")


@suite.check("round_trip", over=tuple(name for name in DTYPES if name not in REFUSED))
def round_trip(lab: Lab, dtype: str) -> str:
    """Bring every dtype but the double ones there and back; complex64 may be refused before macOS 14."""
    ready(lab)
    array = sample(lab, dtype, (33, 65))
    try:
        there = lab.torch.from_numpy(array).to("mps")
    except TypeError as error:
        if dtype == "complex64" and "MPS" in str(error):
            raise NotRun("this macOS has no complex numbers on MPS (14 and later have)") from error
        raise
    same(there.device.type, "mps", "the device")
    same_values(array, there.cpu())
    return dtype


@suite.check("refuses", over=REFUSED)
def double_refused(lab: Lab, dtype: str) -> str:
    """Refuse double precision, and say so."""
    ready(lab)
    tensor = lab.torch.from_numpy(sample(lab, dtype))
    return refuses(lambda: tensor.to("mps"), TypeError, "MPS")


@suite.check("numpy_refuses")
def numpy_refuses(lab: Lab) -> str:
    """Refuse to give a device's memory to NumPy."""
    ready(lab)
    return refuses(lambda: lab.torch.ones(2, device="mps").numpy(), TypeError, "mps")


@suite.check("product", over=("float16", "float32"))
def product(lab: Lab, dtype: str) -> str:
    """Multiply two matrices as NumPy does."""
    ready(lab)
    random = lab.np.random.default_rng(5)
    left, right = ((random.standard_normal((192, 192)) / 16).astype(dtype) for _ in range(2))
    wanted = (left.astype("float64") @ right.astype("float64")).astype(dtype)
    torch = lab.torch
    close(lab, (torch.from_numpy(left).to("mps") @ torch.from_numpy(right).to("mps")).cpu().numpy(), wanted)
    return "192 x 192"


@suite.check("bandwidth")
def bandwidth(lab: Lab) -> str:
    """Measure copies of 64 MiB both ways."""
    ready(lab)
    torch = lab.torch
    host = torch.ones(BLOCK // 4)
    rates = []
    moved = host
    for target in ("mps", "cpu"):
        best = 0.0
        source = moved
        for _ in range(3):
            torch.mps.synchronize()
            start = time.perf_counter()
            moved = source.to(target)
            torch.mps.synchronize()
            best = max(best, BLOCK / (time.perf_counter() - start) / 1e9)
        rates.append(best)
    expect(bool((moved == 1).all()), "what came back differs from what went there")
    return f"to the device {rates[0]:.1f} GB/s, back {rates[1]:.1f} GB/s"
