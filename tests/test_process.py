"""Child processes: what they see of the user's settings, and how they are run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torchlock import process

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = [
    "PIP_INDEX_URL",
    "PIP_CONFIG_FILE",
    "pip_find_links",
    "UV_INDEX",
    "UV_EXCLUDE_NEWER",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PYTHONOPTIMIZE",
    "CONDA_PREFIX",
    "MAMBA_ROOT_PREFIX",
    "VIRTUAL_ENV",
    "LD_PRELOAD",
    "NETRC",
    "REQUESTS_CA_BUNDLE",
    "FORCE_COLOR",
    "CLICOLOR_FORCE",
    "RUST_LOG",
    "RUST_BACKTRACE",
]
PROXIES = ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "no_proxy"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_setting_of_another_tool_is_kept_away(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What could change a resolver's answer or an interpreter's imports is not handed on."""
    monkeypatch.setenv(name, "hostile")
    assert "hostile" not in process.clean_environment().values()


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_are_handed_on_only_where_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A child that talks to loopback sees no proxy; one that needs the network may."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert name not in process.clean_environment()
    assert process.clean_environment(proxies=True)[name] == "http://127.0.0.1:9"


def test_the_rest_is_handed_on_and_extra_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other variables stay; what a caller sets stands, even under a name that is kept away."""
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    monkeypatch.setenv("PYTHONPATH", "hostile")
    environment = process.clean_environment({"PYTHONPATH": "own"})
    assert environment["SOMETHING_ELSE"] == "kept"
    assert environment["PYTHONPATH"] == "own"
    assert environment["PIP_CONFIG_FILE"] == os.devnull
    assert environment["PYTHONHASHSEED"] == "0"


def test_a_command_gets_its_text_environment_and_folder(tmp_path: Path) -> None:
    """Standard input, environment and working folder are those given, the output is UTF-8."""
    code = "import os, sys; print(sys.stdin.read(), os.environ['WORD'], os.getcwd(), 'é'); sys.exit(3)"
    environment = process.clean_environment({"WORD": "word", "PYTHONUTF8": "1"})
    done = process.run([sys.executable, "-c", code], environment=environment, text="text", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"text word {tmp_path.resolve()} é\n", "")


def test_a_command_without_text_reads_nothing() -> None:
    """Standard input is empty, not the terminal's."""
    code = "import sys; print(repr(sys.stdin.read()))"
    done = process.run([sys.executable, "-c", code], environment=process.clean_environment())
    assert done.stdout == "''\n"


def test_bytes_that_are_no_text_do_not_break_the_caller() -> None:
    """Output that is not UTF-8 is read with replacement characters."""
    code = r"import sys; sys.stdout.buffer.write(b'a\xffb')"
    assert process.run([sys.executable, "-c", code], environment=process.clean_environment()).stdout == "a\ufffdb"


def test_shell_metacharacters_are_only_text() -> None:
    """No shell looks at an argument."""
    word = "$(touch x); `id` | cat > y & 'z'"
    code = "import sys; print(sys.argv[1])"
    done = process.run([sys.executable, "-c", code, word], environment=process.clean_environment())
    assert done.stdout == f"{word}\n"


def test_a_command_that_does_not_end_is_ended() -> None:
    """After its seconds a command is killed, and the caller told."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.run(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            environment=process.clean_environment(),
            seconds=0.3,
        )
