"""conda's grammar of specs in rattler's: what conda reads, and no more."""

from __future__ import annotations

import pytest
import rattler

from torchlock.conda.spec import name_of, to_rattler
from torchlock.errors import CondaError


@pytest.mark.parametrize(
    ("conda", "strict"),
    [
        ("numpy", "numpy"),
        ("python 3.11.*", "python 3.11.*"),
        ("numpy 1.26.4", "numpy ==1.26.4"),
        ("numpy==1.26.4", "numpy ==1.26.4"),
        ("numpy=1.26", "numpy 1.26.*"),
        ("numpy=1.26.*", "numpy 1.26.*"),
        ("numpy=1.26.4=py311_0", "numpy ==1.26.4 py311_0"),
        ("numpy 1.26.4 py311_0", "numpy ==1.26.4 py311_0"),
        ("numpy==1.26.4=py311_0", "numpy ==1.26.4 py311_0"),
        ("pytorch 2.4.* cuda*", "pytorch 2.4.* cuda*"),
        ("numpy >= 1.2, < 2", "numpy >=1.2,<2"),
        ("numpy>=1.2,<2", "numpy >=1.2,<2"),
        ("blas * mkl", "blas * mkl"),
        ("pytorch::pytorch 2.2.2 py3.11_cuda11.8_*", "pytorch::pytorch ==2.2.2 py3.11_cuda11.8_*"),
        ("pytorch::pytorch==2.2.2[build=py3.11_*]", "pytorch::pytorch ==2.2.2 py3.11_*"),
        ("pytorch::pytorch[version='2.2.2',build='py3.11_*']", "pytorch::pytorch ==2.2.2 py3.11_*"),
        ("conda-forge/linux-64::numpy=1.2", 'conda-forge::numpy 1.2.*[subdir="linux-64"]'),
    ],
)
def test_read(conda: str, strict: str) -> None:
    """A spec of conda becomes one that rattler reads, with what conda means by bare and fuzzy versions."""
    assert to_rattler(conda) == strict
    assert rattler.MatchSpec(strict) is not None


@pytest.mark.parametrize(
    ("conda", "version", "matches"),
    [("numpy 1.26.4", "1.26.4.1", False), ("numpy=1.26", "1.26.9", True), ("numpy=1.26=0", "1.26.1", False)],
)
def test_meaning(conda: str, version: str, matches: bool) -> None:
    """Bare versions are exact, fuzzy ones are not, and a build makes a fuzzy one exact."""
    record = rattler.PackageRecord("numpy", version, rattler.BuildString("0"), 0, "linux-64")
    assert rattler.MatchSpec(to_rattler(conda)).matches(record) is matches


@pytest.mark.parametrize("text", ["", "nameé", "numpy 1 2 3", "numpy[colour=red]", "numpy(1)", "numpy 1 >=2"])
def test_refused(text: str) -> None:
    """What conda would not read either is refused."""
    with pytest.raises(CondaError, match=r"^the spec: found "):
        to_rattler(text)


def test_name() -> None:
    """The name of a spec is that of its package."""
    assert [name_of(item) for item in ("NumPy >=2", "pytorch::pytorch 2.2.2", "python=3.11", "!")] == [
        "numpy",
        "pytorch",
        "python",
        "",
    ]
