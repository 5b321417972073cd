"""The smoke script as a program, in environments that are broken on purpose; no real numpy or torch is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import smoke
from impostors import NO_NUMPY, NO_TORCH, NUMPY, TORCH, plant

SCRIPT = Path(smoke.__file__)
ABI = (
    "import sys, warnings\n"
    "sys.stderr.write('A module that was compiled using NumPy 1.x cannot be run in\\nNumPy 2.0.2 as it may crash.')\n"
    "warnings.warn('Failed to initialize NumPy: _ARRAY_API not found (Triggered internally at tensor_numpy.cpp:84.)')\n"
)


def run(folder: Path, *arguments: str, cwd: Path | None = None, **packages: str) -> subprocess.CompletedProcess[str]:
    """Run the script with fake packages."""
    command = [sys.executable, os.fspath(SCRIPT), *arguments]
    environment = plant(folder / "packages", **packages)
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Return the checks of a JSON answer by id."""
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


def test_help_needs_neither_numpy_nor_torch(tmp_path: Path) -> None:
    """`--help` works where both packages crash on import."""
    done = run(tmp_path, "--help", numpy="import os; os.abort()", torch="import os; os.abort()")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--require-device" in done.stdout


def test_list_gives_every_id_once(tmp_path: Path) -> None:
    """`--list` prints ids in the order in which they run, without importing anything."""
    done = run(tmp_path, "--list", numpy=NO_NUMPY, torch=NO_TORCH)
    ids = done.stdout.split()
    assert ids[0] == "import.numpy"
    assert len(ids) == len(set(ids)) > 600
    only = run(tmp_path, "--list", "--group", "no_grad").stdout.split()
    assert only == [name for name in ids if name.startswith("no_grad.")]


def test_nothing_installed_is_a_failure_and_the_rest_not_run(tmp_path: Path) -> None:
    """Without numpy and torch the import checks fail with a remedy, all others are not run, and the status is 1."""
    done = run(tmp_path, "--json", numpy=NO_NUMPY, torch=NO_TORCH)
    answer, found = json.loads(done.stdout), checks(done)
    assert (done.returncode, done.stderr, answer["status"]) == (1, "", "fail")
    assert found["import.numpy"] == {
        "id": "import.numpy",
        "group": "import",
        "status": "fail",
        "detail": "ModuleNotFoundError: No module named 'numpy'",
        "cause": "NumPy is not installed, or only in part",
        "remedy": "pip install the numpy of the lock (for torch 2.2: `pip install 'numpy==1.26.4'`)",
    }
    assert found["import.torch"]["cause"] == "torch is not installed, or only in part"
    others = {check["status"] for name, check in found.items() if not name.startswith("import.")}
    assert others == {"not run"}
    assert answer["totals"]["fail"] == 2
    assert sum(answer["totals"].values()) == len(answer["checks"]) == len(found)


@pytest.mark.parametrize(
    ("torch", "cause"),
    [
        (ABI, "NumPy ABI mismatch: an extension (usually torch itself) was compiled against NumPy 1.x, and NumPy 2"),
        (
            "raise ValueError('numpy.dtype size changed. Expected 96 from C header, got 88 from PyObject')",
            "NumPy ABI mismatch: an extension was compiled against NumPy 1.x, NumPy 2 is installed",
        ),
        (TORCH + "def from_numpy(array): raise RuntimeError('Numpy is not available')", "torch's bridge to NumPy is"),
        ("raise TypeError(\"Cannot interpret 'int64' as a data type\")", "a dtype that NumPy does not know"),
        (
            "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')",
            "a shared library is missing",
        ),
    ],
)
def test_known_failures_are_diagnosed(tmp_path: Path, torch: str, cause: str) -> None:
    """Each known failure of importing torch is shown with its cause and a remedy, and no traceback."""
    done = run(tmp_path, torch=torch)
    text = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert f"cause: {cause}" in text
    assert "remedy:" in text
    assert "Traceback" not in done.stdout + done.stderr
    assert "smoke FAILED" in text
    assert text.endswith("not run")


