"""Recording: what is asked of an index, what is kept of it, and what is refused; over real HTTP on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import snapshots
import wheels
from servers import HTML, JSON, Notes, Site, cut, ignoring_range, instead, reset, slow, status
from torchlock.digest import Digest
from torchlock.errors import NetworkError, SnapshotError, TorchlockError
from torchlock.indexes import record
from torchlock.indexes.record import Recorder
from torchlock.indexes.snapshot import File, Metadata, Snapshot
from torchlock.indexes.view import View
from torchlock.network.remote import Limits, Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Handler

LIMITS = Limits(tries=3, budget=5, pause=0.001, longest_pause=0.01, connect=2, read=2)
NAME = "alpha-1.0-py3-none-any.whl"
PAGE = "/simple/alpha/"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    """Return a wheel of alpha 1.0 that requires two projects, one as an extra."""
    requires = ["beta>=1", "gamma ; extra == 'more'"]
    text = wheels.metadata("alpha", "1.0", requires) + "Provides-Extra: more\n"
    files = {"alpha/__init__.py": "", "alpha-1.0.dist-info/METADATA": text}
    return wheels.make(tmp_path / "made", files, name="alpha").read_bytes()


def recorder(folder: Path, notes: Notes | None = None, **roots: str) -> Recorder:
    """Return a recorder of a fresh process over a snapshot folder."""
    notes = notes or Notes()
    return Recorder(Snapshot(folder / "index"), Remote(notes, LIMITS), roots, notes)


def publish(site: Site, *rows: dict[str, Any], project: str = "alpha", root: str = "/simple/") -> str:
    """Publish a page of files as PEP 691 has it; return the simple root."""
    page = f"{root}{project}/"
    full = [{"url": f"/files/{row['filename']}", "hashes": {}, **row} for row in rows]
    site.headers[page] = {"Content-Type": JSON}
    site.files[page] = json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": full}).encode()
    return f"{site.url}{root}"


def row(content: bytes, name: str = NAME, *, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe a file that a site serves."""
    digest = hashlib.sha256(content).hexdigest()
    return {"filename": name, "hashes": {"sha256": digest}, "size": len(content), **(more or {})}


def refusal(job: Any, kind: type[TorchlockError] = SnapshotError) -> str:
    """Return the message with which a job is refused."""
    with pytest.raises(kind) as caught:
        job()
    return str(caught.value)


@pytest.mark.parametrize("kind", [JSON, HTML])
def test_a_page_is_recorded_and_then_never_asked_for_again(site: Site, tmp_path: Path, kind: str) -> None:
    """Hashes and yanking are kept, sources and foreign wheels are not; a second process asks nothing."""
    files = {NAME: b"one", "alpha-2.0-py3-none-any.whl": b"two", "alpha-2.0.tar.gz": b"source"}
    root = site.index(files, kind=kind, yanked=[NAME])
    page = recorder(tmp_path, pypi=root).page("pypi", "alpha")
    assert sorted(page.files) == [NAME, "alpha-2.0-py3-none-any.whl"]
    assert page.files[NAME] == File(name=NAME, sha256=Digest.of(b"one"), yanked="")
    assert recorder(tmp_path, pypi=root).page("pypi", "alpha") == page
    assert site.asked(PAGE) == 1


def test_what_an_index_lists_is_kept_in_one_form(site: Site, tmp_path: Path) -> None:
    """Times in UTC with Z, hashes in lower case, texts on one line: whatever the index writes."""
    listed = row(
        b"x",
        more={
            "upload-time": "2024-02-05T23:58:36.5+01:00",
            "requires-python": " >=3.9\n",
            "yanked": "two\n\tlines\x1b",
        },
    )
    listed["hashes"]["sha256"] = listed["hashes"]["sha256"].upper()
    other = row(
        b"x", "alpha-2.0-py3-none-any.whl", more={"upload-time": "2024-02-05T23:58:36", "requires-python": None}
    )
    page = recorder(tmp_path, pypi=publish(site, listed, other)).page("pypi", "alpha")
    assert page.files[NAME] == File(
        name=NAME,
        sha256=Digest.of(b"x"),
        size=1,
        upload_time="2024-02-05T22:58:36.500000Z",
        requires_python=">=3.9",
        yanked="two lines",
    )
    assert page.files["alpha-2.0-py3-none-any.whl"].upload_time == "2024-02-05T23:58:36Z"
    assert Snapshot(tmp_path / "index").page("pypi", "alpha") == page


