"""The declared part of the gate: what is refused before resolving and after, and in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from torchlock.errors import GateError
from torchlock.profiles import compat, profile

ENVIRONMENTS = Path(__file__).parents[1] / "environments"
RULES = compat.load(ENVIRONMENTS / "compat.yaml")
CATALOGUE = profile.load(ENVIRONMENTS)
ABI = (
    "torch before 2.3 was compiled against NumPy 1.x and fails under NumPy 2 "
    "(_ARRAY_API not found, Numpy is not available)"
)
WINDOWS = (
    "the wheels of torch 2.3.0, 2.3.1 and 2.4.0 for Windows were compiled against NumPy 1.x, "
    "though those for other systems were not"
)
NO_CUDA = (
    "a cpu environment holds no CUDA; torch asks for nvidia-* and triton in its GPU builds alone, "
    "so they betray the wrong build"
)
WAYS = "expected numpy<2; try: numpy<2, or torch>=2.4.1"
CPU = {"torch": "2.2.2+cpu", "numpy": "1.26.4", "sympy": "1.13.3"}
CUDA = {
    "torch": "2.2.2",
    "numpy": "1.26.4",
    "triton": "2.2.0",
    "nvidia-cuda-nvrtc-cu12": "12.1.105",
    "nvidia-cuda-runtime-cu12": "12.1.105",
    "nvidia-cublas-cu12": "12.1.3.1",
    "nvidia-cudnn-cu12": "8.9.2.26",
    "nvidia-nvjitlink-cu12": "12.9.86",
}


def target(
    torch: str, numpy: str, platform: str = "linux-64", variant: str = "cpu", python: str = "3.11"
) -> profile.Target:
    """Return a target with other pins."""
    return profile.Target(
        profile=f"mine-{variant}",
        line="mine",
        variant=variant,
        platform=platform,
        python=python,
        requirements=(f"numpy=={numpy}", f"torch=={torch}"),
        indexes={},
        default_index="pypi",
        cuda="12.1" if variant == "cuda" else None,
        source="environments/mine.yaml",
    )


def before(wanted: profile.Target) -> str:
    """Return what is found against the pins of a target, or nothing."""
    return "; ".join(map(str, compat.declared(wanted, RULES)))


def after(wanted: profile.Target, packages: dict[str, str]) -> str:
    """Return what is found against a chosen set, or nothing."""
    return "; ".join(map(str, compat.chosen(wanted, packages, RULES)))


def test_real_profiles_pass() -> None:
    """No profile of this project pins what is known to break."""
    targets = [item for found in CATALOGUE.profiles.values() for item in found.targets]
    assert len(targets) == 11
    for item in targets:
        compat.before(item, RULES)


def test_numpy_2_is_refused() -> None:
    """A profile with torch 2.2.2 and NumPy 2 is refused before resolving: the file, the reason, the two ways out."""
    with pytest.raises(GateError) as caught:
        compat.before(target("2.2.2+cpu", "2.0.2"), RULES)
    assert str(caught.value) == (
        f"environments/mine.yaml: mine-cpu on linux-64: found numpy 2.0.2 with torch 2.2.2: {ABI}; {WAYS}"
    )


@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64", "osx-64", "win-64"])
@pytest.mark.parametrize("numpy", ["2.0.0", "2.0.0rc1", "2.1.3"])
def test_numpy_2_on_all_platforms(platform: str, numpy: str) -> None:
    """The wheels of torch before 2.3 know no NumPy 2 on any platform."""
    torch = "2.2.2+cpu" if platform == "linux-64" else "2.2.2"
    assert before(target(torch, numpy, platform)) == f"found numpy {numpy} with torch 2.2.2: {ABI}; {WAYS}"


@pytest.mark.parametrize("torch", ["2.3.0", "2.3.1", "2.4.0"])
def test_windows_builds(torch: str) -> None:
    """Three releases know NumPy 2 everywhere but on Windows."""
    assert before(target(torch, "2.0.2", "win-64")) == f"found numpy 2.0.2 with torch {torch}: {WINDOWS}; {WAYS}"
    assert before(target(torch, "2.0.2", "linux-aarch64")) == ""
    assert before(target(torch, "2.0.2", "osx-arm64", "mps")) == ""
    assert before(target(torch, "1.26.4", "win-64")) == ""


def test_good_pairs() -> None:
    """The wheels of torch 2.4.1 take NumPy 1 and 2, on Windows too; those of torch 2.2.2 take NumPy 1."""
    for platform in ("win-64", "linux-aarch64"):
        for torch, numpy in (("2.4.1", "2.1.3"), ("2.4.1", "1.26.4"), ("2.2.2", "1.26.4")):
            assert before(target(torch, numpy, platform)) == ""


def test_pins_under_a_marker() -> None:
    """A pin that holds under a marker alone is left to what was chosen."""
    wanted = target("2.2.2", "1.26.4", "win-64")
    other = 'numpy==2.0.2; sys_platform == "linux"'
    assert before(replace(wanted, requirements=(*wanted.requirements, other))) == ""


def test_old_numpy() -> None:
    """A NumPy older than the one that torch was compiled against is refused, by the generation of Python."""
    reason = "it was compiled against NumPy 1.23.1, and an older NumPy refuses such a module at import"
    expected = f"found numpy 1.22.4 with torch 2.2.2: {reason}; expected numpy>=1.23"
    assert before(target("2.2.2+cpu", "1.22.4")) == expected
    assert before(target("2.2.2+cpu", "1.22.4", python="3.10")) == ""


@pytest.mark.parametrize(
    ("torch", "python", "platform", "expected"),
    [
        ("2.1.2", "3.12", "win-64", "python<3.12,>=3.8"),
        ("2.2.2", "3.13", "win-64", "python<3.13,>=3.8"),
        ("2.2.2", "3.7", "win-64", "python<3.13,>=3.8"),
        ("2.4.1", "3.12", "win-64", ""),
        ("2.4.1", "3.13", "win-64", "python<3.13,>=3.8"),
        ("2.5.1", "3.13", "win-64", "python<3.13"),
        ("2.5.1+cpu", "3.13", "linux-64", ""),
        ("2.8.0", "3.14", "win-64", "python<3.14,>=3.9"),
        ("2.9.0", "3.9", "win-64", "python>=3.10"),
        ("2.9.0", "3.10", "win-64", ""),
    ],
)
def test_pythons(torch: str, python: str, platform: str, expected: str) -> None:
    """Each release of torch has its range of Pythons; 3.10 is later than 3.9."""
    found = compat.declared(target(torch, "1.26.4", platform, python=python), RULES)
    assert [item.expected for item in found] == ([expected] if expected else [])
    assert all(item.found.startswith(f"found python {python} with torch {torch.partition('+')[0]}: ") for item in found)


def test_intel_macs() -> None:
    """No torch after 2.2.2 is for Intel Macs."""
    assert before(target("2.2.2", "1.26.4", "osx-64")) == ""
    assert before(target("2.4.1", "2.1.3", "osx-64")) == (
        "found torch 2.4.1 for osx-64: torch 2.2.2 is the last release with wheels for Intel Macs; "
        "expected torch<2.3; try: torch==2.2.2, or leave osx-64 out of platforms"
    )


def test_variants_and_platforms() -> None:
    """An mps profile is for Apple silicon, and a cuda profile for no Mac."""
    assert before(target("2.2.2", "1.26.4", "linux-aarch64", "mps")) == (
        "found mps on linux-aarch64: mps is Apple's GPU, and its profiles promise Apple silicon; "
        "expected one of osx-arm64"
    )
    assert before(target("2.2.2", "1.26.4", "osx-arm64", "cuda")).startswith(
        "found cuda on osx-arm64: CUDA 10.2 was the last for macOS; "
    )


def test_cpu_profile_with_a_cuda_build() -> None:
    """The plain torch for linux-64 is the CUDA build: a cpu profile must name another."""
    assert before(target("2.2.2", "1.26.4")) == (
        "found torch 2.2.2 for linux-64, which is a CUDA 12.1 build; expected a build without CUDA, such as 2.2.2+cpu; "
        'try: builds: {linux-64: {torch: "2.2.2+cpu", index: pytorch-cpu}}'
    )
    assert before(target("2.2.2", "1.26.4", "linux-aarch64")) == ""
    assert (
        before(target("2.9.0+cu130", "2.1.3"))
        == "found torch 2.9.0+cu130 for linux-64; expected a build without +cu130"
    )
    assert before(target("2.9.0+rocm6.4", "2.1.3")) != ""


def test_cuda_profile_with_another_build() -> None:
    """A cuda profile names the CUDA release of its build, on a platform that has one."""
    assert before(target("2.4.1", "2.1.3", variant="cuda")) == ""
    assert before(target("2.2.2+cu121", "1.26.4", "win-64", "cuda")) == ""
    assert before(target("2.5.1", "2.1.3", variant="cuda")) == (
        'found cuda 12.1, but torch 2.5.1 for linux-64 is a CUDA 12.4 build; expected cuda: "12.4"'
    )
    assert before(target("2.4.1+cpu", "2.1.3", variant="cuda")) == (
        "found torch 2.4.1+cpu for linux-64, which is not known to be a CUDA build; "
        "expected one of the builds cu118, cu121, cu124, plain"
    )
    assert before(target("2.2.2", "1.26.4", "linux-aarch64", "cuda")) == (
        "found torch 2.2.2 for linux-aarch64, which is not known to be a CUDA build; expected a platform that has one"
    )


def test_unknown_release_passes() -> None:
    """The gate refuses what is known to break, and nothing else."""
    assert before(target("3.0.0", "3.0.0", variant="cuda")) == ""


def test_all_violations_at_once() -> None:
    """Everything that is wrong is said in one error, numbered."""
    with pytest.raises(GateError) as caught:
        compat.before(target("2.2.2", "2.0.2", "win-64", "cpu", "3.13"), RULES)
    message = str(caught.value)
    assert message.startswith(
        "environments/mine.yaml: mine-cpu on win-64: 2 things are known to break: (1) found numpy "
    )
    assert "; (2) found python 3.13 with torch 2.2.2: " in message


def test_good_sets_pass() -> None:
    """The sets that resolvers choose for the profiles of this project pass."""
    compat.after(CATALOGUE.find("cpu").targets[0], CPU, RULES)
    compat.after(CATALOGUE.find("cuda").targets[0], CUDA, RULES)
    newer = {**CUDA, "torch": "2.4.1", "numpy": "2.1.3", "nvidia-cudnn-cu12": "9.1.0.70", "triton": "3.0.0"}
    compat.after(CATALOGUE.find("torch2.4-cuda").targets[0], newer, RULES)


def test_chosen_numpy() -> None:
    """NumPy is held against torch again in what was chosen, however it came there."""
    with pytest.raises(GateError) as caught:
        compat.after(CATALOGUE.find("cpu").targets[0], {**CPU, "numpy": "2.0.2"}, RULES)
    where = "environments/torch2.2.yaml: torch2.2-cpu on linux-64"
    assert str(caught.value) == f"{where}: found numpy 2.0.2 with torch 2.2.2: {ABI}; {WAYS}"


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_missing(name: str) -> None:
    """A set without torch or numpy is refused."""
    packages = {key: version for key, version in CPU.items() if key != name}
    found = after(CATALOGUE.find("cpu").targets[0], packages)
    assert found == f"found no {name} in the chosen set; expected both torch and numpy"


@pytest.mark.parametrize(
    "name", ["nvidia-cublas-cu12", "Nvidia_CUDA.Runtime", "triton", "cuda-bindings", "cupy-cuda12x"]
)
def test_cpu_set_holds_no_cuda(name: str) -> None:
    """A cpu set with a CUDA library in it is refused."""
    normal = name.lower().replace("_", "-").replace(".", "-")
    absent = "nvidia-*, triton, pytorch-triton, cuda-*, cupy-cuda*"
    found = after(CATALOGUE.find("cpu").targets[0], {**CPU, name: "12.1"})
    assert found == f"found {normal}: {NO_CUDA}; expected none of {absent}"


def test_cpu_set_holds_no_cuda_build() -> None:
    """A cpu set with a CUDA build of torch or of a companion is refused."""
    cpu = CATALOGUE.find("cpu").targets[0]
    assert after(cpu, {**CPU, "torchvision": "0.17.2+cpu"}) == ""
    expected = "found torchvision 0.17.2+cu121, which is a CUDA build; expected a build without CUDA"
    assert after(cpu, {**CPU, "torchvision": "0.17.2+cu121"}) == expected
    assert "found torch 2.2.2+cu121 for linux-64, which is a CUDA 12.1 build" in after(
        cpu, {**CPU, "torch": "2.2.2+cu121"}
    )
    assert "found torch 2.2.2 for linux-64, which is a CUDA 12.1 build" in after(cpu, {**CPU, "torch": "2.2.2"})


def test_cuda_set_holds_the_stack() -> None:
    """A cuda set without a library of its stack, or with another generation of one, is refused."""
    cuda = CATALOGUE.find("cuda").targets[0]
    reason = "its libraries are linked against CUDA 12.1 and cuDNN 8"
    expected = f"{reason}; expected nvidia-cudnn-cu12==8.9.* beside torch 2.2.2"
    lacking = {name: version for name, version in CUDA.items() if name != "nvidia-cudnn-cu12"}
    assert after(cuda, lacking) == f"found no nvidia-cudnn-cu12: {expected}"
    other = after(cuda, {**CUDA, "nvidia-cudnn-cu12": "9.1.0.70"})
    assert other == f"found nvidia-cudnn-cu12 9.1.0.70: {expected}"
    assert after(cuda, {**CUDA, "nvidia-cuda-runtime-cu12": "12.4.127"}) == (
        f"found nvidia-cuda-runtime-cu12 12.4.127: {reason}; "
        "expected nvidia-cuda-runtime-cu12==12.1.* beside torch 2.2.2"
    )


def test_two_generations() -> None:
    """Libraries of two CUDA generations in one set are refused."""
    cuda = CATALOGUE.find("cuda").targets[0]
    expected = "found nvidia-nccl-cu11 beside CUDA 12.1; expected libraries of one CUDA generation"
    assert after(cuda, {**CUDA, "nvidia-nccl-cu11": "2.20.5"}) == expected


def test_cuda_of_an_unknown_release() -> None:
    """Where no rule knows the build, the CUDA runtime must still be that of the profile."""
    wanted = replace(target("9.0.0", "2.1.3", variant="cuda"), cuda="13.0")
    packages = {"torch": "9.0.0", "numpy": "2.1.3"}
    assert after(wanted, packages) == "found no nvidia-cuda-runtime; expected that of CUDA 13.0"
    assert after(wanted, {**packages, "nvidia-cuda-runtime": "13.0.48"}) == ""
    wrong = after(wanted, {**packages, "nvidia-cuda-runtime": "13.1.2"})
    assert wrong == "found nvidia-cuda-runtime 13.1.2; expected that of CUDA 13.0"


def test_minimum_driver() -> None:
    """The driver for a CUDA release is known exactly, or by its major release, or refused."""
    assert compat.minimum_driver("12.1", RULES) == compat.Driver(release="530.30.02", major="525.60.13")
    assert compat.minimum_driver("12.3", RULES) == compat.Driver(release=None, major="525.60.13")
    with pytest.raises(
        GateError, match=r"^environments/compat\.yaml: drivers: CUDA 9\.2 is not in it; expected 11\.8, "
    ):
        compat.minimum_driver("9.2", RULES)


def test_every_cuda_build_has_its_driver() -> None:
    """For every CUDA release that a build rule names, the driver is known exactly."""
    assert {item.cuda for item in RULES.builds} <= RULES.releases.keys()
