"""Environments: built in staging, swapped in whole, found out when they are altered, and safe to interrupt."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import uv

import wheels
from torchlock.digest import Digest
from torchlock.environment import env, manifest
from torchlock.errors import EnvError
from torchlock.platforms import PLATFORMS
from workshop import PROFILE, RUNNING, Workshop, child

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY = "[console_scripts]\nhello = tool:main\n"
TOOL = {
    "tool.py": "import sys\ndef main():\n    print('hello from', sys.prefix)\n",
    "tool-1.0.dist-info/entry_points.txt": ENTRY,
}
BASE: dict[str, str | bytes] = {"base/__init__.py": "value = 1\n", "base/data.bin": bytes(range(256)) * 64}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Give a workshop with two wheels in it."""
    made = Workshop(tmp_path)
    made.add("tool", TOOL)
    made.add("base", BASE)
    return made


def test_works(shop: Workshop) -> None:
    """The environment imports its packages, runs its commands, and says who installed it."""
    assert shop.build() == shop.env
    assert shop.python("import base, sys; print(base.value, sys.prefix)") == f"1 {shop.env}"
    assert shop.run("hello") == f"hello from {shop.env}"
    code = "import importlib.metadata as m; print(m.version('tool'), m.distribution('base').read_text('INSTALLER'))"
    assert shop.python(code) == "1.0 torchlock"
    assert shop.left() == [PROFILE]


def test_activate(shop: Workshop) -> None:
    """The activate script leads to the environment where it stands, not to where it was staged."""
    shop.build()
    line = f". {shop.env}/bin/activate && command -v python && command -v hello"
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [f"{shop.env}/bin/python", f"{shop.env}/bin/hello"]


def test_linked(shop: Workshop) -> None:
    """Files are hard links into the tree of their wheel."""
    shop.build()
    artifact = next(item for item in shop.lock().artifacts if item.project == "base")
    tree = shop.trees.get(artifact)
    assert tree is not None
    assert (shop.site / "base/data.bin").samefile(tree / "base/data.bin")


def test_record(shop: Workshop) -> None:
    """The installed RECORDs are true for every file, the generated ones included."""
    shop.build()
    rows = (shop.site / "tool-1.0.dist-info/RECORD").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == [
        "../../../bin/hello",
        "tool-1.0.dist-info/INSTALLER",
        "tool-1.0.dist-info/METADATA",
        "tool-1.0.dist-info/RECORD",
        "tool-1.0.dist-info/WHEEL",
        "tool-1.0.dist-info/entry_points.txt",
        "tool.py",
    ]
    assert rows[0] == f"../../../bin/hello,{wheels.row((shop.env / 'bin/hello').read_bytes())}"


def test_manifest(shop: Workshop) -> None:
    """The manifest binds the environment to its lock, and is the same on every build."""
    lock = shop.lock()
    shop.build()
    first = (shop.env / "torchlock.json").read_bytes()
    known = manifest.read(shop.env)
    assert (known.profile, known.platform, known.lock) == (PROFILE, lock.platform, str(lock.digest()))
    assert known.python == shop.interpreter.version
    record = shop.site / "base-1.0.dist-info/RECORD"
    assert known.records["base-1.0.dist-info"] == str(Digest.of_file(record))
    assert str(shop.root).encode() not in first
    shutil.rmtree(shop.env)
    shop.build()
    assert (shop.env / "torchlock.json").read_bytes() == first


def test_again(shop: Workshop) -> None:
    """A second build verifies, fetches nothing, and leaves the environment as it is."""
    shop.build()
    before = shop.env.stat().st_ino
    shop.build()
    assert shop.env.stat().st_ino == before
    assert sorted(shop.fetcher.asked) == ["base", "tool"]
    assert shop.reporter.notes == [f"envs/{PROFILE} is already that of its lock"]


def test_warm(shop: Workshop) -> None:
    """An environment that was removed is built from the trees, without fetching."""
    shop.build()
    shutil.rmtree(shop.env)
    shop.build()
    assert sorted(shop.fetcher.asked) == ["base", "tool"]


def test_other_lock(shop: Workshop) -> None:
    """Another lock replaces the environment whole: what only the old one had is gone."""
    shop.build()
    shop.add("base", {"base/__init__.py": "value = 2\n"}, version="2.0")
    shop.build()
    assert shop.python("import base; print(base.value)") == "2"
    assert not (shop.site / "base/data.bin").exists()
    assert not (shop.site / "base-1.0.dist-info").exists()
    assert shop.left() == [PROFILE]
    assert shop.reporter.notes == [f"envs/{PROFILE} is built anew: it was built from another lock"]


def test_byte_code(shop: Workshop) -> None:
    """Byte code that Python wrote is no difference."""
    shop.build()
    shop.python("import base")
    assert list(shop.site.glob("base/__pycache__/*.pyc"))
    assert shop.envs.current(shop.lock())