def test_a_time_without_a_zone_does_not_depend_on_this_machines(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is UTC in Tokyo, too."""
    root = publish(site, row(b"x", more={"upload-time": "2024-02-05T23:58:36"}))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        page = recorder(tmp_path, pypi=root).page("pypi", "alpha")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert page.files[NAME].upload_time == "2024-02-05T23:58:36Z"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hashes": {"sha256": "abc"}}, "its index lists not a sha256 of 64 lower-case hexadecimal digits: 'abc'"),
        ({"upload-time": "0001-01-01T00:00:00+23:59"}, "its index lists not a time in UTC's calendar"),
    ],
)
def test_a_senseless_record_is_refused(site: Site, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """A broken hash or time names the file, and nothing is recorded."""
    root = publish(site, {**row(b"x"), **change})
    message = refusal(lambda: recorder(tmp_path, pypi=root).page("pypi", "alpha"))
    assert message.startswith(f"{NAME}: {said}")
    assert Snapshot(tmp_path / "index").pages() == []


def test_a_page_of_other_projects_is_refused(site: Site, tmp_path: Path) -> None:
    """A login page, an empty page or another project's files are no record of a project."""
    root = publish(site, row(b"x", "evil-1.0-py3-none-any.whl"))
    message = refusal(lambda: recorder(tmp_path, pypi=root).page("pypi", "alpha"))
    assert message == (
        "pypi: alpha: its page lists 1 files, none of this project; try: another index for it in the profile"
    )
    site.headers[PAGE] = {"Content-Type": HTML}
    site.files[PAGE] = b"<html><body>Please <b>log in</b></body></html>"
    assert "lists 0 files" in refusal(lambda: recorder(tmp_path, pypi=root).page("pypi", "alpha"))
    assert Snapshot(tmp_path / "index").pages() == []


def test_a_foreign_file_on_a_page_is_passed_over(site: Site, tmp_path: Path) -> None:
    """A page may not slip a wheel of another project in."""
    root = publish(site, row(b"x"), row(b"y", "torch-9.9-py3-none-any.whl"))
    assert list(recorder(tmp_path, pypi=root).page("pypi", "alpha").files) == [NAME]


def test_an_index_without_an_address_is_refused(tmp_path: Path) -> None:
    """The alias and the place to write its address are told."""
    message = refusal(lambda: recorder(tmp_path).page("private", "alpha"))
    assert message == "index private: no address; try: add it to environments/defaults.yaml"


def test_metadata_of_a_big_wheel_is_read_by_range(site: Site, tmp_path: Path) -> None:
    """A wheel of 8 MB costs a few blocks of it, not the wheel; size and metadata are known then."""
    big: dict[str, bytes | str] = {"alpha/data.bin": hashlib.shake_128(b"big").digest(8 << 20), "alpha/__init__.py": ""}
    data = wheels.make(tmp_path / "made", big, name="alpha", requires=["beta>=1"]).read_bytes()
    root = site.index({NAME: data})
    found = recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME)
    assert found.size == len(data) > 8 << 20
    assert found.metadata is not None
    assert found.metadata.requires_dist == ("beta>=1",)
    assert site.sent < 200_000
    sent = site.sent
    assert recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME) == found
    assert site.sent == sent


def test_metadata_is_taken_from_the_index_that_has_it(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """PEP 658: the file beside the wheel is read and its digest checked; the wheel is not touched."""
    raw = wheels.metadata("alpha", "1.0", ["beta >=1", "gamma;\n extra == 'more'"]).encode() + b"Provides-Extra: more\n"
    root = publish(site, row(wheel, more={"core-metadata": {"sha256": Digest.of(raw).hex.upper()}}))
    site.files |= {f"/files/{NAME}": wheel, f"/files/{NAME}.metadata": raw}
    found = recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME)
    assert found.metadata == Metadata(
        requires_dist=("beta >=1", "gamma; extra == 'more'"), provides_extra=("more",), sha256=Digest.of(raw)
    )
    assert [seen.path for seen in site.seen] == [PAGE, f"/files/{NAME}.metadata"]


