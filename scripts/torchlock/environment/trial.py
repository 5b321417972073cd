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
from torchlock.errors import EnvError, SmokeError

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
        text = json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False)
        files.write_atomic(env / FILE, f"{text}\n".encode())


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
    where = f"{env.parent.name}/{env.name}"
    if not env.is_dir():
        raise EnvError(where, "there is no such environment yet", remedy=f"make env-{env.name}")
    known = manifest.read(env)
    files.remove(env / FILE)
    options = ["--variant", variant, "--lock", os.fspath(lock)]
    options += ["--require-device", require] if require else []
    options += ["--json"] if as_json else []
    found = _report(where, env / known.layout.python, script, options)
    evidence = Evidence(
        profile=known.profile,
        platform=known.platform,
        lock=known.lock,
        status=found["status"],
        device=found["device"],
        smoke=found,
    )
    evidence.write(env)
    _judge(where, found)
    reporter.note(f"the evidence of this run is in {where}/{FILE}")
    return evidence


def _report(where: str, python: Path, script: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run the script, isolated from the user's settings, and return its JSON."""
    with tempfile.TemporaryDirectory(prefix="torchlock-") as folder:
        report = Path(folder) / "smoke.json"
        command = [os.fspath(python), "-I", os.fspath(script), "--report", os.fspath(report), *options]
        try:
            status = _run(command)
        except OSError as error:
            raise EnvError(python, f"cannot be run: {error.strerror}", remedy=_again(where)) from error
        try:
            found: dict[str, Any] = json.loads(report.read_bytes())
        except (OSError, ValueError):
            raise SmokeError(where, f"the smoke script {_ended(status)}", "a report", _again(where)) from None
    return found


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


def _judge(where: str, found: Mapping[str, Any]) -> None:
    failed = [check for check in found["checks"] if check["status"] == "fail" and not check.get("known")]
    if found["status"] == "pass" and not failed:
        return
    names = ", ".join(check["id"] for check in failed[:5]) + (", …" if len(failed) > 5 else "")
    remedy = next((check["remedy"] for check in failed if check.get("remedy")), _again(where))
    raise SmokeError(where, f"{len(failed)} of {len(found['checks'])} checks failed: {names}", "none", remedy)


def _again(where: str) -> str:
    return f"make env-{where.rpartition('/')[2]}"
