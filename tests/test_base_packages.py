"""The lock of a base: written in one form, read strictly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from torchlock.base.declaration import load
from torchlock.base.packages import BaseLock, Layer, Package, read
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci.descriptor import LAYER_GZIP, PLATFORMS, Descriptor

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
LOCK = BaseLock(
    base="debian",
    platform="linux-64",
    declared=Digest("0" * 64),
    layers=(
        Layer(descriptor=Descriptor(media_type=LAYER_GZIP, digest=Digest("1" * 64), size=7), diff_id=Digest("2" * 64)),
    ),
    python="/usr/bin/python3.11",
    version="3.11.2",
    config={"Env": ["PATH=/bin"]},
    packages=(
        Package(name="zlib1g", version="1:1.2-1", architecture="amd64", sha256=Digest("3" * 64), size=9),
        Package(
            name="adduser", version="3", architecture="all", sha256=Digest("4" * 64), size=8, content=Digest("5" * 64)
        ),
    ),
    generated={"etc": Digest("6" * 64)},
)


def test_a_lock_is_read_as_it_was_written() -> None:
    """Packages come sorted by name."""
    found = BaseLock.from_json(LOCK.to_json(), "lock")
    assert found == replace(LOCK, packages=tuple(sorted(LOCK.packages)))
    assert [item.name for item in found.packages] == ["adduser", "zlib1g"]
    assert found.digest == LOCK.digest == Digest.of(LOCK.to_json())


def test_a_package_has_the_file_name_that_apt_gives_it() -> None:
    """The colon of an epoch is escaped."""
    assert LOCK.packages[0].filename == "zlib1g_1%3a1.2-1_amd64.deb"


def test_no_lock() -> None:
    """The next command is named."""
    with pytest.raises(ImageError) as caught:
        read(ROOT / "docker" / "base" / "none.json", "docker/base/none.json")
    expected = "docker/base/none.json: no such file; expected the lock of a base; try: make base UPDATE=1"
    assert str(caught.value) == expected


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return an edit of a lock."""

    def edit(lock: dict[str, Any]) -> None:
        *path, last = key.split(".")
        inner: Any = lock
        for part in path:
            inner = inner[int(part) if part.isdigit() else part]
        inner[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("schema", 2), "x: schema: 2; expected 1; try: a newer torchlock"),
        (change("host", "me"), "x: the keys host are unknown or missing; expected a base's lock"),
        (change("layers", []), "x: layers: none; expected one at least"),
        (
            change("layers.0.mediaType", "application/vnd.oci.image.layer.v1.tar+zstd"),
            (
                "x: layers[0].mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd'; "
                "expected a layer of tar or tar+gzip"
            ),
        ),
        (
            change("packages.0.sha256", "AB"),
            "x: packages[0].sha256: 'sha256:AB'; expected sha256: and 64 lower-case hexadecimal digits",
        ),
        (change("packages.0.size", -1), "x: packages[0].size: -1; expected a size in bytes"),
        (
            change("packages.0.name", "../x"),
            "the package '../x': '../x'; expected a name, version and architecture",
        ),
        (
            change("packages.0.version", "1;reboot"),
            "the package 'adduser': '1;reboot'; expected a name, version and architecture",
        ),
        (
            change("packages.0.note", "mine"),
            "x: is not in the form that torchlock writes; expected a lock that nobody edited; try: make base UPDATE=1",
        ),
    ],
)
def test_a_lock_that_somebody_edited(edit: Callable[[dict[str, Any]], None], message: str) -> None:
    """What it must not be is said with its place."""
    value = json.loads(LOCK.to_json())
    edit(value)
    data = (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()
    with pytest.raises(ImageError) as caught:
        BaseLock.from_json(data, "x")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["zlib1g", "adduser"])
def test_a_package_twice(name: str) -> None:
    """One version of each package is installed."""
    double = replace(next(item for item in LOCK.packages if item.name == name), version="9")
    data = replace(LOCK, packages=(*LOCK.packages, double)).to_json()
    with pytest.raises(ImageError) as caught:
        BaseLock.from_json(data, "x")
    assert str(caught.value) == f"x: packages: {name} twice; expected each package once"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_locks_of_this_project(platform: str) -> None:
    """They answer what is declared, and hold no address."""
    declaration = load(ROOT)
    base, path = declaration.find(), declaration.lock_path(declaration.default, platform)
    found = read(ROOT / path, path)
    assert (found.base, found.platform, found.python) == (base.name, platform, base.python)
    assert found.declared == base.digest(platform)
    assert {item.architecture for item in found.packages} == {"all", PLATFORMS[platform].architecture}
    assert all(item.content is not None or item.name in META for item in found.packages)
    assert b"//" not in found.to_json()


# Packages that hold nothing but documentation, which is left out.
META = {"gcc-12-base", "libpython3-stdlib", "usr-is-merged"}