def test_metadata_with_another_digest_is_refused(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """Both digests are told, and the page stays as it was."""
    root = publish(site, row(wheel, more={"core-metadata": {"sha256": "1" * 64}}))
    site.files[f"/files/{NAME}.metadata"] = b"Metadata-Version: 2.1\n"
    work = recorder(tmp_path, pypi=root)
    before = work.page("pypi", "alpha")
    message = refusal(lambda: work.metadata("pypi", "alpha", NAME))
    found = Digest.of(b"Metadata-Version: 2.1\n")
    assert message == f"{NAME}.metadata: {found}; expected sha256:{'1' * 64}, as its index lists it"
    assert Snapshot(tmp_path / "index").page("pypi", "alpha") == before


@pytest.mark.parametrize("listed", [True, {}, {"md5": "0" * 32}])
def test_metadata_without_a_sha256_is_read_from_the_wheel(
    site: Site, tmp_path: Path, wheel: bytes, listed: object
) -> None:
    """What nothing vouches for is not taken from beside the wheel."""
    root = publish(site, row(wheel, more={"core-metadata": listed}))
    site.files |= {f"/files/{NAME}": wheel, f"/files/{NAME}.metadata": b"Requires-Dist: evil\n"}
    found = recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME)
    assert found.metadata is not None
    assert found.metadata.requires_dist == ("beta>=1", "gamma ; extra == 'more'")
    assert found.metadata.provides_extra == ("more",)


