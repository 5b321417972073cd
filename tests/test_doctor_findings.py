"""Each cause is found from what is installed, with the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import clinic
from torchlock.doctor import abi, gpu, integrity, locked, remedies, stack
from torchlock.doctor.findings import Case, Finding, Remedy, Wanted
from torchlock.doctor.machine import Device, Machine
from torchlock.facts.facts import Facts, Module
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable

CUDNN = 'nvidia-cudnn-cu12==8.9.2.26; platform_system == "Linux" or platform_system != "Linux"'
ARCHITECTURES = ("sm_70", "sm_80", "sm_90")


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """Return an empty environment; its installer is uv, on the path."""
    return clinic.venv(tmp_path / "env")


@pytest.fixture(autouse=True)
def _uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a uv on the path, so that commands name it so on every machine."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "bin" / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CONDA_EXE", raising=False)


def only(found: Iterable[Finding]) -> Finding:
    """Return the one finding that there is."""
    (item,) = found
    return item


def spoken(case: Case, finding: Finding) -> str:
    """Return a finding's command, with `PYTHON` for the patient's and `SITE` for its folder."""
    text = remedies.command(case, finding.remedy)
    return text.replace(str(case.patient.python), "PYTHON").replace(str(case.patient.sites[0]), "SITE")


def changed(case: Case) -> list[Finding]:
    """Return what the integrity of the files shows."""
    return [*integrity.examine(case, integrity.issues(case.installed, Silent()))]


def test_numpy_2_under_a_build_for_numpy_1(env: Path) -> None:
    """The module is named with its mark, and NumPy 1.x is the way out; a build for NumPy 2 is nothing to find."""
    clinic.numpy(env, "2.0.2")
    clinic.torch(env)
    case = clinic.case(env, {"torch": clinic.OLD}, version="3.11.7")
    found = only(abi.examine(case))
    assert (found.id, found.what) == ("numpy-abi", "torch 2.2.2 was built for NumPy 1.x, and numpy 2.0.2 is installed")
    assert found.evidence[0].where == f"{clinic.site(env)}/torch/lib/libtorch_python.so"
    assert "no numpy._core._multiarray_umath" in found.evidence[0].mark
    assert spoken(case, found) == "uv pip install --python PYTHON 'numpy<2'"
    assert not [*abi.examine(clinic.case(env, {"torch": clinic.NEW}))]


def test_any_package_may_be_too_old_for_numpy_2(env: Path) -> None:
    """Where NumPy 1.x cannot be (Python 3.13, or somebody requires NumPy 2), the old package is upgraded instead."""
    clinic.numpy(env, "2.1.3")
    clinic.install(env, "pandas", "2.1.4")
    case = clinic.case(env, {"pandas": clinic.OLD}, version="3.13.0")
    assert spoken(case, only(abi.examine(case))) == (
        "uv pip install --python PYTHON --upgrade-package pandas numpy==2.1.3 pandas"
    )
    clinic.install(env, "modern", "1.0", requires=["numpy>=2.0"])
    case = clinic.case(env, {"pandas": clinic.OLD}, version="3.11.7")
    assert abi.why_not_old(case) == "modern 1.0 requires numpy>=2.0"
    assert "--upgrade-package pandas" in spoken(case, only(abi.examine(case)))


def test_a_module_that_looks_numpy_up_late_misreads(env: Path) -> None:
    """A module that imports under NumPy 2 all the same is found too, with what it does there."""
    clinic.numpy(env, "2.1.3")
    clinic.install(env, "bound", "1.0")
    late = Facts(modules=(Module(path="bound.so", numpy="1", kind="elf", late=True),))
    assert only(abi.examine(clinic.case(env, {"bound": late}))).why == abi.LATE


def test_no_numpy(env: Path) -> None:
    """A missing NumPy is installed in the generation that the others take."""
    clinic.torch(env)
    case = clinic.case(env, {"torch": clinic.OLD}, version="3.11.7")
    assert spoken(case, only(abi.missing(case))) == "uv pip install --python PYTHON 'numpy<2'"
    case = clinic.case(env, {"torch": clinic.NEW})
    assert spoken(case, only(abi.missing(case))) == "uv pip install --python PYTHON numpy"


def test_a_missing_cuda_library_is_named(env: Path) -> None:
    """What torch requires and links and nobody brings is named by requirement and SONAME; the requirement mends it."""
    clinic.torch(env, cuda="12.1", requires=[CUDNN])
    facts = {"torch": Facts(cuda="12.1", needed=("libcudnn.so.8",))}
    case = clinic.case(env, facts)
    found = only(stack.libraries(case))
    assert found.what == "torch 2.2.2 wants nvidia-cudnn-cu12==8.9.2.26: not installed"
    assert [item.mark for item in found.evidence] == [
        "Requires-Dist: nvidia-cudnn-cu12==8.9.2.26",
        "links by its SONAME a library that is in no folder of this environment: libcudnn.so.8",
    ]
    assert spoken(case, found) == "uv pip install --python PYTHON nvidia-cudnn-cu12==8.9.2.26"
    assert only(stack.libraries(clinic.case(env))).evidence == found.evidence[:1]
    clinic.install(env, "nvidia-cudnn-cu12", "8.9.2.26", {"nvidia/cudnn/lib/libcudnn.so.8": b"x"})
    assert not [*stack.libraries(clinic.case(env, facts))]


def test_a_mixed_cuda_stack_is_named(env: Path) -> None:
    """A library of another release than torch requires is an error; leftovers of another CUDA are a note."""
    clinic.torch(env, cuda="12.1", requires=[CUDNN])
    clinic.install(env, "nvidia-cudnn-cu12", "9.1.0.70")
    clinic.install(env, "nvidia-cublas-cu11", "11.11.3.6")
    case = clinic.case(env, {"torch": Facts(cuda="12.1")})
    mixed, rest = stack.libraries(case)
    assert mixed.what == "torch 2.2.2 wants nvidia-cudnn-cu12==8.9.2.26: found nvidia-cudnn-cu12 9.1.0.70"
    assert spoken(case, mixed) == "uv pip install --python PYTHON nvidia-cudnn-cu12==8.9.2.26"
    assert (rest.id, rest.severity) == ("cuda-generations", "note")


def machine(driver: str, cuda: tuple[int, int], capability: tuple[int, int] = (8, 0)) -> Machine:
    """Return a machine with one GPU."""
    return Machine(driver=driver, cuda=cuda, devices=(Device(name="GPU", capability=capability),), source="libcuda")


def test_a_cpu_build_where_a_gpu_is(env: Path) -> None:
    """Without a lock that names it, the CPU build is an error on a machine with a GPU; with one, a note."""
    clinic.torch(env, "2.2.2+cpu")
    case = clinic.case(env, {}, machine("550.54.14", (12, 4)))
    found = only(gpu.examine(case))
    assert found.what == "torch 2.2.2+cpu was built without CUDA, and there is a GPU: GPU (sm_80)"
    assert spoken(case, found) == "uv pip install --python PYTHON --reinstall-package torch torch==2.2.2"
    meant = Wanted(lock="lock", versions={"torch": "2.2.2+cpu"}, requirements=None)
    assert only(gpu.examine(replace(case, wanted=meant))).severity == "note"
    assert not [*gpu.examine(clinic.case(env))]


@pytest.mark.parametrize(
    ("driver", "cuda", "found"),
    [
        ("470.82.01", (11, 4), ["driver-old"]),
        ("525.85.12", (12, 0), ["driver-behind"]),
        ("530.30.02", (12, 1), []),
        ("580.65.06", (13, 0), []),
    ],
)
def test_the_driver_is_held_against_the_build(env: Path, driver: str, cuda: tuple[int, int], found: list[str]) -> None:
    """An older major release is an error, an older minor one a note, a newer driver nothing."""
    clinic.torch(env, cuda="12.1")
    case = clinic.case(env, {"torch": Facts(cuda="12.1", architectures=ARCHITECTURES)}, machine(driver, cuda))
    assert [item.id for item in gpu.examine(case)] == found


@pytest.mark.parametrize(("capability", "covered"), [((8, 6), True), ((9, 0), True), ((12, 0), False), ((5, 2), False)])
def test_the_gpu_is_held_against_the_build(env: Path, capability: tuple[int, int], covered: bool) -> None:
    """A GPU whose architecture the build does not hold is an error; a newer torch is the way for a newer GPU."""
    clinic.torch(env, cuda="12.1")
    facts = {"torch": Facts(cuda="12.1", architectures=ARCHITECTURES)}
    case = clinic.case(env, facts, machine("580.65.06", (13, 0), capability))
    found = [*gpu.examine(case)]
    assert [item.id for item in found] == ([] if covered else ["gpu-architecture"])
    if capability == (12, 0):
        assert spoken(case, found[0]) == "uv pip install --python PYTHON --upgrade-package torch torch"
    if capability == (5, 2):
        assert (spoken(case, found[0]), "sm_52" in found[0].remedy.advice) == ("", True)


@pytest.mark.parametrize(("cuda", "found"), [((12, 0), ["driver-old", "driver-behind"]), ((12, 4), [])])
def test_ptx_needs_a_driver_of_its_release(env: Path, cuda: tuple[int, int], found: list[str]) -> None:
    """A GPU that only PTX covers needs a driver that compiles the PTX of the build's CUDA."""
    clinic.torch(env, cuda="12.1")
    facts = {"torch": Facts(cuda="12.1", architectures=("sm_80", "compute_90"))}
    driver = "525.85.12" if found else "550.54.14"
    case = clinic.case(env, facts, machine(driver, cuda, (9, 0)))
    assert sorted(item.id for item in gpu.examine(case)) == sorted(found)


