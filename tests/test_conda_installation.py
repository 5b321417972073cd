"""conda environments: built in staging, whole or not there, altered ones found, and safe to interrupt."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from channels import FULL, PREFIX, Package, pack, publish, python
from condas import ALL, PLATFORM, PROFILE, TOOL, Shop, build, child, locked, standing
from torchlock.conda import prefix
from torchlock.errors import CondaError, NetworkError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Site


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Give an environment of all packages, which tests only look at."""
    with standing(tmp_path_factory.mktemp("built"), ALL) as shop:
        yield shop


def test_works(built: Shop) -> None:
    """Entry points, scripts and shell scripts run from where the environment stands, and modules are imported."""
    assert built.run("hello") == f"hello from {built.env}"
    assert built.run("script") == f"script in {built.env}"
    assert built.run("where") == str(built.env)
    assert (built.env / "etc/data.conf").read_text() == "a = 1\n"
    assert built.left() == [f"conda-{PROFILE}"]


def test_no_staging_path(built: Shop) -> None:
    """No file holds the path of the staging folder or of the store, and none but the records the address they had."""
    for path in built.env.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert b".staging" not in data, path
            assert b".work" not in data, path
            assert os.fsencode(built.root / "store") not in data, path


def test_records(tmp_path: Path, site: Site) -> None:
    """`conda-meta` names the real address and hashes of each package, and nothing of this machine but the prefix."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    lock = locked(f"{site.url}/demo", ALL)
    for item in lock.packages(PLATFORM):
        path = shop.env / "conda-meta" / f"{item.name}-{item.version}-{item.build}.json"
        value: dict[str, Any] = json.loads(path.read_text())
        assert (value["url"], value["channel"], value["fn"]) == (item.url, item.channel, item.filename)
        assert (value["sha256"], value["md5"]) == (item.sha256.hex, item.md5)
        assert not {"link", "extracted_package_dir"} & value.keys()
        assert str(tmp_path) not in path.read_text()


def test_modes(tmp_path: Path, site: Site) -> None:
    """Files are 0644 or 0755, whatever the umask, and share no inode with anything else."""
    shop = Shop(tmp_path)
    before = os.umask(0o077)
    try:
        build(shop, site, *ALL)
    finally:
        os.umask(before)
    for path in shop.env.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and "__pycache__" not in path.parts:
            assert status.st_mode & 0o777 == (0o755 if path.parent.name == "bin" else 0o644), path
            assert status.st_nlink == 1, path


def test_same_bytes(tmp_path: Path, site: Site) -> None:
    """Two builds at the same place have the same files, to the byte (byte code aside)."""
    shop = Shop(tmp_path)

    def content() -> dict[str, bytes]:
        build(shop, site, *ALL)
        paths = [path for path in shop.env.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {str(path.relative_to(shop.env)): path.read_bytes() for path in paths}

    first = content()
    shutil.rmtree(shop.env)
    assert content() == first


def test_again(tmp_path: Path, site: Site) -> None:
    """A second build verifies, asks for nothing, and leaves the environment as it is."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    before, asked = shop.env.stat().st_ino, len(site.seen)
    build(shop, site, *ALL)
    assert (shop.env.stat().st_ino, len(site.seen)) == (before, asked)
    assert shop.reporter.notes == [f"envs/conda-{PROFILE} is already that of its lock"]


def test_altered(tmp_path: Path, site: Site) -> None:
    """An environment that was altered is built anew, offline from the store."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    (shop.env / "etc/data.conf").write_text("b = 2\n")
    offline = Shop(tmp_path, offline=True)
    offline.build(locked(f"{site.url}/demo", ALL))
    assert (shop.env / "etc/data.conf").read_text() == "a = 1\n"
    assert offline.reporter.notes == [f"envs/conda-{PROFILE} is built anew: etc/data.conf: changed (data 1.0)"]


def test_other_lock(tmp_path: Path, site: Site) -> None:
    """Another lock replaces the environment whole: what only the old one had is gone."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    build(shop, site, python(), TOOL)
    assert not (shop.env / "etc").exists()
    assert shop.reporter.notes == [f"envs/conda-{PROFILE} is built anew: it was built from another lock"]


