"""Linking: what rattler makes of good packages, and how bad ones are refused before it touches them."""

from __future__ import annotations

import bz2
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from channels import PREFIX, RUNNING, Package, pack, publish, python
from condas import ALL, DATA, FAST, LIBRARY, PLATFORM, PROFILE, TOOL, Shop, build, locked, standing
from torchlock.conda import installation, linking, prefix
from torchlock.conda.packages import Mirrors, PackageFetcher
from torchlock.digest import Digest
from torchlock.errors import CondaError
from torchlock.files import exclusive
from torchlock.network.remote import Remote
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from servers import Site
    from torchlock.locks.lock import Artifact

HOOK = Package(name="hook", files={"bin/.hook-post-link.sh": "touch $PREFIX/hooked\n", "share/hook": "x"})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Give an environment of all packages, which tests only look at."""
    with standing(tmp_path_factory.mktemp("built"), ALL) as shop:
        yield shop


def refused(tmp_path: Path, site: Site, *packages: Package) -> str:
    """Return the message with which packages are refused, which leaves nothing."""
    shop = Shop(tmp_path)
    with pytest.raises(CondaError) as caught:
        build(shop, site, *ALL, *packages)
    assert shop.left() == []
    return str(caught.value)


def test_binary_prefix(built: Shop) -> None:
    """In a binary file the final path takes the placeholder's place, and no other byte moves."""
    before, after = LIBRARY.files["lib/library.so.1"], (built.env / "lib/library.so").read_bytes()
    assert isinstance(before, bytes)
    path = os.fsencode(built.env)
    assert after == before.replace(PREFIX.encode() + b"/share", (path + b"/share").ljust(len(PREFIX) + 6, b"\0"))
    assert os.fspath((built.env / "lib/library.so").readlink()) == "library.so.1"


def test_compiled(built: Shop) -> None:
    """Modules of noarch packages are compiled for the environment's Python; what is no Python is let be."""
    found = sorted(path.name for path in built.env.glob(f"lib/python{RUNNING}/site-packages/tool/__pycache__/*"))
    assert found == [f"__init__.cpython-{RUNNING.replace('.', '')}.pyc"]
    code = "import tool; print(tool.main.__code__.co_filename)"
    assert built.run("python", "-c", code) == f"{built.env}/lib/python{RUNNING}/site-packages/tool/__init__.py"


def test_progress(tmp_path: Path, site: Site) -> None:
    """Unpacking and linking are told in bytes up to their end."""
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    total = sum(len(pack(package)) for package in ALL)
    for task in ("unpacking", "linking"):
        states = [state[1:] for state in shop.reporter.states if state[0] == task]
        assert states[-1] == (total, total)
        assert len(states) == len(ALL)


def test_link_script(tmp_path: Path, site: Site) -> None:
    """A package that wants to run code is refused by its name, and nothing is run."""
    assert refused(tmp_path, site, HOOK) == (
        "hook-1.0-0.conda: has a link script (bin/.hook-post-link.sh), which is not run: its effects are in no lock; "
        "expected a package that is files alone; "
        "try: choose another build, or SCRIPTS=skip to install it without running them"
    )


def test_link_script_skipped(tmp_path: Path, site: Site) -> None:
    """On request such a package is installed without running its script, which is said."""
    shop = Shop(tmp_path)
    envs = replace(shop.envs, skip_scripts=True)
    packages = (*ALL, HOOK)
    envs.build(locked(publish(site, packages), packages), PLATFORM)
    assert (shop.env / "share/hook").is_file()
    assert not (shop.env / "hooked").exists()
    assert shop.reporter.notes == ["the link scripts of hook-1.0-0 are not run, as SCRIPTS=skip says"]


def read(tmp_path: Path, package: Package) -> dict[str, Any]:
    """Return where the files of a package will lie, from what it says under `info/` alone."""
    info = tmp_path / "info"
    with tarfile.open(fileobj=io.BytesIO(bz2.decompress(pack(replace(package, ending=".tar.bz2"))))) as file:
        for member in file.getmembers():
            if member.name.startswith("info/"):
                (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / member.name).write_bytes(file.extractfile(member).read())  # type: ignore[union-attr]
    item = linking.Item(
        path=f"/{package.filename}",
        name=package.name,
        version=package.version,
        build=package.build,
        subdir=package.place,
        channel="demo",
        sha256="0" * 64,
        md5="0" * 32,
        size=1,
    )
    return linking.destinations(item, package.index, info, "3.12.1")


