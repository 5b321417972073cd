"""Drift: an installed environment against its lock, package by package and file by file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from channels import RUNNING, Package, pack, python
from condas import CONF, FEW, MODULE, PLATFORM, PROFILE, URL, Shop, locked, standing
from torchlock.conda.drift import drift

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlock.conda.document import CondaLock
    from torchlock.conda.drift import Drift


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Give an environment as it was built."""
    with standing(tmp_path, FEW) as made:
        yield made


def seen(shop: Shop, lock: CondaLock | None = None) -> Drift:
    """Return the drift of the environment."""
    return drift(shop.env, lock or locked(URL, FEW), PLATFORM, shop.reporter)


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
    newer = replace(CONF, version="2.0")
    found = seen(shop, locked(URL, [python(), other, newer]))
    assert list(found.lines()) == [
        f"envs/conda-{PROFILE} on linux-64:",
        "  added tool 1.0 0",
        "  removed other 1.0 0",
        "  changed data 2.0 -> 1.0",
    ]


def test_same_version(shop: Shop) -> None:
    """Another build, other bytes, or another address of one version is a change."""
    build = replace(CONF, build="h1_0")
    assert seen(shop, locked(URL, [python(), MODULE, build])).changed == ("data 1.0: build h1_0 -> h0_0",)
    other = replace(CONF, files={"etc/data.conf": "b\n"})
    (text,) = seen(shop, locked(URL, [python(), MODULE, other])).changed
    assert text == f"data 1.0 h0_0: other bytes, sha256:{locked(URL, [CONF]).all_packages[0].sha256.hex}"
    (text, *_) = seen(shop, locked("https://elsewhere", FEW)).changed
    assert (
        text == f"data 1.0: from {URL}/linux-64/{CONF.filename}, locked from https://elsewhere/linux-64/{CONF.filename}"
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
    assert [pack(package) for package in FEW] == [pack(package) for package in FEW]
