"""Run numpy and torch for real and say what works: `python scripts/smoke.py --help`.

Needs the standard library alone to start, and the folder `checks` beside it; works in any environment, a broken
one too. Exit status: 0 nothing failed, 1 something failed, 2 wrong usage, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if sys.version_info < (3, 10):  # noqa: UP036 - it runs in any environment, and says why where it cannot
    sys.exit("smoke: Python 3.10 or newer is needed, this is %d.%d" % sys.version_info[:2])  # noqa: UP031 - as above

_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:  # Python's safe path leaves the script's own folder out
    sys.path.insert(0, _HERE)
try:
    from checks import catalogue, locked, session, table
    from checks.result import GROUPS
except ModuleNotFoundError as _error:
    sys.exit(f"smoke: the folder checks must lie beside smoke.py, whole: {_error}")

if TYPE_CHECKING:
    from collections.abc import Sequence


class Terminated(BaseException):
    """SIGTERM came."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="smoke.py",
        description="Run numpy and torch for real: imports, conversions, operators, gradients, saving, devices.",
        epilog="Exit status: 0 nothing failed (what cannot run here is 'not run'), 1 a check failed, 2 wrong usage.",
    )
    add = found.add_argument
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--report", type=Path, metavar="FILE", help="write the JSON to a file as well")
    add("--group", action="append", choices=GROUPS, default=[], help="run this group only (may be given again)")
    add("--list", action="store_true", help="print the ids of the checks and run none")
    add("--require-device", choices=("cuda", "mps"), help="count this device's 'not run' checks as failures")
    add("--variant", choices=("cpu", "cuda", "mps"), help="what the build must be; cpu proves that no CUDA is in it")
    add("--lock", type=Path, metavar="PYLOCK", help="a pylock.toml that the environment must equal")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="longest silence of a process (default: 300)")
    return found


def options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, session.Options]:
    """Read the command line; wrong usage ends the program with status 2."""
    known = parser()
    given = known.parse_args(arguments)
    groups = tuple(dict.fromkeys(given.group))
    if given.require_device and groups and "device" not in groups:
        known.error("--require-device needs the group device: leave --group out, or add --group device")
    if given.lock and groups and "import" not in groups:
        known.error("--lock needs the group import: leave --group out, or add --group import")
    if given.variant and groups and "device" not in groups:
        known.error("--variant needs the group device: leave --group out, or add --group device")
    if not given.timeout > 0:
        known.error("--timeout must be above 0")
    try:
        lock = locked.read(given.lock) if given.lock else None
    except locked.LockUnreadable as error:
        known.error(f"{given.lock}: {error}")
    return given, session.Options(
        groups=groups,
        variant=given.variant,
        require_device=given.require_device,
        lock=lock,
        patience=given.timeout,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, print the answer, and return the exit status."""
    given, wanted = options(arguments)
    if given.list:
        print("\n".join(catalogue.ids_of(wanted.groups)))
        return 0
    found = session.run(wanted)
    report = json.dumps(found.to_dict(), indent=2, sort_keys=True, ensure_ascii=True)
    if given.json:
        print(report)
    else:
        print(table.render(found), end="")
    if given.report:
        try:
            given.report.write_text(report + "\n", encoding="utf-8")
        except OSError as error:
            print(f"smoke: {given.report}: {error.strerror}", file=sys.stderr)
            return 2
    return 0 if found.passed else 1


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _run() -> int:
    """Run as a program: signals and a closed pipe end it without a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("smoke: interrupted", file=sys.stderr)
        return 130
    except Terminated:
        print("smoke: terminated", file=sys.stderr)
        return 143
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(_run())
