"""Interpreters: which one is taken, which are refused, and what is said when there is none."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from servers import Notes
from torchlock import interpreter
from torchlock.errors import EnvError
from torchlock.reporter import Silent

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
FULL = f"{RUNNING}.{sys.version_info[2]}"
ANSWER = {
    "path": "/opt/python3.99",
    "implementation": "cpython",
    "version": "3.99.4",
    "system": "linux",
    "machine": "x86_64",
    "bits": 64,
    "libc": "glibc 2.36",
    "suffix": ".cpython-399-x86_64-linux-gnu.so",
    "debug": False,
    "free_threaded": False,
}


def script(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def answering(path: Path, **changes: Any) -> Path:
    """Write a command that answers as an interpreter of 3.99.4 would, but for some values."""
    text = json.dumps({**ANSWER, "path": str(path), **changes})
    return script(path, f"cat <<'END'\n{text}\nEND")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a PATH of one folder that has nothing but `cat` and `sleep`, no pyenv and no Python of uv's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "sleep"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    return folder


def test_running() -> None:
    """The running interpreter is taken for its own version, and describes itself truly."""
    found = interpreter.find(RUNNING, None, Silent())
    assert (found.path, found.version, found.minor) == (Path(sys.executable), FULL, RUNNING)
    assert (found.platform.name, platform.machine()) in {("linux-64", "x86_64"), ("linux-aarch64", "aarch64")}
    assert found.suffix == sysconfig.get_config_var("EXT_SUFFIX")


def test_said(bare: Path) -> None:
    """The one that is taken is said, with its version and platform."""
    path = answering(bare / "python3.99")
    notes = Notes()
    assert interpreter.find("3.99", None, notes).path == path
    assert notes.notes == [f"Python 3.99.4 for linux-64: {path}"]


def test_wanted_path(tmp_path: Path) -> None:
    """The interpreter that the user names is taken, and is asked for its own path."""
    link = script(tmp_path / "mine", f'exec {sys.executable} "$@"')
    assert interpreter.find(RUNNING, str(link), Silent()).path == Path(sys.executable)


def test_wanted_command(bare: Path) -> None:
    """A bare command is looked up on PATH."""
    path = answering(bare / "mine")
    assert interpreter.find("3.99", "mine", Silent()).path == path


def test_wanted_version(bare: Path) -> None:
    """A named interpreter of another version is refused, though one that fits stands beside it."""
    answering(bare / "python3.99")
    answering(bare / "other", version="3.98.1")
    with pytest.raises(EnvError) as refused:
        interpreter.find("3.99", "other", Silent())
    assert str(refused.value) == "PYTHON=other: it is Python 3.98.1; expected Python 3.99; try: PYTHON=python3.99"


def test_wanted_missing(bare: Path) -> None:
    """A named interpreter that is not there is refused."""
    with pytest.raises(EnvError) as refused:
        interpreter.find("3.99", "nowhere/python", Silent())
    expected = "PYTHON=nowhere/python: no such command or executable file; expected a CPython 3.99"
    assert str(refused.value) == expected


def test_shim(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyenv shim of a version that is not activated is passed over for the next one on PATH."""
    script(bare / "python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127")
    path = answering(tmp_path / "second" / "python3.99")
    monkeypatch.setenv("PATH", f"{bare}{os.pathsep}{path.parent}")
    assert interpreter.find("3.99", None, Silent()).path == path


def test_pyenv(bare: Path, tmp_path: Path) -> None:
    """Of pyenv's own interpreters the newest patch release is taken, by number and not by letter."""
    for patch in (9, 10, 2):
        path = tmp_path / f"pyenv/versions/3.99.{patch}/bin/python3.99"
        answering(path, version=f"3.99.{patch}")
    answering(tmp_path / "pyenv/versions/3.99-dev/bin/python3.99")
    assert interpreter.find("3.99", None, Silent()).version == "3.99.10"


def test_uv(bare: Path, tmp_path: Path) -> None:
    """An interpreter that uv manages is found, without a download."""
    managed = tmp_path / "uv" / f"cpython-{FULL}-linux-{platform.machine()}-gnu" / "bin" / f"python{RUNNING}"
    managed.parent.mkdir(parents=True)
    managed.symlink_to(Path(sys.base_prefix) / "bin" / f"python{RUNNING}")
    assert interpreter._uv(RUNNING) == managed
    assert interpreter._uv("3.99") is None


