"""Interpreters: find a CPython of the wanted version and ask it what it is and where it runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uv

from torchlock import process
from torchlock.errors import EnvError
from torchlock.platforms import GLIBC, Platform, of_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.reporter import Reporter

ASK_SECONDS = 60.0
# Where uv keeps its interpreters; every other setting of the user is kept from it.
_KEPT = ("UV_PYTHON_INSTALL_DIR",)
_KEYS = {"path", "implementation", "version", "system", "machine", "bits", "libc", "suffix", "debug", "free_threaded"}
_QUESTION = """
import json, os, platform, sys, sysconfig
names = getattr(os, "confstr_names", {})
print(json.dumps({
    "path": sys.executable,
    "implementation": sys.implementation.name,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "system": sys.platform,
    "machine": platform.machine(),
    "bits": 64 if sys.maxsize > 2 ** 32 else 32,
    "libc": (os.confstr("CS_GNU_LIBC_VERSION") or "") if "CS_GNU_LIBC_VERSION" in names else "",
    "suffix": sysconfig.get_config_var("EXT_SUFFIX") or "",
    "debug": hasattr(sys, "gettotalrefcount"),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A CPython as it described itself; `version` has three numbers, `suffix` is that of its extension modules."""

    path: Path
    version: str
    platform: Platform
    suffix: str

    @property
    def minor(self) -> str:
        """Return the version as profiles name it, such as `3.11`."""
        return _minor(self.version)


def find(version: str, wanted: str | None, reporter: Reporter) -> Interpreter:
    """Return a CPython `version` (such as `3.11`): `wanted` and no other, or the first that fits of those found here.

    `wanted` is a path or a command. Raise EnvError that names every place that was looked at and what stood there.
    """
    if wanted:
        return _named(version, wanted)
    tried: list[str] = []
    seen: set[Path] = set()
    for place, path in _candidates(version, tried):
        if path in seen:
            continue
        seen.add(path)
        try:
            found = ask(path)
        except EnvError as error:
            tried.append(f"{place}{path} ({error.found})")
            continue
        if found.minor == version:
            reporter.note(f"Python {found.version} for {found.platform.name}: {found.path}")
            return found
        tried.append(f"{place}{path} ({found.version})")
    looked = ", ".join(tried) or "nothing"
    raise EnvError(f"Python {version}", f"not found; looked at {looked}", f"a CPython {version}", _remedy(version))


def ask(path: Path) -> Interpreter:
    """Run an interpreter and return what it says of itself; raise EnvError where torch's wheels cannot run in it."""
    answer = _answer(path)
    if answer["implementation"] != "cpython":
        raise EnvError(path, f"it is {answer['implementation']}", "CPython")
    kinds = (("debug", "a debug build"), ("free_threaded", "a free-threaded build"))
    for key, kind in kinds:
        if answer[key]:
            raise EnvError(path, f"it is {kind}", "an ordinary build: the wheels have another ABI")
    if answer["bits"] != 64:
        raise EnvError(path, f"it is a {answer['bits']}-bit build", "a 64-bit build")
    _check_libc(path, answer)
    return Interpreter(
        path=Path(answer["path"]),
        version=answer["version"],
        platform=of_machine(answer["system"], answer["machine"]),
        suffix=answer["suffix"],
    )


def _named(version: str, wanted: str) -> Interpreter:
    found = shutil.which(os.path.expanduser(wanted))  # noqa: PTH111 - Path.expanduser turns "./python" into "python"
    if found is None:
        raise EnvError(f"PYTHON={wanted}", "no such command or executable file", f"a CPython {version}")
    interpreter = ask(Path(found))
    if interpreter.minor != version:
        remedy = f"PYTHON=python{version}"
        raise EnvError(f"PYTHON={wanted}", f"it is Python {interpreter.version}", f"Python {version}", remedy)
    return interpreter


def _answer(path: Path) -> dict[str, Any]:
    command = [os.fspath(path), "-I", "-c", _QUESTION]
    try:
        result = process.run(command, environment=_environment(), seconds=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise EnvError(path, f"no answer within {ASK_SECONDS:g} s", "a Python") from None
    except OSError as error:
        raise EnvError(path, f"cannot be run: {error.strerror}", "a Python") from error
    try:
        answer = json.loads(result.stdout.strip().rpartition("\n")[2])
    except ValueError:
        answer = None
    if result.returncode or not isinstance(answer, dict) or answer.keys() != _KEYS:
        said = (result.stderr.strip() or result.stdout.strip() or "nothing").splitlines()[0][:200]
        raise EnvError(path, f"exit status {result.returncode}, saying {said!r}", "a Python")
    return answer


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return process.clean_environment(kept)


def _check_libc(path: Path, answer: dict[str, Any]) -> None:
    if answer["system"] != "linux":
        return
    wanted = f"glibc {GLIBC[0]}.{GLIBC[1]} or newer: the wheels are linked to it"
    name, _, version = answer["libc"].partition(" ")
    if name != "glibc" or "musl" in answer["suffix"]:
        raise EnvError(path, "its C library is not glibc", wanted)
    if tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise EnvError(path, f"its C library is glibc {version}", wanted)


def _candidates(version: str, tried: list[str]) -> Iterator[tuple[str, Path]]:
    """Give places and interpreters in order of preference; what is skipped unasked goes to `tried`."""
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if running == version:
        yield "the running Python ", Path(sys.executable)
    else:
        tried.append(f"the running Python {sys.executable} ({running})")
    name = f"python{version}"
    folders = dict.fromkeys(os.environ.get("PATH", os.defpath).split(os.pathsep))
    commands = [found for folder in folders if folder and (found := shutil.which(name, path=folder))]
    if not commands:
        tried.append(f"{name} on PATH (none)")
    for command in commands:
        yield "", Path(command)
    for path in _pyenv(version):
        yield "pyenv's ", path
    known = _uv(version)
    if known:
        yield "uv's ", known
    else:
        tried.append("uv python find (none)")


def _pyenv(version: str) -> list[Path]:
    """List the interpreters that pyenv holds, newest first: its shims answer only for the activated ones."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    patches: list[tuple[int, Path]] = []
    for path in root.glob(f"versions/{version}.*/bin/python{version}"):
        with contextlib.suppress(ValueError):
            patches.append((int(path.parent.parent.name.rpartition(".")[2]), path))
    return [path for _, path in sorted(patches, reverse=True)]


def _uv(version: str) -> Path | None:
    """Ask uv for an interpreter that is already installed; nothing is downloaded."""
    flags = ("--system", "--no-project", "--no-config", "--no-python-downloads", "--offline", "--no-cache")
    command = [uv.find_uv_bin(), "python", "find", version, *flags]
    try:
        result = process.run(command, environment=_environment(), seconds=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(result.stdout.strip()) if result.returncode == 0 and result.stdout.strip() else None


def _remedy(version: str) -> str:
    install = f"uv python install {version}"
    if shutil.which("apt-get"):
        install = f"apt-get install python{version}"
    elif sys.platform == "darwin":
        install = f"brew install python@{version}"
    return f"{install}, or name one with PYTHON=/path/to/python{version}"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
