"""Trials of conda environments: the smoke script is run isolated, judged, held against the lock, and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from channels import Package, python
from condas import PROFILE, URL, Shop, locked, standing
from torchlock.conda import trial
from torchlock.errors import CondaError, SmokeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlock.environment.trial import Evidence

ALL = (python(), Package(name="pytorch", version="2.4.1", build="cpu_0"), Package(name="numpy", version="2.1.3"))
LOCK = locked(URL, ALL)
TARGET = replace(recorded.TARGET, channel="demo", virtual={}, where="environments/demo.yaml:1: variants.cpu")
# A script with the smoke script's interface, whose answer is the JSON beside it.
STAND_IN = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("--variant", "--require-device", "--report"):
    parser.add_argument(name)
parser.add_argument("--json", action="store_true")
given = vars(parser.parse_args())
report = given.pop("report")
found = json.loads(pathlib.Path(__file__).with_name("answer.json").read_text())
found["given"] = given
found["seen"] = sorted(n for n in os.environ if n.startswith(("PYTHON", "CONDA_", "LD_PRELOAD")))
found["prefix"] = sys.prefix
if found.get("dies"):
    os.abort()
print("the table")
pathlib.Path(report).write_text(json.dumps(found))
sys.exit(found["status"] != "pass")
"""
PASSED: dict[str, Any] = {
    "status": "pass",
    "device": None,
    "versions": {"numpy": "2.1.3", "torch": "2.4.1.post102"},
    "checks": [{"id": "a.b", "status": "pass"}],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Give a shop whose environment is built, with a torch and a NumPy in name only."""
    root = tmp_path_factory.mktemp("trial")
    with standing(root, ALL) as made:
        (root / "smoke.py").write_text(STAND_IN)
        yield made


def run(shop: Shop, answer: dict[str, Any], **wishes: Any) -> Evidence:
    """Run the stand-in, which gives this answer."""
    (shop.root / "answer.json").write_text(json.dumps(answer))
    given = trial.Wishes(script=shop.root / "smoke.py", **wishes)
    return trial.run(shop.env, LOCK, TARGET, given, shop.reporter)


def kept(shop: Shop) -> dict[str, Any]:
    """Return the evidence that is kept."""
    value: dict[str, Any] = json.loads((shop.env / "evidence.json").read_text())
    return value


def test_passed(shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is shown; the evidence is bound to the lock; no setting of the user reaches the script."""
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("CONDA_PREFIX", "/evil")
    run(shop, PASSED, require="cuda")
    assert capfd.readouterr().out == "the table\n"
    found = kept(shop)
    assert (found["lock"], found["status"], found["profile"]) == (str(LOCK.digest), "pass", PROFILE)
    assert found["smoke"]["prefix"] == str(shop.env)
    assert found["smoke"]["given"] == {"variant": "cpu", "require_device": "cuda", "json": False}
    assert found["smoke"]["seen"] == ["PYTHONHASHSEED"]
    assert not shop.envs.differences(LOCK)


def test_failed(shop: Shop) -> None:
    """A check that failed is an error with its name, and the evidence is kept; a known defect is none."""
    answer = {**PASSED, "status": "fail", "checks": [{"id": "a.b", "status": "fail"}]}
    with pytest.raises(SmokeError, match=r"^envs/conda-demo-cpu: 1 of 1 checks failed: a\.b; expected none"):
        run(shop, answer)
    assert kept(shop)["status"] == "fail"
    run(shop, {**PASSED, "checks": [{"id": "a.b", "status": "fail", "known": "its source"}]})


@pytest.mark.parametrize(
    ("versions", "shown"),
    [
        ({"numpy": "2.1.2", "torch": "2.4.1"}, "numpy is 2.1.2, locked 2.1.3"),
        ({"numpy": "2.1.3", "torch": "2.4.0+cu121"}, "pytorch is 2.4.0+cu121, locked 2.4.1"),
        ({"numpy": None, "torch": "2.4.1"}, "numpy is None, locked 2.1.3"),
    ],
)
def test_other_versions(shop: Shop, versions: dict[str, str], shown: str) -> None:
    """A NumPy or torch that is not the lock's fails, though every check passed: it came from elsewhere."""
    with pytest.raises(SmokeError) as caught:
        run(shop, {**PASSED, "versions": versions})
    assert str(caught.value) == (
        f"envs/conda-{PROFILE}: {shown}; expected what the lock says; try: make conda-env-{PROFILE}"
    )
    assert kept(shop)["status"] == "fail"


def test_no_report(shop: Shop) -> None:
    """A script that dies leaves no evidence, not even an older one."""
    run(shop, PASSED)
    with pytest.raises(SmokeError, match="ended with status -6 before it could report; expected a report"):
        run(shop, {**PASSED, "dies": True})
    assert not (shop.env / "evidence.json").exists()


def test_no_environment(tmp_path: Path) -> None:
    """Where there is no environment, the command that makes it is named."""
    with pytest.raises(CondaError) as caught:
        trial.run(tmp_path / "envs/conda-x", LOCK, TARGET, trial.Wishes(), Shop(tmp_path).reporter)
    assert str(caught.value) == (f"envs/conda-x: there is no such environment yet; try: make conda-env-{PROFILE}")


def test_no_interpreter(shop: Shop) -> None:
    """An environment whose interpreter has gone is refused with the command that mends it."""
    python = shop.env / "bin/python"
    aside = python.rename(shop.root / "python")
    try:
        with pytest.raises(CondaError) as caught:
            run(shop, PASSED)
    finally:
        aside.rename(python)
    assert str(caught.value) == f"{python}: cannot be run: No such file or directory; try: make conda-env-{PROFILE}"


def test_other_lock(shop: Shop) -> None:
    """An environment of another lock is not called good."""
    other = replace(LOCK, digest=LOCK.snapshot_digest)
    with pytest.raises(CondaError, match="it was built from another lock"):
        trial.run(shop.env, other, TARGET, trial.Wishes(), shop.reporter)
