"""What the patient's own Python runs: imports, one after another, told line by line (Python 3.8; standard library)."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

MARK = "\x1etorchlock "
OPENMP = re.compile(r"(lib)?(gomp|iomp5|omp)(md)?([-.].*)?$")


def bridge() -> None:
    """Cross from NumPy to torch and back."""
    torch, numpy = importlib.import_module("torch"), importlib.import_module("numpy")
    array = numpy.arange(3.0)
    back = torch.from_numpy(array).numpy()
    back[0] = 7
    if array.tolist() != [7.0, 1.0, 2.0]:
        raise RuntimeError("torch.from_numpy() and Tensor.numpy() do not share their memory")


def product() -> None:
    """Make both libraries start the threads of their OpenMP runtimes."""
    torch = importlib.import_module("torch")
    torch.ones(256, 256).matmul(torch.ones(256, 256)).sum().item()


def loaded() -> list[str]:
    """List the OpenMP runtimes that this process has loaded, where the system tells."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = {line.split(None, 5)[5] for line in lines if len(line.split(None, 5)) == 6}
    return sorted(path for path in paths if OPENMP.match(path.rpartition("/")[2]))


def attempt(step: str) -> dict[str, Any]:
    """Do one step; return how it went."""
    try:
        if step == "bridge()":
            bridge()
        elif step == "product()":
            product()
        else:
            module = importlib.import_module(step)
            return {"ok": True, "version": str(getattr(module, "__version__", "")), "file": module.__file__}
    except BaseException as error:  # noqa: BLE001 - whatever an import raises is the finding, SystemExit too
        said = "%s: %s" % (type(error).__name__, " ".join(str(error).split()))  # noqa: UP031 - as old as it can be
        return {"ok": False, "error": said, "trace": traceback.format_exc()}
    return {"ok": True}


def main() -> None:
    """Do the steps of the request, sending each beginning and each end at once."""
    sys.path[:] = [entry for entry in sys.path if entry]
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def send(**message: Any) -> None:
            out.write(MARK + json.dumps({**message, "at": os.fstat(2).st_size}) + "\n")
            out.flush()

        for step in json.loads(sys.argv[1]):
            send(event="begin", step=step)
            send(event="end", step=step, **attempt(step))
        send(event="done", openmp=loaded())


if __name__ == "__main__":
    main()
