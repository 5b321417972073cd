"""Where progress goes: the two things a long job may say while it works."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receive notes and progress; called from several threads at once."""

    def note(self, text: str) -> None:
        """Take one line that a person should read."""

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Take the state of a task in bytes; it is over when `done == total`."""


class Silent:
    """A reporter that says nothing."""

    def note(self, text: str) -> None:
        """Drop the line."""

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Drop the state."""