def test_a_file_without_a_hash_is_downloaded_and_hashed_here(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """The hash is marked as computed, in the snapshot, too; an index's own hash later takes the mark away."""
    root = site.index({NAME: wheel}, digests=False)
    notes = Notes()
    found = recorder(tmp_path, notes, pypi=root).metadata("pypi", "alpha", NAME)
    assert (found.sha256, found.size, found.evidence) == (Digest.of(wheel), len(wheel), {"sha256": "computed"})
    assert f"downloading {NAME}: its index lists no sha256" in notes.notes
    assert notes.states[-1] == (NAME, len(wheel), len(wheel))
    assert Snapshot(tmp_path / "index").page("pypi", "alpha").files[NAME] == found  # type: ignore[union-attr]
    again = recorder(tmp_path, pypi=root).refresh("pypi", "alpha")
    assert again.files[NAME] == found
    site.index({NAME: wheel})
    told = recorder(tmp_path, pypi=root).refresh("pypi", "alpha")
    assert told.files[NAME] == replace(found, evidence={})


def test_a_hash_is_computed_over_a_connection_that_breaks(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """A short body is resumed where it ended, and a server that starts again is followed: never spliced."""
    path = f"/files/simple/{NAME}"
    site.index({NAME: wheel}, digests=False)
    work = recorder(tmp_path, pypi=f"{site.url}/simple/")
    work.page("pypi", "alpha")
    site.script(path, None, cut(100), ignoring_range)
    assert work.metadata("pypi", "alpha", NAME).sha256 == Digest.of(wheel)
    assert [seen.headers.get("range") for seen in site.seen[-2:]] == [None, "bytes=100-"]


@pytest.mark.parametrize("fault", [cut(100), cut(100, length=False), reset])
def test_a_hash_is_never_that_of_a_part(site: Site, tmp_path: Path, wheel: bytes, fault: Any) -> None:
    """Where the connection breaks again and again, nothing is recorded."""

    def broken(handler: Handler) -> None:
        """Serve ranges of the tail, for the metadata, and break everything else."""
        if handler.headers.get("Range", "").startswith("bytes=-"):
            handler.serve()
        else:
            fault(handler)

    root = site.index({NAME: wheel}, digests=False)
    site.script(f"/files/simple/{NAME}", broken, forever=True)
    refusal(lambda: recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME), NetworkError)
    assert Snapshot(tmp_path / "index").page("pypi", "alpha").files[NAME].sha256 is None  # type: ignore[union-attr]


def test_a_file_that_grows_while_it_is_hashed_is_refused(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """More bytes than the size that was read before: no hash is recorded."""
    root = site.index({NAME: wheel}, digests=False)
    site.script(f"/files/simple/{NAME}", None, instead(wheel + b"more"))
    message = refusal(lambda: recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME))
    assert message == f"{NAME}: more than {len(wheel)} bytes; expected as many as its index says"


def test_other_bytes_under_a_known_name_are_an_alarm(site: Site, tmp_path: Path) -> None:
    """Both hashes are told, and the snapshot keeps what it had: page, file and every byte."""
    root = site.index({NAME: b"old", "alpha-0.9-py3-none-any.whl": b"x"})
    page = recorder(tmp_path, pypi=root).page("pypi", "alpha")
    stored = Snapshot(tmp_path / "index").path("pypi", "alpha").read_bytes()
    site.index({NAME: b"new", "alpha-2.0-py3-none-any.whl": b"y"})
    work = recorder(tmp_path, pypi=root)
    message = refusal(lambda: work.refresh("pypi", "alpha"))
    assert message == (
        f"pypi: {NAME}: other bytes under the same file name: sha256 {Digest.of(b'new')}; "
        f"expected {Digest.of(b'old')}, as recorded; try: find out why before anything else: do not install it"
    )
    assert Snapshot(tmp_path / "index").path("pypi", "alpha").read_bytes() == stored
    assert work.snapshot.page("pypi", "alpha") == page


def test_another_size_under_a_known_name_is_an_alarm(site: Site, tmp_path: Path) -> None:
    """An index without hashes is held to its sizes."""
    root = publish(site, {"filename": NAME, "size": 5})
    recorder(tmp_path, pypi=root).page("pypi", "alpha")
    publish(site, {"filename": NAME, "size": 6})
    message = refusal(lambda: recorder(tmp_path, pypi=root).refresh("pypi", "alpha"))
    assert "other bytes under the same file name: size 6; expected 5, as recorded" in message


def test_metadata_of_a_file_that_changed_since_is_an_alarm(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """A recorded hash is held against the index again before anything is learnt about the file."""
    root = site.index({NAME: b"old"})
    recorder(tmp_path, pypi=root).page("pypi", "alpha")
    site.index({NAME: wheel})
    message = refusal(lambda: recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME))
    assert str(Digest.of(b"old")) in message
    assert str(Digest.of(wheel)) in message


def test_refreshing_keeps_what_was_learnt_and_says_what_is_gone(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """Metadata of unchanged files stays; new, yanked and vanished files are followed."""
    gone, new = "alpha-0.9-py3-none-any.whl", "alpha-2.0-py3-none-any.whl"
    root = site.index({NAME: wheel, gone: b"gone"})
    learnt = recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME)
    site.index({NAME: wheel, new: b"new"}, yanked=[NAME])
    notes = Notes()
    page = recorder(tmp_path, notes, pypi=root).refresh("pypi", "alpha")
    assert page.files == {NAME: replace(learnt, yanked=""), new: File(name=new, sha256=Digest.of(b"new"))}
    assert f"pypi: alpha: 1 wheels are no longer listed, among them {gone}" in notes.notes


def test_a_file_that_is_no_longer_listed_has_no_metadata_to_read(site: Site, tmp_path: Path) -> None:
    """What is asked for and gone, or was never there, is named."""
    root = site.index({NAME: b"x"})
    recorder(tmp_path, pypi=root).page("pypi", "alpha")
    site.index({"alpha-2.0-py3-none-any.whl": b"y"})
    work = recorder(tmp_path, pypi=root)
    assert refusal(lambda: work.metadata("pypi", "alpha", NAME)).startswith(f"pypi: alpha: {NAME} is no longer listed")
    absent = "alpha-9.0-py3-none-any.whl"
    assert refusal(lambda: work.metadata("pypi", "alpha", absent)).startswith(f"pypi: alpha: no record of {absent}")


def test_a_wheel_whose_metadata_cannot_be_read_is_refused_by_name(site: Site, tmp_path: Path) -> None:
    """Bytes that are no wheel are a refusal that names the file."""
    root = site.index({NAME: b"no zip"})
    message = refusal(lambda: recorder(tmp_path, pypi=root).metadata("pypi", "alpha", NAME), TorchlockError)
    assert message.startswith(f"{NAME}: ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(401), "(401)"),
        (status(403), "(403)"),
        (status(404), "(404)"),
        (status(500), "answered 500"),
        (status(503), "answered 503"),
        (reset, "connection"),
    ],
)
def test_only_the_profiles_index_is_asked(site: Site, tmp_path: Path, fault: Any, said: str) -> None:
    """An index that refuses or does not answer is refused; another that has the project is never asked."""
    public, private = site.index({NAME: b"public"}), site.index({NAME: b"private"}, root="/private/")
    site.script("/private/alpha/", fault, forever=True)
    work = recorder(tmp_path, pypi=public, private=private)
    view = View(work.snapshot, snapshots.target(indexes={"alpha": "private"}), work)
    message = refusal(lambda: view.files("alpha"), NetworkError)
    assert f"{private}alpha/: " in message
    assert said in message
    assert site.asked(PAGE) == 0
    assert Snapshot(tmp_path / "index").pages() == []


