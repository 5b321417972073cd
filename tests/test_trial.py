"""Trials: the smoke script is run isolated, shown, judged and kept as evidence."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from torchlock.environment import trial
from torchlock.errors import EnvError, SmokeError
from workshop import PROFILE, Workshop, child

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.environment.trial import Evidence

# A script with the smoke script's interface, whose answer is the JSON beside it.
STAND_IN = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("--variant", "--lock", "--require-device", "--report"):
    parser.add_argument(name)
parser.add_argument("--json", action="store_true")
given = vars(parser.parse_args())
report = given.pop("report")
facts = json.loads(pathlib.Path(__file__).with_name("answer.json").read_text())
exec(facts.pop("do", ""))
facts["given"] = given
facts["seen"] = sorted(n for n in os.environ if n.startswith(("PYTHON", "UV_", "PIP_", "LD_PRELOAD")))
facts["prefix"] = sys.prefix
text = json.dumps(facts)
print(text if given["json"] else "the table")
pathlib.Path(report).write_text(text)
sys.exit(facts["status"] != "pass")
"""
HANG = """
import signal, subprocess, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
def stop(*_):
    child.kill(); child.wait(); sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
PASSED: dict[str, Any] = {"status": "pass", "device": {"name": "a device"}, "checks": [{"id": "a.b", "status": "pass"}]}
FAILED: dict[str, Any] = {
    "status": "fail",
    "device": None,
    "checks": [
        {"id": "import.numpy", "status": "fail", "cause": "numpy 2 under torch 2.2", "remedy": "make env-cpu"},
        {"id": "import.torch", "status": "not run"},
        *({"id": f"device.{n}", "status": "fail"} for n in range(6)),
    ],
}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Give a workshop whose environment is built, without numpy and torch in it."""
    made = Workshop(tmp_path)
    made.add("base", {"base.py": ""})
    made.build()
    (tmp_path / "pylock.toml").write_bytes(made.lock().to_toml())
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in/smoke.py").write_text(STAND_IN)
    return made


def run(shop: Workshop, answer: dict[str, Any], **changes: Any) -> Evidence:
    """Run the stand-in, which gives this answer."""
    script = shop.root / "stand-in/smoke.py"
    script.with_name("answer.json").write_text(json.dumps(answer))
    given: dict[str, Any] = {"lock": shop.root / "pylock.toml", "variant": "cpu", "require": None, "as_json": False}
    return trial.run(shop.env, **{**given, "reporter": shop.reporter, "script": script, **changes})


def kept(shop: Workshop) -> Any:
    """Return the evidence that is kept."""
    return json.loads((shop.env / "evidence.json").read_text())


