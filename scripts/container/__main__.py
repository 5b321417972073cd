"""The entry point of an image: say what it is, smoke it, or become the command that was given.

`docker run IMAGE` and `docker run IMAGE about [--json]` describe it; `docker run IMAGE smoke [options]` runs the smoke
script against the image's own lock; anything else is executed in this process's place. Exit status of its own: 1 a GPU
that cannot run the build (for `smoke`), 126 and 127 a command that cannot be run or found, as shells have it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

# /opt/torchlock, where this file is bin/container/__main__.py: no module is imported from anywhere else.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # noqa: PTH120 - pathlib is 10 ms
sys.path.insert(0, f"{ROOT}/bin")

from container import gpu  # noqa: E402 - found through the line above

if TYPE_CHECKING:
    from collections.abc import Sequence

FACTS = f"{ROOT}/image.json"
LOCK = f"{ROOT}/pylock.toml"
SMOKE = f"{ROOT}/bin/smoke.py"
_HELP = ("-h", "--help")


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; return only where no other program takes this one's place."""
    with open(FACTS, encoding="utf-8") as file:  # noqa: PTH123 - as above
        facts: dict[str, Any] = json.load(file)
    command, *rest = arguments or ("about",)
    if command == "about" or command in _HELP:
        return _about(facts, as_json=rest == ["--json"])
    line = gpu.refusal(facts) if facts["cuda"] and gpu.visible() else ""
    if line and command == "smoke":
        return _say(f"{facts['profile']}: {line}", 1)
    if line:
        _say(f"warning: {facts['profile']}: {line}", 0)
    if command == "smoke":
        variant = ["--variant", facts["variant"], "--lock", LOCK]
        return _become(sys.executable, [sys.executable, "-I", SMOKE, *variant, *rest])
    return _become(command, [command, *rest])


def _about(facts: dict[str, Any], *, as_json: bool) -> int:
    from container import about  # noqa: PLC0415 - other commands start without it

    text = json.dumps(facts, indent=2, sort_keys=True) if as_json else about.text(facts)
    sys.stdout.write(f"{text}\n")
    if facts["cuda"] and not as_json and gpu.visible():
        sys.stdout.write(f"\nthe GPU here: {gpu.refusal(facts) or gpu.line(facts)}\n")
    return 0


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"torchlock image: {text}\n")
    return status


def _become(program: str, command: list[str]) -> int:
    """Execute a command, found on PATH, in this process's place; return only the status of a failure to."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is executed would go on doing so
    try:
        os.execvp(program, command)  # noqa: S606 - the command is the user's own
    except FileNotFoundError:
        return _say(f"{program}: no such command in the image", 127)
    except OSError as error:
        return _say(f"{program}: {error.strerror}", 126)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
