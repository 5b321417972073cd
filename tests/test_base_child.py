"""Tools of Debian's: heard while they work, and ended with us."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from torchlock.base.child import complaints, work
from torchlock.errors import ImageError

_SLEEP = b"sleep\x0061.25\x00"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def run(folder: Path, program: str, **options: object) -> tuple[int, list[str]]:
    """Run a program of Python's as a tool."""
    return work([sys.executable, "-u", "-c", program], environment=ENVIRONMENT, folder=folder, **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Tell whether a process still runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
            return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_lines_are_heard_and_the_last_are_kept(tmp_path: Path) -> None:
    """What goes to standard error is heard, too; the exit status is the tool's."""
    heard: list[str] = []
    status, lines = run(tmp_path, "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)", heard=heard.append)
    assert (status, lines, heard) == (3, ["1", "2"], ["1", "2"])


def test_the_user_s_umask_is_not_the_tool_s(tmp_path: Path) -> None:
    """Files that a tool makes have the modes of umask 022."""
    before = os.umask(0o077)
    try:
        assert run(tmp_path, "import os; print(oct(os.umask(0)))")[1] == ["0o22"]
    finally:
        os.umask(before)


def test_a_tool_that_is_not_here(tmp_path: Path) -> None:
    """The message says how to install it."""
    with pytest.raises(ImageError) as caught:
        work(["mmdebstrap-2"], environment=ENVIRONMENT, folder=tmp_path)
    assert str(caught.value) == (
        "mmdebstrap-2: is not installed; expected Debian's tools, to build a base; "
        "try: apt-get install mmdebstrap-2, or a machine that has it"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="not run: it looks at /proc")
@pytest.mark.parametrize("contained", [False, True])
def test_an_interruption_ends_a_tool_and_its_children(tmp_path: Path, contained: bool) -> None:
    """Nothing is left that writes."""
    pids: list[int] = []
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '61.25'])\n"
        f"(open({str(tmp_path / 'at')!r}, 'w')).write('x')\n"
        "print('ready'); time.sleep(61)\n"
    )

    def heard(line: str) -> None:
        until = time.monotonic() + 5
        while not pids and time.monotonic() < until:
            names = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
            pids.extend(int(name) for name in names if _words(name) == _SLEEP)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, program, heard=heard, contained=contained)
    assert time.monotonic() - started < 20
    assert pids
    until = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]


def _words(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - a file of the kernel
            return file.read()
    except OSError:
        return b""


def test_complaints_are_one_line() -> None:
    """What is marked as an error is kept, each once; without any, the last lines are."""
    assert complaints(["I: start", "E: no\x07 way", "E: no way", "E: at all"]) == "no way; at all"
    assert complaints(["one", "two", "three", "", "four"]) == "two; three; four"
    assert complaints([f"E: {'x' * 700}"]) == f"{'x' * 600} […]"