def test_wrong_bytes(tmp_path: Path, site: Site) -> None:
    """A package with other bytes than the lock's is refused, and the environment that was there stays."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    more = Package(name="more", files={"share/more": "x"})
    lock = locked(publish(site, [*ALL, more]), [*ALL, more])
    site.files[f"/demo/linux-64/{more.filename}"] = pack(replace(more, files={"share/more": "evil"}))
    with pytest.raises(NetworkError, match=r"expected sha256:[0-9a-f]{64} as locked"):
        shop.build(lock)
    assert shop.left() == [f"conda-{PROFILE}"]
    assert shop.run("hello") == f"hello from {shop.env}"


def test_no_rattler(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rattler, which only conda needs, the command that installs it is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rattler" else name)
    with pytest.raises(CondaError) as caught:
        build(Shop(tmp_path), site, *ALL)
    assert str(caught.value) == (
        "py-rattler: is not installed here; expected what links conda packages; "
        "try: pip install -r requirements-conda.txt"
    )


def test_no_room(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too small a disk is refused before anything is unpacked, with what to name in its stead."""
    shop = Shop(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CondaError) as caught:
        build(shop, site, TOOL)
    assert caught.value.found == "100 bytes are free"
    assert caught.value.expected == f"{3 * len(pack(TOOL)):,} bytes"
    assert caught.value.remedy == "make room, or name another folder with ENVS="
    assert shop.left() == []


def test_no_folder(tmp_path: Path, site: Site) -> None:
    """A folder of environments that cannot be made is one line."""
    shop = Shop(tmp_path)
    shop.envs.root.write_text("a file")
    with pytest.raises(CondaError, match=f"^envs/conda-{PROFILE}: File exists: "):
        build(shop, site, TOOL)


def test_other_platform(tmp_path: Path, site: Site) -> None:
    """A lock for another machine is refused."""
    lock = locked(publish(site, ALL), ALL)
    with pytest.raises(CondaError, match=r"its lock is for linux-64, and this machine is linux-64; expected a lock"):
        Shop(tmp_path).envs.build(lock, "osx-arm64")


def waiting(shop: Shop, process: subprocess.Popen[str]) -> None:
    """Wait until the child of a process links into staging."""
    until = time.monotonic() + 20
    while not (shop.envs.root / f".staging-conda-{PROFILE}" / "bin").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


BIG = Package(name="big", files={f"share/big/{number}": f"{PREFIX} {number}\n" for number in range(300)})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, site: Site, number: signal.Signals) -> None:
    """Whatever ends the command while it links, the old environment stays and the same command mends all."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    packages = (*ALL, BIG)
    url = publish(site, packages)
    code = (
        "import signal, channels\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"from test_conda_installation import BIG\nshop.build(locked({url!r}, (*ALL, BIG)))"
    )
    process = child(tmp_path, code)
    waiting(shop, process)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert shop.run("hello") == f"hello from {shop.env}"
    if number != signal.SIGKILL:
        assert shop.left() == [f"conda-{PROFILE}"]
    shop.build(locked(url, packages))
    assert (shop.env / "share/big/7").read_text() == f"{shop.env} 7\n"
    assert shop.left() == [f"conda-{PROFILE}"]
    assert not prefix.verify(shop.env, prefix.read_manifest(shop.env), shop.reporter)


def test_swap_cut(tmp_path: Path, site: Site) -> None:
    """A command that was killed between the two renames of the swap is mended: the old environment comes back."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    shop.env.rename(shop.envs.root / f".old-conda-{PROFILE}")
    build(shop, site, *ALL)
    assert shop.reporter.notes == [f"envs/conda-{PROFILE} is already that of its lock"]


def test_two_at_once(tmp_path: Path, site: Site) -> None:
    """Two commands at once build once, and each package is asked for once."""
    url = publish(site, ALL)
    code = f"shop.build(locked({url!r}, ALL))\nprint(shop.reporter.notes)"
    both = [child(tmp_path, code) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("already that of its lock" in out for out, _ in said) == 1
    assert all(site.asked(path) == 1 for path in site.files if path.endswith((".conda", ".bz2")))


def test_python_version(built: Shop) -> None:
    """The environment's Python is the package's, under its own prefix."""
    code = "import platform, sys; print(platform.python_version(), sys.prefix)"
    assert built.run("python", "-c", code) == f"{FULL} {built.env}"