def test_an_index_that_answers_again_is_recorded(site: Site, tmp_path: Path) -> None:
    """Two failures and a good answer are a success."""
    root = site.index({NAME: b"x"})
    site.script(PAGE, status(500), reset)
    assert list(recorder(tmp_path, pypi=root).page("pypi", "alpha").files) == [NAME]


def test_credentials_stand_in_nothing_that_is_written_or_said(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """They are sent to their index, and are in no snapshot, note or error."""
    root = site.index({NAME: wheel}, digests=False).replace("http://", "http://someone:s3cret@")
    notes = Notes()
    work = recorder(tmp_path, notes, pypi=root)
    work.metadata("pypi", "alpha", NAME)
    assert all("authorization" in seen.headers for seen in site.seen)
    site.script("/simple/beta/", status(403), forever=True)
    site.script("/simple/gamma/", instead(b"{}"), forever=True)
    site.files["/simple/delta/"] = b"{"
    site.headers["/simple/delta/"] = {"Content-Type": JSON}
    said = [refusal(lambda name=name: work.page("pypi", name), TorchlockError) for name in ("beta", "gamma", "delta")]
    stored = [path.read_text() for path in (tmp_path / "index").rglob("*") if path.is_file()]
    assert len(stored) == 1
    for text in [*said, *notes.notes, *stored]:
        assert "s3cret" not in text
        assert "someone" not in text
    assert "127.0.0.1" not in stored[0]
    assert "http" not in stored[0]


@pytest.mark.parametrize(
    ("job", "asked"),
    [
        (lambda work: work.page("pypi", "alpha"), [PAGE]),
        (lambda work: work.metadata("pypi", "alpha", NAME), [PAGE, f"/files/{NAME}.metadata"]),
    ],
)
def test_threads_that_want_the_same_page_download_it_once(
    site: Site, tmp_path: Path, wheel: bytes, job: Callable[[Recorder], object], asked: list[str]
) -> None:
    """Eight threads, one request for the page and one for the metadata."""
    raw = wheels.metadata("alpha", "1.0").encode()
    root = publish(site, row(wheel, more={"core-metadata": {"sha256": Digest.of(raw).hex}}))
    site.files[f"/files/{NAME}.metadata"] = raw
    site.script(PAGE, slow(0.1), forever=True)
    work = recorder(tmp_path, pypi=root)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(job(work)), daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(item == found[0] for item in found)
    assert [seen.path for seen in site.seen] == asked


def test_processes_that_want_the_same_page_download_it_once(site: Site, tmp_path: Path) -> None:
    """Under the lock that the commands hold, the second process finds what the first recorded."""
    root = site.index({NAME: b"x"})
    code = """
import sys
from pathlib import Path
from torchlock.files import exclusive
from torchlock.indexes.record import Recorder
from torchlock.network.remote import Remote
from torchlock.reporter import Silent
from torchlock.indexes.snapshot import Snapshot
folder = Path(sys.argv[1])
with exclusive(folder / ".lock", Silent()):
    page = Recorder(Snapshot(folder / "index"), Remote(), {"pypi": sys.argv[2]}, Silent()).page("pypi", "alpha")
print(*page.files)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(record.__file__).parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), root], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{NAME}\n"] * 3
    assert site.asked(PAGE) == 1


def test_a_wheel_is_opened_where_it_lies(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """Any bytes of it can be read by range; one that the index no longer lists cannot."""
    site.files[f"/files/{NAME}"] = wheel
    found = recorder(tmp_path, pypi=publish(site, row(wheel)))
    with found.open("pypi", "alpha", NAME) or io.BytesIO() as file:
        file.seek(-22, 2)
        assert file.read() == wheel[-22:]
    assert found.open("pypi", "alpha", "alpha-2.0-py3-none-any.whl") is None
    assert found.snapshot.pages() == [], "nothing is recorded by looking into a wheel"


def test_a_wheel_that_changed_since_is_not_opened(site: Site, tmp_path: Path, wheel: bytes) -> None:
    """Facts of other bytes than the recorded ones are nobody's facts."""
    root = publish(site, row(b"before"))
    recorder(tmp_path, pypi=root).page("pypi", "alpha")
    publish(site, row(wheel))
    assert "other bytes under the same file name" in refusal(
        lambda: recorder(tmp_path, pypi=root).open("pypi", "alpha", NAME)
    )
