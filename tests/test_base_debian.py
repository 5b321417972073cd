"""A Debian base: chosen, fetched once, built offline, and the same as its lock or refused with a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import bases
from torchlock.base import debian
from torchlock.base.declaration import DebianBase
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.layers.reading import entries
from torchlock.oci.descriptor import LAYER_GZIP

BASE = DebianBase(name="small", suite="bookworm", packages=("netbase",), python="/usr/bin/python3.11")
HERE = Path(__file__).parent


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bases.Archive:
    """Give a small archive and the programs that read it."""
    return bases.archive(tmp_path, monkeypatch)


def leftovers(store: Path) -> list[str]:
    """Return what a build left in its folder."""
    return [path.name for path in (store / "bases").iterdir()] if (store / "bases").exists() else []


def test_a_base_is_locked(archive: bases.Archive, tmp_path: Path) -> None:
    """Packages with their content, the layer, and the version of Python, which is the package's."""
    workshop = bases.workshop(tmp_path / "store")
    lock = debian.update(BASE, "linux-64", workshop)
    assert [(item.name, item.version) for item in lock.packages] == sorted(bases.NAMES.items())
    assert all(item.content for item in lock.packages)
    assert (lock.version, lock.declared) == ("3.11.2", BASE.digest("linux-64"))
    path = workshop.blobs.get(lock.layers[0].descriptor)
    assert path is not None
    paths = [item.path for item in entries(path, LAYER_GZIP, lock.layers[0].diff_id)]
    assert "usr/bin/netbase" in paths
    assert leftovers(tmp_path / "store") == []


def test_the_same_again_elsewhere(archive: bases.Archive, tmp_path: Path) -> None:
    """Another store, with a space in its path, another umask: the same lock."""
    first = debian.update(BASE, "linux-64", bases.workshop(tmp_path / "one"))
    before = os.umask(0o077)
    try:
        second = debian.update(BASE, "linux-64", bases.workshop(tmp_path / "the other"))
    finally:
        os.umask(before)
    assert first.to_json() == second.to_json()


def test_what_mmdebstrap_is_given(archive: bases.Archive, tmp_path: Path) -> None:
    """A clock that stands still, plain words, no network, and nothing of the user's environment."""
    os.environ["TL_USERS_OWN"] = "x"
    debian.update(BASE, "linux-64", bases.workshop(tmp_path / "store"))
    del os.environ["TL_USERS_OWN"]
    words, environment, umask = eval((archive.folder / "bootstrapped").read_text())  # noqa: S307 - written by the test's own program
    assert umask == 0o022
    assert "TL_USERS_OWN" not in environment
    assert environment["SOURCE_DATE_EPOCH"] == "315532800"
    assert (environment["TZ"], environment["LC_ALL"]) == ("UTC", "C.UTF-8")
    assert {"--mode=unshare", "--variant=essential", "--architectures=amd64", "--include=netbase"} <= set(words)
    assert words[-1].startswith("deb [trusted=yes] copy://")


def test_a_locked_base_is_built_offline_from_packages_that_are_here(archive: bases.Archive, tmp_path: Path) -> None:
    """Apt is not asked; a blob that is here is not built again."""
    workshop = bases.workshop(tmp_path / "store")
    lock = debian.update(BASE, "linux-64", workshop)
    workshop.blobs.path(lock.layers[0].descriptor.digest).unlink()
    asked = len(archive.asked)
    offline = replace(workshop, offline=True)
    debian.build(BASE, lock, offline)
    assert workshop.blobs.get(lock.layers[0].descriptor) is not None
    (archive.folder / "failing").touch()
    debian.build(BASE, lock, offline)
    assert len(archive.asked) == asked


def test_offline_without_the_packages(archive: bases.Archive, tmp_path: Path) -> None:
    """The first one that is missing is named."""
    lock = debian.update(BASE, "linux-64", bases.workshop(tmp_path / "one"))
    with pytest.raises(ImageError) as caught:
        debian.build(BASE, lock, bases.workshop(tmp_path / "two", offline=True))
    assert str(caught.value) == (
        "libc6_2.36-9_amd64.deb (and 2 more packages): it is not here, and nothing may be fetched; "
        "try: the same without OFFLINE=1"
    )


def test_a_package_that_was_damaged_in_the_store(archive: bases.Archive, tmp_path: Path) -> None:
    """It is found before use, set aside, and fetched again."""
    workshop = bases.workshop(tmp_path / "store")
    lock = debian.update(BASE, "linux-64", workshop)
    workshop.blobs.path(lock.layers[0].descriptor.digest).unlink()
    path = workshop.debs.path(lock.packages[0].sha256)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    debian.build(BASE, lock, workshop)
    assert Digest.of_file(path) == lock.packages[0].sha256
    assert archive.asked[-1].endswith("download libc6=2.36-9")


