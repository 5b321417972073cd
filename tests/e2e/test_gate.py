"""The gate over facts: what the binaries on the real index say, held against what a profile asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.project import Clone

pytestmark = pytest.mark.e2e

OLD_TORCH = """
python: "3.11"
torch: "2.2.2"
numpy: "2.0.2"
variants:
  cpu: {platforms: [linux-aarch64, osx-64, win-64]}
  cuda: {platforms: [linux-64], cuda: "12.1"}
  mps: {platforms: [osx-arm64]}
"""
WINDOWS = """
python: "3.11"
torch: "2.4.0"
numpy: "2.0.2"
variants:
  cpu: {platforms: [win-64]}
  cuda: {platforms: [linux-64], cuda: "12.1"}
"""
# Not capped by its own requirements, and built for NumPy 1.x.
NUMEXPR = "extends: torch2.4\nalso: [numexpr==2.9.0]\n"


@pytest.fixture
def project(pristine: Clone) -> Iterator[Clone]:
    """Return the shared clone, and remove afterwards what was added to it."""
    yield pristine
    pristine.git("clean", "-fdq", "--", "environments", "lockfiles")


def write(clone: Clone, name: str, text: str) -> None:
    """Write a line of one's own."""
    (clone.folder / "environments" / f"{name}.yaml").write_text(text)


def without_pairings(clone: Clone) -> None:
    """Empty the declared rules about versions of torch, NumPy and Python: only the facts are left."""
    path = clone.folder / "environments" / "compat.yaml"
    text = re.sub(r"^pairings:.*?(?=^builds:)", "pairings: []\n", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert "numpy: " not in text
    path.write_text(text)


def refusal(clone: Clone, profile: str, platform: str) -> str:
    """Return the last line with which a lock is refused; nothing of it may have been written."""
    result = clone.make(f"lock-{profile}", f"PLATFORM={platform}", status=2)
    assert not (clone.lock(profile, platform) / "pylock.toml").exists()
    return next(line for line in result.output.splitlines() if line.startswith("torchlock: "))


@pytest.mark.parametrize(
    ("profile", "platform", "member", "way"),
    [
        ("old-cuda", "linux-64", "torch/lib/libtorch_python.so", "torch==2.3.0, the nearest that passes, or "),
        ("old-cpu", "linux-aarch64", "torch/lib/libtorch_python.so", "torch==2.3.0, the nearest that passes, or "),
        ("old-cpu", "osx-64", "torch/lib/libtorch_python.dylib", ""),
        ("old-mps", "osx-arm64", "torch/lib/libtorch_python.dylib", "torch==2.3.0, the nearest that passes, or "),
        ("old-cpu", "win-64", "torch/lib/torch_python.dll", "torch==2.4.1, the nearest that passes, or "),
    ],
)
def test_torch_for_numpy_1_beside_numpy_2(project: Clone, profile: str, platform: str, member: str, way: str) -> None:
    """Without a declared rule, torch 2.2.2 + NumPy 2.0.2 is refused on every platform, and what would pass is named."""
    without_pairings(project)
    write(project, "old", OLD_TORCH)
    said = refusal(project, profile, platform)
    assert said.startswith(
        f"torchlock: environments/old.yaml: {profile} on {platform}: torch 2.2.2: {member} was built for NumPy 1.x "
        f"alone, beside numpy 2.0.2; expected a build for NumPy 2; try: {way}numpy==1.26.4, or an exception "
    )


def test_torch_2_4_0_is_another_thing_on_windows(project: Clone) -> None:
    """Its wheel for Windows was built for NumPy 1.x, that for Linux was not: the rule "torch >= 2.3" is wrong there."""
    without_pairings(project)
    write(project, "mixed", WINDOWS)
    said = refusal(project, "mixed-cpu", "win-64")
    assert "torch 2.4.0: torch/lib/torch_python.dll was built for NumPy 1.x alone, beside numpy 2.0.2" in said
    assert "try: torch==2.4.1, the nearest that passes, or numpy==1.26.4" in said
    project.make("lock-mixed-cuda", "PLATFORM=linux-64")
    text = (project.lock("mixed-cuda", "linux-64") / "pylock.toml").read_text()
    assert 'numpy-2 = [\n    "torch",\n]\n' in text
    assert "numpy-1" not in text


@pytest.mark.parametrize(
    ("profile", "platform", "member"),
    [
        ("mine-cuda", "linux-64", "numexpr/interpreter.cpython-311-x86_64-linux-gnu.so"),
        ("mine-mps", "osx-arm64", "numexpr/interpreter.cpython-311-darwin.so"),
        ("mine-cpu", "win-64", "numexpr/interpreter.cp311-win_amd64.pyd"),
    ],
)
def test_an_old_build_of_another_package(project: Clone, profile: str, platform: str, member: str) -> None:
    """Under the NumPy 2 line, with the rules as they are: refused, and the version that would pass is named."""
    write(project, "mine", NUMEXPR)
    said = refusal(project, profile, platform)
    assert f"numexpr 2.9.0: {member} was built for NumPy 1.x alone, beside numpy 2.1.3; expected a build" in said
    assert "try: numexpr==2.10.0, the nearest that passes, or numpy==1.26.4" in said
    write(project, "mine", NUMEXPR.replace("2.9.0", "2.10.0"))
    project.make(f"lock-{profile}", f"PLATFORM={platform}")


def test_a_deliberate_exception_is_said_everywhere(project: Clone) -> None:
    """With the sha256 of the refused file and a reason it is locked; lock, check and profiles say so ever after."""
    write(project, "mine", NUMEXPR)
    sha256 = re.search(r"sha256:([0-9a-f]{64})", refusal(project, "mine-cuda", "linux-64"))
    assert sha256 is not None
    waiver = f"exceptions:\n  - {{project: numexpr, sha256: {sha256[1]}, reason: it isn't imported here}}\n"
    write(project, "mine", NUMEXPR + waiver)
    words = "exception for numexpr 2.9.0 (it isn't imported here)"
    assert words in project.make("lock-mine-cuda", "PLATFORM=linux-64").output
    assert words in project.make("lock-mine-cuda", "PLATFORM=linux-64", "OFFLINE=1").output
    listed = project.make("profiles").output.splitlines()
    assert any(line.startswith("mine-cuda") and line.endswith(f"good, {words}") for line in listed)


def test_what_no_one_could_read_is_said(project: Clone) -> None:
    """The lock says for every wheel whether its facts are known; `make check` repeats what is not."""
    result = project.make("check")
    for profile, platform in project.locks():
        text = (project.lock(profile, platform) / "pylock.toml").read_text()
        line = next(item for item in result.output.splitlines() if item.startswith(f"{profile} {platform}: "))
        assert ("unread = [" in text) == ("not read" in line)
