"""Fetching from real servers on loopback that misbehave, by threads and by processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import (
    HTML,
    Handler,
    Notes,
    Site,
    cut,
    drip,
    endless,
    ignoring_range,
    instead,
    reset,
    serving,
    stall,
    status,
    wrong_offset,
)
from torchlock.digest import Digest
from torchlock.errors import NetworkError, StoreError
from torchlock.locks.lock import Artifact
from torchlock.network.remote import Limits, Remote
from torchlock.storage import crew, reception
from torchlock.storage.fetch import Fetcher
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SMALL, MIDDLE, LARGE = "small-1-py3-none-any.whl", "middle-1-py3-none-any.whl", "large-1-py3-none-any.whl"
FILES = {SMALL: b"small", MIDDLE: b"middle" * 1000, LARGE: b"large" * 500_000}
LIMITS = Limits(tries=4, budget=20, pause=0.001, longest_pause=0.01, connect=30, read=30)
MIRROR = "try: MIRROR=<address of an index that has it>"


def artifact(name: str, content: bytes | None = None, *, index: str = "pypi", sized: bool = True) -> Artifact:
    """Name a file as a lock does."""
    content = FILES[name] if content is None else content
    return Artifact(
        project=name.split("-", maxsplit=1)[0],
        version="1",
        filename=name,
        sha256=Digest.of(content),
        size=len(content) if sized else None,
        upload_time=None,
        index=index,
    )


ALL = [artifact(name) for name in FILES]


def address(name: str) -> str:
    """Return the path of a file on the test index."""
    return f"/files/simple/{name}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def site() -> Iterator[Site]:
    """Run an index that lists the files."""
    with serving() as served:
        served.index(FILES)
        yield served


@pytest.fixture
def notes() -> Notes:
    """Keep what is said."""
    return Notes()


class Kit:
    """A store in a folder and fetchers into it."""

    def __init__(self, folder: Path, notes: Notes, site: Site) -> None:
        self.notes, self.store = notes, Store(folder / "store", notes)
        self.pypi = f"{site.url}/simple/"
        self.remotes: list[Remote] = []

    def fetcher(
        self, addresses: Mapping[str, str] | None = None, wheelhouses: Sequence[Path] = (), workers: int = 8
    ) -> Fetcher:
        """Make a fetcher."""
        self.remotes.append(Remote(self.notes, LIMITS))
        found = {"pypi": self.pypi} if addresses is None else addresses
        return Fetcher(self.store, self.remotes[-1], found, wheelhouses, self.notes, workers)

    def fetch(self, *artifacts: Artifact) -> None:
        """Fetch with a new fetcher."""
        self.fetcher().fetch(artifacts)

    def content(self, item: Artifact) -> bytes | None:
        """Return what the store has."""
        path = self.store.get(item)
        return path.read_bytes() if path else None

    def partial(self, name: str) -> Path:
        """Return where the partial file of an artifact lies."""
        return self.store.root / "partial" / artifact(name).sha256.hex

    def leave(self, name: str, content: bytes) -> None:
        """Leave a partial file as an earlier process did."""
        self.partial(name).parent.mkdir(parents=True, exist_ok=True)
        self.partial(name).write_bytes(content)


@pytest.fixture
def kit(tmp_path: Path, notes: Notes, site: Site) -> Iterator[Kit]:
    """Make an empty store and a client whose patience is short."""
    made = Kit(tmp_path, notes, site)
    yield made
    for remote in made.remotes:
        remote.close()


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process that imports torchlock and these helpers."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent / 'scripts'}{os.pathsep}{here}"}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


FETCH_ALL = """
    import sys
    from pathlib import Path
    from test_fetch import ALL, LIMITS
    from torchlock.storage.fetch import Fetcher
    from torchlock.network.remote import Remote
    from torchlock.storage.store import Store
    Fetcher(Store(Path(sys.argv[1])), Remote(limits=LIMITS), {"pypi": sys.argv[2]}).fetch(ALL)
