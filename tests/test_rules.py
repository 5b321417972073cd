"""Rules of compatibility: the strict reader of their file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from torchlock.errors import ProfileError
from torchlock.platforms import PLATFORMS
from torchlock.profiles.rules import Rules, load

REAL = Path(__file__).parents[1] / "environments" / "compat.yaml"
TEXT = """\
pairings:
  - torch: "<2.3"
    needs: {numpy: "<2"}
    why: reason
    source: place
builds:
  - torch: ">=2.2"
    platforms: [linux-64]
    builds: [plain]
    cuda: "12.1"
    stack: {Nvidia_X: "==12.1.*"}
    why: reason
    source: place
variants:
  cpu: {platforms: [linux-64], absent: [nvidia-*], why: reason, source: place}
  cuda: {platforms: [linux-64], absent: [], why: reason, source: place}
  mps: {platforms: [osx-arm64], absent: [], why: reason, source: place}
drivers:
  why: reason
  source: place
  release: {"12.1": 530.30.02}
  major: {"12": 525.60.13}
"""


def read(root: Path, text: str) -> Rules:
    """Read rules from a file."""
    path = root / "environments" / "compat.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load(path)


def test_values(tmp_path: Path) -> None:
    """Rules are read as values; one without platforms holds on all of them, one without ways names none."""
    rules = read(tmp_path, TEXT)
    pairing, build = rules.pairings[0], rules.builds[0]
    assert (pairing.torch, pairing.needs) == (SpecifierSet("<2.3"), {"numpy": SpecifierSet("<2")})
    assert (pairing.platforms, pairing.ways, pairing.python) == (tuple(PLATFORMS), (), SpecifierSet())
    assert (build.cuda, build.stack) == ("12.1", {"nvidia-x": SpecifierSet("==12.1.*")})
    assert rules.kinds["cpu"].absent == ("nvidia-*",)
    assert (rules.releases, rules.majors) == ({"12.1": "530.30.02"}, {"12": "525.60.13"})
    assert rules.source == "environments/compat.yaml"


def test_real_rules_have_reasons() -> None:
    """Every rule of this project says why, and where that is known from."""
    rules = load(REAL)
    said = [(item.why, item.source) for item in rules.pairings]
    said += [(item.why, item.source) for item in rules.builds]
    said += [(item.why, item.source) for item in rules.kinds.values()]
    assert len(said) > 20
    assert all(len(why) > 20 and len(source) > 10 for why, source in said)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"<2.3"', "two", ":2: pairings[0].torch: found two; expected a range of versions such as >=2.3,<2.4.1"),
        (
            '"<2"',
            "2.0",
            (
                ":3: pairings[0].needs.numpy: found 2.0, which YAML reads as the number 2.0; "
                'expected a string; try: quote it: "2.0"'
            ),
        ),
        ("    why: reason\n", "", ":2: pairings[0]: the key 'why' is missing; expected all of needs, why, source"),
        (
            "    needs:",
            "    need:",
            (
                ":3: pairings[0].need: unknown key 'need'; "
                "expected one of torch, platforms, python, needs, why, source, ways; try: needs"
            ),
        ),
        (
            "[linux-64]",
            "[linux64]",
            (
                ":8: builds[0].platforms[0]: unknown platform 'linux64'; "
                "expected one of linux-64, linux-aarch64, osx-64, osx-arm64, win-64; try: linux-64"
            ),
        ),
        ('cuda: "12.1"', 'cuda: "12"', ":10: builds[0].cuda: found 12; expected a CUDA release such as 12.1"),
        ('"12.1": 530', '"121": 530', ":21: drivers.release.121: found 121; expected a CUDA release"),
        ("525.60.13", "new", ":22: drivers.major.12: found new; expected a driver such as 530.30.02"),
        ("  mps: {", "  cpu: {", ":17: variants.cpu: found this key twice, first on line 15; expected each key once"),
    ],
)
def test_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A rule that does not say what it must is refused at its place."""
    with pytest.raises(ProfileError, match=f"^environments/compat.yaml{re.escape(message)}$"):
        read(tmp_path, TEXT.replace(old, new, 1))


def test_all_variants(tmp_path: Path) -> None:
    """A file that leaves out a variant, or a section, is refused."""
    for old, name in ((TEXT.splitlines()[16] + "\n", "mps"), (TEXT[TEXT.index("drivers") :], "drivers")):
        with pytest.raises(ProfileError, match=f"the key '{name}' is missing"):
            read(tmp_path, TEXT.replace(old, ""))
