"""Platforms: which wheels each takes, whatever machine asks."""

from __future__ import annotations

import sysconfig

import pytest
from packaging.tags import parse_tag

from torchlock import platforms
from torchlock.errors import EnvError
from torchlock.platforms import PLATFORMS, of_machine

YES_AND_NO = [
    ("linux-64", "cp311-cp311-manylinux_2_28_x86_64", True),
    ("linux-64", "cp311-cp311-manylinux_2_17_x86_64", True),
    ("linux-64", "cp311-cp311-manylinux2014_x86_64", True),
    ("linux-64", "cp311-cp311-manylinux1_x86_64", True),
    ("linux-64", "cp311-cp311-linux_x86_64", True),
    ("linux-64", "cp38-abi3-manylinux2010_x86_64", True),
    ("linux-64", "py2.py3-none-any", True),
    ("linux-64", "py3-none-manylinux2014_x86_64", True),
    ("linux-64", "cp311-none-any", True),
    ("linux-64", "cp311-cp311-manylinux_2_29_x86_64", False),
    ("linux-64", "cp311-cp311-manylinux_2_28_aarch64", False),
    ("linux-64", "cp311-cp311-musllinux_1_2_x86_64", False),
    ("linux-64", "cp310-cp310-manylinux_2_17_x86_64", False),
    ("linux-64", "cp312-abi3-manylinux_2_17_x86_64", False),
    ("linux-64", "cp311-cp311d-manylinux_2_17_x86_64", False),
    ("linux-64", "cp311-cp311t-manylinux_2_17_x86_64", False),
    ("linux-64", "pp311-pypy311_pp73-manylinux_2_17_x86_64", False),
    ("linux-64", "py2-none-any", False),
    ("linux-aarch64", "cp311-cp311-manylinux_2_28_aarch64", True),
    ("linux-aarch64", "cp311-cp311-manylinux2014_aarch64", True),
    ("linux-aarch64", "cp311-cp311-manylinux2010_aarch64", False),
    ("linux-aarch64", "cp311-cp311-linux_x86_64", False),
    ("osx-arm64", "cp311-cp311-macosx_11_0_arm64", True),
    ("osx-arm64", "cp311-cp311-macosx_13_0_arm64", True),
    ("osx-arm64", "cp311-none-macosx_10_9_universal2", True),
    ("osx-arm64", "cp311-cp311-macosx_14_0_arm64", False),
    ("osx-arm64", "cp311-cp311-macosx_11_0_x86_64", False),
    ("osx-64", "cp311-cp311-macosx_10_9_x86_64", True),
    ("osx-64", "cp311-cp311-macosx_13_0_x86_64", True),
    ("osx-64", "cp311-cp311-macosx_14_0_x86_64", False),
    ("osx-64", "cp311-cp311-macosx_11_0_arm64", False),
    ("win-64", "cp311-cp311-win_amd64", True),
    ("win-64", "cp311-cp311-win32", False),
    ("win-64", "cp311-cp311-win_arm64", False),
]


@pytest.mark.parametrize(("platform", "tag", "takes"), YES_AND_NO)
def test_a_platform_takes_its_own_wheels_and_no_others(platform: str, tag: str, takes: bool) -> None:
    """The limits are glibc 2.28, macOS 13 and the own ABI of the Python."""
    assert (not parse_tag(tag).isdisjoint(PLATFORMS[platform].tags("3.11"))) is takes


def test_the_newer_tag_is_the_better_one() -> None:
    """An installer's order: the own ABI before abi3 before none, the newest glibc first, `any` last."""
    tags = [str(tag) for tag in PLATFORMS["linux-64"].tags("3.11")]
    order = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "cp311-cp311-linux_x86_64",
        "cp311-abi3-manylinux_2_28_x86_64",
        "cp311-none-manylinux_2_28_x86_64",
        "cp37-abi3-linux_x86_64",
        "py3-none-any",
    ]
    assert sorted(order, key=tags.index) == order


@pytest.mark.parametrize("setting", ["Py_DEBUG", "Py_GIL_DISABLED", "WITH_PYMALLOC"])
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_tags_do_not_depend_on_the_build_that_asks(monkeypatch: pytest.MonkeyPatch, setting: str, python: str) -> None:
    """A debug or free-threaded Python that runs torchlock locks the same wheels."""
    plain = PLATFORMS["linux-64"].tags(python)
    read = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == setting else read(name))
    assert platforms._tags.__wrapped__("linux-64", python) == plain


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux-64"),
        ("linux", "aarch64", "linux-aarch64"),
        ("darwin", "x86_64", "osx-64"),
        ("darwin", "arm64", "osx-arm64"),
        ("win32", "AMD64", "win-64"),
    ],
)
def test_a_machine_has_its_platform(system: str, machine: str, name: str) -> None:
    """Each pair of system and machine is one of conda's names."""
    assert of_machine(system, machine) is PLATFORMS[name]


def test_another_machine_is_refused() -> None:
    """A machine without wheels is told which have some."""
    with pytest.raises(EnvError) as caught:
        of_machine("linux", "riscv64")
    assert str(caught.value) == (
        "this machine: linux on riscv64; expected one of linux-64, linux-aarch64, osx-64, osx-arm64, win-64"
    )
