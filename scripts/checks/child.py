"""The child process: imports numpy and torch afresh, or runs checks, and tells the parent in JSON lines."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, TextIO

from checks import build, catalogue, cuda, driver, mps
from checks.diagnosis import diagnose
from checks.result import FAIL, NOT_RUN, PASS, Failed, NotRun, Result, expect, same, scrub
from checks.suite import Lab

if TYPE_CHECKING:
    from collections.abc import Callable


class Channel:
    """The pipe to the parent; what libraries print to standard output goes to standard error instead."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: str, **fields: Any) -> None:
        """Send one message at once: the next statement may end the process."""
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()


def attempt(channel: Channel, step: str, action: Callable[[], dict[str, Any]]) -> bool:
    """Try a step and send how it went; return whether it went well."""
    try:
        facts = action()
    except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit too: it is the finding
        text = " ".join(str(error).split()) or "no message"
        channel.send("step", step=step, ok=False, error=f"{type(error).__name__}: {text}", trace=traceback.format_exc())
        return False
    channel.send("step", step=step, ok=True, **facts)
    return True


def _import_numpy() -> dict[str, Any]:
    numpy = importlib.import_module("numpy")
    return {"version": str(numpy.__version__)}


def _import_torch() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {"version": str(torch.__version__), "cuda": torch.version.cuda, "build": build.describe(torch)}


def bridge(torch: Any, np: Any) -> dict[str, Any]:
    """Cross the C-API bridge both ways and write through it."""
    array = np.arange(3.0)
    tensor = torch.from_numpy(array)
    tensor[0] = 7
    same(array.tolist(), [7.0, 1.0, 2.0], "the array after a write to its tensor")
    other = torch.ones(2)
    view = other.numpy()
    view[1] = 5
    same(other.tolist(), [1.0, 5.0], "the tensor after a write to its array")
    expect(isinstance(view, np.ndarray), "Tensor.numpy() gives no ndarray")
    return {}


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    "numpy": _import_numpy,
    "torch": _import_torch,
    "bridge": lambda: bridge(importlib.import_module("torch"), importlib.import_module("numpy")),
}


def judge(identity: str, lab: Lab) -> Result:
    """Run one check with warnings as errors; those about the future of an interface do not count."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            return Result(id=identity, status=PASS, detail=catalogue.CHECKS[identity].run(lab))
    except NotRun as reason:
        return Result(id=identity, status=NOT_RUN, detail=str(reason))
    except Failed as finding:
        text = str(finding)
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its failure, not the end of the run
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    known = diagnose(text)
    cause, remedy = (known.cause, known.remedy) if known else ("", "")
    return Result(id=identity, status=FAIL, detail=scrub(text)[:600], cause=cause, remedy=remedy)


def device_facts(torch: Any) -> dict[str, Any]:
    """Say which devices there are, without host names."""
    state = driver.query()
    facts: dict[str, Any] = {
        "build": build.describe(torch),
        "driver": state.words if state.cuda else None,
        "cuda": [],
        "mps": mps.available(torch),
    }
    if torch.version.cuda and cuda.available(torch):
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            facts["cuda"].append(
                {"name": found.name, "capability": f"{found.major}.{found.minor}", "memory": found.total_memory}
            )
    return facts


def work(channel: Channel, request: dict[str, Any]) -> None:
    """Import both, numpy first, and run the checks that were asked for."""
    steps = STEPS["numpy"], STEPS["torch"]
    if not attempt(channel, "together", lambda: {**steps[0](), "torch": steps[1]()}):
        return
    torch, np = importlib.import_module("torch"), importlib.import_module("numpy")
    torch.set_warn_always(True)  # otherwise a warning is given once a process, and a later check misses it
    lab = Lab(torch=torch, np=np, variant=request["variant"], distributions=request["distributions"])
    channel.send("device", device=device_facts(torch))
    for identity in request["ids"]:
        channel.send("begin", id=identity)
        result = judge(identity, lab)
        channel.send(
            "result", id=result.id, status=result.status, detail=result.detail, cause=result.cause, remedy=result.remedy
        )


def main() -> None:
    """Do what the request on standard input asks for."""
    channel = Channel()
    request = json.load(sys.stdin)
    if request["do"] == "probe":
        for step in request["steps"]:
            if not attempt(channel, step, STEPS[step]):
                break
    else:
        work(channel, request)
    channel.send("done")
