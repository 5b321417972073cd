"""Six environments broken on purpose: the doctor names the cause, and its command, typed as it stands, mends it."""

from __future__ import annotations

import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from e2e.project import HOST, Clone, Runner, not_run
from torchlock.files import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2e.conftest import Built

pytestmark = pytest.mark.e2e

MANIFEST = "torchlock.json"
UV = ("pip", "install", "--quiet", "--no-config", "--link-mode", "copy", "--python")
# A build without CUDA that this machine's pip may have at hand, where the index of those is out of reach.
CPU_BUILD = "torch==2.13.0+cpu"


@pytest.fixture
def copy(work: Path, runner: Runner) -> Iterator[Callable[..., Path]]:
    """Return what copies an environment by links, as somebody's own one: the store is never written through them."""
    made: list[Path] = []

    def build(built: Built, name: str, *, own: bool = True) -> Path:
        env = work / f"sick-{name}"
        runner.run(["cp", "--archive", "--link", built.python.parents[1], env], folder=work)
        made.append(env)
        if own:
            (env / MANIFEST).unlink()
        return env

    yield build
    for env in made:
        remove(env)


def doctor(clone: Clone, env: Path, *words: object, status: int) -> dict[str, Any]:
    """Return what the doctor says of an environment in JSON."""
    command = [clone.tools / "python", "scripts/torchlock", "--quiet", "doctor", "--python", env, "--json", *words]
    done = clone.runner.run(command, folder=clone.folder, status=status, shown=f"doctor {env.name}")
    found: dict[str, Any] = json.loads(done.output)
    return found


def mended(clone: Clone, env: Path, found: dict[str, Any], *words: object) -> dict[str, Any]:
    """Type the doctor's one command as it stands, and return what it then says, which must be healthy."""
    assert found["then"] == []
    clone.runner.run(["sh", "-c", found["command"]], folder=clone.folder, shown=found["command"])
    return doctor(clone, env, *words, status=0)


def site(env: Path) -> Path:
    """Return an environment's folder of packages."""
    (folder,) = env.glob("lib/python3*/site-packages")
    return folder


def drop(env: Path, project: str, *folders: str) -> None:
    """Remove a package by hand, with its metadata."""
    for pattern in (f"{project}-*.dist-info", *folders):
        for path in site(env).glob(pattern):
            remove(path)


def test_numpy_2_under_torch_2_2(torch22: Built, copy: Callable[..., Path], work: Path, runner: Runner) -> None:
    """NumPy 2 under torch 2.2.2: the ABI is the cause, the module and the failed bridge the evidence."""
    env = copy(torch22, "numpy2")
    runner.run([torch22.clone.tools / "uv", *UV, env, "--no-deps", "numpy==2.0.2"], folder=work)
    found = doctor(torch22.clone, env, status=1)
    (cause,) = found["findings"]
    assert (cause["id"], cause["packages"]) == ("numpy-abi", ["torch", "numpy"])
    assert cause["what"] == "torch 2.2.2 was built for NumPy 1.x, and numpy 2.0.2 is installed"
    seen = {item["where"].rpartition("/")[2]: item["mark"] for item in cause["evidence"]}
    assert "built for NumPy 1.x" in seen["libtorch_python.so"]
    assert seen["torch.from_numpy(array).numpy()"] == "RuntimeError: Numpy is not available"
    assert found["command"].endswith("'numpy<2'")
    after = mended(torch22.clone, env, found)
    assert (after["status"], after["packages"]["numpy"]["version"]) == ("healthy", "1.26.4")


def test_a_numpy_1_build_of_another_package(
    torch24: Built, copy: Callable[..., Path], work: Path, runner: Runner
) -> None:
    """Pandas 2.1.4 beside torch 2.4.1 and NumPy 2.1.3: pandas is the cause, torch is not."""
    env = copy(torch24, "pandas")
    uv = torch24.clone.tools / "uv"
    runner.run([uv, *UV, env, "--no-deps", "pandas==2.1.4"], folder=work)
    runner.run([uv, *UV, env, "python-dateutil", "pytz", "tzdata"], folder=work)
    found = doctor(torch24.clone, env, status=1)
    (cause,) = found["findings"]
    assert (cause["id"], cause["packages"]) == ("numpy-abi", ["pandas", "numpy"])
    assert re.search(r"pandas/_libs/.*\.so$", cause["evidence"][0]["where"])
    assert any("numpy.dtype size changed" in item["mark"] for item in cause["evidence"])
    assert mended(torch24.clone, env, found)["status"] == "healthy"


def test_a_package_upgraded_by_hand(torch22: Built, copy: Callable[..., Path], work: Path, runner: Runner) -> None:
    """NumPy 2.0.2 unpacked over 1.26.4: both metadata folders are named, and 1.26.4, which torch takes, comes back."""
    env = copy(torch22, "by-hand")
    wheel = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", work / "by-hand", "numpy==2.0.2"]
    runner.run([torch22.clone.tools / "pip", *wheel, "--python-version", "3.11"], folder=work)
    (path,) = (work / "by-hand").glob("numpy-2.0.2-*.whl")
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            (site(env) / info.filename).unlink(missing_ok=True) if not info.is_dir() else None
            archive.extract(info, site(env))
    found = doctor(torch22.clone, env, status=1)
    assert [item["id"] for item in found["findings"]] == ["mixed-versions", "numpy-abi"]
    cause = found["findings"][0]
    assert cause["what"] == "numpy is installed in two versions at once: 1.26.4 and 2.0.2"
    assert mended(torch22.clone, env, found)["packages"]["numpy"]["version"] == "1.26.4"


