"""What a check answers: pass, fail or not run, with a detail, and the cause and the remedy of a failure."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

PASS = "pass"  # noqa: S105 - a status, not a password
FAIL = "fail"
NOT_RUN = "not run"
STATUSES = (PASS, FAIL, NOT_RUN)

_OPTIONAL = frozenset(("cause", "remedy", "known"))
GROUPS = ("import", "conversion", "operators", "autograd", "no_grad", "saving", "device")


class Failed(Exception):  # noqa: N818 - a finding, not an error of this program
    """What a check found is not what it expects; the text says both."""


class NotRun(Exception):  # noqa: N818 - a finding, not an error of this program
    """A check cannot run here; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The answer of one check; `id` begins with its group, and may end in `[case]`.

    `known` is the source of a known defect of this build, for which a failure is shown and tolerated.
    """

    id: str
    status: str
    detail: str = ""
    cause: str = ""
    remedy: str = ""
    known: str = ""

    @property
    def group(self) -> str:
        """Return the group that the check belongs to."""
        return self.id.partition(".")[0]

    @property
    def family(self) -> str:
        """Return the id without its `[case]`."""
        return self.id.partition("[")[0]

    @property
    def case(self) -> str:
        """Return what stands between the brackets of the id, or nothing."""
        return self.id.partition("[")[2].rstrip("]")

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form; cause, remedy and known only where there are any."""
        fields: dict[str, str] = asdict(self)
        kept = {name: text for name, text in fields.items() if text or name not in _OPTIONAL}
        return {"id": kept.pop("id"), "group": self.group, **kept}


def totals(results: Iterable[Result]) -> dict[str, int]:
    """Count the results of each status, zeros included."""
    counts = Counter(result.status for result in results)
    return {status: counts[status] for status in STATUSES}


def demanded(result: Result, kind: str, optional: frozenset[str]) -> Result:
    """Turn the "not run" of a required device's check into a failure."""
    if result.status != NOT_RUN or result.id in optional or not result.id.startswith(f"device.{kind}."):
        return result
    return replace(
        result,
        status=FAIL,
        detail=f"required, but not run: {result.detail}",
        cause=f"--require-device {kind} was given and this check could not run on such a device",
        remedy=f"run it where a {kind} device is visible, or leave --require-device out",
    )


def scrub(text: str) -> str:
    """Take the place of this environment out of a text: what is written holds no path of the machine."""
    for folder in sorted({sys.prefix, sys.base_prefix, sys.exec_prefix}, key=len, reverse=True):
        text = text.replace(folder.rstrip("/\\") + os.sep, "<env>" + os.sep)
    return text


def expect(truth: object, text: str) -> None:
    """Raise Failed with the text unless the value is true."""
    if not truth:
        raise Failed(text)


def same(found: Any, wanted: Any, what: str) -> None:
    """Raise Failed unless two values are equal, naming both."""
    if found != wanted:
        raise Failed(f"{what} is {found!r}, expected {wanted!r}")
