"""conda from end to end, over a small channel that is served on loopback: record, lock, install, run, drift."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

import channels
import recorded
import servers
from channels import FULL, PREFIX, RUNNING, Link, Package, pack, publish, python
from condas import Shop, locked
from e2e.project import ROOT, environment
from torchlock.conda import trial
from torchlock.conda.drift import drift
from torchlock.digest import Digest
from torchlock.files import remove
from torchlock.storage.store import Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from e2e.conftest import Built
    from servers import Site
    from torchlock.conda.document import Package as Locked

pytestmark = pytest.mark.e2e

LINE = f"""\
python: "{RUNNING}"
torch: "2.4.1"
numpy: "2.1.3"
conda:
  channels: [demo]
  virtual:
    linux-64: {{__unix: "0", __linux: "5.10", __glibc: "2.28", __archspec: 1 x86_64}}
variants:
  cpu:
    platforms: [linux-64]
    builds:
      linux-64: {{torch: "2.4.1+cpu", index: pytorch-cpu}}
    conda:
      platforms:
        linux-64: {{torch: {{channel: demo, build: cpu_*}}}}
"""
NUMPY = Package(
    name="numpy",
    version="2.1.3",
    build=f"py{RUNNING.replace('.', '')}h0_0",
    depends=(f"python {RUNNING}.*", "libdemo >=1.0"),
    files={f"lib/python{RUNNING}/site-packages/numpy.py": "__version__ = '2.1.3'\n"},
)
TORCH = Package(
    name="pytorch",
    version="2.4.1",
    build=f"cpu_py{RUNNING.replace('.', '')}h0_100",
    depends=("numpy >=2", "tool", "__glibc >=2.17"),
    constrains=("libdemo <2",),
    files={f"lib/python{RUNNING}/site-packages/torch.py": "__version__ = '2.4.1.post100'\n"},
)
LIBRARY = Package(
    name="libdemo",
    version="1.5",
    ending=".tar.bz2",
    files={
        "lib/libdemo.so.1": b"\x7fELF\0" + PREFIX.encode() + b"/share/demo\0end",
        "lib/libdemo.so": Link(target="libdemo.so.1"),
        "bin/demo-config": f"#!/bin/sh\necho {PREFIX}\n",
    },
)
TOOL = Package(
    name="tool",
    version="3.0",
    noarch="python",
    depends=("python >=3.10",),
    files={"site-packages/tool.py": "import torch, sys\ndef main():\n    print(torch.__version__, sys.prefix)\n"},
    entry_points=("tool = tool:main",),
)
DATA = Package(name="demo-data", noarch="generic", files={"share/demo/data": "42\n"})
# A newer library, which a solver must leave: torch says so in its `constrains`.
NEWER = replace(LIBRARY, version="2.0", files={"lib/libdemo.so.2": b"\x7fELF\0"})
ALL = (python(depends=("demo-data",)), NUMPY, TORCH, LIBRARY, NEWER, TOOL, DATA)

# One process a step, as a person types commands: rattler may die as its process ends, so that this one ends itself.
STEP = """
import argparse, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from torchlock.commands import conda, conda_env
from torchlock.console import Terminal
from torchlock.errors import TorchlockError
from torchlock.workspace import Settings, Workspace
root, given = Path(sys.argv[2]), dict(word.split("=", 1) for word in sys.argv[4:])
options = argparse.Namespace(profiles=[], profile="demo-cpu", require=None, json=True, **given)
settings = Settings(store=str(root / "store"), offline="offline" in given)
status = 0
with Terminal(quiet=False) as reporter:
    workspace = Workspace(root, settings, reporter)
    try:
        if sys.argv[3] == "build":
            profile = workspace.catalogue.find("demo-cpu").conda
            lock = conda_env.check_conda(workspace, profile)
            envs = conda_env.environments(workspace, options, profile, "linux-64")
            print(envs.build(lock, "linux-64"))
        else:
            status = {"update": conda.update_conda, "lock": conda.lock_conda, "drift": conda_env.drift_conda,
                "flavours": conda_env.compare_flavours}[sys.argv[3]](workspace, options)
    except TorchlockError as error:
        print(f"torchlock: {error}", file=sys.stderr)
        status = error.status
