"""Trees: unpacked once whoever asks, whole or absent, and every damage to one is found."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import wheels
from torchlock import files
from torchlock.digest import Digest
from torchlock.errors import StoreError, WheelError
from torchlock.reporter import Silent
from torchlock.storage.trees import FILES, MANIFEST, Trees

INIT = "demo/__init__.py"
RECORD = "demo-1.0.dist-info/RECORD"
FILENAME = "demo-1.0-py3-none-any.whl"
SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclass(frozen=True)
class Artifact:
    """A wheel on disk."""

    filename: str
    sha256: Digest
    path: Path


def artifact(folder: Path, **wheel: object) -> Artifact:
    """Make a wheel, and what a lock says of it."""
    path = wheels.make(folder / "wheels", **wheel)  # type: ignore[arg-type]
    return Artifact(path.name, Digest.of_file(path), path)


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    """Make a wheel with a few files, one of them executable."""
    files = {INIT: "value = 1\n", "demo/a/b.py": "", "demo/big": bytes(1 << 20), "demo/run": "#!/bin/sh\n"}
    return artifact(tmp_path, files=files, modes={"demo/run": 0o755})


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """Give the trees of an empty store."""
    return Trees(tmp_path / "store", Silent())


def leftovers(trees: Trees) -> list[str]:
    """Return what lies beside the trees but should not."""
    return sorted(path.name for path in (trees.root / "trees").glob(".tmp-*"))


def test_ensure(trees: Trees, made: Artifact) -> None:
    """A wheel is unpacked under its digest, found again, and verified clean."""
    assert trees.get(made) is None
    tree = trees.ensure(made, made.path)
    assert tree == trees.get(made) == trees.root / "trees" / made.sha256.hex / "files"
    assert (tree / INIT).read_text() == "value = 1\n"
    assert trees.verify(made) == []
    assert trees.entries(made)[INIT].sha256 == Digest.of(b"value = 1\n")
    assert leftovers(trees) == []


def test_ensure_again(trees: Trees, made: Artifact) -> None:
    """What is there is not unpacked again: the wheel is not even opened."""
    tree = trees.ensure(made, made.path)
    assert trees.ensure(made, made.path.with_name("gone")) == tree


def test_the_name_is_the_artifacts(trees: Trees, made: Artifact) -> None:
    """The wheel is known by the artifact's name, wherever its bytes lie."""
    assert trees.ensure(made, made.path.rename(made.path.with_name(made.sha256.hex)))


def test_a_bad_wheel_leaves_nothing(trees: Trees, tmp_path: Path) -> None:
    """A wheel that breaks a rule in its last file is refused, and nothing of it stays."""
    bad = artifact(tmp_path, record={INIT: wheels.row(b"other 123\n")})
    with pytest.raises(WheelError, match="does not have the sha256 in RECORD"):
        trees.ensure(bad, bad.path)
    assert trees.get(bad) is None
    assert leftovers(trees) == []


@pytest.mark.parametrize("path", [INIT, "demo/a/b.py", "demo/big", RECORD])
def test_changed_bytes(trees: Trees, made: Artifact, path: str) -> None:
    """A changed byte is found in any file, RECORD too, though the size stays; a file cut short is."""
    tree = trees.ensure(made, made.path)
    data = (tree / path).read_bytes() or b"x"
    (tree / path).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert trees.verify(made) == [path]
    (tree / path).write_bytes(data[:-1] if len(data) > 1 else b"xy")
    assert trees.verify(made) == [path]


def test_other_damage(trees: Trees, made: Artifact) -> None:
    """What is missing, extra, no longer a plain file, or of another mode is found; all at once, sorted."""
    tree = trees.ensure(made, made.path)
    (tree / "demo/big").unlink()
    (tree / "demo/big").mkdir()
    (tree / "demo/big/inside").touch()
    (tree / INIT).rename(tree.parent / "moved")
    (tree / INIT).symlink_to(tree.parent / "moved")
    (tree / "demo/run").chmod(0o644)
    shutil.rmtree(tree / "demo/a")
    (tree / "extra").symlink_to("nowhere")
    assert trees.verify(made) == [INIT, "demo/a/b.py", "demo/big", "demo/big/inside", "demo/run", "extra"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": ["00", 1, 2]}', "\xff"])
def test_damaged_list(trees: Trees, made: Artifact, text: str) -> None:
    """A tree whose list of files is damaged or gone is damaged."""
    manifest = trees.ensure(made, made.path).parent / MANIFEST
    manifest.write_bytes(text.encode("latin-1"))
    assert trees.verify(made) == [MANIFEST]
    manifest.unlink()
    assert trees.verify(made) == [MANIFEST]
    assert trees.get(made) is None
    assert trees.ensure(made, made.path)
    assert trees.verify(made) == []


def test_changed_list(trees: Trees, made: Artifact) -> None:
    """A list that names one file less, or another digest, shows as a difference."""
    manifest = trees.ensure(made, made.path).parent / MANIFEST
    rows = json.loads(manifest.read_bytes())
    rows[INIT][0] = "0" * 64
    del rows["demo/big"]
    manifest.write_text(json.dumps(rows))
    assert trees.verify(made) == [INIT, "demo/big"]


def test_discard(trees: Trees, made: Artifact) -> None:
    """A damaged tree is removed and unpacked again; a sound one stays: another process has mended it."""
    tree = trees.ensure(made, made.path)
    trees.discard(made)
    assert trees.get(made) == tree
    (tree / INIT).write_text("value = 2\n")
    trees.discard(made)
    assert trees.get(made) is None
    trees.discard(made)
    trees.ensure(made, made.path)
    assert trees.verify(made) == []
    assert leftovers(trees) == []


def test_too_little_room(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with too little room is refused before anything is written, with the bytes needed and free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1, 999))
    with pytest.raises(StoreError, match=r"10\d{5} bytes are needed and 999 are free"):
        trees.ensure(made, made.path)
    assert leftovers(trees) == []