"""


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def test_what_is_missing_is_fetched_and_arrives_verified(kit: Kit, site: Site, notes: Notes) -> None:
    """Every artifact is in the store and was handed out once; progress ends at the size; a second run asks nothing."""
    came: list[tuple[str, bytes]] = []
    kit.fetcher().fetch(ALL, lambda item, path: came.append((item.filename, path.read_bytes())))
    assert sorted(came) == sorted(FILES.items())
    assert {(name, len(content), len(content)) for name, content in FILES.items()} <= set(notes.states)
    before = len(site.seen)
    came.clear()
    kit.fetcher().fetch(ALL, lambda item, path: came.append((item.filename, path.read_bytes())))
    assert sorted(came) == sorted(FILES.items())
    assert len(site.seen) == before


def test_the_largest_comes_first(kit: Kit, site: Site) -> None:
    """With one worker the files are asked for by falling size, those of unknown size before all."""
    kit.fetcher(workers=1).fetch([artifact(SMALL, sized=False), artifact(MIDDLE), artifact(LARGE)])
    asked = [seen.path for seen in site.seen if seen.path.startswith("/files/")]
    assert asked == [address(SMALL), address(LARGE), address(MIDDLE)]


def test_one_arrives_while_another_is_still_on_its_way(kit: Kit, site: Site) -> None:
    """Unpacking overlaps downloading: `arrived` does not wait for the slowest."""
    gate = threading.Event()

    def held(handler: Handler) -> None:
        gate.wait(10)
        handler.serve()

    site.script(address(LARGE), held)
    order: list[str] = []

    def arrived(item: Artifact, _path: Path) -> None:
        order.append(item.filename)
        if len(order) == 2:
            gate.set()

    kit.fetcher().fetch(ALL, arrived)
    assert order[2] == LARGE


def test_an_artifact_that_is_named_twice_is_fetched_once(kit: Kit, site: Site) -> None:
    """Two locks may share an artifact."""
    kit.fetch(*ALL, *ALL)
    assert [site.asked(address(name)) for name in FILES] == [1, 1, 1]


def test_nothing_to_fetch_is_no_error(kit: Kit) -> None:
    """An empty list returns at once."""
    kit.fetch()


def test_html_pages_do_as_well(kit: Kit, site: Site) -> None:
    """An index that speaks only PEP 503 serves as one that speaks PEP 691."""
    site.index(FILES, root="/html/", kind=HTML)
    kit.fetcher({"pypi": f"{site.url}/html"}).fetch(ALL)
    assert kit.content(artifact(LARGE)) == FILES[LARGE]


def test_a_damaged_object_is_fetched_again(kit: Kit, notes: Notes) -> None:
    """FAULTS 36: a flipped bit in the store is found before use, set aside, and mended from the index."""
    kit.fetch(artifact(MIDDLE))
    path = kit.store.path(artifact(MIDDLE).sha256)
    path.chmod(0o644)
    path.write_bytes(b"M" + FILES[MIDDLE][1:])
    kit.fetch(artifact(MIDDLE))
    assert kit.content(artifact(MIDDLE)) == FILES[MIDDLE]
    assert "set aside as bad/" in notes.notes[0]


def test_a_wheelhouse_comes_before_the_index(kit: Kit, site: Site, tmp_path: Path) -> None:
    """A folder of wheels is used where it has the file; the rest comes from the index."""
    (tmp_path / "empty").mkdir()
    (tmp_path / LARGE).write_bytes(FILES[LARGE])
    kit.fetcher(wheelhouses=[tmp_path / "empty", tmp_path, tmp_path / "absent"]).fetch(ALL)
    assert [site.asked(address(name)) for name in FILES] == [1, 1, 0]
    assert kit.content(artifact(LARGE)) == FILES[LARGE]


def test_a_wheelhouse_alone_needs_no_network(kit: Kit, tmp_path: Path) -> None:
    """With all files in a folder no index is asked, nor need it have an address."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    kit.fetcher({}, wheelhouses=[tmp_path]).fetch(ALL)
    assert kit.content(artifact(SMALL)) == b"small"


def test_a_wheelhouse_file_with_other_bytes_is_refused(kit: Kit, site: Site, tmp_path: Path) -> None:
    """FAULTS 14: wrong bytes in a folder are a refusal with both hashes, not a reason to look elsewhere."""
    (tmp_path / SMALL).write_bytes(b"sMall")
    with pytest.raises(StoreError) as caught:
        kit.fetcher(wheelhouses=[tmp_path]).fetch([artifact(SMALL)])
    assert str(caught.value) == (
        f"{tmp_path / SMALL}: {Digest.of(b'sMall')} (5 bytes); expected {artifact(SMALL).sha256} (5 bytes) as locked; "
        "try: remove the file, or name another WHEELHOUSE="
    )
    assert not site.seen