def test_none(bare: Path, tmp_path: Path) -> None:
    """Where there is none, every place and what stood there is named, and the next command."""
    shim = script(bare / "python3.99", "echo 'pyenv: not here' >&2; exit 127")
    wrong = answering(tmp_path / "pyenv/versions/3.99.4/bin/python3.99", version="3.98.0")
    with pytest.raises(EnvError) as refused:
        interpreter.find("3.99", None, Silent())
    assert str(refused.value) == (
        f"Python 3.99: not found; looked at the running Python {sys.executable} ({RUNNING}), "
        f"{shim} (exit status 127, saying 'pyenv: not here'), pyenv's {wrong} (3.98.0), uv python find (none); "
        "expected a CPython 3.99; try: uv python install 3.99, or name one with PYTHON=/path/to/python3.99"
    )


def test_once(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is twice on PATH is looked at once, and so is an interpreter that is found in two ways."""
    count = bare / "count"
    script(bare / "python3.99", f"echo asked >> {count}; exit 1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(bare), str(bare)]))
    monkeypatch.setattr(interpreter, "_uv", lambda _: bare / "python3.99")
    with pytest.raises(EnvError):
        interpreter.find("3.99", None, Silent())
    assert count.read_text() == "asked\n"


def test_none_debian(bare: Path) -> None:
    """On Debian the next command is apt-get's."""
    script(bare / "apt-get", "exit 1")
    with pytest.raises(EnvError) as refused:
        interpreter.find("3.99", None, Silent())
    assert "looked at the running Python" in refused.value.found
    assert "python3.99 on PATH (none), uv python find (none)" in refused.value.found
    assert refused.value.remedy == "apt-get install python3.99, or name one with PYTHON=/path/to/python3.99"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"implementation": "pypy"}, "it is pypy"),
        ({"debug": True}, "it is a debug build"),
        ({"free_threaded": True}, "it is a free-threaded build"),
        ({"bits": 32}, "it is a 32-bit build"),
        ({"libc": "", "suffix": ".cpython-399-x86_64-linux-musl.so"}, "its C library is not glibc"),
        ({"libc": "glibc 2.17"}, "its C library is glibc 2.17"),
        ({"libc": "glibc 2.4"}, "its C library is glibc 2.4"),
        ({"machine": "riscv64"}, "linux on riscv64"),
    ],
)
def test_refused(bare: Path, changes: dict[str, Any], found: str) -> None:
    """An interpreter in which the wheels cannot run is refused with the reason."""
    path = answering(bare / "odd", **changes)
    with pytest.raises(EnvError) as refused:
        interpreter.ask(path)
    assert refused.value.found == found


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [("linux", "aarch64", "linux-aarch64"), ("darwin", "arm64", "osx-arm64"), ("win32", "AMD64", "win-64")],
)
def test_platform(bare: Path, system: str, machine: str, name: str) -> None:
    """The platform is what the interpreter says, whatever machine this is."""
    libc = "glibc 2.36" if system == "linux" else ""
    assert interpreter.ask(answering(bare / "other", system=system, machine=machine, libc=libc)).platform.name == name


def test_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the user set for Python does not reach the interpreter that is asked."""
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert interpreter.ask(Path(sys.executable)).version == FULL


def test_noise(bare: Path) -> None:
    """What an interpreter's start prints before the answer does no harm."""
    path = script(bare / "loud", f'echo "welcome"; exec {sys.executable} "$@"')
    assert interpreter.ask(path).version == FULL


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("echo 3.11; exit 0", "exit status 0, saying '3.11'"),
        ("exit 3", "exit status 3, saying 'nothing'"),
        ("echo '{}'", "exit status 0, saying '{}'"),
        ("echo '{}'; echo broken >&2; exit 1", "exit status 1, saying 'broken'"),
    ],
)
def test_no_python(bare: Path, body: str, found: str) -> None:
    """A command that is no Python is refused with what it said."""
    with pytest.raises(EnvError) as refused:
        interpreter.ask(script(bare / "odd", body))
    assert refused.value.found == found


def test_hangs(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that never answers is given up."""
    monkeypatch.setattr(interpreter, "ASK_SECONDS", 0.2)
    with pytest.raises(EnvError) as refused:
        interpreter.ask(script(bare / "slow", "exec sleep 60"))
    assert refused.value.found == "no answer within 0.2 s"


def test_not_executable(tmp_path: Path) -> None:
    """A file that the system cannot run is refused, not a traceback."""
    path = tmp_path / "python"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    with pytest.raises(EnvError, match="cannot be run: Exec format error"):
        interpreter.ask(path)