def listing(*paths: str) -> dict[str, str]:
    """Return the `info/paths.json` that lists files."""
    entries = [{"_path": path, "path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1} for path in paths]
    return {"info/paths.json": json.dumps({"paths": entries, "paths_version": 1})}


def test_destinations(tmp_path: Path) -> None:
    """Files of a noarch package go where the environment's Python looks for them, its entry points into bin/."""
    assert list(read(tmp_path, TOOL)) == [
        "bin/script",
        "lib/python3.12/site-packages/tool/__init__.py",
        "lib/python3.12/site-packages/tool/template.py",
        "bin/hello",
    ]
    assert list(read(tmp_path / "other", LIBRARY)) == ["bin/where", "lib/library.so", "lib/library.so.1"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/opt/x", "a\\b", "a//b", "a/./b", "a/", "", "a\nb"])
def test_leaving_path(tmp_path: Path, path: str) -> None:
    """A path that leaves the prefix, or that not every system reads alike, is refused."""
    with pytest.raises(CondaError) as caught:
        read(tmp_path, Package(name="bad", info=listing(path)))
    assert str(caught.value) == (
        f"bad-1.0-0.conda: info/paths.json: the path {path!r}; expected a path inside the prefix"
    )


def test_path_twice(tmp_path: Path) -> None:
    """A path that stands there twice is refused."""
    with pytest.raises(CondaError, match=r"info/paths\.json: a/x stands there twice; expected each path once"):
        read(tmp_path, Package(name="bad", info=listing("a/x", "a/x")))


@pytest.mark.parametrize("text", ["[]", "{}", '{"paths": 1}', '{"paths": [1]}', "{", "[" * 100_000])
def test_bad_paths(tmp_path: Path, text: str) -> None:
    """What is no list of paths is refused in one line."""
    with pytest.raises(CondaError, match=r"^bad-1\.0-0\.conda: info/paths\.json: "):
        read(tmp_path, Package(name="bad", info={"info/paths.json": text}))


@pytest.mark.parametrize("text", ["../x = tool:main", "python = tool:main", "x = os.system('x'):main", "x", ""])
def test_entry_point(tmp_path: Path, text: str) -> None:
    """An entry point that leaves bin/, is called python, or is no module and function, is refused."""
    bad = Package(name="bad", noarch="python", entry_points=(text,))
    with pytest.raises(CondaError) as caught:
        read(tmp_path, bad)
    assert str(caught.value) == (
        f"bad-1.0-0.conda: info/link.json: the entry point {text!r}; expected name = module:name"
    )


def test_absolute_path(tmp_path: Path, site: Site) -> None:
    """A package that would make rattler end its process is refused before anything is linked."""
    assert refused(tmp_path, site, Package(name="bad", files={"ok": "x"}, info=listing("/opt/x"))) == (
        "bad-1.0-0.conda: info/paths.json: the path '/opt/x'; expected a path inside the prefix"
    )


def test_clash(tmp_path: Path, site: Site) -> None:
    """Two packages that own one path with different bytes are refused, naming both; alike, they share it."""
    one = Package(name="one", files={"share/x": "same"})
    two = Package(name="two", files={"share/x": "other"})
    assert refused(tmp_path, site, one, two) == (
        "share/x: one-1.0-0 and two-1.0-0 both hold it, with different bytes; expected each file from one package; "
        "try: leave one of them out of the profile"
    )
    shop = Shop(tmp_path)
    build(shop, site, python(), one, replace(two, files={"share/x": "same"}))
    assert (shop.env / "share/x").read_text() == "same"
    assert not (shop.env / "__clobbers__").exists()
    owners = [item.name for item in prefix.read(shop.env) for entry in item.entries if entry.path == "share/x"]
    assert owners == ["one", "two"]


def test_noarch_clash(tmp_path: Path, site: Site) -> None:
    """Where files will lie counts: an entry point of one package and a file of another clash."""
    other = Package(name="zother", files={"bin/hello": "#!/bin/sh\n"})
    assert refused(tmp_path, site, other).startswith("bin/hello: tool-2.0-0 and zother-1.0-0 both hold it")


def test_untrue_paths(tmp_path: Path, site: Site) -> None:
    """A package whose paths.json gives another hash than its file has is refused after all is linked."""
    entry = {"_path": "share/x", "path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1}
    info = {"info/paths.json": json.dumps({"paths": [entry], "paths_version": 1})}
    assert refused(tmp_path, site, Package(name="bad", files={"share/x": "x"}, info=info)) == (
        f"envs/conda-{PROFILE}: what was installed is not true: share/x: changed (bad 1.0); "
        "expected files that are what info/paths.json of their package says"
    )


@pytest.mark.parametrize(("key", "value"), [("name", "other"), ("version", "9"), ("build", "9")])
def test_other_package(tmp_path: Path, site: Site, key: str, value: str) -> None:
    """A package that is not what its name says, under a hash that is right, is refused."""
    bad = Package(name="bad", files={"share/x": "x"})
    bad = replace(bad, info={"info/index.json": json.dumps({**bad.index, key: value})})
    assert refused(tmp_path, site, bad) == (
        f"bad-1.0-0.conda: info/index.json: {key}: {value!r}; expected {getattr(bad, key)!r} as locked"
    )


def test_not_noarch(tmp_path: Path, site: Site) -> None:
    """A package that says noarch and lies under a platform is refused."""
    bad = Package(name="bad", files={"share/x": "x"})
    bad = replace(bad, info={"info/index.json": json.dumps({**bad.index, "noarch": "generic"})})
    assert refused(tmp_path, site, bad) == (
        "bad-1.0-0.conda: info/index.json: noarch is 'generic', and the package lies under linux-64/; "
        "expected noarch packages under noarch/ alone"
    )


def test_no_package(tmp_path: Path, site: Site) -> None:
    """Bytes that are no package, under a hash that is right, are refused in one line."""
    shop = Shop(tmp_path)
    bad = Package(name="bad")
    lock = locked(publish(site, [python(), bad]), [python(), bad])
    data = b"PK not a package"
    site.files[f"/demo/linux-64/{bad.filename}"] = data
    items = tuple(replace(item, sha256=Digest.of(data)) if item.name == "bad" else item for item in lock.all_packages)
    with pytest.raises(CondaError, match=r"^conda-demo-cpu: rattler: .*zip") as caught:
        shop.build(replace(lock, all_packages=items))
    assert "\n" not in str(caught.value)
    assert shop.left() == []


def test_long_prefix(tmp_path: Path, site: Site) -> None:
    """A folder whose path is longer than the placeholder of a binary is refused in rattler's words."""
    shop = Shop(tmp_path / ("x" * 200) / ("y" * 60))
    with pytest.raises(CondaError, match="target prefix cannot be longer than the placeholder prefix"):
        build(shop, site, *ALL)
    assert shop.left() == []


def test_crash_of_rattler(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that dies without an answer is an error with what it said, whatever its exit status."""
    monkeypatch.setattr("torchlock.conda.installation._CHILD", "import os; os.write(2, b'panicked at x\\n')")
    with pytest.raises(CondaError) as caught:
        build(Shop(tmp_path), site, *ALL)
    assert str(caught.value) == (
        f"conda-{PROFILE}: rattler ended before it was done, saying 'panicked at x'; "
        "expected an installed environment; try: the same command again"
    )


def test_bad_exit_of_rattler(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that dies by a signal after a good answer has done its work."""
    code = f"{installation._CHILD}; import os; os.abort()"
    monkeypatch.setattr("torchlock.conda.installation._CHILD", code)
    shop = Shop(tmp_path)
    build(shop, site, *ALL)
    assert shop.run("hello") == f"hello from {shop.env}"


class Swapping(PackageFetcher):
    """A fetcher behind whose back a package is replaced, once it was verified."""

    def fetch(self, wanted: Iterable[tuple[Artifact, str]]) -> dict[Artifact, Path]:
        """Fetch, and then replace the package `data`."""
        found = super().fetch(wanted)
        for artifact, path in found.items():
            if artifact.project == "data":
                path.chmod(0o644)
                path.write_bytes(pack(replace(DATA, files={"etc/data.conf": "evil\n"})))
        return found


def test_swapped_after_fetch(tmp_path: Path, site: Site) -> None:
    """The bytes that are unpacked are those that are hashed: a package that was replaced meanwhile is refused."""
    shop = Shop(tmp_path)
    swapping = Swapping(shop.store, Remote(shop.reporter, FAST), Mirrors(addresses={}), shop.reporter)
    with pytest.raises(CondaError, match=r"^data-1\.0-0\.conda: sha256:[0-9a-f]{64}; expected sha256:[0-9a-f]{64} as"):
        replace(shop.envs, fetcher=swapping).build(locked(publish(site, ALL), ALL), PLATFORM)
    assert shop.left() == []


def test_orphan(tmp_path: Path) -> None:
    """A child whose parent is gone ends at once, whatever it is at."""
    order = linking.Order(
        items=(),
        platform=PLATFORM,
        cache=str(tmp_path / "cache"),
        staging=str(tmp_path / "staging"),
        final=str(tmp_path / "final"),
        guard=str(tmp_path / "guard"),
        skip_scripts=False,
    )
    (tmp_path / "order.json").write_text(json.dumps(asdict(order)))
    scripts = str(Path(installation.__file__).parents[2])
    command = [sys.executable, "-c", installation._CHILD, scripts, "1", str(tmp_path / "order.json")]
    with exclusive(Path(order.guard), Silent()):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.5)
            assert child.stdin is not None
            child.stdin.close()
            assert child.wait(10) == -signal.SIGKILL
        finally:
            child.kill()
            child.wait()