def test_wrong_bytes_are_refused_with_both_hashes(kit: Kit, site: Site) -> None:
    """FAULTS 14: bytes of the right length but another hash are not tried again, and leave nothing."""
    site.script(address(SMALL), instead(b"sMall"), forever=True)
    with pytest.raises(NetworkError) as caught:
        kit.fetch(artifact(SMALL))
    where = f"{site.url}{address(SMALL)}"
    assert str(caught.value) == (
        f"{where}: {Digest.of(b'sMall')}; expected {artifact(SMALL).sha256} as locked; {MIRROR}"
    )
    assert site.asked(address(SMALL)) == 1
    assert not kit.partial(SMALL).exists()
    assert kit.content(artifact(SMALL)) is None


def test_another_length_is_refused_before_the_body(kit: Kit, site: Site) -> None:
    """FAULTS 14: a Content-Length that is not the lock's size ends it at once."""
    site.script(address(SMALL), instead(b"smallest"))
    with pytest.raises(NetworkError) as caught:
        kit.fetch(artifact(SMALL))
    assert str(caught.value) == f"{site.url}{address(SMALL)}: 8 bytes; expected 5 as locked; {MIRROR}"


@pytest.mark.parametrize("length", [True, False])
def test_a_short_body_is_resumed(kit: Kit, site: Site, length: bool) -> None:
    """FAULTS 14: with or without Content-Length, what came is kept and the rest asked for by range."""
    site.script(address(LARGE), cut(1000, length=length), cut(70_000, length=length), reset)
    kit.fetch(artifact(LARGE))
    assert kit.content(artifact(LARGE)) == FILES[LARGE]
    ranges = [seen.headers.get("range") for seen in site.seen if seen.path == address(LARGE)]
    assert ranges == [None, "bytes=1000-", "bytes=71000-", "bytes=71000-"]


@pytest.mark.parametrize("length", [True, False])
def test_a_body_that_stays_short_is_refused(kit: Kit, site: Site, length: bool) -> None:
    """FAULTS 14: a server that has only half of the file, and no ranges, is given up within the budget."""
    half = len(FILES[LARGE]) // 2

    def truncated(handler: Handler) -> None:
        del handler.headers["Range"]
        cut(half, length=length)(handler)

    site.script(address(LARGE), truncated, forever=True)
    found = f"the body ended {half} bytes early" if length else f"the body ended after {half} of {2 * half} bytes"
    with pytest.raises(NetworkError, match=rf"{found} \(4 times in \d+ s\); try: the same again later"):
        kit.fetch(artifact(LARGE))
    assert kit.content(artifact(LARGE)) is None


def test_progress_renews_the_patience(kit: Kit, site: Site) -> None:
    """More breaks than tries are survived while each connection brings a megabyte of new ground."""
    content = b"ground" * 1_500_000
    site.index({"ground-1-py3-none-any.whl": content})
    site.script("/files/simple/ground-1-py3-none-any.whl", *[cut(1_100_000)] * 7)
    item = artifact("ground-1-py3-none-any.whl", content)
    kit.fetch(item)
    assert kit.store.get(item) is not None


@pytest.mark.parametrize("fault", [ignoring_range, wrong_offset, status(416), status(206, body=FILES[LARGE][1000:])])
def test_a_wrong_answer_to_a_range_starts_again(kit: Kit, site: Site, fault: Callable[[Handler], None]) -> None:
    """FAULTS 18: a 200, a wrong offset, or a range without a name is never spliced onto what is there."""
    kit.leave(LARGE, FILES[LARGE][:1000])
    site.script(address(LARGE), fault)
    kit.fetch(artifact(LARGE))
    assert kit.content(artifact(LARGE)) == FILES[LARGE]
    assert next(seen.headers.get("range") for seen in site.seen if seen.path == address(LARGE)) == "bytes=1000-"


