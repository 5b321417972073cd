"""Facts of real wheels, read from their index by range: every kind of module, every platform, few bytes."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from torchlock.facts.read import of_wheel
from torchlock.indexes.simple import listing
from torchlock.network.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from pypi_simple import DistributionPackage

    from torchlock.facts.facts import Facts
    from torchlock.network.budget import Budget

pytestmark = pytest.mark.e2e
MOST = 40_000_000


class Counting(Remote):
    """Count the bytes of every answer to a range."""

    moved = 0

    @contextmanager
    def range(self, url: str, wanted: str, budget: Budget) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """Pass on one range."""

        def counted(blocks: Iterator[bytes]) -> Iterator[bytes]:
            for block in blocks:
                self.moved += len(block)
                yield block

        with super().range(url, wanted, budget) as (response, blocks):
            yield response, counted(blocks)


@cache
def files(project: str) -> list[DistributionPackage]:
    """Return what the index has of a project."""
    return listing(Remote(), PYPI_SIMPLE_ENDPOINT, project)


def read(project: str, version: str, platform: str) -> tuple[Facts, int, int]:
    """Return the facts of a wheel for Python 3.11, its size, and how many bytes were moved for them."""
    prefix = f"{project.replace('-', '_')}-{version}-cp311-".lower()
    names = {item.filename: item.url for item in files(project) if item.filename.lower().startswith(prefix)}
    (name,) = [name for name in names if platform in name]
    remote = Counting()
    with remote.range_reader(names[name]) as file:
        return of_wheel(file, name), file.size, remote.moved


@pytest.mark.parametrize(
    ("wheel", "platform", "numpy", "late", "count"),
    [
        ("ecos 2.0.13", "manylinux_2_17_x86_64", {"1"}, False, 1),  # C
        ("ecos 2.0.14", "manylinux_2_17_x86_64", {"2"}, False, 1),
        ("soxr 0.3.7", "manylinux_2_17_x86_64", {"1"}, False, 1),  # Cython
        ("soxr 0.4.0", "manylinux_2_17_x86_64", {"2"}, False, 1),
        ("thinc 8.2.3", "manylinux_2_17_x86_64", {"1"}, False, 2),  # Cython's size checks alone
        ("thinc 8.3.2", "manylinux_2_17_x86_64", {"2"}, False, 2),
        ("contourpy 1.2.0", "manylinux_2_17_x86_64", {"1"}, True, 1),  # pybind11
        ("contourpy 1.2.1", "manylinux_2_17_x86_64", {"2"}, True, 1),
        ("contourpy 1.2.0", "win_amd64", {"1"}, True, 1),
        ("contourpy 1.2.1", "win_amd64", {"2"}, True, 1),
        ("contourpy 1.2.0", "macosx_11_0_arm64", {"1"}, True, 1),
        ("contourpy 1.2.1", "macosx_11_0_arm64", {"2"}, True, 1),
        ("rustworkx 0.14.2", "manylinux_2_17_x86_64", {"1"}, True, 1),  # Rust
        ("tokenizers 0.15.2", "macosx_11_0_arm64", {"1"}, True, 1),
        ("tokenizers 0.15.2", "win_amd64", {"1"}, True, 1),
        ("numexpr 2.9.0", "macosx_11_0_arm64", {"1"}, False, 1),
        ("numexpr 2.10.1", "macosx_11_0_arm64", {"2"}, False, 1),
        ("soxr 0.3.7", "win_amd64", {"1"}, False, 1),
        ("soxr 0.4.0", "win_amd64", {"2"}, False, 1),
        ("thinc 8.2.3", "win_amd64", {"1"}, False, 2),
        ("thinc 8.2.3", "macosx_11_0_arm64", {"1"}, False, 2),
        ("kiwisolver 1.4.5", "manylinux_2_17_x86_64", set(), False, 0),
    ],
)
def test_every_kind_of_module_on_every_platform(
    wheel: str, platform: str, numpy: set[str], *, late: bool, count: int
) -> None:
    """C, Cython, pybind11 and Rust, in ELF, Mach-O and PE, before and after their NumPy 2 build."""
    project, version = wheel.split()
    facts, _, _ = read(project, version, platform)
    assert facts.numpy == numpy
    assert [module.late for module in facts.modules] == [late] * count


@pytest.mark.parametrize(
    ("version", "platform", "numpy", "built"),
    [
        ("2.2.2", "manylinux1_x86_64", "1", ("12.1", "8")),
        ("2.3.0", "manylinux1_x86_64", "2", ("12.1", "8")),
        ("2.6.0", "manylinux1_x86_64", "2", ("12.4", "9")),
        ("2.1.2", "aarch64", "1", (None, None)),
        ("2.2.2", "win_amd64", "1", (None, None)),
        ("2.3.0", "win_amd64", "1", (None, None)),
        ("2.4.0", "win_amd64", "1", (None, None)),
        ("2.4.1", "win_amd64", "2", (None, None)),
    ],
)
def test_a_torch_wheel_moves_under_40_mb(
    version: str, platform: str, numpy: str, built: tuple[str | None, str | None], say: Callable[[str], None]
) -> None:
    """Of 755 MB, for its NumPy, CUDA and cuDNN; for Windows, 2.3.0 and 2.4.0 are of NumPy 1 and 2.4.1 is not."""
    facts, size, moved = read("torch", version, platform)
    assert [module.numpy for module in facts.modules] == [numpy]
    assert (facts.cuda, facts.cudnn) == built
    assert bool(facts.architectures) == bool(built[0])
    assert moved < MOST
    say(f"facts of torch {version} for {platform}: {moved / 1e6:.1f} MB of {size / 1e6:.0f} MB moved")
