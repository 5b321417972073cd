"""Trials: run the smoke script in an environment, show its table, and keep what it found as evidence."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock import files, process
from torchlock.environment import manifest
from torchlock.errors import EnvError, SmokeError, TorchlockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlock.reporter import Reporter

SCHEMA = 1
FILE = "evidence.json"
SCRIPT = Path(__file__).resolve().parents[2] / "smoke.py"
# How long the script may take to end its children when it is told to stop.
STOP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a smoke run found, bound to the lock that the environment was built from; `smoke` is the script's JSON."""

    schema: int = SCHEMA
    profile: str
    platform: str
    lock: str
    status: str
    device: Mapping[str, Any] | None
    smoke: Mapping[str, Any]

    def write(self, env: Path) -> None:
        """Keep the evidence beside what it is about, in one canonical form."""
        manifest.keep(env / FILE, asdict(self))


def run(  # noqa: PLR0913 - the options of the script
    env: Path,
    *,
    lock: Path,
    variant: str,
    require: str | None,
    as_json: bool,
    reporter: Reporter,
    script: Path = SCRIPT,
) -> Evidence:
    """Run the smoke script in an environment that torchlock built, and return its evidence, which is kept there.

    The script prints for itself. Raise SmokeError, the evidence kept all the same, where a check failed; and where the
    script could not finish, which leaves no evidence.
    """
    where, again = manifest.name_of(env), f"make env-{env.name}"
    if not env.is_dir():
        raise EnvError(where, "there is no such environment yet", remedy=again)
    known = manifest.read(env)
    files.remove(env / FILE)
    options = ["--variant", variant, "--lock", os.fspath(lock)]
    options += ["--require-device", require] if require else []
    options += ["--json"] if as_json else []
    status, found = report(env / known.layout.python, script, options, EnvError, again)
    if found is None:
        raise SmokeError(where, f"the smoke script {_ended(status)}", "a report", again)
    evidence = Evidence(
        profile=known.profile,
        platform=known.platform,
        lock=known.lock,
        status=found["status"],
        device=found["device"],
        smoke=found,
    )
    evidence.write(env)
    judge(where, found, next((check["remedy"] for check in _failed(found) if check.get("remedy")), again))
    reporter.note(f"the evidence of this run is in {where}/{FILE}")
    return evidence


def report(
    python: Path, script: Path, options: Sequence[str], refusal: type[TorchlockError], again: str
) -> tuple[int, dict[str, Any] | None]:
    """Run the script, isolated from the user's settings, and return its exit status and its JSON, None without one.

    The script prints for itself. Raise `refusal`, with `again` as its remedy, where the interpreter cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="torchlock-") as folder:
        place = Path(folder) / "smoke.json"
        command = [os.fspath(python), "-I", os.fspath(script), "--report", os.fspath(place), *options]
        try:
            status = _run(command)
        except OSError as error:
            raise refusal(python, f"cannot be run: {error.strerror}", remedy=again) from error
        try:
            return status, json.loads(place.read_bytes())
        except (OSError, ValueError):
            return status, None


def judge(where: str, found: Mapping[str, Any], remedy: str) -> None:
    """Raise SmokeError where the script's JSON says that the run, or a check that is no known defect, failed."""
    failed = _failed(found)
    if found["status"] != "pass" or failed:
        raise SmokeError(where, failures([check["id"] for check in failed], len(found["checks"])), "none", remedy)


def failures(failed: Sequence[str], count: int) -> str:
    """Say how many of the checks failed, and name the first five."""
    names = ", ".join(failed[:5]) + (", …" if len(failed) > 5 else "")
    return f"{len(failed)} of {count} checks failed: {names}"


def _run(command: Sequence[str]) -> int:
    """Run a command that prints for itself; whatever interrupts it, neither it nor its children live on."""
    with subprocess.Popen(command, env=process.clean_environment(), stdin=subprocess.DEVNULL) as running:
        try:
            return running.wait()
        except BaseException:
            running.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(STOP_SECONDS)
            running.kill()
            raise


def _ended(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name} before it could report"
    return f"ended with status {status} before it could report"


def _failed(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [check for check in found["checks"] if check["status"] == "fail" and not check.get("known")]
