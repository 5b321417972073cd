"""The store: verified before it is published, verified before it is used, whole or absent."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from servers import Notes
from torchlock.digest import Digest
from torchlock.errors import StoreError
from torchlock.locks.lock import Artifact
from torchlock.storage.crew import StoppedError
from torchlock.storage.store import Store

CONTENT = b"the bytes of a wheel" * 1000
SCRIPTS = Path(__file__).parents[1] / "scripts"


def artifact(content: bytes = CONTENT, *, sized: bool = True) -> Artifact:
    """Name some bytes as a lock does."""
    return Artifact(
        project="demo",
        version="1",
        filename="demo-1-py3-none-any.whl",
        sha256=Digest.of(content),
        size=len(content) if sized else None,
        upload_time=None,
        index="pypi",
    )


@pytest.fixture
def notes() -> Notes:
    """Keep what is said."""
    return Notes()


@pytest.fixture
def store(tmp_path: Path, notes: Notes) -> Store:
    """Make an empty store."""
    return Store(tmp_path / "store", notes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write the artifact's bytes to a file."""
    path = tmp_path / "demo-1-py3-none-any.whl"
    path.write_bytes(CONTENT)
    return path


def tree(store: Store) -> list[str]:
    """List the store's files, without the kernel locks."""
    found = [path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()]
    return sorted(path for path in found if not path.endswith(".lock"))


