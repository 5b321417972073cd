"""The entry point of an image says what it is, smokes it, or becomes the command that was given."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import inside
from container import gpu
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REFUSAL = "the driver 470.57.02 speaks CUDA 11.4, too old for 12.1"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the image of a CUDA profile."""
    return inside.unpack(tmp_path_factory.mktemp("image"))


def test_without_a_command_it_says_what_it_is(root: Path) -> None:
    """On standard output, and nothing on standard error."""
    for arguments in ((), ("about",), ("--help",)):
        done = inside.run(root, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("An image made by torchlock")
        assert "\n  torch     2.2.2\n" in done.stdout


def test_its_facts_are_there_as_json(root: Path) -> None:
    """The same that the image holds."""
    done = inside.run(root, "about", "--json")
    assert json.loads(done.stdout) == inside.facts()


def test_smoke_runs_the_script_against_its_own_lock(root: Path) -> None:
    """With the variant and the lock of the image, and what else was given."""
    listed = inside.run(root, "smoke", "--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "import.together" in listed.stdout.splitlines()
    (root / "opt/torchlock/pylock.toml").rename(root / "lock")
    broken = inside.run(root, "smoke", "--list")
    (root / "lock").rename(root / "opt/torchlock/pylock.toml")
    assert broken.returncode == 2
    assert f"{root}/opt/torchlock/pylock.toml: No such file or directory" in broken.stderr


def test_smoke_options_can_be_overruled(root: Path) -> None:
    """What is given comes after the image's own."""
    done = inside.run(root, "smoke", "--list", "--lock", "/no/such/lock")
    assert done.returncode == 2
    assert "/no/such/lock: No such file or directory" in done.stderr


def test_anything_else_takes_its_place(root: Path) -> None:
    """Same process, arguments untouched, exit status kept, output clean."""
    code = "import os, sys; print(sys.argv[1:]); sys.exit(7)"
    done = inside.run(root, sys.executable, "-c", code, "smoke", "a b", "")
    assert (done.returncode, done.stdout, done.stderr) == (7, "['smoke', 'a b', '']\n", "")


def test_it_is_the_same_process(root: Path) -> None:
    """So that signals of `docker stop` reach the command, which is number 1."""
    command = [sys.executable, "-IS", f"{root}/opt/torchlock/bin/container/__main__.py", "sh", "-c", "echo $$"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        output, _ = running.communicate()
    assert int(output) == running.pid


def test_a_closed_pipe_ends_a_command_as_it_does_everywhere(root: Path) -> None:
    """Python ignores SIGPIPE; what it executes must not."""
    done = inside.run(root, "sh", "-c", "kill -PIPE $$; echo survived")
    assert (done.returncode, done.stdout) == (-signal.SIGPIPE, "")


def test_the_users_python_settings_are_not_the_entry_points(root: Path, tmp_path: Path) -> None:
    """They are for the command; a module on PYTHONPATH cannot take the place of ours."""
    (tmp_path / "json.py").write_text("raise SystemExit('not mine')", encoding="utf-8")
    done = inside.run(root, "sh", "-c", 'echo "$PYTHONPATH"', environment={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}\n")


def test_a_command_that_is_not_there_is_named(root: Path) -> None:
    """With the statuses of shells: 127 not found, 126 not executable."""
    done = inside.run(root, "no-such-command")
    assert (done.returncode, done.stderr) == (127, "torchlock image: no-such-command: no such command in the image\n")
    done = inside.run(root, f"{root}/opt/torchlock/image.json")
    assert (done.returncode, done.stderr) == (
        126,
        f"torchlock image: {root}/opt/torchlock/image.json: Permission denied\n",
    )


def test_a_cpu_image_asks_for_no_gpu(tmp_path: Path) -> None:
    """Neither in its words nor at its start."""
    done = inside.run(inside.unpack(tmp_path, "cpu"))
    assert "--gpus" not in done.stdout
    assert "  CUDA      none: this build runs on the CPU\n" in done.stdout


class Replaced(Exception):  # noqa: N818 - no error
    """The process would be another program now."""


def started(
    monkeypatch: pytest.MonkeyPatch, root: Path, arguments: Sequence[str], *, visible: bool = True, refused: bool = True
) -> tuple[Any, list[str]]:
    """Call the entry point in this process with a GPU of choice; return its status, or the command that it becomes."""
    main = importlib.import_module("container.__main__")
    for name, path in (("FACTS", "image.json"), ("LOCK", "pylock.toml"), ("SMOKE", "bin/smoke.py")):
        monkeypatch.setattr(main, name, f"{root}/opt/torchlock/{path}")
    asked: list[str] = []

    def line(facts: dict[str, Any]) -> str:
        asked.append(facts["profile"])
        if refused:
            raise EnvError(facts["profile"], REFUSAL, "driver 525.60.13 or newer", "another remedy")
        return "NVIDIA H100"

    def become(program: str, command: Sequence[str]) -> None:
        raise Replaced(program, *command)

    monkeypatch.setattr(gpu, "visible", lambda: visible)
    monkeypatch.setattr(gpu, "line", line)
    monkeypatch.setattr(os, "execvp", become)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        return main.main(arguments), asked
    except Replaced as replaced:
        return replaced.args, asked


def test_a_driver_that_is_too_old_stops_a_smoke_run(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error says why, and what would help."""
    status, _ = started(monkeypatch, root, ["smoke"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    assert captured.err == (
        f"torchlock image: torch2.2-cuda: {REFUSAL}; expected driver 525.60.13 or newer; try: a newer NVIDIA driver on "
        "the host, or the cpu image; -e CUDA_VISIBLE_DEVICES= leaves the GPU out\n"
    )


def test_it_only_warns_another_command(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which runs all the same, its standard output untouched."""
    replaced, _ = started(monkeypatch, root, ["python", "-c", "1"])
    captured = capsys.readouterr()
    assert replaced == ("python", "python", "-c", "1")
    assert captured.out == ""
    assert captured.err.startswith(f"torchlock image: warning: torch2.2-cuda: {REFUSAL}")
    assert captured.err.count("\n") == 1


def test_a_gpu_that_fits_is_not_talked_about(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the description names it."""
    replaced, asked = started(monkeypatch, root, ["python"], refused=False)
    assert (replaced, asked) == (("python", "python"), ["torch2.2-cuda"])
    assert capsys.readouterr() == ("", "")
    assert started(monkeypatch, root, [], refused=False)[0] == 0
    assert capsys.readouterr().out.endswith("\nthe GPU here: NVIDIA H100\n")


def test_without_a_gpu_none_is_asked(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """A start costs the look at a few file names."""
    replaced, asked = started(monkeypatch, root, ["smoke"], visible=False)
    assert replaced[0] == sys.executable
    assert asked == []


def test_without_a_gpu_nothing_but_the_entry_point_is_imported(root: Path) -> None:
    """The modules that ask the driver stay on disk: a start is a few milliseconds."""
    command = [sys.executable, "-IS", "-X", "importtime", f"{root}/opt/torchlock/bin/container/__main__.py", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "container.gpu" in done.stderr
    assert "torchlock" not in done.stderr.replace(f"{root}", "")
    assert "subprocess" not in done.stderr
