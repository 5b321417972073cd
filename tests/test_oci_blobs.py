"""Blobs: verified before they are published, verified before they are used, whole or absent."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from servers import Notes
from torchlock.digest import Digest
from torchlock.errors import ImageError, StoreError
from torchlock.oci.blobs import Blobs, Content
from torchlock.oci.descriptor import LAYER_GZIP

DATA = b"some layer" * 5000
CONTENT = Content.of(DATA)
SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def notes() -> Notes:
    """Keep what is said."""
    return Notes()


@pytest.fixture
def blobs(tmp_path: Path, notes: Notes) -> Blobs:
    """Make an empty folder of blobs."""
    return Blobs(tmp_path / "blobs", notes)


def tree(blobs: Blobs) -> list[str]:
    """List the files, without the kernel locks."""
    found = (path for path in blobs.root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(blobs.root).as_posix() for path in found)


def write(blobs: Blobs, data: bytes, expected: Content | None = None, *, hashing: bool = True) -> None:
    """Write bytes and commit them."""
    with blobs.writing(hashing=hashing) as sink:
        sink.write(data)
        sink.commit(expected)


def test_bytes_lie_under_their_digest_and_read_only(blobs: Blobs) -> None:
    """As an OCI layout has them, so that a layout is made by links."""
    assert blobs.add_bytes(DATA) == CONTENT
    path = blobs.get(CONTENT)
    assert path == blobs.root / "sha256" / CONTENT.digest.hex
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert tree(blobs) == [f"sha256/{CONTENT.digest.hex}"]
    assert blobs.read(CONTENT.descriptor(LAYER_GZIP)) == DATA


def test_what_is_written_learns_its_digest(blobs: Blobs) -> None:
    """Piece by piece, and a blob when it is committed."""
    with blobs.writing() as sink:
        for start in range(0, len(DATA), 777):
            sink.write(DATA[start : start + 777])
        assert (sink.digest, sink.size) == (CONTENT.digest, CONTENT.size)
        assert sink.commit() == CONTENT
    assert blobs.get(CONTENT) is not None


def test_other_bytes_than_expected_are_no_blob(blobs: Blobs) -> None:
    """The refusal names both, and nothing is left."""
    with pytest.raises(ImageError) as caught:
        write(blobs, b"other", CONTENT)
    other = Digest.of(b"other")
    assert str(caught.value) == (
        f"a blob that was written: {other} (5 bytes); expected {CONTENT.digest} ({CONTENT.size} bytes)"
    )
    assert tree(blobs) == []


def test_a_writer_that_hashed_the_bytes_itself_is_believed_but_for_the_size(blobs: Blobs) -> None:
    """Hashing twice would cost as much as writing."""
    with blobs.writing(hashing=False) as sink:
        sink.write(DATA)
        assert sink.commit(CONTENT) == CONTENT
    with pytest.raises(ImageError, match="a blob that was written"):
        write(blobs, DATA[:-1], CONTENT, hashing=False)
    with pytest.raises(ValueError, match="does not hash"), blobs.writing(hashing=False) as sink:
        sink.commit()


def test_a_damaged_blob_is_set_aside_before_use(blobs: Blobs, notes: Notes) -> None:
    """It is not there any more, and the bytes are kept to be looked at."""
    blobs.add_bytes(DATA)
    path = blobs.path(CONTENT.digest)
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")
    assert blobs.get(CONTENT) is None
    assert tree(blobs) == [f"bad/{CONTENT.digest.hex}.0"]
    assert notes.notes == [
        (
            f"store: sha256/{CONTENT.digest.hex} is damaged: {Digest.of(DATA[:-1] + b'!')}; "
            f"set aside as bad/{CONTENT.digest.hex}.0"
        )
    ]


def test_a_truncated_blob_is_seen_without_reading_it(blobs: Blobs) -> None:
    """The size is looked at in any case."""
    blobs.add_bytes(DATA)
    path = blobs.path(CONTENT.digest)
    path.chmod(0o644)
    path.write_bytes(DATA[:-1])
    assert blobs.get(CONTENT, verify=False) is None
    assert tree(blobs) == [f"bad/{CONTENT.digest.hex}.0"]


@pytest.mark.parametrize("verify", [True, False])
def test_a_descriptor_with_another_size_is_refused(blobs: Blobs, verify: bool) -> None:
    """The blob is sound and stays; it is the descriptor that lies."""
    blobs.add_bytes(DATA)
    with pytest.raises(ImageError) as caught:
        blobs.get(Content(digest=CONTENT.digest, size=3), verify=verify)
    assert str(caught.value) == f"a descriptor of {CONTENT.digest}: 3 bytes; expected {CONTENT.size} bytes"
    assert blobs.get(CONTENT) is not None


def test_what_is_absent_is_refused_by_name(blobs: Blobs) -> None:
    """Reading says which blob."""
    with pytest.raises(ImageError) as caught:
        blobs.read(CONTENT)
    assert str(caught.value) == (
        f"{blobs.root}: {CONTENT.digest} is not there; expected a blob of {CONTENT.size} bytes"
    )


def test_an_interrupted_reception_is_resumed(blobs: Blobs) -> None:
    """What had come is kept and hashed anew."""
    with blobs.receiving(CONTENT) as partial:
        partial.write(DATA[:1000])
    assert blobs.received(CONTENT) == 1000
    with blobs.receiving(CONTENT) as partial:
        assert partial.size == 1000
        partial.write(DATA[1000:])
        assert partial.whole
        blobs.publish(CONTENT, partial)
    assert blobs.get(CONTENT) is not None
    assert tree(blobs) == [f"sha256/{CONTENT.digest.hex}"]


def test_threads_that_write_the_same_make_one_blob(blobs: Blobs) -> None:
    """The last one replaces the same bytes; nobody fails and nothing is left over."""
    failures = []

    def work() -> None:
        try:
            for _ in range(5):
                with blobs.writing() as sink:
                    sink.write(DATA)
                    sink.commit()
        except BaseException as error:  # noqa: BLE001 - told to the thread that asserts
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert tree(blobs) == [f"sha256/{CONTENT.digest.hex}"]


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is of POSIX")
def test_what_a_killed_process_left_is_swept_and_what_is_being_written_is_not(blobs: Blobs) -> None:
    """A dead process holds no lock; a living one keeps its file."""
    script = f"""
        import os, sys
        from pathlib import Path
        from torchlock.oci.blobs import Blobs
        with Blobs(Path({str(blobs.root)!r})).writing() as sink:
            sink.write(b"x" * 5000000)
            os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
    assert len(tree(blobs)) == 1
    with blobs.writing() as sink:
        sink.write(DATA)
        assert len(tree(blobs)) == 1  # the dead one's is gone, and this one's is there
        blobs.add_bytes(b"another")
        sink.commit()
    assert len(tree(blobs)) == 2
    assert list((blobs.root / "writing").iterdir()) == [blobs.root / "writing" / "sweep.lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_with_the_bytes(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback of the operating system's, and nothing is left."""
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *args, **rest: opened(Path("/dev/full") if ".tmp-" in self.name else self, *args, **rest),
    )
    with pytest.raises(StoreError, match=r"No space left on device; .* bytes are needed"):
        write(blobs, b"x" * (3 << 20))
    assert tree(blobs) == []