def test_a_warning_while_importing_is_an_error(tmp_path: Path) -> None:
    """An import that warns has failed."""
    done = run(tmp_path, "--json", "--group", "import", numpy="import warnings; warnings.warn('odd')\n" + NUMPY)
    assert checks(done)["import.numpy"]["detail"] == "UserWarning: odd"
    assert done.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_crash_while_importing_is_reported(tmp_path: Path) -> None:
    """A package that kills its process is a failed check with the signal's name."""
    done = run(tmp_path, "--json", torch="import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    found = checks(done)["import.torch"]
    assert done.returncode == 1
    assert found["detail"].startswith("the process died while importing (SIGILL): Fatal Python error")
    assert found["cause"] == "the CPU, or its emulator, lacks an instruction that the build uses"


def test_a_hanging_import_is_killed(tmp_path: Path) -> None:
    """A package that hangs is a failed check after the time that --timeout allows."""
    started = time.monotonic()
    done = run(tmp_path, "--json", "--timeout", "1", torch="import time; time.sleep(50)")
    assert checks(done)["import.torch"]["detail"] == ("no answer within 1 s while importing; the process was killed")
    assert time.monotonic() - started < 20


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_crash_in_a_check_fails_that_check_alone(tmp_path: Path) -> None:
    """A check that kills its process fails with its signal; the ones behind it run in a new process."""
    torch = TORCH + "import os\nfloat32 = 0\ndef frombuffer(*_, **__): os.abort()\n"
    done = run(tmp_path, "--json", torch=torch)
    found = checks(done)
    assert found["conversion.frombuffer.shares"]["status"] == "fail"
    assert found["conversion.frombuffer.shares"]["detail"].startswith(
        "the process died in conversion.frombuffer.shares (SIGABRT): Fatal Python error"
    )
    assert found["no_grad.block"]["detail"].startswith("AttributeError: ")
    assert found["device.build"] == {
        "id": "device.build",
        "group": "device",
        "status": "pass",
        "detail": "built for CUDA 12.1",
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_many_crashes_end_the_run(tmp_path: Path) -> None:
    """After four crashes the rest is not run, and says why."""
    done = run(
        tmp_path,
        "--json",
        numpy=NUMPY.replace("__version__", "import os\n__version__") + "array = os.abort\n",
        torch=TORCH + "import os\nset_warn_always = lambda _: setattr(numpy, 'arange', lambda *_: os.abort())\n",
    )
    found = list(checks(done).values())
    assert [check["status"] for check in found if "process died" in check["detail"]] == ["fail"] * 4
    assert found[-1] | {"id": "", "group": ""} == {
        "id": "",
        "group": "",
        "status": "not run",
        "detail": "checks ended the process 4 times",
    }


def test_what_packages_print_does_not_reach_the_answer(tmp_path: Path) -> None:
    """Text that a package prints while it is imported does not spoil the JSON."""
    forged = json.dumps({"event": "step", "step": "numpy", "ok": True, "version": "forged"}) + "\n"
    noise = f"import os; print('hello'); os.write(1, {forged.encode()!r})\n"
    done = run(tmp_path, "--json", "--group", "import", numpy=noise + NUMPY)
    assert checks(done)["import.numpy"]["detail"] == "1.26.4"


def test_files_of_the_current_folder_hide_nothing(tmp_path: Path) -> None:
    """A torch.py where the user stands is not imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    done = run(tmp_path, "--json", "--group", "import", cwd=tmp_path)
    assert checks(done)["import.torch"]["detail"] == "2.2.2+cu121"


def test_groups_select(tmp_path: Path) -> None:
    """`--group` runs those groups alone, and nothing of the import group where that passes."""
    done = run(tmp_path, "--json", "--group", "device", "--group", "no_grad")
    answer = json.loads(done.stdout)
    assert {check["group"] for check in answer["checks"]} == {"no_grad", "device"}
    assert answer["requested"]["groups"] == ["device", "no_grad"]


def test_a_group_without_its_packages_fails(tmp_path: Path) -> None:
    """A single group fails, with the reason, where the packages cannot be imported."""
    done = run(tmp_path, "--json", "--group", "device", torch=NO_TORCH)
    found = checks(done)
    assert done.returncode == 1
    assert found["import.together"]["cause"] == "torch is not installed, or only in part"
    assert found["device.build"]["detail"] == "import.together failed: torch is not installed, or only in part"


def test_no_device_is_not_run(tmp_path: Path) -> None:
    """Without a GPU the device checks are not run, with the reason, and never passed."""
    torch = TORCH.replace("hip = None", "hip = None\n    cuda = None")
    done = run(tmp_path, "--json", "--group", "device", torch=torch)
    found = [check for check in checks(done).values() if check["id"].startswith("device.cuda.")]
    assert {(check["status"], check["detail"]) for check in found} == {
        ("not run", "torch 2.2.2+cu121 was not built for CUDA")
    }
    assert done.returncode == 0


def test_a_required_device_makes_not_run_a_failure(tmp_path: Path) -> None:
    """`--require-device cuda` fails where no device is; what needs several of them stays not run."""
    torch = TORCH.replace("hip = None", "hip = None\n    cuda = None")
    done = run(tmp_path, "--json", "--group", "device", "--require-device", "cuda", torch=torch)
    found = checks(done)
    assert done.returncode == 1
    assert found["device.cuda.driver"]["status"] == "fail"
    assert found["device.cuda.driver"]["detail"] == ("required, but not run: torch 2.2.2+cu121 was not built for CUDA")
    assert found["device.cuda.peer"]["status"] == "not run"
    assert found["device.mps.product[float32]"]["status"] == "not run"


def test_the_variant_is_held_against_the_build(tmp_path: Path) -> None:
    """`--variant cpu` fails on a CUDA build, check by check."""
    done = run(tmp_path, "--json", "--group", "device", "--variant", "cpu")
    found = checks(done)
    assert found["device.build"]["detail"] == "torch 2.2.2+cu121 was built for CUDA 12.1, and the variant is cpu"
    assert found["device.cpu.version"]["status"] == "fail"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "nonsense"], "argument --group: invalid choice: 'nonsense'"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--require-device", "cuda", "--group", "saving"], "--require-device needs the group device"),
        (["--variant", "cpu", "--group", "saving"], "--variant needs the group device"),
        (["--lock", "absent.toml"], "absent.toml: No such file or directory"),
        (["--lock", "absent.toml", "--group", "saving"], "--lock needs the group import"),
    ],
)
def test_wrong_usage_has_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong usage ends with status 2 and one line that says what is wrong."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        smoke.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_json_has_one_shape(tmp_path: Path) -> None:
    """The JSON names its schema, versions, platform, device, lock and what was asked for; `--report` has the same."""
    lock = tmp_path / "pylock.toml"
    lock.write_text('lock-version = "1.0"\n[[packages]]\nname = "torch"\nversion = "2.2.2"\n')
    report = tmp_path / "report.json"
    done = run(tmp_path, "--json", "--lock", os.fspath(lock), "--variant", "cuda", "--report", os.fspath(report))
    answer: dict[str, Any] = json.loads(done.stdout)
    assert report.read_text() == done.stdout
    assert list(answer) == [
        "checks",
        "device",
        "lock",
        "platform",
        "requested",
        "schema",
        "status",
        "totals",
        "versions",
    ]
    assert answer["schema"] == 1
    assert answer["lock"].startswith("sha256:")
    assert answer["versions"]["torch"] == "2.2.2+cu121"
    assert answer["device"]["build"] == "CUDA 12.1"
    assert answer["requested"] == {"groups": [], "require_device": None, "variant": "cuda"}
    assert sorted(answer["platform"]) == ["implementation", "libc", "machine", "system"]
    assert checks(done)["import.lock.build"]["detail"] == "the lock holds no numpy"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_it_cleanly(tmp_path: Path, number: int, status: int, word: str) -> None:
    """Ctrl-C and SIGTERM end the script and its children, with a status of their own and no traceback."""
    mark = tmp_path / "child"
    torch = f"import os, time; open({os.fspath(mark)!r}, 'w').write(str(os.getpid())); time.sleep(50)"
    environment = plant(tmp_path / "packages", torch=torch)
    command = [sys.executable, os.fspath(SCRIPT)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (status, "", f"smoke: {word}\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    """Closing the pipe that it prints to, as `head` does, gives no traceback."""
    command = [sys.executable, os.fspath(SCRIPT), "--group", "import"]
    with subprocess.Popen(
        command, env=plant(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == ""


def test_the_script_says_what_it_lacks(tmp_path: Path) -> None:
    """Copied without its folder of checks, the script says so in one line."""
    shutil.copy(SCRIPT, tmp_path)
    done = subprocess.run([sys.executable, "-I", tmp_path / "smoke.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("smoke: the folder checks must lie beside smoke.py, whole: No module named 'checks'\n")


def test_the_script_and_its_folder_can_be_copied(tmp_path: Path) -> None:
    """Copied with its folder of checks, the script runs from anywhere."""
    shutil.copy(SCRIPT, tmp_path)
    shutil.copytree(SCRIPT.parent / "checks", tmp_path / "checks", ignore=shutil.ignore_patterns("__pycache__"))
    environment = plant(tmp_path / "packages")
    command = [sys.executable, os.fspath(tmp_path / "smoke.py"), "--group", "import"]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "import: 4 pass, 3 not run" in done.stdout