def test_the_c_library_is_held_against_the_builds(env: Path) -> None:
    """A wheel of a newer glibc than the system's is an error."""
    clinic.install(env, "newer", "1.0", {"newer/core.so": b"x"})
    found = only(stack.glibc(clinic.case(env, {"newer": Facts(glibc="2.38")}, glibc="2.31")))
    assert found.what == "newer 1.0 needs glibc 2.38, and this system has 2.31"
    assert not [*stack.glibc(clinic.case(env, {"newer": Facts(glibc="2.31")}, glibc="2.31"))]


def test_a_package_upgraded_by_hand(env: Path) -> None:
    """Two versions in one folder are one finding, and the version that the others take is installed anew."""
    clinic.torch(env)
    clinic.numpy(env, "1.26.4")
    clinic.numpy(env, "2.0.2")
    case = clinic.case(env, {"torch": clinic.OLD})
    found = only(changed(case))
    assert (found.id, found.what) == ("mixed-versions", "numpy is installed in two versions at once: 1.26.4 and 2.0.2")
    assert spoken(case, found) == "uv pip install --python PYTHON --reinstall-package numpy numpy==1.26.4"


def test_files_over_those_of_another_version(env: Path) -> None:
    """Files that say another version than the metadata are found, and compiled leftovers go first."""
    info = clinic.numpy(env, "1.26.4")
    (clinic.site(env) / "numpy" / "version.py").write_text('version = "2.0.2"\n', encoding="utf-8")
    (clinic.site(env) / "numpy" / "left.so").write_bytes(b"x")
    case = clinic.case(env)
    found = only(changed(case))
    assert found.what == "numpy is installed in two versions at once: 1.26.4 by its metadata, 2.0.2 by its files"
    assert f"{info.parent}/numpy/version.py" in [item.where for item in found.evidence]
    assert spoken(case, found) == (
        "rm -rf SITE/numpy && uv pip install --python PYTHON --reinstall-package numpy numpy==1.26.4"
    )


