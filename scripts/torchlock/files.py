"""Publishing files: temporary in the same folder, fsync, rename, fsync the folder; and kernel file locks."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.reporter import Reporter

TEMPORARY = ".tmp-"


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a no-op where folders cannot be opened, as on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(staged: Path, final: Path) -> None:
    """Rename a finished file into place, durably: after a crash it is whole or absent."""
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    staged.replace(final)
    fsync_folder(final.parent)


def write_atomic(path: Path, data: bytes) -> bool:
    """Write a file whole or not at all; return False where it already held these bytes."""
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        publish(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def sweep(folder: Path) -> None:
    """Remove what a killed process left in a folder; call it only under that folder's lock."""
    for path in folder.glob(f"{TEMPORARY}*"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system has no links or is another one."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


@contextmanager
def exclusive(path: Path, reporter: Reporter) -> Iterator[None]:
    """Hold a kernel lock on a file: it dies with its process, and waiting for it is said once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        reporter.note(f"waiting for another torchlock that holds {path.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
