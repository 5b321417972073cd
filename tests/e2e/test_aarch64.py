"""The CPU environments of both lines on aarch64, emulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.conftest import Emulated

pytestmark = pytest.mark.e2e


def test_an_aarch64_user_gets_working_environments(emulated: Emulated, say: Callable[[str], None]) -> None:
    """On an aarch64 Debian, `make env-cpu` and `make env-torch2.4-cpu` end with a smoke table without a failure."""
    try:
        results = emulated.results.result()
    finally:
        for note in emulated.notes:
            say(note)
    for goal in ("env-cpu", "env-torch2.4-cpu"):
        assert "\nsmoke passed: " in results[goal].output
        assert "Python 3.11" in results[goal].output
        assert "for linux-aarch64" in results[goal].output
