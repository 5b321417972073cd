"""A base as images take it: from its lock alone, brought here on demand, locked anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import bases
from torchlock.base import image, packages
from torchlock.digest import Digest
from torchlock.errors import ImageError, StaleError
from torchlock.platforms import PLATFORMS

if TYPE_CHECKING:
    from pathlib import Path

DECLARATION = """default: small
bases:
  small:
    suite: bookworm
    packages: [netbase]
    python: /usr/bin/python3.11
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project that declares a small base, and an archive beside it."""
    bases.archive(tmp_path, monkeypatch)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "base.yaml").write_text(DECLARATION)
    return tmp_path


def test_a_base_is_what_its_lock_says(project: Path) -> None:
    """Nothing but the lock is read: the layers are not here."""
    made, said = image.update(project, None, "linux-64", bases.workshop(project / "store"))
    assert said == ["3 packages, Python 3.11.2"]
    found = image.resolve(project, None, "linux-64")
    assert found == made
    lock = project / "docker" / "base" / "linux-64.json"
    assert found.digest == Digest.of_file(lock)
    assert (found.name, found.python_path, found.python_version) == ("small", "/usr/bin/python3.11", "3.11.2")
    assert found.config == {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def test_a_base_is_built_where_its_layer_is_needed(project: Path) -> None:
    """Once: the blob that is here is enough."""
    image.update(project, None, "linux-64", bases.workshop(project / "one"))
    workshop = bases.workshop(project / "two")
    found = image.resolve(project, "small", "linux-64", workshop)
    assert workshop.blobs.get(found.layers[0][0]) is not None
    (project / "archive" / "failing").touch()
    assert image.resolve(project, "small", "linux-64", workshop) == found


def test_newer_packages(project: Path) -> None:
    """What has changed is said, package by package."""
    image.update(project, None, "linux-64", bases.workshop(project / "store"))
    archive = bases.Archive(folder=project / "archive", programs=project / "programs")
    names = {**bases.NAMES, "netbase": "6.5", "tzdata": "2026"}
    del names["libc6"]
    archive.offer([bases.package(name, version) for name, version in names.items()])
    _, said = image.update(project, None, "linux-64", bases.workshop(project / "store"))
    assert said == ["libc6: removed (2.36-9)", "netbase: 6.4 -> 6.5", "tzdata: added (2026)"]
    assert image.update(project, None, "linux-64", bases.workshop(project / "store"))[1] == []


def test_the_same_packages_with_another_layer(project: Path) -> None:
    """It is said, too."""
    image.update(project, None, "linux-64", bases.workshop(project / "store"))
    lock = packages.read(project / "docker" / "base" / "linux-64.json", "x")
    other = replace(lock, layers=(replace(lock.layers[0], diff_id=Digest("0" * 64)),))
    assert image.changes(other, lock)[0].startswith("the layers are others: sha256:")


def test_a_declaration_that_moved(project: Path) -> None:
    """The lock is stale: an exit status of its own, and the next command."""
    image.update(project, None, "linux-64", bases.workshop(project / "store"))
    (project / "docker" / "base.yaml").write_text(DECLARATION.replace("netbase", "netbase, tzdata"))
    with pytest.raises(StaleError) as caught:
        image.resolve(project, None, "linux-64")
    assert str(caught.value) == (
        "docker/base/linux-64.json: docker/base.yaml has changed since this was written; "
        "expected a lock of what is declared; try: make base UPDATE=1 BASE=small PLATFORM=linux-64"
    )


def test_a_lock_in_another_s_place(project: Path) -> None:
    """It says whose it is."""
    image.update(project, None, "linux-64", bases.workshop(project / "store"))
    folder = project / "docker" / "base"
    (folder / "linux-64.json").rename(folder / "linux-aarch64.json")
    with pytest.raises(ImageError) as caught:
        image.resolve(project, None, "linux-aarch64")
    assert str(caught.value) == (
        "docker/base/linux-aarch64.json: the lock of small for linux-64; "
        "expected small for linux-aarch64; try: make base UPDATE=1"
    )


def test_a_platform_without_images(project: Path) -> None:
    """Containers run Linux."""
    with pytest.raises(ImageError) as caught:
        image.resolve(project, None, "osx-arm64")
    expected = "docker/base.yaml: small: it is not for osx-arm64; expected one of linux-64, linux-aarch64"
    assert str(caught.value) == expected


def on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let this machine be of a platform."""
    monkeypatch.setattr("torchlock.platforms.host", lambda: PLATFORMS[name])


def test_byte_code_is_made_by_this_machine_s_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base of the machine's platform is brought here for that; its Python must be the image's."""
    on(monkeypatch, "linux-64")
    image.update(project, None, "linux-64", bases.workshop(project / "store"))
    other, _ = image.update(project, None, "linux-aarch64", bases.workshop(project / "store"))
    workshop = bases.workshop(project / "fresh")
    image.compiler(project, other, workshop)
    native = image.resolve(project, None, "linux-64")
    assert workshop.blobs.get(native.layers[0][0]) is not None
    with pytest.raises(ImageError) as caught:
        image.compiler(project, replace(other, python_version="3.11.3"), workshop)
    assert str(caught.value) == (
        "the base small: Python 3.11.2 for linux-64; expected 3.11.3, as for linux-aarch64; try: make base UPDATE=1"
    )


def test_no_byte_code_without_linux(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what would do."""
    base, _ = image.update(project, None, "linux-64", bases.workshop(project / "store"))
    on(monkeypatch, "osx-arm64")
    with pytest.raises(ImageError) as caught:
        image.compiler(project, base, bases.workshop(project / "store"))
    assert str(caught.value) == (
        "the base small: byte code is made by the base's own Python, which does not run on osx-arm64; "
        "expected a machine of linux-64 or linux-aarch64; "
        "try: make pull-<profile> REGISTRY=<where an image on this base was pushed>"
    )
