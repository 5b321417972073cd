"""From a fresh clone to environments that run, and the pair of versions that must not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from e2e.project import HOST, Clone, Runner
from torchlock.files import remove

if TYPE_CHECKING:
    from e2e.conftest import Built

pytestmark = pytest.mark.e2e

# Its driver's control device: without it no process reaches an NVIDIA GPU.
GPU = Path("/dev/nvidiactl")
# The last NumPy 2.0: torch 2.2.2 was compiled against NumPy 1.x.
WRONG_NUMPY = "numpy==2.0.2"
LINES = pytest.mark.parametrize(
    ("name", "versions"), [("torch22", ("2.2.2", "1.26.4")), ("torch24", ("2.4.1", "2.1.3"))], ids=["2.2", "2.4"]
)


def _smoke(runner: Runner, clone: Clone, python: Path, *words: object, status: int = 0) -> dict[str, Any]:
    """Return what the smoke script says in JSON, run by an interpreter."""
    script = clone.folder / "scripts" / "smoke.py"
    done = runner.run([python, script, "--json", *words], folder=clone.folder, status=status)
    found: dict[str, Any] = json.loads(done.output)
    return found


@LINES
def test_a_fresh_clone_becomes_an_environment_that_runs(
    name: str, versions: tuple[str, str], request: pytest.FixtureRequest, runner: Runner
) -> None:
    """`make env-<p>` in a fresh clone prints a smoke table without a failure; without a GPU its checks are not run."""
    built: Built = request.getfixturevalue(name)
    table = built.result.output
    for group in ("import", "conversion", "operators", "autograd", "no_grad", "saving", "device"):
        assert f"\n{group}: " in table
    assert "\nsmoke passed: " in table
    assert ("device.cuda.* " in table and "no NVIDIA driver" in table) != GPU.exists()

    lock = built.clone.lock(built.profile, HOST) / "pylock.toml"
    found = _smoke(runner, built.clone, built.python, "--variant", "cuda", "--lock", lock)
    assert found["status"] == "pass"
    assert found["totals"]["fail"] == 0
    assert (found["versions"]["torch"].partition("+")[0], found["versions"]["numpy"]) == versions
    device = {check["status"] for check in found["checks"] if check["id"].startswith("device.cuda.")}
    assert ("pass" in device) == GPU.exists()


@pytest.mark.parametrize("name", ["torch22", "torch24"])
def test_the_evidence_names_the_lock(name: str, request: pytest.FixtureRequest) -> None:
    """The evidence that `make env-<p>` leaves is bound to the digest of the lock, says "pass", and names no path."""
    built: Built = request.getfixturevalue(name)
    text = (built.python.parents[1] / "evidence.json").read_text(encoding="utf-8")
    evidence = json.loads(text)
    lock = (built.clone.lock(built.profile, HOST) / "pylock.toml").read_text(encoding="utf-8")
    assert f'"{evidence["lock"]}"' in lock
    assert (evidence["profile"], evidence["platform"], evidence["status"]) == (built.profile, HOST, "pass")
    assert str(built.clone.folder) not in text


def test_a_second_build_finds_the_environment_whole(torch22: Built) -> None:
    """`make env-cuda` again builds nothing, verifies every file, and smokes again, within a minute."""
    again = torch22.clone.make("env-cuda")
    assert "envs/torch2.2-cuda is already that of its lock" in again.output
    assert "\nsmoke passed: " in again.output
    assert again.seconds < 60


def test_a_required_gpu_is_not_run_on_trust(torch22: Built) -> None:
    """`make smoke-cuda REQUIRE=cuda` fails on a machine without a GPU."""
    done = torch22.clone.make("smoke-cuda", "REQUIRE=cuda", status=None)
    assert (done.status == 0) == GPU.exists()
    assert ("required, but not run" in done.output) != GPU.exists()


def test_torch_2_2_with_numpy_2_fails_with_its_cause(torch22: Built, work: Path, runner: Runner) -> None:
    """NumPy 2 put into the torch 2.2.2 environment behind the gate's back: smoke.py fails and names the NumPy ABI."""
    clone, bad = torch22.clone, work / "behind-the-gate"
    runner.run(["cp", "--archive", "--link", torch22.python.parents[1], bad], folder=work)
    python = bad / "bin" / "python"
    # Links of the store's files are taken away and copies put in their place: the store is never written through.
    uv = [clone.tools / "uv", "pip", "install", "--no-config", "--no-deps", "--link-mode", "copy", "--python", python]
    runner.run([*uv, WRONG_NUMPY], folder=work)

    found = _smoke(runner, clone, python, status=1)
    failed = {check["id"]: check for check in found["checks"] if check["status"] == "fail"}
    assert "_ARRAY_API not found" in failed["import.torch"]["detail"]
    assert "NumPy ABI" in failed["import.torch"]["cause"]
    assert "numpy<2" in failed["import.torch"]["remedy"]
    assert "torch>=2.4.1" in failed["import.torch"]["remedy"]
    assert not [check["id"] for check in found["checks"] if check["status"] == "pass" and check["id"] != "import.numpy"]
    remove(bad)

    again = torch22.clone.make("env-cuda")
    assert "envs/torch2.2-cuda is already that of its lock" in again.output


def test_the_gate_refuses_that_pair(clone: Clone, runner: Runner) -> None:
    """A profile of torch 2.2.2 and NumPy 2 is refused before resolving, with both ways out."""
    wrong = clone.folder / "environments" / "wrong.yaml"
    shutil.copyfile(clone.folder / "environments" / "torch2.2.yaml", wrong)
    wrong.write_text(wrong.read_text(encoding="utf-8").replace('"1.26.4"', '"2.0.2"'), encoding="utf-8")
    try:
        done = clone.make("lock-wrong-cuda", "OFFLINE=1", status=None)
    finally:
        wrong.unlink()
    assert done.status == 2, done.tail()
    assert "numpy<2" in done.output
    assert "2.4.1" in done.output
    assert "Traceback" not in done.output
