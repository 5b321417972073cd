"""A child interpreter and its messages: whatever happens to it, the parent lives to tell."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCRIPTS = Path(__file__).resolve().parent.parent
# The folder of `checks` takes the place of the current one, whose files could hide numpy or torch.
BOOT = "import sys; sys.path[:] = [sys.argv.pop(1)] + [p for p in sys.path if p]; from checks.child import main; main()"
WORDS = 4000  # characters kept from the end of a child's standard error


class Silence(Exception):  # noqa: N818 - a finding, not an error of this program
    """The child said nothing for too long."""


def inherited() -> list[str]:
    """Return the flags of this interpreter that keep the user's settings out, for its children."""
    if sys.flags.isolated:
        return ["-I"]
    return [flag for flag, given in (("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site)) if given]


class Child:
    """A fresh interpreter with warnings as errors; use it as a context manager, which ends it."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, *inherited(), "-W", "error", "-X", "faulthandler", "-c", BOOT, str(SCRIPTS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(json.dumps(request).encode())
        self._pump = threading.Thread(target=self._read, daemon=True)
        self._pump.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._pump.join()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with self._process.stdout as pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(None)

    def messages(self, patience: float) -> Iterator[dict[str, Any]]:
        """Give the child's messages until it ends; raise Silence after `patience` seconds without any."""
        while True:
            try:
                line = self._lines.get(timeout=patience)
            except queue.Empty:
                raise Silence(f"no answer within {patience:g} s") from None
            if line is None:
                return
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and "event" in message:
                    yield message

    def end(self) -> int:
        """Wait for the child and return its status; a negative one is a signal."""
        return self._process.wait()

    def words(self) -> str:
        """Return the end of what the child wrote to standard error."""
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - WORDS))
        return self._errors.read().decode("utf-8", "replace")