def test_upgraded_by_hand(shop: Workshop) -> None:
    """A package that was upgraded by hand is found though it is sound in itself, and the lock's comes back."""
    shop.build()
    other = wheels.make(shop.root / "elsewhere", {"base/__init__.py": "value = 9\n"}, name="base", version="9.0")
    command = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-config", "--no-cache", "-q"]
    subprocess.run([*command, "--python", shop.env / "bin/python", other], check=True)
    assert shop.python("import base; print(base.value)") == "9"
    site = shop.site.relative_to(shop.env).as_posix()
    issues = shop.envs.differences(shop.lock())
    expected = [f"{site}/base-1.0.dist-info/RECORD: changed or missing", "base: not from the lock"]
    assert issues == [*expected, "base-9.0.dist-info: not from the lock"]
    shop.build()
    assert shop.python("import base; print(base.value)") == "1"
    assert shop.reporter.notes == [f"envs/{PROFILE} is built anew: {issues[0]} (and 2 more)"]


def replaced(path: Path, data: bytes) -> None:
    """Give a file other bytes without reaching through its hard link."""
    path.unlink()
    path.write_bytes(data)


def linked(path: Path, elsewhere: Path) -> None:
    """Move a file away and leave a symbolic link to it."""
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def piped(path: Path) -> None:
    """Put a pipe, which nobody writes to, in the place of a file."""
    path.unlink()
    os.mkfifo(path)


class Harm(NamedTuple):
    """Something done to an environment, and what is said of it."""

    do: Callable[[Workshop], object]
    issue: str


HARM = {
    "bytes": Harm(lambda s: replaced(s.site / "base/__init__.py", b"value = 7\n"), "{site}/base/__init__.py: changed"),
    "size": Harm(lambda s: replaced(s.site / "base/__init__.py", b""), "{site}/base/__init__.py: changed"),
    "missing": Harm(lambda s: (s.site / "base/data.bin").unlink(), "{site}/base/data.bin: missing"),
    "foreign": Harm(lambda s: (s.site / "evil.pth").write_text("x"), "evil.pth: not from the lock"),
    "foreign inside": Harm(lambda s: (s.site / "base/x.so").write_bytes(b""), "base: not from the lock"),
    "foreign link": Harm(lambda s: (s.site / "more").symlink_to("/usr"), "more: not from the lock"),
    "script": Harm(lambda s: replaced(s.env / "bin/hello", b"#!/bin/sh\n"), "bin/hello: changed"),
    "record": Harm(
        lambda s: replaced(s.site / "tool-1.0.dist-info/RECORD", b"tool.py,,\n"),
        "{site}/tool-1.0.dist-info/RECORD: changed or missing",
    ),
    "settings": Harm(lambda s: replaced(s.env / "pyvenv.cfg", b"home = /usr/bin\n"), "pyvenv.cfg: changed or missing"),
    "linked file": Harm(
        lambda s: linked(s.site / "tool.py", s.root / "x"),
        "{site}/tool.py: changed",
    ),
    "pipe": Harm(lambda s: piped(s.site / "tool.py"), "{site}/tool.py: changed"),
    "interpreter": Harm(
        lambda s: (s.env / "bin/python").unlink(), "bin/python: cannot be run: No such file or directory"
    ),
    "manifest": Harm(lambda s: replaced(s.env / "torchlock.json", b"[]"), "torchlock.json: not the keys of a manifest"),
    "no manifest": Harm(
        lambda s: (s.env / "torchlock.json").unlink(),
        "torchlock.json: there is none: torchlock did not build this environment",
    ),
}


@pytest.mark.parametrize("name", HARM)
def test_altered(shop: Workshop, name: str) -> None:
    """Whatever was altered is named, and the next build mends it."""
    shop.build()
    HARM[name].do(shop)
    issue = HARM[name].issue.format(site=shop.site.relative_to(shop.env).as_posix())
    assert issue in shop.envs.differences(shop.lock())
    shop.build()
    assert shop.envs.current(shop.lock())
    assert shop.run("hello") == f"hello from {shop.env}"


def test_verify(shop: Workshop) -> None:
    """An environment can be verified without its lock."""
    shop.build()
    assert env.verify(shop.env, shop.reporter) == []
    (shop.site / "evil.py").touch()
    assert env.verify(shop.env, shop.reporter) == ["evil.py: not from the lock"]


def test_moved(shop: Workshop) -> None:
    """An environment that was moved is built anew: its commands would start the interpreter of another."""
    shop.build()
    moved = Workshop(shop.root.rename(shop.root.with_name("moved")))
    assert moved.envs.differences(moved.lock()) == [f"{PROFILE}: the environment was moved"]
    moved.build()
    assert moved.run("hello") == f"hello from {moved.env}"