@pytest.mark.parametrize(
    ("name", "severity"), [("core.so", "error"), ("code.py", "error"), ("ca.pem", "note"), (None, None)]
)
def test_files_are_held_against_their_record(env: Path, name: str | None, severity: str | None) -> None:
    """Changed code is an error and changed data a note, with the file named; untouched files are nothing."""
    files: dict[str, str | bytes] = {"some/core.so": b"12345", "some/code.py": "x = 1\n", "some/ca.pem": "abcdef"}
    clinic.install(env, "some", "1.0", files)
    if name:
        path = clinic.site(env) / "some" / name
        path.write_bytes(path.read_bytes()[::-1])
    found = changed(clinic.case(env))
    assert [item.severity for item in found] == ([severity] if severity else [])
    if name:
        assert found[0].evidence[1].where.endswith(f"some/{name}")
        assert found[0].evidence[1].mark == "changed"


def test_what_several_packages_bring_is_sound_if_one_of_them_brought_it(env: Path) -> None:
    """The file that is there must be that of one owner; an empty one that went with another package is nothing."""
    clinic.install(env, "one", "1.0", {"shared/a.py": "one = 1\n", "shared/__init__.py": ""})
    clinic.install(env, "two", "1.0", {"shared/a.py": "two = 2\n", "shared/__init__.py": ""})
    (clinic.site(env) / "shared" / "__init__.py").unlink()
    assert changed(clinic.case(env)) == []
    (clinic.site(env) / "shared" / "a.py").write_text("three = 3\n", encoding="utf-8")
    assert [item.packages for item in changed(clinic.case(env))] == [("one",), ("two",)]


def test_what_a_distribution_packaged_is_not_held_against_its_record(env: Path) -> None:
    """Debian strips and splits what it packages, and leaves RECORD as it was."""
    clinic.install(env, "some", "1.0", {"some.py": "x = 1\n"}, installer="debian")
    (clinic.site(env) / "some.py").write_text("y = 2\n", encoding="utf-8")
    assert changed(clinic.case(env)) == []


LOCK = """
lock-version = "1.0"
created-by = "tests"
[[packages]]
name = "torch"
version = "2.2.2+cpu"
[[packages]]
name = "numpy"
version = "1.26.4"
"""