def test_no_torch_at_all(torch22: Built, copy: Callable[..., Path]) -> None:
    """Torch removed from an environment that knows its lock: it is missing, and the lock brings it back."""
    env = copy(torch22, "no-torch", own=False)
    drop(env, "torch", "torch", "torchgen", "functorch")
    found = doctor(torch22.clone, env, status=1)
    assert [item["id"] for item in found["findings"]] == ["torch-missing", "lock-differs"]
    assert found["findings"][1]["evidence"][0]["mark"] == "torch is not installed, locked 2.2.2"
    lock = f"lockfiles/{torch22.profile}/{HOST}"
    assert found["lock"] == f"{lock}/pylock.toml"
    assert found["command"].endswith(f"{lock}/requirements.txt")
    after = mended(torch22.clone, env, found)
    assert after["packages"]["torch"]["version"] == "2.2.2"


def test_a_missing_cudnn_in_our_own_environment(torch22: Built) -> None:
    """Without cuDNN in envs/torch2.2-cuda the requirement and the SONAME are named, and `make env-…` mends it."""
    env = torch22.python.parents[1]
    drop(env, "nvidia_cudnn_cu12", "nvidia/cudnn")
    found = doctor(torch22.clone, env, status=1)
    causes = {item["id"]: item for item in found["findings"]}
    assert list(causes) == ["lock-differs", "cuda-libraries-missing"]
    marks = [item["mark"] for item in causes["cuda-libraries-missing"]["evidence"]]
    assert marks[0] == "Requires-Dist: nvidia-cudnn-cu12==8.9.2.26"
    assert any("libcudnn.so.8" in mark for mark in marks)
    assert found["command"] == f"make env-{torch22.profile}"
    torch22.clone.make(f"env-{torch22.profile}")
    words = torch22.clone.make("doctor", f"PYTHON={env}")
    assert "\nhealthy: nothing is wrong (0 notes)\n" in words.output


def test_a_cuda_build_under_a_lock_of_the_cpu_build(torch22: Built, copy: Callable[..., Path], work: Path) -> None:
    """The CUDA build where a lock names +cpu: the build is the cause, and the lock's own index the way to mend it."""
    clone, env = torch22.clone, copy(torch22, "cpu")
    lock = clone.lock("torch2.2-cpu", HOST)
    found = doctor(clone, env, "--lock", lock, status=1)
    (cause,) = found["findings"]
    assert cause["id"] == "lock-differs"
    assert cause["why"].startswith(
        "the CUDA 12.1 build of torch is installed where the lock names the CPU build 2.2.2+"
    )
    assert any(item["mark"].startswith("not in the lock: nvidia-cublas-cu12") for item in cause["evidence"])
    assert "/whl/cpu/ " in found["command"]
    assert found["command"].endswith(f"lockfiles/torch2.2-cpu/{HOST}/requirements.txt")

    done = clone.runner.run(["sh", "-c", found["command"]], folder=clone.folder, status=None, seconds=300)
    if done.status == 0:
        assert doctor(clone, env, "--lock", lock, status=0)["status"] == "healthy"
        return
    other = _other_lock(clone, work)
    found = doctor(clone, env, "--lock", other, status=1)
    assert "the lock names the CPU build 2.13.0+cpu" in found["findings"][0]["why"]
    extra = {"UV_FIND_LINKS": str(work / "cpu-build")}
    clone.runner.run(["sh", "-c", found["command"]], folder=clone.folder, extra=extra, shown=found["command"])
    assert doctor(clone, env, "--lock", other, status=0)["packages"]["torch"]["version"] == "2.13.0+cpu"


def _other_lock(clone: Clone, work: Path) -> Path:
    """Return the lock of a CPU build that is at hand here, with its rendering; without one the rest is not run."""
    house = work / "cpu-build"
    download = ["download", "--quiet", "--only-binary", ":all:", "--dest", house, CPU_BUILD, "numpy==2.1.3"]
    command = [clone.tools / "python", "-m", "pip", *download, "--python-version", "3.11"]
    done = clone.runner.run(command, folder=work, status=None, shown=f"pip download {CPU_BUILD}")
    if done.status:
        not_run("neither the index of the CPU builds nor another CPU build of torch can be reached from here")
    rows = [path.name.split("-")[:2] for path in sorted(house.iterdir())]
    folder = work / "cpu-lock"
    folder.mkdir()
    (folder / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in rows), "utf-8")
    packages = "".join(f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version in rows)
    text = f'lock-version = "1.0"\ncreated-by = "tests"\n{packages}'
    (folder / "pylock.toml").write_text(text.replace("_", "-"), "utf-8")
    return folder / "pylock.toml"