def test_passed(shop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    """The table of a run that passed is shown, and its evidence is bound to the lock and names the device."""
    evidence = run(shop, PASSED)
    assert capfd.readouterr().out == "the table\n"
    found = kept(shop)
    assert (found["lock"], found["status"], found["device"]) == (
        str(shop.lock().digest()),
        "pass",
        {"name": "a device"},
    )
    assert (found["profile"], found["platform"], found["schema"]) == (PROFILE, shop.lock().platform, 1)
    assert found["smoke"]["prefix"] == str(shop.env)
    assert found == {**found, "smoke": dict(evidence.smoke)}
    assert shop.reporter.notes[-1] == f"the evidence of this run is in envs/{PROFILE}/evidence.json"


def test_known_defect(shop: Workshop) -> None:
    """A failure that the script knows as a defect of the build is kept in the evidence, and the run passes."""
    known = {"id": "a.c", "status": "fail", "known": "its source"}
    run(shop, {**PASSED, "checks": [*PASSED["checks"], known]})
    assert known in kept(shop)["smoke"]["checks"]


def test_canonical(shop: Workshop) -> None:
    """Evidence is JSON with sorted keys that ends in a newline, and the same for the same findings."""
    run(shop, PASSED)
    first = (shop.env / "evidence.json").read_text()
    assert first == json.dumps(json.loads(first), sort_keys=True, indent=1) + "\n"
    run(shop, dict(reversed(PASSED.items())))
    assert (shop.env / "evidence.json").read_text() == first


def test_still_current(shop: Workshop) -> None:
    """An environment with evidence in it is still that of its lock."""
    run(shop, PASSED)
    assert shop.envs.current(shop.lock())


def test_options(shop: Workshop) -> None:
    """The script gets the variant, the lock, and the device that is required."""
    given = run(shop, PASSED, require="cuda").smoke["given"]
    lock = str(shop.root / "pylock.toml")
    assert given == {"variant": "cpu", "lock": lock, "require_device": "cuda", "json": False}


def test_json(shop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    """On request the script's JSON is shown in place of the table; the evidence is the same."""
    run(shop, PASSED, as_json=True)
    assert json.loads(capfd.readouterr().out) == kept(shop)["smoke"]


def test_isolated(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's settings nor a file in the current folder reach the script."""
    (shop.root / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(shop.root)
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "UV_OFFLINE", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, str(shop.root))
    assert run(shop, PASSED).smoke["seen"] == ["PIP_CONFIG_FILE", "PYTHONHASHSEED"]


def test_failed(shop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure is refused with the checks that failed and the remedy of the first; its evidence is kept."""
    with pytest.raises(SmokeError) as refused:
        run(shop, FAILED)
    assert str(refused.value) == (
        f"envs/{PROFILE}: 7 of 8 checks failed: import.numpy, device.0, device.1, device.2, device.3, …; "
        "expected none; try: make env-cpu"
    )
    assert capfd.readouterr().out == "the table\n"
    assert kept(shop)["status"] == "fail"


def test_no_remedy(shop: Workshop) -> None:
    """A failure that has no remedy of its own names the command that builds the environment."""
    with pytest.raises(SmokeError) as refused:
        run(shop, {**FAILED, "checks": FAILED["checks"][2:]})
    assert refused.value.remedy == f"make env-{PROFILE}"


@pytest.mark.parametrize(
    ("do", "how"),
    [
        ("os.abort()", "was ended by SIGABRT before it could report"),
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL before it could report"),
        ("os._exit(7)", "ended with status 7 before it could report"),
        ("sys.exit(130)", "ended with status 130 before it could report"),
    ],
)
def test_crashed(shop: Workshop, do: str, how: str) -> None:
    """A script that dies is a failure, and the evidence of an earlier run does not outlive it."""
    run(shop, PASSED)
    with pytest.raises(SmokeError) as refused:
        run(shop, {**PASSED, "do": do})
    assert str(refused.value) == f"envs/{PROFILE}: the smoke script {how}; expected a report; try: make env-{PROFILE}"
    assert not (shop.env / "evidence.json").exists()


def test_no_environment(tmp_path: Path) -> None:
    """An environment that is not there yet is refused with the command that builds it."""
    shop = Workshop(tmp_path)
    with pytest.raises(EnvError) as refused:
        trial.run(shop.env, lock=tmp_path, variant="cpu", require=None, as_json=False, reporter=shop.reporter)
    assert str(refused.value) == f"envs/{PROFILE}: there is no such environment yet; try: make env-{PROFILE}"


def test_no_interpreter(shop: Workshop) -> None:
    """An environment whose interpreter has gone is refused with the command that mends it."""
    (shop.env / "bin/python").unlink()
    with pytest.raises(EnvError) as refused:
        run(shop, PASSED)
    expected = f"{shop.env}/bin/python: cannot be run: No such file or directory; try: make env-{PROFILE}"
    assert str(refused.value) == expected


def test_terminated(shop: Workshop) -> None:
    """A trial that is terminated takes the script with it, which is given the time to end its own children."""
    (shop.root / "stand-in/answer.json").write_text(json.dumps({**PASSED, "do": HANG}))
    code = """
import signal, sys
from torchlock.environment import trial
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
trial.run(shop.env, lock=shop.root / "pylock.toml", variant="cpu", require=None, as_json=False,
    reporter=shop.reporter, script=shop.root / "stand-in/smoke.py")
"""
    process = child(shop.root, code)
    assert process.stdout is not None
    numbers = [int(number) for number in process.stdout.readline().split()]
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_real(shop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    """The real script, in an environment without numpy and torch, says so, and that is the evidence."""
    with pytest.raises(SmokeError) as refused:
        run(shop, PASSED, script=trial.SCRIPT)
    failed = [check["id"] for check in kept(shop)["smoke"]["checks"] if check["status"] == "fail"]
    assert failed
    assert failed[0] in refused.value.found
    assert "smoke FAILED" in capfd.readouterr().out
    assert isinstance(kept(shop)["smoke"]["lock"], str)
