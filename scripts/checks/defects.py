"""Known defects of released builds: a check that fails for one is shown with its source, and tolerated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from checks.result import FAIL, Result

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, kw_only=True, slots=True)
class Defect:
    """What is wrong in some builds of torch: public version, `sys.platform` and machine name them, `ids` the checks.

    Without a system and a machine it is wrong on all of them.
    """

    torch: tuple[str, ...]
    system: str = ""
    machine: str = ""
    ids: Collection[str]
    cause: str
    remedy: str
    source: str


DEFECTS = (
    Defect(
        torch=("2.1.0", "2.1.1", "2.1.2"),
        ids=frozenset(
            f"conversion.{way}.{check}[bool]"
            for way in ("from_dlpack", "np_from_dlpack")
            for check in ("values", "shares")
        ),
        cause="DLPack without bool: torch 2.1 neither gives nor takes bool by DLPack; the C-API ways carry it",
        remedy="torch.from_numpy(array) and tensor.numpy() for bool, or torch>=2.2",
        source=(
            "pytorch/pytorch#94463, mended by #108486 for 2.2; "
            "seen in torch-2.1.2-cp311-cp311-manylinux1_x86_64.whl with numpy 1.26.4"
        ),
    ),
    Defect(
        torch=("2.4.1",),
        system="linux",
        machine="aarch64",
        ids=frozenset(("operators.matmul[vdot]",)),
        cause=(
            "this build calls the complex dot product of its BLAS by another convention than that BLAS was built with: "
            "torch.dot and torch.vdot answer 0 for complex64 and complex128 at every length; real types are right"
        ),
        remedy="(a.conj() * b).sum() for torch.vdot(a, b), (a * b).sum() for torch.dot(a, b); torch 2.2.2 is right",
        source=(
            "pytorch/pytorch#150366 and #99868; "
            "seen in torch-2.4.1-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl under emulation"
        ),
    ),
)


def recognise(result: Result, torch: str | None, system: str, machine: str) -> Result:
    """Return a failure that is a known defect of this build as such; everything else as it is."""
    public = (torch or "").partition("+")[0]
    for defect in DEFECTS:
        here = public in defect.torch and defect.system in {"", system} and defect.machine in {"", machine}
        if here and result.status == FAIL and result.id in defect.ids:
            return replace(result, cause=defect.cause, remedy=defect.remedy, known=defect.source)
    return result