def test_a_damaged_partial_file_is_fetched_anew(kit: Kit, site: Site, notes: Notes) -> None:
    """FAULTS 33: where what was resumed turns out wrong, it is fetched once from the start, then refused."""
    kit.leave(LARGE, b"LARGE" + FILES[LARGE][5:1000])
    kit.fetch(artifact(LARGE))
    assert kit.content(artifact(LARGE)) == FILES[LARGE]
    assert notes.notes == [f"{site.url}{address(LARGE)}: what was resumed is wrong; started again"]
    site.script(address(MIDDLE), None, instead(bytes(6000)), forever=True)
    kit.leave(MIDDLE, b"MIDDLE")
    with pytest.raises(NetworkError, match=str(Digest.of(bytes(6000)))):
        kit.fetch(artifact(MIDDLE))
    assert site.asked(address(MIDDLE)) == 2


def test_a_whole_partial_file_needs_no_network(kit: Kit, site: Site) -> None:
    """FAULTS 33: killed between the last byte and the rename, the file is only published."""
    kit.leave(LARGE, FILES[LARGE])
    kit.fetch(artifact(LARGE))
    assert kit.content(artifact(LARGE)) == FILES[LARGE]
    assert not site.seen


def test_an_endless_body_is_stopped_at_size_plus_one(kit: Kit, site: Site) -> None:
    """FAULTS 17: no more than one byte beyond the lock's size is taken."""
    site.script(address(MIDDLE), endless)
    with pytest.raises(NetworkError) as caught:
        kit.fetch(artifact(MIDDLE))
    where = f"{site.url}{address(MIDDLE)}"
    assert str(caught.value) == f"{where}: more than 6000 bytes; expected 6000 as locked; {MIRROR}"
    assert not kit.partial(MIDDLE).exists()