def test_other_python(shop: Workshop) -> None:
    """An environment of another patch release of Python than the chosen one is not current."""
    shop.build()
    found = shop.interpreter.version
    wanted = replace(shop.interpreter, version=f"{RUNNING}.99")
    assert shop.envs.differences(shop.lock(), wanted) == [f"its Python is {found}, not {RUNNING}.99"]


def test_other_platform(shop: Workshop) -> None:
    """A lock of another platform than the interpreter's is refused with the reason."""
    other = replace(shop.interpreter, platform=PLATFORMS["osx-arm64"])
    with pytest.raises(EnvError) as refused:
        shop.envs.build(shop.lock(), other)
    here = shop.interpreter.platform.name
    assert str(refused.value) == (
        f"the environment of {PROFILE}: its lock is for {here}, and {sys.executable} runs on osx-arm64; "
        f"expected a Python of {here}: wheels run only where they were built for; "
        f"try: build it on a machine of {here}, or choose another variant"
    )


def test_other_minor(shop: Workshop) -> None:
    """An interpreter of another version than the lock's is refused."""
    with pytest.raises(EnvError) as refused:
        shop.envs.build(shop.lock(), replace(shop.interpreter, version="3.99.1"))
    assert refused.value.found == f"its lock is for Python {RUNNING}, and {sys.executable} is 3.99.1"
    assert not shop.envs.root.exists()