def damage(path: Path, at: int = 5000) -> None:
    """Flip one bit of a read-only file, behind the store's back."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    path.chmod(0o444)


def python(code: str, *arguments: object, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in another process that imports torchlock and these helpers."""
    command = [*wrap, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    paths = os.pathsep.join([str(SCRIPTS), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_an_added_file_lies_under_its_digest_and_is_read_only(store: Store, source: Path) -> None:
    """An object is `wheels/<2 hex>/<sha256>`, mode 0444, and nothing else is left."""
    path = store.add(artifact(), source)
    hexed = Digest.of(CONTENT).hex
    assert tree(store) == [f"wheels/{hexed[:2]}/{hexed}"]
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert store.get(artifact()) == path
    assert not path.samefile(source)


def test_what_is_not_there_is_none(store: Store) -> None:
    """An empty store, even one without a folder, gives None and makes nothing."""
    assert store.get(artifact()) is None
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (CONTENT[:-1] + b"?", f"{Digest.of(CONTENT[:-1] + b'?')} (20000 bytes)"),
        (CONTENT[:-1], f"{Digest.of(CONTENT[:-1])} (19999 bytes)"),
        (CONTENT + b"!", "more than 20000 bytes"),
    ],
)
def test_a_file_with_other_bytes_is_refused(store: Store, source: Path, content: bytes, found: str) -> None:
    """FAULTS 14: the message names the file and both hashes; nothing is published or left."""
    source.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        store.add(artifact(), source)
    assert str(caught.value) == (
        f"{source}: {found}; expected {artifact().sha256} (20000 bytes) as locked; "
        "try: remove the file, or name another WHEELHOUSE="
    )
    assert tree(store) == []


def test_a_flipped_bit_is_found_before_use(store: Store, source: Path, notes: Notes) -> None:
    """FAULTS 36: a damaged object is set aside with a note and counts as missing; it can be added again."""
    path = store.add(artifact(), source)
    damage(path)
    hexed = artifact().sha256.hex
    found = Digest.of_file(path)
    assert store.get(artifact()) is None
    assert tree(store) == [f"bad/{hexed}.0"]
    assert notes.notes == [f"store: wheels/{hexed[:2]}/{hexed} is damaged: {found}; set aside as bad/{hexed}.0"]
    again = store.add(artifact(), source)
    damage(again)
    assert store.get(artifact()) is None
    assert tree(store) == [f"bad/{hexed}.0", f"bad/{hexed}.1"]


def test_without_verifying_the_bytes_are_not_read(store: Store, source: Path) -> None:
    """`get(verify=False)` tells only whether an object is there."""
    path = store.add(artifact(), source)
    damage(path)
    assert store.get(artifact(), verify=False) == path


def interrupted(store: Store, content: bytes) -> None:
    """Receive some bytes, and then Ctrl-C."""
    with store.receiving(artifact()) as received:
        received.write(content)
        raise KeyboardInterrupt


def test_a_partial_artifact_is_kept_and_gone_on_with(store: Store) -> None:
    """FAULTS 33: bytes received before an interruption are there, and hashed, the next time."""
    with pytest.raises(KeyboardInterrupt):
        interrupted(store, CONTENT[:7000])
    assert tree(store) == [f"partial/{artifact().sha256.hex}"]
    assert store.received(artifact()) == 7000
    with store.receiving(artifact()) as second:
        assert (second.size, second.whole) == (7000, False)
        second.write(CONTENT[7000:])
        assert second.whole
        path = store.publish(artifact(), second)
    assert path.read_bytes() == CONTENT
    assert store.received(artifact()) == len(CONTENT)


def test_a_partial_artifact_that_is_too_long_starts_again(store: Store) -> None:
    """What is longer than the lock says cannot become the artifact."""
    with store.receiving(artifact()) as first:
        first.write(CONTENT + b"!")
    with store.receiving(artifact()) as second:
        assert second.size == 0
    assert tree(store) == []


def test_wrong_bytes_are_never_published(store: Store) -> None:
    """`publish` checks for itself: of the right size is not enough."""
    with store.receiving(artifact()) as received:
        received.write(bytes(len(CONTENT)))
        with pytest.raises(StoreError, match=f"expected {artifact().sha256}"):
            store.publish(artifact(), received)
    assert store.get(artifact()) is None


def test_an_artifact_without_a_size_is_judged_by_its_hash(store: Store, source: Path) -> None:
    """A lock entry without a size accepts any length that has its sha256."""
    assert store.add(artifact(sized=False), source).read_bytes() == CONTENT


def test_a_crash_between_chmod_and_rename_is_mended(store: Store, source: Path) -> None:
    """FAULTS 33: a partial file that is read-only already is opened for writing again."""
    partial = store.root / "partial" / artifact().sha256.hex
    partial.parent.mkdir(parents=True)
    shutil.copyfile(source, partial)
    partial.chmod(0o444)
    with store.receiving(artifact()) as received:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o644
        assert received.whole
        store.publish(artifact(), received)
    assert store.get(artifact()) is not None


def test_one_receives_while_the_other_waits(store: Store, notes: Notes, source: Path) -> None:
    """FAULTS 37: a second receiver of the same artifact waits, says so, and finds it done."""
    seen: list[Path | None] = []

    def second() -> None:
        with store.receiving(artifact()):
            seen.append(store.get(artifact()))

    thread = threading.Thread(target=second)
    with store.receiving(artifact()) as received:
        thread.start()
        while not notes.notes:
            thread.join(0.001)
        assert not seen
        path = store.copy(artifact(), source, received)
    thread.join()
    assert seen == [path]
    assert notes.notes == [f"waiting for another torchlock that holds {artifact().sha256.hex}.lock"]


def test_nothing_is_obtained_after_a_stop(store: Store, source: Path) -> None:
    """What is here is given all the same; what is missing is not begun."""
    stop, item = threading.Event(), artifact()
    stop.set()
    with pytest.raises(StoppedError):
        store.obtain(item, stop, lambda received: store.copy(item, source, received))
    assert store.get(item) is None
    path = store.add(item, source)
    assert store.obtain(item, stop, lambda received: store.copy(item, source, received)) == path


def test_a_killed_process_holds_no_lock(store: Store) -> None:
    """FAULTS 37: kill -9 in the middle leaves the bytes and frees the lock."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from test_store import CONTENT, artifact
        from torchlock.storage.store import Store
        with Store(Path(sys.argv[1])).receiving(artifact()) as received:
            received.write(CONTENT[:1234])
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, store.root).returncode == -9
    with store.receiving(artifact()) as received:
        assert received.size == 1234


def test_no_room_is_refused_before_anything_is_written(store: Store) -> None:
    """FAULTS 35: the bytes needed and free are named, and the way to a larger disk."""
    with pytest.raises(StoreError) as caught:
        store.room(1 << 60)
    free = caught.value.found.split()[5]
    assert int(free) > 0
    assert str(caught.value) == (
        f"{store.root}: 1152921504606846976 bytes are needed and {free} are free; "
        "try: free some space, or TORCHLOCK_STORE=<a folder on a larger disk>"
    )
    store.room(0)


ADD = """
    import resource, sys
    from pathlib import Path
    from test_store import artifact, tree
    from torchlock.errors import StoreError
    from torchlock.storage.store import Store
    store = Store(Path(sys.argv[1]))
    held = []
    if sys.argv[3] == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
        try:
            while True:
                held.append(open("/dev/null"))
        except OSError:
            held.pop().close()
    try:
        store.add(artifact(), Path(sys.argv[2]))
    except StoreError as error:
        print(error)
    for file in held:
        file.close()
    print(store.get(artifact()), [path for path in tree(store) if not path.startswith("partial/")])
"""
MOUNT = 'mount -t tmpfs -o size=16k none "$1" && shift && exec "$@"'
READ_ONLY = 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"'


def _mounts() -> bool:
    """Tell whether this place lets a user mount for itself; CI must, so there a refusal fails the tests."""
    if not sys.platform.startswith("linux"):
        return False
    probe = ("unshare", "--mount", "--map-root-user", "true")
    return "CI" in os.environ or (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


needs_mounts = pytest.mark.skipif(not _mounts(), reason="not run: no file system can be mounted here (a container?)")


@needs_mounts
def test_a_full_disk_is_refused_and_poisons_nothing(tmp_path: Path, source: Path) -> None:
    """FAULTS 35: on a file system of 16 KB the refusal names the bytes; no object is there."""
    root = tmp_path / "small"
    root.mkdir()
    wrap = ("unshare", "--mount", "--map-root-user", "sh", "-ec", MOUNT, "sh", str(root))
    done = python(ADD, root, source, "", wrap=wrap)
    refusal = (
        f"{root}: No space left on device; 20000 bytes are needed and 0 are free; "
        "try: free some space, or TORCHLOCK_STORE=<a folder on a larger disk>"
    )
    assert done.stdout.splitlines() == [refusal, "None []"], done.stderr


@needs_mounts
def test_a_read_only_folder_is_refused(tmp_path: Path, source: Path) -> None:
    """FAULTS 35: a store that cannot be written says which variable names another."""
    root = tmp_path / "fixed"
    root.mkdir()
    wrap = ("unshare", "--mount", "--map-root-user", "sh", "-ec", READ_ONLY, "sh", str(root))
    done = python(ADD, root, source, "", wrap=wrap)
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{root}: Read-only file system; 20000 bytes are needed and "), done.stderr
    assert first.endswith("are free; try: TORCHLOCK_STORE=<a folder that can be written>")
    assert second == "None []"


def test_too_many_open_files_is_refused(tmp_path: Path, source: Path) -> None:
    """FAULTS 35: with one descriptor left the refusal names the limit to raise."""
    done = python(ADD, tmp_path / "store", source, "files")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path / 'store'}: Too many open files; 20000 bytes are needed"), done.stderr
    assert first.endswith("try: ulimit -n 1024")
    assert second == "None []"


def test_the_root_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCHLOCK_STORE names the folder; without it the user's cache folder is taken."""
    monkeypatch.setenv("TORCHLOCK_STORE", str(tmp_path / "mine"))
    assert Store().root == tmp_path / "mine"
    monkeypatch.setenv("TORCHLOCK_STORE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if sys.platform == "linux":
        assert Store().root == tmp_path / "cache" / "torchlock"


def test_an_object_is_the_same_whatever_the_umask(store: Store, source: Path) -> None:
    """FAULTS 40: mode 0444 does not depend on the umask."""
    before = os.umask(0o077)
    try:
        path = store.add(artifact(), source)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
