"""Drift: an installed environment against its lock, package by package and file by file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import servers
from channels import RUNNING, Link, Package, pack, publish, python
from condas import PLATFORM, PROFILE, Shop, locked
from torchlock.conda.drift import drift

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlock.conda.document import CondaLock
    from torchlock.conda.drift import Drift

TOOL = Package(
    name="tool",
    noarch="python",
    depends=("python",),
    files={"site-packages/tool/__init__.py": "value = 1\n"},
    entry_points=("hello = tool:main",),
)
DATA = Package(name="data", build="h0_0", files={"etc/data.conf": "a = 1\n", "lib/data.so": Link(target="data.so.1")})
ALL = (python(), TOOL, DATA)
URL = "https://conda.anaconda.org/demo"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Give an environment as it was built."""
    with servers.serving() as site:
        made = Shop(tmp_path, mirrors={URL: publish(site, ALL)})
        made.build(locked(URL, ALL))
        yield made


def seen(shop: Shop, lock: CondaLock | None = None) -> Drift:
    """Return the drift of the environment."""
    return drift(shop.env, lock or locked(URL, ALL), PLATFORM, shop.reporter)


def test_none(shop: Shop) -> None:
    """An environment as it was built has none, also after it was used, which writes byte code."""
    shop.run("python", "-c", "import tool, json")
    found = seen(shop)
    assert not found
    assert list(found.lines()) == [f"envs/conda-{PROFILE} on linux-64: as locked"]
    assert found.to_json()["drift"] is False


def test_packages(shop: Shop) -> None:
    """A package that only one side has is named, and one that has moved says how."""
    other = Package(name="other")
    newer = replace(DATA, version="2.0")
    found = seen(shop, locked(URL, [python(), other, newer]))
    assert list(found.lines()) == [
        f"envs/conda-{PROFILE} on linux-64:",
        "  added tool 1.0 0",
        "  removed other 1.0 0",
        "  changed data 2.0 -> 1.0",
    ]


def test_same_version(shop: Shop) -> None:
    """Another build, other bytes, or another address of one version is a change."""
    build = replace(DATA, build="h1_0")
    assert seen(shop, locked(URL, [python(), TOOL, build])).changed == ("data 1.0: build h1_0 -> h0_0",)
    other = replace(DATA, files={"etc/data.conf": "b\n"})
    (text,) = seen(shop, locked(URL, [python(), TOOL, other])).changed
    assert text == f"data 1.0 h0_0: other bytes, sha256:{locked(URL, [DATA]).all_packages[0].sha256.hex}"
    (text, *_) = seen(shop, locked("https://elsewhere", ALL)).changed
    assert (
        text == f"data 1.0: from {URL}/linux-64/{DATA.filename}, locked from https://elsewhere/linux-64/{DATA.filename}"
    )


def test_files(shop: Shop) -> None:
    """Edited and missing files, links that lead elsewhere, and files of no package are named."""
    site = shop.env / f"lib/python{RUNNING}/site-packages"
    (shop.env / "etc/data.conf").write_text("b = 2\n")
    (shop.env / "lib/data.so").unlink()
    (shop.env / "lib/data.so").symlink_to("evil.so")
    (site / "tool/__init__.py").unlink()
    (site / "evil").mkdir()
    (site / "evil/__init__.py").touch()
    (shop.env / "bin/evil").touch()
    found = seen(shop)
    assert found.edited == (
        "etc/data.conf: changed (data 1.0)",
        "lib/data.so: changed (data 1.0)",
        f"lib/python{RUNNING}/site-packages/tool/__init__.py: missing (tool 1.0)",
    )
    assert found.foreign == ("bin/evil: of no package", f"lib/python{RUNNING}/site-packages/evil/: of no package")
    assert found.to_json()["edited"] == list(found.edited)


def test_file_turned_link(shop: Shop) -> None:
    """A link in the place of a file is a change, wherever it leads."""
    path = shop.env / "etc/data.conf"
    path.rename(shop.root / "data.conf")
    path.symlink_to(shop.root / "data.conf")
    assert seen(shop).edited == ("etc/data.conf: changed (data 1.0)",)


def test_packs_alike() -> None:
    """The builder of the tests gives the same bytes every time, on which all of this stands."""
    assert [pack(package) for package in ALL] == [pack(package) for package in ALL]