def test_an_environment_that_differs_from_its_lock(env: Path, tmp_path: Path) -> None:
    """The CUDA build under a lock of the CPU build is named as such, with what is not in the lock; syncing mends it."""
    (tmp_path / "pylock.toml").write_text(LOCK, encoding="utf-8")
    (tmp_path / "requirements.txt").write_text("torch==2.2.2+cpu\nnumpy==1.26.4\n", encoding="utf-8")
    clinic.torch(env, "2.2.2", cuda="12.1")
    clinic.numpy(env)
    clinic.install(env, "nvidia-cudnn-cu12", "8.9.2.26")
    case = clinic.case(env, {"torch": Facts(cuda="12.1")})
    wanted = locked.wanted(case.patient, str(tmp_path), tmp_path / "root", tmp_path / "envs", {})
    case = replace(case, wanted=wanted)
    found = only(locked.examine(case))
    assert found.what == (
        f"the environment is not that of {tmp_path}/pylock.toml:"
        " 1 of its 2 packages differ, and 1 packages are not in it"
    )
    assert found.why.startswith(
        "the CUDA 12.1 build of torch is installed where the lock names the CPU build 2.2.2+cpu"
    )
    assert [item.mark for item in found.evidence] == [
        "torch is 2.2.2, locked 2.2.2+cpu",
        "not in the lock: nvidia-cudnn-cu12 8.9.2.26",
    ]
    assert spoken(case, found) == f"uv pip sync --python PYTHON {tmp_path}/requirements.txt"
    (tmp_path / "requirements.txt").unlink()
    case = replace(case, wanted=replace(case.wanted, requirements=None) if case.wanted else None)
    assert spoken(case, only(locked.examine(case))) == ""


def test_a_lock_for_another_python_is_no_lock_to_sync_with(env: Path) -> None:
    """A lock of torchlock's for another Python is named as such, and no command can install it there."""
    folder = clinic.ROOT / "lockfiles" / "torch2.2-cuda" / "linux-64"
    case = clinic.case(env, version="3.9.18")
    wanted = locked.wanted(case.patient, str(folder), clinic.ROOT, clinic.ROOT / "envs", {})
    case = replace(case, wanted=wanted)
    found = only(locked.examine(case))
    assert found.what.endswith("and it is for Python 3.11")
    assert (spoken(case, found), found.remedy.advice) == ("", "make an environment of Python 3.11 from the lock")


def test_the_commands_of_several_findings_are_one(env: Path) -> None:
    """Requirements of one project are joined; the lock as a whole takes the place of single packages."""
    clinic.numpy(env, "2.0.2")
    case = clinic.case(env)
    several = [
        Remedy(install=("numpy<2",)),
        Remedy(install=("numpy==1.26.4",), reinstall=("numpy",)),
        Remedy(other="x"),
    ]
    python = case.patient.python
    assert remedies.prescribe(case, several) == (
        f"uv pip install --python {python} --reinstall-package numpy numpy==1.26.4",
        "x",
    )
    wanted = Wanted(
        lock="l", versions={"numpy": "1.26.4"}, requirements=Path("r.txt"), indexes=("https://example.test/cpu/",)
    )
    sync = "pip sync --python {0} --index https://example.test/cpu/ --index-strategy unsafe-best-match"
    assert remedies.prescribe(replace(case, wanted=wanted), [*several, Remedy(whole=True)]) == (
        f"uv {sync.format(python)} --reinstall-package numpy r.txt",
        "x",
    )
    ours = replace(case, wanted=replace(wanted, make="make env-cpu"))
    assert remedies.prescribe(ours, several) == ("make env-cpu", "x")


def test_the_installer_that_is_there_is_named(env: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without uv on the path it is the patient's own pip, else the uv that torchlock has; the system's is told so."""
    (tmp_path / "bin" / "uv").unlink()
    case, wish = clinic.case(env), Remedy(install=("numpy<2",))
    assert remedies.command(case, wish).endswith(f"/uv pip install --python {case.patient.python} 'numpy<2'")
    case = clinic.case(env, pip=True)
    assert remedies.command(case, wish) == f"{case.patient.python} -m pip install 'numpy<2'"
    case = clinic.case(env, pip=True, managed=True)
    assert remedies.command(case, wish) == f"{case.patient.python} -m pip install --break-system-packages 'numpy<2'"


def test_what_conda_installed_conda_changes(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a conda environment conda's own package is changed by conda, under the name that it has there."""
    (env / "conda-meta").mkdir()
    monkeypatch.setenv("CONDA_EXE", "/opt/conda/bin/conda")
    clinic.install(env, "torch", "2.2.2", installer="conda")
    clinic.install(env, "numpy", "2.0.2", installer="conda")
    wish = Remedy(install=("numpy<2", "torch==2.2.2"))
    case = clinic.case(env)
    assert remedies.command(case, wish) == (
        f"/opt/conda/bin/conda install --yes --prefix {case.patient.prefix} 'numpy<2' pytorch==2.2.2"
    )
    clinic.install(env, "numpy", "2.0.2", installer="pip")
    assert remedies.command(clinic.case(env), wish).startswith("uv pip install ")
