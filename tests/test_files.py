"""Files: whole or absent after a crash, durable before they are seen, and locks that die with their process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from servers import Notes
from torchlock import files

SCRIPTS = Path(files.__file__).parents[1]


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python that can import torchlock."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_is_written_is_durable_before_its_name_and_its_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced with all its bytes, then renamed, then its folder is synced."""
    events: list[tuple[str, object]] = []
    fsync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        kind = os.fstat(descriptor)
        events.append(("folder", kind.st_ino) if stat.S_ISDIR(kind.st_mode) else ("file", kind.st_size))
        fsync(descriptor)

    def renamed(self: Path, other: Path) -> Path:
        events.append(("rename", other.name))
        return rename(self, other)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    assert files.write_atomic(tmp_path / "lock", b"12345")
    assert events == [("file", 5), ("rename", "lock"), ("folder", tmp_path.stat().st_ino)]


def test_the_same_bytes_are_not_written_again(tmp_path: Path) -> None:
    """A file that already holds the bytes is left alone, and that is said."""
    path = tmp_path / "deep" / "file"
    assert files.write_atomic(path, b"one")
    before = path.stat()
    assert not files.write_atomic(path, b"one")
    assert path.stat() == before
    assert files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Published files are 0644 under any umask."""
    old = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before the rename keeps the old bytes and removes the temporary file."""
    path = tmp_path / "file"
    files.write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_killed_process_leaves_the_old_file_and_what_sweep_removes(tmp_path: Path) -> None:
    """Killed after the bytes and before the rename, the old file stays whole, and the rest is swept."""
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    code = "import os, signal, sys; from pathlib import Path; from torchlock import files\n"
    code += "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "files.write_atomic(Path(sys.argv[1]), b'new')"
    with child(code, str(path)) as process:
        assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    files.sweep(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_sweep_removes_folders_too_and_nothing_else(tmp_path: Path) -> None:
    """Only what begins as a temporary name is removed, whatever it is."""
    (tmp_path / ".tmp-folder" / "inner").mkdir(parents=True)
    (tmp_path / ".tmp-file").touch()
    (tmp_path / ".tmpx").touch()
    files.sweep(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == [".tmpx"]
    files.sweep(tmp_path / "absent")


def test_remove_does_not_follow_links(tmp_path: Path) -> None:
    """A link to a folder is removed, not the folder; what is not there is no error."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "link").symlink_to("folder")
    files.remove(tmp_path / "link")
    files.remove(tmp_path / "absent")
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["folder", "kept"]
    files.remove(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_linked_where_links_are_to_be_had(tmp_path: Path) -> None:
    """Both names are one file."""
    (tmp_path / "a").write_bytes(b"bytes")
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_a_file_is_copied_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Another file system, or one without links, gets a copy of the same bytes and mode."""

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a").write_bytes(b"bytes")
    (tmp_path / "a").chmod(0o755)
    monkeypatch.setattr(os, "link", refused)
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"bytes"
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755
    assert not (tmp_path / "a").samefile(tmp_path / "b")


def test_a_target_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    """A file in the way is an error, never copied over."""
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    """The lock is waited for while its holder lives, which is said once, and is free when it is killed."""
    path = tmp_path / "deep" / "lock"
    code = "import sys, time; from pathlib import Path; from torchlock import files, reporter\n"
    code += "with files.exclusive(Path(sys.argv[1]), reporter.Silent()): print('held', flush=True); time.sleep(60)"
    notes = Notes()
    with child(code, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        timer = threading.Timer(0.3, process.kill)
        timer.start()
        with files.exclusive(path, notes):
            assert process.wait() == -signal.SIGKILL
        timer.join()
    assert notes.notes == ["waiting for another torchlock that holds lock"]


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    """What is done under the lock by several threads never overlaps."""
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with files.exclusive(tmp_path / "lock", Notes()):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.01)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    """An error under the lock gives it back."""
    with pytest.raises(KeyError), files.exclusive(tmp_path / "lock", Notes()):
        raise KeyError
    notes = Notes()
    with files.exclusive(tmp_path / "lock", notes):
        assert notes.notes == []


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file system is told by the system's own error with the file's name, and nothing is left."""

    def read_only(*_: Any, **__: Any) -> tuple[int, str]:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "file"))

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    with pytest.raises(OSError, match="Read-only file system"):
        files.write_atomic(tmp_path / "file", b"")
    assert list(tmp_path.iterdir()) == []
