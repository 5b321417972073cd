"""The patient: a Python of whatever making, as it describes itself, or as its folders do where it cannot start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock import process
from torchlock.doctor.child import MARK
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ASK_SECONDS = 60.0
OLDEST = (3, 8)
# It runs in Python 2.7 as well, so that even that one says its version. The path is the user's own, PYTHONPATH too.
_QUESTION = """
import json, os, platform, sys, sysconfig
try:
    from importlib.util import find_spec
    pip = find_spec("pip") is not None
except Exception:
    pip = False
paths = sysconfig.get_paths()
names = getattr(os, "confstr_names", {})
sys.stdout.write(%r + json.dumps({
    "version": "%%d.%%d.%%d" %% sys.version_info[:3],
    "executable": sys.executable,
    "prefix": sys.prefix,
    "base": getattr(sys, "base_prefix", sys.prefix),
    "path": [p for p in sys.path if p],
    "standard": [paths["stdlib"], paths["platstdlib"]],
    "managed": sys.prefix == getattr(sys, "base_prefix", sys.prefix)
        and os.path.exists(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
    "pip": pip,
    "system": sys.platform,
    "machine": platform.machine(),
    "libc": (os.confstr("CS_GNU_LIBC_VERSION") or "") if "CS_GNU_LIBC_VERSION" in names else "",
}) + "\\n")
""" % (MARK)  # noqa: UP031 - the text is full of braces


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """A Python and where its packages lie, first come first served; `broken` says why it does not start, or nothing.

    `path` is every entry of its `sys.path` but the standard library, `sites` those of them that hold packages.
    `managed` marks the system's Python, which its installers refuse to touch (PEP 668).
    """

    python: Path
    version: str
    prefix: Path
    path: tuple[Path, ...]
    sites: tuple[Path, ...]
    system: str
    machine: str
    glibc: str | None = None
    virtual: bool = False
    managed: bool = False
    pip: bool = False
    broken: str = ""

    @property
    def conda(self) -> bool:
        """Return whether conda made this environment."""
        return (self.prefix / "conda-meta").is_dir()

    @property
    def minor(self) -> str:
        """Return the version as `3.11`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def kind(self) -> str:
        """Name the kind of environment."""
        if self.conda:
            return "conda environment"
        return "virtual environment" if self.virtual else "system Python" if self.managed else "Python installation"

    @property
    def markers(self) -> Mapping[str, str]:
        """Return the values of PEP 508's markers there."""
        windows, mac = self.system == "win32", self.system == "darwin"
        return {
            "python_version": self.minor,
            "python_full_version": self.version,
            "sys_platform": self.system,
            "platform_system": "Windows" if windows else "Darwin" if mac else "Linux",
            "platform_machine": self.machine,
            "os_name": "nt" if windows else "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }


def find(named: str) -> Patient:
    """Return the patient of a Python's path or command, or of an environment's folder; raise EnvError for neither."""
    python = _python(named)
    answer = _ask(python)
    if isinstance(answer, str):
        return _still(python, answer)
    version = tuple(int(part) for part in answer["version"].split("."))
    if version < OLDEST:
        raise EnvError(f"PYTHON={named}", f"it is Python {answer['version']}", "Python 3.8 or newer")
    standard = {os.path.realpath(folder) for folder in answer["standard"]}
    standard |= {os.path.join(folder, "lib-dynload") for folder in standard}  # noqa: PTH118 - they are strings
    path = [Path(entry) for entry in answer["path"] if os.path.realpath(entry) not in standard]
    path = [entry for entry in dict.fromkeys(path) if entry.is_dir()]
    name, _, libc = answer["libc"].partition(" ")
    return Patient(
        python=Path(answer["executable"] or python),
        version=answer["version"],
        prefix=Path(answer["prefix"]),
        path=tuple(path),
        sites=tuple(entry for entry in path if _is_site(entry)),
        system="linux" if answer["system"].startswith("linux") else answer["system"],
        machine=answer["machine"],
        glibc=libc if name == "glibc" else None,
        virtual=answer["prefix"] != answer["base"],
        managed=answer["managed"],
        pip=answer["pip"],
    )


def usual(envs: Path, profiles: Iterable[str]) -> str:
    """Name the environment that is meant where none is named: the active one, one of ours, or the path's `python3`."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(name):
            return os.environ[name]
    return next((os.fspath(envs / name) for name in profiles if (envs / name).is_dir()), "python3")


def _python(named: str) -> Path:
    """Return an absolute path, links kept: a virtual environment's Python is known by its own path."""
    place = Path(os.path.expanduser(named))  # noqa: PTH111 - Path.expanduser turns "./python" into "python"
    if place.is_dir():
        for inner in ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe"):
            if os.path.lexists(place / inner):
                return (place / inner).absolute()
        raise EnvError(f"PYTHON={named}", "a folder without a Python", "a Python, or the folder of an environment")
    if os.path.lexists(place) and os.sep in named:
        return place.absolute()
    found = shutil.which(named)
    if found is None:
        raise EnvError(f"PYTHON={named}", "no such command or file", "a Python, or the folder of an environment")
    return Path(found).absolute()


def _ask(python: Path) -> dict[str, Any] | str:
    """Return what a Python says of itself, or why it says nothing."""
    try:
        done = process.run(
            [os.fspath(python), "-c", _QUESTION], environment=surroundings(), seconds=ASK_SECONDS, folder=Path("/")
        )
    except subprocess.TimeoutExpired:
        return f"it gives no answer within {ASK_SECONDS:g} s"
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    _, found, text = done.stdout.rpartition(MARK)
    if not found:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        return f"it ends with status {done.returncode}, saying {said[-1][:200]!r}"
    answer: dict[str, Any] = json.loads(text.splitlines()[0])
    return answer


def surroundings() -> dict[str, str]:
    """Return the user's own environment variables, without those of Make, and writing no byte code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "TORCHLOCK_", "PYTEST_"))
    }
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}


def _is_site(folder: Path) -> bool:
    return folder.name in {"site-packages", "dist-packages"} or any(folder.glob("*.dist-info"))


def _still(python: Path, why: str) -> Patient:
    """Return what the folders tell of a Python that does not start; raise EnvError where they tell nothing."""
    prefix = python.parent.parent
    sites = sorted((*prefix.glob("lib/python3*/site-packages"), *prefix.glob("Lib/site-packages")))
    if not sites:
        raise EnvError(python, why, "a Python, or the folder of an environment")
    settings = {}
    for line in _text(prefix / "pyvenv.cfg").splitlines():
        key, _, value = line.partition("=")
        settings[key.strip()] = value.strip()
    folder = sites[0].parent.name.removeprefix("python")
    version = settings.get("version_info", settings.get("version", folder)).split(".")
    return Patient(
        python=python,
        version=".".join([*version, "0", "0"][:3]),
        prefix=prefix,
        path=tuple(sites),
        sites=tuple(sites),
        system="linux" if os.name == "posix" else "win32",
        machine=os.uname().machine if hasattr(os, "uname") else "AMD64",
        virtual=bool(settings),
        broken=why,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