sys.stdout.flush(); sys.stderr.flush()
os._exit(status)
"""


DEMO = "https://conda.anaconda.org/demo"
TARGET = replace(
    recorded.TARGET,
    variant="cuda",
    python=RUNNING,
    torch="2.2.2",
    numpy="1.26.4",
    channel="demo",
    build="*",
    cuda="12.1",
    virtual={},
    where="environments/demo.yaml",
)


class Project:
    """A project with one line, whose conda channel is on loopback."""

    def __init__(self, root: Path, site: Site) -> None:
        self.root, self.site = root, site
        (root / "environments").mkdir()
        (root / "environments/demo.yaml").write_text(LINE)
        compat = (ROOT / "environments/compat.yaml").read_text()
        (root / "environments/compat.yaml").write_text(compat)
        defaults = (ROOT / "environments/defaults.yaml").read_text().replace("line: torch2.2", "line: demo")
        (root / "environments/defaults.yaml").write_text(defaults)
        publish(site, ALL)

    @property
    def env(self) -> Path:
        """Where the environment stands."""
        return self.root / "envs/conda-demo-cpu"

    @property
    def lock(self) -> Path:
        """The folder of the lock."""
        return self.root / "lockfiles/demo-cpu"

    def step(self, verb: str, *given: str, status: int = 0) -> str:
        """Run one command; return what it prints, on standard error where it must fail."""
        command = [sys.executable, "-c", STEP, str(ROOT / "scripts"), str(self.root), verb, *given]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        assert done.returncode == status, done.stderr
        return done.stderr if status == 1 and not done.stdout else done.stdout

    def run(self, *command: str) -> str:
        """Run a command of the environment."""
        path = self.env / "bin" / command[0]
        return subprocess.run([path, *command[1:]], capture_output=True, text=True, check=True, env={}).stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Give a project whose channel is recorded, whose lock is made by the real conda-lock, and whose env is built."""
    with servers.serving() as site:
        made = Project(tmp_path_factory.mktemp("conda"), site)
        made.step("update", f"channels={site.url}/")
        assert made.step("build").strip() == str(made.env)
        yield made


def test_locked(project: Project) -> None:
    """The lock has the packages that the profile asks for, by their real addresses, and the list beside it."""
    text = (project.lock / "conda-lock.yml").read_text()
    for package in (NUMPY, TORCH, LIBRARY, TOOL, DATA):
        assert f"url: {project.site.url}/demo/{package.place}/{package.filename}\n" in text
    assert NEWER.filename not in text
    listed = (project.lock / "conda-linux-64.lock").read_text().splitlines()
    assert listed[4] == "@EXPLICIT"
    assert len(listed) == 5 + 6
    assert all("#sha256:" in line for line in listed[5:])


def test_same_bytes(project: Project) -> None:
    """Locking again, without the network, writes the same bytes."""
    before = {path: path.read_bytes() for path in project.lock.rglob("*") if path.is_file()}
    project.step("lock", "offline=1")
    assert {path: path.read_bytes() for path in project.lock.rglob("*") if path.is_file()} == before


def test_runs(project: Project) -> None:
    """The environment's own commands run, and find its Python, its torch, and its own path in texts and binaries."""
    assert project.run("tool") == f"2.4.1.post100 {project.env}"
    assert project.run("demo-config") == str(project.env)
    assert project.run("python", "-c", "import platform; print(platform.python_version())") == FULL
    data = (project.env / "lib/libdemo.so").read_bytes()
    assert data.startswith(b"\x7fELF\0" + str(project.env).encode() + b"/share/demo\0")
    assert len(data) == len(LIBRARY.files["lib/libdemo.so.1"])  # type: ignore[arg-type]


def test_built_once(project: Project) -> None:
    """A second build finds all as it must be; one after `rm -rf envs` asks the channel for nothing."""
    asked = len(project.site.seen)
    before = project.env.stat().st_ino
    project.step("build")
    assert project.env.stat().st_ino == before
    project.env.rename(project.root / "gone")
    project.step("build", "offline=1")
    assert len(project.site.seen) == asked
    assert project.run("tool") == f"2.4.1.post100 {project.env}"


def test_drift(project: Project) -> None:
    """What was done to an environment is told, file by file, and building it again mends it."""
    assert json.loads(project.step("drift"))["drift"] is False
    (project.env / "share/demo/data").write_text("43\n")
    (project.env / f"lib/python{RUNNING}/site-packages/evil.py").touch()
    found = json.loads(project.step("drift", status=1))
    assert found["edited"] == ["share/demo/data: changed (demo-data 1.0)"]
    assert found["foreign"] == [f"lib/python{RUNNING}/site-packages/evil.py: of no package"]
    project.step("build")
    assert json.loads(project.step("drift"))["drift"] is False


def test_wrong_bytes(project: Project, tmp_path: Path) -> None:
    """A package that has other bytes than were recorded is refused, and the environment that was there stays."""
    address = f"/demo/linux-64/{NUMPY.filename}"
    good = project.site.files[address]
    evil = replace(NUMPY, files={f"lib/python{RUNNING}/site-packages/numpy.py": "__version__ = 'evil'\n"})
    project.site.files[address] = pack(evil)
    (project.root / "store").rename(tmp_path / "store")
    (project.env / "share/demo/data").write_text("so that it is built again\n")
    try:
        said = project.step("build", status=1)
    finally:
        project.site.files[address] = good
        (tmp_path / "store").rename(project.root / "store") if not (project.root / "store").exists() else None
    assert f"{project.site.url}{address}: " in said
    assert "as locked" in said
    assert project.run("tool") == f"2.4.1.post100 {project.env}"
    assert not list(project.root.glob("envs/.staging*"))
    project.step("build")
    assert json.loads(project.step("drift"))["drift"] is False


