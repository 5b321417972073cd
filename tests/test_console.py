"""The console: bars where there is a terminal, few plain lines where there is none, nothing when quiet."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from torchlock.console import Terminal


class Screen(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def terminal_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Put a terminal in the place of standard error; in the test itself, for pytest puts its own there before."""
    found = Screen()
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", found)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Put a clock that the test moves in the place of the real one."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_long_task_is_named_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line every ten seconds and one at the end, on standard error: no bars, no control characters."""
    with Terminal() as terminal:
        for second in range(26):
            clock[0] = 1000.0 + second
            terminal.progress("torch.whl", second * 1_000_000, 25_000_000)
        terminal.progress("torch.whl", 25_000_000, 25_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "torch.whl: 10.0 MB of 25.0 MB",
        "torch.whl: 20.0 MB of 25.0 MB",
        "torch.whl: 25.0 MB, done",
    ]


def test_without_a_terminal_a_task_of_one_step_is_not_named(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is over when it is first heard of leaves no line; of an unknown size, a question mark."""
    with Terminal() as terminal:
        terminal.progress("small.whl", 5, 5)
        terminal.progress("strange.whl", 0, None)
        clock[0] += 11
        terminal.progress("strange.whl", 2_000_000, None)
    assert capsys.readouterr().err == "strange.whl: 2.0 MB of ?\n"


def test_a_note_is_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in it is markup, and it is not wrapped."""
    text = "[bold]waiting[/bold] for :smile: " + "x" * 300
    with Terminal() as terminal:
        terminal.note(text)
    assert capsys.readouterr().err == f"{text}\n"


def test_quiet_says_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither notes nor progress, on a terminal or not."""
    assert_quiet(clock)
    screen = terminal_screen(monkeypatch)
    assert_quiet(clock)
    assert screen.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def assert_quiet(clock: list[float]) -> None:
    """Use a quiet terminal in every way."""
    with Terminal(quiet=True) as terminal:
        terminal.note("note")
        terminal.progress("torch.whl", 1, 10)
        clock[0] += 20
        terminal.progress("torch.whl", 5, 10)
        terminal.progress("torch.whl", 10, 10)


def test_on_a_terminal_a_task_has_a_bar_that_goes_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar names the task, cut to its width; notes stand above; nothing goes to standard output."""
    screen = terminal_screen(monkeypatch)
    name = "nvidia_cudnn_cu12-8.9.2.26-py3-none-manylinux1_x86_64.whl"
    with Terminal() as terminal:
        terminal.progress(name, 1_000_000, 10_000_000)
        terminal.progress("other.whl", 1, None)
        terminal.note("a note")
        assert len(terminal._bars.tasks) == 2
        terminal.progress(name, 10_000_000, 10_000_000)
        assert [task.description for task in terminal._bars.tasks] == ["other.whl"]
    text = screen.getvalue()
    assert f"{name[:43]}…" in text
    assert name not in text
    assert "a note\n" in text
    assert capsys.readouterr().out == ""


def test_progress_comes_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of eight threads begin and end without an error or a rest."""
    terminal_screen(monkeypatch)
    with Terminal() as terminal:

        def work(number: int) -> None:
            for done in range(1, 21):
                terminal.progress(f"{number}.whl", done, 20)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert terminal._bars.tasks == []


def test_an_error_ends_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor is shown again after a failure."""
    screen = terminal_screen(monkeypatch)

    def fail() -> None:
        with Terminal() as terminal:
            terminal.progress("torch.whl", 1, 10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    text = screen.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