def test_a_build_that_differs_says_where(archive: bases.Archive, tmp_path: Path) -> None:
    """The package and its file, by name; nothing is kept of it."""
    workshop = bases.workshop(tmp_path / "store")
    lock = debian.update(BASE, "linux-64", workshop)
    workshop.blobs.path(lock.layers[0].descriptor.digest).unlink()
    (archive.folder / "text").write_bytes(b"not the same")
    with pytest.raises(ImageError) as caught:
        debian.build(BASE, lock, workshop)
    message = str(caught.value)
    assert message.startswith("the base small for linux-64: sha256:")
    assert ", which differs in the package netbase (bin/netbase); expected sha256:" in message
    assert message.endswith("or make base UPDATE=1")
    assert list((workshop.blobs.root / "sha256").iterdir()) == []
    assert leftovers(tmp_path / "store") == []


def test_files_that_no_package_owns_are_named_by_folder(archive: bases.Archive, tmp_path: Path) -> None:
    """What a package's scripts make may differ, too."""
    workshop = bases.workshop(tmp_path / "store")
    lock = debian.update(BASE, "linux-64", workshop)
    workshop.blobs.path(lock.layers[0].descriptor.digest).unlink()
    other = replace(lock.layers[0], diff_id=Digest("0" * 64))
    moved = replace(lock, generated={**lock.generated, "etc": Digest("1" * 64)}, layers=(other,))
    with pytest.raises(ImageError, match="differs in what is made while packages are installed, in etc; expected"):
        debian.build(BASE, moved, workshop)


def test_mmdebstrap_cannot_run_the_architecture(archive: bases.Archive, tmp_path: Path) -> None:
    """Its own words, and a way without building."""
    (archive.folder / "failing").touch()
    with pytest.raises(ImageError) as caught:
        debian.update(BASE, "linux-aarch64", bases.workshop(tmp_path / "store"))
    assert str(caught.value) == (
        "mmdebstrap: arm64 can neither be executed natively nor via qemu; expected a machine where arm64 programs run "
        "(by qemu-user-static, if it has another processor); "
        "try: make pull-<profile> REGISTRY=<where an image on this base was pushed>"
    )


def test_another_set_of_packages_than_asked_for(archive: bases.Archive, tmp_path: Path) -> None:
    """What dpkg says is held against the lock."""
    lines = (archive.folder / "listed").read_text()
    double = bases.package("netbase", "6.4", size=3)
    (archive.folder / "listed").write_text(lines)
    lock = debian.update(BASE, "linux-64", bases.workshop(tmp_path / "store"))
    item = replace(lock.packages[1], sha256=double.sha256, size=double.size, version="6.5")
    (archive.folder / item.filename).write_bytes(bases.deb("netbase", "6.4", size=3))
    changed = replace(
        lock,
        packages=(lock.packages[0], item, lock.packages[2]),
        layers=(replace(lock.layers[0], diff_id=Digest("0" * 64)),),
    )
    workshop = bases.workshop(tmp_path / "store")
    workshop.blobs.path(lock.layers[0].descriptor.digest).unlink()
    with pytest.raises(ImageError) as caught:
        debian.build(BASE, changed, workshop)
    assert str(caught.value) == (
        "the base small: mmdebstrap left out, or added, netbase 6.4 amd64, netbase 6.5 amd64; "
        "expected the locked packages"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="not run: only Linux ends a process with its parent")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_mess(archive: bases.Archive, tmp_path: Path, number: signal.Signals) -> None:
    """A signal ends mmdebstrap, too; a killed build's folder is removed by the next one."""
    (archive.folder / "slow").touch()
    program = (
        f"import sys; sys.path[:0] = [{str(HERE.parent / 'scripts')!r}, {str(HERE)!r}]\n"
        "import bases, pathlib, test_base_debian as here\n"
        "from torchlock.base import debian\n"
        f"debian.SEARCH = {debian.SEARCH!r}\n"
        f"debian.update(here.BASE, 'linux-64', bases.workshop(pathlib.Path({str(tmp_path / 'store')!r})))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    until = time.monotonic() + 20
    while not (archive.folder / "pid").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode != 0, said
    until = time.monotonic() + 5
    while (running := _running(str(tmp_path / "store"))) and time.monotonic() < until:
        time.sleep(0.05)
    assert running == []
    if number == signal.SIGINT:
        assert leftovers(tmp_path / "store") == []
    (archive.folder / "slow").unlink()
    debian.update(BASE, "linux-64", bases.workshop(tmp_path / "store"))
    assert leftovers(tmp_path / "store") == []


def _running(word: str) -> list[str]:
    """Return the commands of running programs that name something."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"mmdebstrap" in words and word.encode() in words:
                found.append(words.decode(errors="replace"))
    return found