def test_replaced_in_channel(project: Project) -> None:
    """A channel that serves other bytes under a name that was recorded is refused when it is recorded again."""
    before = dict(project.site.files)
    publish(project.site, [replace(item, files={"share/other": "x"}) if item is DATA else item for item in ALL])
    try:
        said = project.step("update", f"channels={project.site.url}/", status=1)
    finally:
        project.site.files.update(before)
    assert f"demo/noarch: {DATA.filename}: has sha256:" in said


def test_tampered(project: Project) -> None:
    """A lock that was edited by hand is refused before anything is installed."""
    path = project.lock / "conda-lock.yml"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"libdemo: '>=1.0'", b"libdemo: '>=1.1'"))
    assert path.read_bytes() != before
    try:
        assert "torchlock-digest: edited by hand" in project.step("build", status=1)
    finally:
        path.write_bytes(before)


class Hashing(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.state = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read, and hash what was read."""
        block = self.file.read(size)
        self.state.update(block)
        return block


def repack(package: Package, members: Iterable[tuple[str, int, int, Callable[[], IO[bytes]]]], folder: Path) -> Path:
    """Write a `.conda` file of large members (path, size, mode, opener), none of which is held in memory."""
    stem, paths = package.filename.removesuffix(".conda"), []
    payload, out = folder / f"{stem}.tar.zst", folder / package.filename
    with zstd.open(payload, "wb", level=1) as packed, tarfile.open(fileobj=packed, mode="w|", bufsize=1 << 20) as file:
        for path, size, mode, opener in members:
            member = tarfile.TarInfo(path)
            member.size, member.mode = size, mode
            with opener() as opened:
                hashing = Hashing(opened)
                file.addfile(member, hashing)
            paths.append((path, size, hashing.state.hexdigest()))
    listed = [{"_path": path, "path_type": "hardlink", "sha256": hexed, "size_in_bytes": n} for path, n, hexed in paths]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
        archive.write(payload, f"pkg-{stem}.tar.zst")
        values = {"index": package.index, "paths": {"paths": listed, "paths_version": 1}}
        info = {f"info/{name}.json": json.dumps(value).encode() for name, value in values.items()}
        archive.writestr(f"info-{stem}.tar.zst", zstd.compress(channels.archive(info)))
    payload.unlink()
    return out


def of_wheel(wheel: Path) -> Iterator[tuple[str, int, int, Callable[[], IO[bytes]]]]:
    """Give the members of a wheel where conda packages have them."""
    site = f"lib/python{RUNNING}/site-packages"
    with zipfile.ZipFile(wheel) as file:
        for entry in file.infolist():
            head, _, rest = entry.filename.partition(".data/")
            kind, _, inner = rest.partition("/")
            places = {"purelib": f"{site}/{inner}", "platlib": f"{site}/{inner}", "scripts": f"bin/{inner}"}
            path = places.get(kind, inner) if rest and "/" not in head else f"{site}/{entry.filename}"
            if not entry.is_dir():
                mode = 0o755 if entry.external_attr >> 16 & 0o100 else 0o644
                yield path, entry.file_size, mode, lambda entry=entry: file.open(entry)  # type: ignore[misc]


def stored(shop: Shop, package: Package, path: Path) -> Locked:
    """Move a package into the store, and return it as a lock names it."""
    (item,) = locked(DEMO, [replace(package, files={})]).all_packages
    item = replace(item, sha256=Digest.of_file(path))
    target = shop.store.path(item.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return item


def test_real_torch(torch22: Built, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The wheels of torch 2.2.2 for CUDA, packed as conda packages, make an environment that passes the smoke."""
    folder = work / "conda"
    folder.mkdir()
    shop = Shop(folder, offline=True)
    store = Store(Path(torch22.clone.variables["STORE"]))
    lent = python()
    (folder / lent.filename).write_bytes(pack(lent))
    items = [stored(shop, lent, folder / lent.filename)]
    for artifact in torch22.clone.artifacts("torch2.2-cuda", "linux-64"):
        name = {"torch": "pytorch"}.get(artifact.project, artifact.project)
        package = Package(name=name, version=artifact.version, build="cuda121_0" if name == "pytorch" else "0")
        items.append(stored(shop, package, repack(package, of_wheel(store.path(artifact.sha256)), folder)))
    lock = replace(locked(DEMO, [lent]), all_packages=tuple(sorted(items, key=lambda item: item.name)))
    env = shop.build(lock)
    found = trial.run(env, lock, TARGET, trial.Wishes(), shop.reporter)
    assert found.status == "pass"
    assert "smoke passed" in capfd.readouterr().out
    assert not drift(env, lock, "linux-64", shop.reporter)
    remove(folder)  # 7 GB, which the tests after this one have better use for