def test_disk_full(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full half way is a refusal, and nothing of the tree stays."""
    real, calls = os.chmod, []

    def full(path: str, mode: int) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(path, mode)

    monkeypatch.setattr(os, "chmod", full)
    with pytest.raises(StoreError, match=r"No space left on device; 10\d{5} bytes are needed and \d+ are free"):
        trees.ensure(made, made.path)
    assert leftovers(trees) == []


def test_unreadable_is_not_damaged(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files say nothing about a tree: verification refuses instead of calling it damaged."""
    trees.ensure(made, made.path)

    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="Too many open files"):
        trees.verify(made)


def test_threads(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads that want one tree unpack it once."""
    count = []
    real = Trees._unpack

    def unpack(*given: Any) -> Path:
        count.append(given)
        return real(*given)

    monkeypatch.setattr(Trees, "_unpack", unpack)
    with ThreadPoolExecutor(8) as pool:
        found = {job.result() for job in [pool.submit(trees.ensure, made, made.path) for _ in range(8)]}
    assert (len(found), len(count)) == (1, 1)


PROGRAM = """
import pathlib, sys, types
from torchlock.storage import trees
from torchlock.wheels import wheel
from torchlock.digest import Digest
from torchlock.reporter import Silent

real = wheel.Wheel.unpack
def unpack(*given):
    print("unpacked", flush=True)
    return real(*given)
wheel.Wheel.unpack = unpack
path = pathlib.Path(sys.argv[2])
made = types.SimpleNamespace(filename=path.name, sha256=Digest(sys.argv[3]))
store = trees.Trees(pathlib.Path(sys.argv[1]), Silent())
assert store.verify(made) in ([], ["manifest.json"]), store.verify(made)
store.ensure(made, path)
assert store.verify(made) == []
"""


def start(trees: Trees, made: Artifact) -> subprocess.Popen[bytes]:
    """Start a process that wants a tree, and prints a line when it unpacks it."""
    command = [sys.executable, "-c", PROGRAM, str(trees.root), str(made.path), made.sha256.hex]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, stdout=subprocess.PIPE)


def test_processes(trees: Trees, made: Artifact) -> None:
    """Eight processes that want one tree unpack it once."""
    running = [start(trees, made) for _ in range(8)]
    output = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 8
    assert b"".join(output) == b"unpacked\n"


def test_kill(trees: Trees, tmp_path: Path) -> None:
    """A process killed at any moment leaves no half tree, and the same again succeeds."""
    made = artifact(tmp_path, files={f"demo/{number}.py": bytes(100_000) for number in range(300)})
    for delay in (0.0, 0.004, 0.008, 0.016, 0.032, 0.064):
        process = start(trees, made)
        assert process.stdout is not None
        assert process.stdout.readline() == b"unpacked\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if trees.get(made) is not None:
            assert trees.verify(made) == []
            (trees.get(made) or tmp_path).joinpath("demo/1.py").write_bytes(b"")
            trees.discard(made)
    trees.ensure(made, made.path)
    assert trees.verify(made) == []
    assert leftovers(trees) == []


def test_killed_while_discarding(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while it removes a tree leaves no half tree under the tree's name."""
    tree = trees.ensure(made, made.path)
    (tree / INIT).write_text("value = 2\n")
    monkeypatch.setattr(files, "remove", lambda _: None)
    trees.discard(made)
    monkeypatch.undo()
    assert trees.get(made) is None
    assert leftovers(trees) == [f".tmp-{made.sha256.hex}"]
    trees.ensure(made, made.path)
    assert trees.verify(made) == []
    assert leftovers(trees) == []


@pytest.mark.parametrize("syncfs", [True, False])
def test_flushed_before_published(trees: Trees, made: Artifact, monkeypatch: pytest.MonkeyPatch, syncfs: bool) -> None:
    """The files are made durable while the tree is still in staging, also where there is no `syncfs`."""
    seen = []

    def flush(*_: object) -> int:
        seen.append((leftovers(trees), trees.get(made)))
        return 0

    library = type("Library", (), {"syncfs": staticmethod(flush)} if syncfs else {})
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(os, "sync", flush)
    trees.ensure(made, made.path)
    assert seen == [([f".tmp-{made.sha256.hex}"], None)]


def test_same_bytes(tmp_path: Path, made: Artifact) -> None:
    """The list of a tree's files is the same bytes wherever it is written."""
    found = set()
    for name in ("a", "b"):
        tree = Trees(tmp_path / name, Silent()).ensure(made, made.path)
        assert sorted(path.name for path in tree.parent.iterdir()) == [FILES, MANIFEST]
        found.add((tree.parent / MANIFEST).read_bytes())
    assert len(found) == 1