def test_an_unsized_artifact_has_a_generous_cap(kit: Kit, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lock has no size, the hash decides, and a body beyond the cap is stopped."""
    item = artifact(MIDDLE, sized=False)
    monkeypatch.setattr(reception, "UNSIZED", 5000)
    with pytest.raises(NetworkError, match="6000 bytes; expected 5000 at most"):
        kit.fetch(item)
    site.script(address(MIDDLE), endless)
    with pytest.raises(NetworkError, match="more than 5000 bytes; expected 5000 at most"):
        kit.fetch(item)
    monkeypatch.setattr(reception, "UNSIZED", 6000)
    site.script(address(MIDDLE), cut(10))
    kit.fetch(item)
    assert kit.content(item) == FILES[MIDDLE]


def test_500_twice_and_then_good_is_success(kit: Kit, site: Site) -> None:
    """FAULTS 15: page and file are both tried again."""
    site.script("/simple/small/", status(500), status(502))
    site.script(address(SMALL), status(503), status(429, {"Retry-After": "3600"}))
    kit.fetch(artifact(SMALL))
    assert kit.content(artifact(SMALL)) == b"small"


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (status(401), "asks for a user and password (401)"),
        (status(403), "forbids it (403)"),
        (status(404), "has nothing there (404)"),
        (status(503), "answered 503 (4 times in"),
        (reset, "the connection broke (4 times in"),
    ],
)
def test_an_index_that_fails_is_never_replaced_by_another(
    kit: Kit, site: Site, fault: Callable[[Handler], None], found: str
) -> None:
    """FAULTS 21: a file comes from the index that the lock names; when that one fails, no other is asked."""
    site.script("/simple/small/", fault, forever=True)
    with serving() as other:
        addresses = {"pypi": kit.pypi, "other": other.index(FILES)}
        with pytest.raises(NetworkError) as caught:
            kit.fetcher(addresses).fetch([artifact(SMALL)])
        file = artifact(SMALL).filename
        assert str(caught.value).startswith(f"index pypi: {file}: {site.url}/simple/small/: {found}")
        assert not other.seen
        kit.fetcher(addresses).fetch([artifact(SMALL, index="other")])
        assert other.asked(address(SMALL)) == 1


def test_an_index_that_is_not_there_is_refused(kit: Kit) -> None:
    """FAULTS 21: nothing listens at the index's address."""
    with serving() as gone:
        url = gone.url
    with pytest.raises(NetworkError, match=rf"{url}/simple/small/: no connection \(Connection refused\)"):
        kit.fetcher({"pypi": f"{url}/simple/"}).fetch([artifact(SMALL)])


def test_an_index_without_an_address_is_refused(kit: Kit) -> None:
    """An alias that no address was given for is named, with those that have one."""
    with pytest.raises(NetworkError) as caught:
        kit.fetch(artifact(SMALL, index="pytorch-cpu"))
    assert str(caught.value) == (
        f"index pytorch-cpu: {SMALL}: this index has no address; expected one of pypi; try: name it in environments/"
    )


def test_without_addresses_no_index_is_asked(kit: Kit) -> None:
    """Offline, what is not here already is refused with the two ways out."""
    with pytest.raises(NetworkError) as caught:
        kit.fetcher({}).fetch([artifact(SMALL)])
    assert str(caught.value) == (
        f"index pypi: {SMALL}: neither in the store nor in a wheelhouse, and no index may be asked; "
        "try: WHEELHOUSE=<a folder that has it>, or the same without OFFLINE=1"
    )


def test_a_file_that_is_gone_from_its_index_is_refused(kit: Kit, site: Site) -> None:
    """A file that the page does not list was moved or removed; a mirror may have it."""
    item = replace(artifact(SMALL), filename="small-2-py3-none-any.whl")
    with pytest.raises(NetworkError) as caught:
        kit.fetch(item)
    where = f"index pypi: {item.filename}"
    assert str(caught.value) == f"{where}: not listed at {site.url}/simple/small/ (moved or removed); {MIRROR}"


def test_a_file_that_was_replaced_on_its_index_is_refused_at_once(kit: Kit, site: Site) -> None:
    """FAULTS 19: the page's sha256 is another one than the lock's: both are shown, nothing is downloaded."""
    site.index({SMALL: b"SMALL"})
    with pytest.raises(NetworkError) as caught:
        kit.fetch(artifact(SMALL))
    assert str(caught.value) == (
        f"index pypi: {SMALL}: listed with {Digest.of(b'SMALL')}, so it was replaced; "
        f"expected {artifact(SMALL).sha256} as locked; {MIRROR}"
    )
    assert site.asked(address(SMALL)) == 0


def test_a_page_without_hashes_will_do(kit: Kit, site: Site) -> None:
    """FAULTS 20: the lock's own hash judges a file that its index has no hash for."""
    site.index(FILES, digests=False)
    kit.fetch(artifact(SMALL))
    site.script(address(MIDDLE), instead(bytes(6000)))
    with pytest.raises(NetworkError, match=str(Digest.of(bytes(6000)))):
        kit.fetch(artifact(MIDDLE))


def test_a_yanked_file_is_fetched_with_a_note(kit: Kit, site: Site, notes: Notes) -> None:
    """FAULTS 22: an existing lock still works, and says that its file was yanked."""
    site.index(FILES, yanked=[SMALL])
    kit.fetch(artifact(SMALL))
    assert notes.notes == [f"index pypi: {SMALL} was yanked; it is still fetched, as locked"]


def test_credentials_of_an_index_reach_its_files_and_no_message(kit: Kit, site: Site, notes: Notes) -> None:
    """FAULTS 23: user and password of the index's address are used for its files, and never shown."""
    secret = kit.pypi.replace("://", "://someone:s3cret@")
    kit.fetcher({"pypi": secret}).fetch([artifact(SMALL)])
    assert all(seen.headers["authorization"] == "Basic c29tZW9uZTpzM2NyZXQ=" for seen in site.seen)
    site.script(address(LARGE), status(500), instead(bytes(2_500_000)))
    said = ""
    for item in (artifact(LARGE), replace(artifact(MIDDLE), filename="middle-2-py3-none-any.whl")):
        with pytest.raises(NetworkError) as caught:
            kit.fetcher({"pypi": secret}).fetch([item])
        said += str(caught.value)
    assert "s3cret" not in said + " ".join(notes.notes)


def test_the_first_failure_stops_the_others(kit: Kit, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One 404 ends a fetch whose other files drip or never answer; what came of them is kept."""
    monkeypatch.setattr(crew, "PATIENCE", 30)
    site.script(address(LARGE), drip(20, head=400_000))
    site.script("/simple/middle/", stall)

    def late(handler: Handler) -> None:
        until(lambda: kit.partial(LARGE).exists() and kit.partial(LARGE).stat().st_size >= 262_144)
        handler.answer(404, b"")

    site.script("/simple/small/", late)
    since = time.monotonic()
    with pytest.raises(NetworkError, match="nothing there"):
        kit.fetch(*ALL)
    assert time.monotonic() - since < 10
    assert kit.partial(LARGE).stat().st_size >= 262_144


def test_a_failure_of_the_caller_is_raised_as_it_is(kit: Kit) -> None:
    """What `arrived` raises ends the fetch and reaches the caller unchanged."""
    problem = ValueError("cannot unpack")

    def arrived(_item: Artifact, _path: Path) -> None:
        raise problem

    with pytest.raises(ValueError, match="cannot unpack") as caught:
        kit.fetcher().fetch(ALL, arrived)
    assert caught.value is problem


def test_unpacking_is_not_abandoned_when_another_fails(kit: Kit, site: Site) -> None:
    """A callback that has begun is over before the failure is raised, so that staging can be swept."""
    begun, over = threading.Event(), []

    def refuse(handler: Handler) -> None:
        begun.wait(10)
        handler.answer(404, b"")

    def arrived(_item: Artifact, _path: Path) -> None:
        begun.set()
        time.sleep(0.3)
        over.append(True)

    site.script("/simple/middle/", refuse)
    with pytest.raises(NetworkError):
        kit.fetcher().fetch([artifact(SMALL), artifact(MIDDLE)], arrived)
    assert over == [True]


def test_too_little_room_is_refused_before_the_first_byte(kit: Kit, site: Site) -> None:
    """FAULTS 35: the sum of what is missing is compared with what is free."""
    with pytest.raises(StoreError, match=r"\d+ bytes are needed and \d+ are free; try: free some space"):
        kit.fetch(replace(artifact(LARGE), size=1 << 60), artifact(SMALL))
    assert not site.seen


def test_ctrl_c_stops_promptly_and_the_next_run_resumes(kit: Kit, site: Site) -> None:
    """FAULTS 34: SIGINT ends all workers at once and leaves only what can be resumed."""
    site.script(address(LARGE), drip(0.05, head=123_456))
    site.script(address(MIDDLE), stall)
    process = script(FETCH_ALL, kit.store.root, kit.pypi)
    until(lambda: kit.partial(LARGE).exists() and kit.partial(LARGE).stat().st_size >= 123_456)
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - since < 10
    assert process.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    left = {path.name for path in (kit.store.root / "partial").iterdir() if path.suffix != ".lock"}
    assert left == {kit.partial(LARGE).name}
    kit.fetch(*ALL)
    ranges = [seen.headers.get("range") for seen in site.seen if seen.path == address(LARGE)]
    assert ranges[0] is None
    assert int(str(ranges[1]).removeprefix("bytes=").removesuffix("-")) >= 123_456
    assert kit.content(artifact(LARGE)) == FILES[LARGE]


def test_a_killed_fetch_is_resumed(kit: Kit, site: Site) -> None:
    """FAULTS 33: kill -9 in the middle; the same again succeeds, asks for the rest only, and the store is sound."""
    site.script(address(LARGE), drip(0.06, head=300_000))
    process = script(FETCH_ALL, kit.store.root, kit.pypi)
    until(lambda: kit.partial(LARGE).exists() and kit.partial(LARGE).stat().st_size >= 262_144)
    process.kill()
    process.communicate()
    kit.fetch(*ALL)
    ranges = [seen.headers.get("range") for seen in site.seen if seen.path == address(LARGE)]
    assert int(str(ranges[1]).removeprefix("bytes=").removesuffix("-")) >= 262_144
    there = {path.name: Digest.of_file(path).hex for path in kit.store.root.glob("wheels/*/*")}
    assert there == {name: name for name in (Digest.of(data).hex for data in FILES.values())}
    assert len(there) == 3


def test_eight_processes_download_each_file_once(kit: Kit, site: Site) -> None:
    """FAULTS 37: eight at once give one download of each object."""
    for name in FILES:
        site.script(address(name), drip_then_serve)
    processes = [script(FETCH_ALL, kit.store.root, kit.pypi) for _ in range(8)]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert results == [("", 0)] * 8
    assert [site.asked(address(name)) for name in FILES] == [1, 1, 1]


def drip_then_serve(handler: Handler) -> None:
    """Answer slowly enough for others to come."""
    time.sleep(0.3)
    handler.serve()


def test_memory_stays_small_with_eight_workers(kit: Kit, site: Site) -> None:
    """Fetching 256 MB in eight files at once holds less than 150 MB."""
    names = [f"heavy{number}-1-py3-none-any.whl" for number in range(8)]
    site.index(dict.fromkeys(names, b""), digests=False)
    block, hashes = bytes(1 << 20), []
    for number, name in enumerate(names):
        first = bytes([number]) * (1 << 20)
        state = hashlib.sha256(first)
        for _ in range(31):
            state.update(block)
        hashes.append(state.hexdigest())

        def serve(handler: Handler, first: bytes = first) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(32 << 20))
            handler.end_headers()
            for part in [first, *[block] * 31]:
                handler.wfile.write(part)

        site.script(address(name), serve)
    code = """
        import sys
        from dataclasses import replace
        from pathlib import Path
        from test_fetch import SMALL, artifact, Digest, Fetcher, LIMITS, Remote, Store
        items = [
            replace(artifact(SMALL), project=f"heavy{number}", filename=f"heavy{number}-1-py3-none-any.whl",
                    sha256=Digest(hexed), size=32 << 20)
            for number, hexed in enumerate(sys.argv[3:])
        ]
        Fetcher(Store(Path(sys.argv[1])), Remote(limits=LIMITS), {"pypi": sys.argv[2]}).fetch(items)
        status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's peak too
        print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    """
    output, errors = script(code, kit.store.root, kit.pypi, *hashes).communicate(timeout=60)
    assert not errors
    assert int(output) < 150_000


def test_linking_fills_a_folder_by_hard_link(kit: Kit, tmp_path: Path) -> None:
    """`link` makes the folder hold exactly the artifacts, as the store's own files; foreign ones go."""
    folder = tmp_path / "lock" / "wheels"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "x").write_text("x")
    (folder / "torch-1-py3-none-any.whl").write_text("old")
    (folder / ".tmp-left").write_text("killed")
    (folder / ".gitignore").write_text("*\n")
    (folder / SMALL).write_text("wrong")
    (folder / MIDDLE).symlink_to("/etc/hostname")
    fetcher = kit.fetcher()
    fetcher.fetch(ALL)
    fetcher.link(ALL, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([".gitignore", *FILES])
    for name in FILES:
        assert (folder / name).samefile(kit.store.path(artifact(name).sha256))
    inodes = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    fetcher.link(ALL, folder)
    assert inodes == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="another file system is needed: /dev/shm")  # noqa: S108
def test_linking_to_another_file_system_copies(kit: Kit, tmp_path: Path) -> None:
    """FAULTS 38: where no hard link can be made the bytes are copied, and kept where they are already right."""
    fetcher = kit.fetcher()
    fetcher.fetch(ALL)
    folder = Path("/dev/shm") / f"torchlock-{os.getpid()}" / "wheels"  # noqa: S108 - a file system of its own
    try:
        fetcher.link(ALL, folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
        assert folder.stat().st_dev != tmp_path.stat().st_dev
        inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
        (folder / SMALL).chmod(0o644)
        (folder / SMALL).write_bytes(b"sMall")
        fetcher.link(ALL, folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
        assert inodes[LARGE] == (folder / LARGE).stat().st_ino
    finally:
        shutil.rmtree(folder.parent)


def test_linking_verifies_first(kit: Kit, tmp_path: Path) -> None:
    """FAULTS 36: a damaged object is not linked: it counts as missing, and the next command is named."""
    fetcher = kit.fetcher()
    fetcher.fetch(ALL)
    path = kit.store.path(artifact(SMALL).sha256)
    path.chmod(0o644)
    path.write_bytes(b"sMall")
    with pytest.raises(StoreError) as caught:
        fetcher.link(ALL, tmp_path / "wheels")
    assert str(caught.value) == f"{kit.store.root}: {SMALL} is not there; try: make fetch-<profile>"
    assert not (tmp_path / "wheels" / SMALL).exists()