def test_damaged_tree(shop: Workshop) -> None:
    """A tree with a flipped bit is found before it is used, and its wheel is unpacked again."""
    shop.build()
    with (shop.site / "base/data.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    issues = shop.envs.differences(shop.lock())
    assert issues == [f"{shop.site.relative_to(shop.env)}/base/data.bin: changed"]
    shop.build()
    assert (shop.site / "base/data.bin").read_bytes() == BASE["base/data.bin"]
    assert shop.fetcher.asked[2:] == ["base"]
    assert "base-1.0-py3-none-any.whl: its files in the store are damaged: " in shop.reporter.notes[1]


def test_clash(shop: Workshop) -> None:
    """Two wheels that own one path with different bytes are refused, both named, and the old environment stays."""
    shop.build()
    before = shop.env.stat().st_ino
    shop.add("other", {"base/__init__.py": "value = 3\n"})
    with pytest.raises(EnvError) as refused:
        shop.build()
    assert str(refused.value) == (
        f"{shop.site.relative_to(shop.env)}/base/__init__.py: base 1.0 and other 1.0 both own it, "
        "with different bytes; expected one owner for each path; try: take one of the two out of the profile"
    )
    assert shop.env.stat().st_ino == before
    assert shop.left() == [PROFILE]


def test_base_clash(shop: Workshop) -> None:
    """A wheel that would replace a file of the virtual environment itself is refused."""
    shop.add("other", {"other-1.0.data/data/CACHEDIR.TAG": "other\n"})
    with pytest.raises(EnvError, match=r"CACHEDIR\.TAG: the virtual environment and other 1\.0 both own it"):
        shop.build()
    assert shop.left() == []


def test_shared(shop: Workshop) -> None:
    """Two wheels may own one path with the same bytes, as the NVIDIA wheels do."""
    shop.add("other", {"base/__init__.py": "value = 1\n", "base/more.py": ""})
    shop.build()
    assert shop.envs.current(shop.lock())


def test_settings(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user set for Python and uv does not reach the environment."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("UV_VENV_SEED", "1")
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    monkeypatch.setenv("VIRTUAL_ENV", "/nowhere")
    shop.build()
    assert shop.envs.current(shop.lock())
    assert {path.name for path in shop.site.glob("*.dist-info")} == {"base-1.0.dist-info", "tool-1.0.dist-info"}


def test_space_in_path(tmp_path: Path) -> None:
    """Commands run from a path with a space in it."""
    shop = Workshop(tmp_path / "a folder")
    shop.add("tool", {**TOOL, "tool-1.0.data/scripts/plain": "#!python\nimport sys; print(sys.prefix)\n"})
    shop.build()
    assert shop.run("hello") == f"hello from {shop.env}"
    assert shop.run("plain") == str(shop.env)


def test_other_file_system(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be linked they are copied, with the same result."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    shop.build()
    assert (shop.site / "base/data.bin").stat().st_nlink == 1
    assert shop.envs.current(shop.lock())
    assert shop.run("hello") == f"hello from {shop.env}"


def test_damaged_copy(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is not what was copied is found before the environment is swapped in."""
    monkeypatch.setattr("torchlock.environment.placement._link", lambda _, target: bool(Path(target).write_bytes(b"")))
    with pytest.raises(EnvError, match=r"the copied files are damaged: .*METADATA: changed \(and 7 more\)"):
        shop.build()
    assert shop.left() == []


def test_no_room(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too small a disk is refused before anything is fetched, with the bytes needed and free."""
    size = sum(int(env.UNPACKED * item.size) + item.size for item in shop.lock().artifacts if item.size)
    usage = shutil.disk_usage(shop.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EnvError) as refused:
        shop.build()
    assert (refused.value.found, refused.value.expected) == ("1,000 bytes are free", f"{size:,} bytes")
    assert shop.fetcher.asked == []


def test_disk_full(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while files are written is one line, and the old environment stays."""
    shop.build()
    shop.add("more", {"more.py": ""})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")

    monkeypatch.setattr("torchlock.environment.env.carry_out", full)
    with pytest.raises(
        EnvError, match=rf"envs/{PROFILE}: No space left on device: some/file \([0-9,]+ bytes are free\)"
    ):
        shop.build()
    assert shop.left() == [PROFILE]
    assert shop.run("hello") == f"hello from {shop.env}"


def test_no_folder(shop: Workshop) -> None:
    """A folder of environments that cannot be made is one line."""
    shop.envs.root.write_text("a file")
    with pytest.raises(EnvError, match=f"envs/{PROFILE}: File exists: "):
        shop.build()


KILLED = {
    "before the virtual environment": "env._make_virtual = die",
    "before the files": "env.carry_out = die",
    "between the files": "import torchlock.environment.placement as p; p._link = lambda *_: die()",
    "before the manifest": "env.Manifest.write = die",
    "before the swap": "env.swap = die",
    "with the old one moved aside": "env.files.fsync_folder = die; Path.rename = half",
    "after the swap": "env.files.fsync_folder = die",
    "before the old one is gone": "env.files.remove = late",
}
DIE = """
import os, signal
from torchlock.environment import env
rename = Path.rename
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def late(path): die() if path.name.startswith('.old') and path.exists() else 0
def half(path, target): die() if path.name.startswith('.staging') else rename(path, target)
"""


@pytest.mark.parametrize("moment", KILLED)
def test_killed(shop: Workshop, moment: str) -> None:
    """Killed at any moment, the same command again succeeds and leaves nothing behind."""
    shop.build()
    shop.add("more", {"more.py": ""})
    killed = child(shop.root, f"{DIE}{KILLED[moment]}\nshop.build()")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    Workshop(shop.root).build()
    assert shop.envs.current(shop.lock())
    assert shop.left() == [PROFILE]
    assert shop.run("hello") == f"hello from {shop.env}"


def test_moved_aside(shop: Workshop) -> None:
    """An old environment that was moved aside when the process died comes back, even if the new one is refused."""
    shop.build()
    inode = shop.env.stat().st_ino
    shop.env.rename(shop.envs.root / f".old-{PROFILE}")
    shop.add("other", {"base/__init__.py": "value = 3\n"})
    with pytest.raises(EnvError, match="both own it"):
        shop.build()
    assert shop.env.stat().st_ino == inode
    assert shop.left() == [PROFILE]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(shop: Workshop, number: signal.Signals, status: int) -> None:
    """An interrupted build sweeps its staging and leaves the old environment as it was."""
    shop.build()
    inode = shop.env.stat().st_ino
    shop.add("more", {"more.py": ""})
    code = f"""
import signal, time
from torchlock.environment import env
def stop(*_): raise SystemExit({status})
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, stop)
def wait(plan, prefix):
    (prefix / "half").touch()
    print("ready", flush=True)
    time.sleep(60)
env.carry_out = wait
shop.build()
"""
    process = child(shop.root, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert shop.left() == [f".staging-{PROFILE}", PROFILE]
    process.send_signal(number)
    process.communicate()
    assert process.returncode == status
    assert shop.left() == [PROFILE]
    assert shop.env.stat().st_ino == inode


def test_eight(shop: Workshop) -> None:
    """Eight processes that build the same end with one environment, built once."""
    code = "shop.build(); print(len([n for n in shop.reporter.notes if 'already that of its lock' in n]))"
    processes = [child(shop.root, code) for _ in range(8)]
    answers = [process.communicate() for process in processes]
    assert sorted(answers) == [("0\n", ""), *[("1\n", "")] * 7]
    assert shop.envs.current(shop.lock())
    assert shop.left() == [PROFILE]


def test_dead_holder(shop: Workshop) -> None:
    """A process that died while it held the kernel lock holds nothing up."""
    killed = child(
        shop.root,
        f"{DIE}env._make_virtual = lambda *_: (print('in', flush=True), __import__('time').sleep(60))\nshop.build()",
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "in\n"
    killed.kill()
    killed.communicate()
    before = time.monotonic()
    shop.build()
    assert time.monotonic() - before < 10
