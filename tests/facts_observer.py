"""Import compiled modules one by one, each in a forked process of its own, and tell what became of them.

It runs inside the Python under observation: `python facts_observer.py FOLDER PATH...`, NumPy on PYTHONPATH, FOLDER
holding an unpacked wheel and PATH naming its modules. One JSON object on standard output, by path: `ok`, `numpy`
(NumPy refused its binary interface), `unheard` (the same, but it went on all the same), `behind PATH` (another
compiled file failed first), `unreached: …`, or the error's own words.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import tempfile
import types
import warnings
from typing import Any

ABI = (
    "_ARRAY_API not found",
    "compiled using NumPy 1.x",
    "compiled against ABI version",
    "multiarray failed to import",
    "umath failed to import",
    "size changed, may indicate binary incompatibility",
)
# What is believed where two ways to import a module end differently: the more telling one.
_RANK = {"unreached:": 0, "behind": 1, "numpy": 3, "unheard": 4, "ok": 4}
_LOADER = importlib.machinery.ExtensionFileLoader


class Watch:
    """Follow every load of a compiled file: which of them failed by itself, and which for another's failure."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.failures: list[str] = []
        self._execute, self._create = _LOADER.exec_module, _LOADER.create_module

    def start(self) -> None:
        """Put itself between the import system and the files."""
        watch = self

        def create(loader: Any, spec: Any) -> Any:
            return watch.told(loader.path, lambda: watch._create(loader, spec))

        def execute(loader: Any, module: Any) -> Any:
            return watch.told(loader.path, lambda: watch._execute(loader, module))

        _LOADER.create_module, _LOADER.exec_module = create, execute  # type: ignore[assignment,method-assign]

    def told(self, path: str, load: Any) -> Any:
        """Run one step of a load and keep what became of it."""
        before = len(self.failures)
        try:
            result = load()
        except BaseException as error:
            inner = self.failures[before:]
            self.outcomes[path] = f"behind {inner[-1]}" if inner else classified(error)
            self.failures.append(path)
            raise
        self.outcomes[path] = "ok"
        return result


def classified(error: BaseException) -> str:
    """Return `numpy` where NumPy refused the module's binary interface, else the error's own words."""
    texts, seen = [], error
    while seen is not None:
        texts.append(str(seen))
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    if any(mark in text for text in texts for mark in ABI):
        return "numpy"
    words = str(error).partition("\n")[0].partition(" (")[0]  # what follows is often a path of this machine
    return f"{type(error).__name__}: {words}"[:200]


def dotted(path: str) -> str:
    """Return the name under which a compiled file is imported."""
    return path.rpartition("/")[0].replace("/", ".") + "." * ("/" in path) + path.rpartition("/")[2].split(".")[0]


def stubbed(folder: str, name: str) -> None:
    """Stand empty packages in for those above a module, so that theirs need not be run."""
    parts = name.split(".")[:-1]
    for count in range(1, len(parts) + 1):
        package = types.ModuleType(".".join(parts[:count]))
        package.__path__ = [os.path.join(folder, *parts[:count])]  # noqa: PTH118
        package.__version__ = "0"  # type: ignore[attr-defined]
        sys.modules[package.__name__] = package


def attempt(folder: str, path: str, way: str) -> dict[str, str]:
    """Import one module in a fork and return the outcome of every compiled file that it loaded."""
    reading, writing = os.pipe()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - two processes have it
    child = os.fork()
    if child == 0:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        watch = Watch()
        watch.start()
        name = dotted(path)
        try:
            if way == "alone":
                stubbed(folder, name)
            importlib.import_module(name.partition(".")[0] if way == "package" else name)
        except BaseException as error:  # noqa: BLE001 - it is what is observed
            watch.outcomes.setdefault(os.path.join(folder, path), f"unreached: {classified(error)}")  # noqa: PTH118
        os.write(writing, json.dumps(watch.outcomes).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        return {path: f"killed by signal {status & 127}"}
    prefix = folder + os.sep
    found = {at.removeprefix(prefix): text.replace(prefix, "") for at, text in json.loads(data).items() if prefix in at}
    with said:
        said.seek(0)
        heard = said.read().decode(errors="replace")
    if path in found and any(text in heard for text in ABI):
        # NumPy refused it, and it kept that for itself: it went on, or it failed without a word.
        found[path] = {"ok": "unheard", "ImportError: ": "numpy"}.get(found[path], found[path])
    return found


def _rank(outcome: str) -> int:
    return _RANK.get(outcome.split(maxsplit=1)[0], 2)


def observed(folder: str, paths: list[str]) -> dict[str, str]:
    """Return the outcome of every module: ok if it could be imported in any way, else why it could not."""
    result: dict[str, str] = {}
    for path in paths:
        if result.get(path) == "ok":
            continue
        for way in ("alone", "module", "package"):
            for at, outcome in attempt(folder, path, way).items():
                if _rank(outcome) >= _rank(result.get(at, "unreached:")):
                    result[at] = outcome
            if result.get(path) in {"ok", "numpy", "unheard"}:
                break
    return result


def main() -> None:
    """Print what every module said."""
    warnings.simplefilter("ignore")
    folder, *paths = sys.argv[1:]
    folder = os.path.realpath(folder)
    sys.path.insert(0, folder)
    for name in ("numpy", "numpy.random", "numpy.fft", "numpy.linalg", "numpy.ma", "numpy.lib.recfunctions"):
        importlib.import_module(name)
    sys.stdout.write(json.dumps(observed(folder, paths), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
