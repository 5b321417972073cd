"""The network client against real servers on loopback that misbehave on purpose."""

from __future__ import annotations

import gzip
import os
import random
import re
import ssl
import subprocess
import threading
import time
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from servers import (
    Notes,
    Site,
    cut,
    drip,
    drip_headers,
    endless,
    ignoring_range,
    redirect,
    reset,
    serving,
    stall,
    status,
    wrong_offset,
)
from torchlock.errors import NetworkError
from torchlock.network.remote import Limits, Remote, StatusError, TransientError
from torchlock.network.transport import origin, redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = Limits(
    tries=4,
    budget=20,
    pause=0.001,
    longest_pause=0.05,
    connect=10,
    read=10,
    rate=1000,
    rate_window=0.1,
    small=1 << 20,
    block=1024,
)
BIG = b"".join(number.to_bytes(4, "big") for number in range(75_000))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in {"REQUESTS_CA_BUNDLE", "NETRC"}:
            monkeypatch.delenv(name)


@pytest.fixture
def site() -> Iterator[Site]:
    """Run a server with a small and a large file."""
    with serving({"/a": b"alpha", "/big": BIG}) as served:
        yield served


@pytest.fixture
def remote() -> Iterator[Remote]:
    """Make a client whose patience is short."""
    client = Remote(limits=LIMITS)
    yield client
    client.close()


def whole(remote: Remote, url: str, offset: int = 0) -> tuple[int, int | None, bytes]:
    """Read a stream to its end."""
    with remote.stream(url, offset) as body:
        return body.start, body.total, b"".join(body.blocks)


def append(remote: Remote, url: str, got: bytearray) -> None:
    """Add a stream's blocks as they come."""
    with remote.stream(url) as body:
        for block in body.blocks:
            got += block


def test_a_small_answer_has_address_headers_and_body(site: Site, remote: Remote) -> None:
    """`get` returns the final address, headers by lower-case name, and the whole body."""
    site.script("/old", redirect("/a"))
    site.headers["/a"] = {"X-Kind": "greek"}
    answer = remote.get(f"{site.url}/old", accept="text/plain")
    assert (answer.url, answer.headers["x-kind"], answer.body) == (f"{site.url}/a", "greek", b"alpha")
    assert site.seen[0].headers["accept"] == "text/plain"
    assert site.seen[0].headers["user-agent"].startswith("torchlock requests/")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_two_failures_and_then_a_good_answer_is_success(site: Site, code: int) -> None:
    """FAULTS 15: a status that may pass is tried again, and each wait is said."""
    notes = Notes()
    site.script("/a", status(code), status(code))
    assert Remote(notes, LIMITS).get(f"{site.url}/a").body == b"alpha"
    assert notes.notes[0] == f"{site.url}/a: answered {code}; trying again in 0.0 s"
    assert len(notes.notes) == 2


def test_500_for_ever_is_refused_within_the_budget(site: Site, remote: Remote) -> None:
    """FAULTS 15: the tries are counted, and the refusal says how many there were."""
    site.script("/a", status(500), forever=True)
    with pytest.raises(NetworkError) as caught:
        remote.get(f"{site.url}/a")
    said = re.sub(r"in \d+ s", "in # s", str(caught.value))
    assert (
        said == f"{site.url}/a: answered 500 (4 times in # s); try: the same again later, or another index with MIRROR="
    )
    assert site.asked("/a") == 4


def test_the_budget_of_seconds_ends_the_tries(site: Site) -> None:
    """FAULTS 15: with tries left, no time left is the end too."""
    site.script("/a", status(503, {"Retry-After": "1"}), forever=True)
    remote = Remote(limits=Limits(tries=1000, budget=0.1, longest_pause=0.04))
    since = time.monotonic()
    with pytest.raises(NetworkError, match="answered 503"):
        remote.get(f"{site.url}/a")
    assert time.monotonic() - since < 10
    assert site.asked("/a") <= 4


@pytest.mark.parametrize("text", ["3600", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "99999999999999999999"])
def test_retry_after_is_capped(site: Site, remote: Remote, text: str) -> None:
    """FAULTS 16: an hour's Retry-After costs the longest pause, not an hour."""
    site.script("/a", status(429, {"Retry-After": text}))
    since = time.monotonic()
    assert remote.get(f"{site.url}/a").body == b"alpha"
    assert 0.05 <= time.monotonic() - since < 10


def test_retry_after_is_honoured_below_the_cap(site: Site) -> None:
    """FAULTS 16: a server that asks for a second gets it, though the own pause is shorter."""
    notes = Notes()
    site.script("/a", status(503, {"Retry-After": "1"}))
    remote = Remote(notes, Limits(pause=0.001, longest_pause=5))
    assert remote.get(f"{site.url}/a").body == b"alpha"
    assert notes.notes == [f"{site.url}/a: answered 503; trying again in 1.0 s"]


def test_a_retry_after_that_makes_no_sense_is_passed_over(site: Site, remote: Remote) -> None:
    """A Retry-After that is neither seconds nor a date is no reason to fail."""
    site.script("/a", *(status(503, {"Retry-After": text}) for text in ("tomorrow", "\xb2")))
    assert remote.get(f"{site.url}/a").body == b"alpha"


def test_a_dropped_connection_is_tried_again(site: Site, remote: Remote) -> None:
    """A server that hangs up without an answer, or within one, is asked again."""
    site.script("/a", reset, cut(2))
    assert remote.get(f"{site.url}/a").body == b"alpha"
    assert site.asked("/a") == 3


def test_nothing_listening_is_refused_in_plain_words(remote: Remote) -> None:
    """FAULTS 21: an index that is not there is named, with the system's word for it."""
    with serving() as gone:
        url = gone.url
    with pytest.raises(NetworkError, match=r"/a: no connection \(Connection refused\) \(4 times in"):
        remote.get(f"{url}/a")


def test_a_server_that_never_answers_is_left(site: Site) -> None:
    """The read timeout ends the wait for an answer."""
    site.script("/a", stall, forever=True)
    with pytest.raises(NetworkError, match="no answer in time"):
        Remote(limits=Limits(tries=2, pause=0.001, read=0.05)).get(f"{site.url}/a")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            401,
            "asks for a user and password (401); try: put them into the index's address, https://user:password@host/…",
        ),
        (403, "forbids it (403); try: check the address and the rights of its user"),
        (404, "has nothing there (404); try: check the address of the index, or name another with MIRROR="),
        (418, "answered 418"),
    ],
)
def test_a_no_is_said_at_once_and_clearly(site: Site, remote: Remote, code: int, message: str) -> None:
    """FAULTS 21: 401, 403 and 404 are not tried again, and say what to do; `code` tells them apart."""
    site.script("/a", status(code), forever=True)
    with pytest.raises(StatusError) as caught:
        remote.get(f"{site.url}/a")
    assert str(caught.value) == f"{site.url}/a: {message}"
    assert caught.value.code == code
    assert site.asked("/a") == 1


def test_a_redirect_loop_is_refused(site: Site, remote: Remote) -> None:
    """FAULTS 16: after five redirects there is no sixth."""
    site.script("/a", redirect("/b"), forever=True)
    site.script("/b", redirect("/a"), forever=True)
    with pytest.raises(NetworkError) as caught:
        remote.get(f"{site.url}/a")
    assert str(caught.value) == f"{site.url}/a: redirected more than 5 times; expected an end to it"
    assert site.asked("/a") + site.asked("/b") == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:text/plain,x", "javascript:x"])
def test_a_redirect_to_another_scheme_is_refused(site: Site, remote: Remote, target: str) -> None:
    """FAULTS 16: a redirect leads to http or https, never to a file."""
    site.script("/a", redirect(target))
    scheme = target.partition(":")[0]
    with pytest.raises(NetworkError) as caught:
        remote.get(f"{site.url}/a")
    assert str(caught.value) == f"{site.url}/a: redirected to a {scheme}: address; expected http or https"


def test_a_redirect_to_no_address_is_refused(site: Site, remote: Remote) -> None:
    """FAULTS 16: a redirect that cannot be read as an address is one line, not a traceback."""
    site.script("/a", redirect("http://[::1/x"))
    with pytest.raises(NetworkError, match=r"/a: redirected to what is no address \(Invalid IPv6 URL\)"):
        remote.get(f"{site.url}/a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "//host/a", "simple/torch", "http:///a"])
def test_only_http_addresses_are_fetched(remote: Remote, url: str) -> None:
    """An address of another kind, or without a host, is refused before anything is opened."""
    with pytest.raises(NetworkError, match="not an address that is fetched from"):
        remote.get(url)


def test_a_redirect_from_https_to_http_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 16: what began encrypted does not go on in the clear; the own authority's certificate is accepted."""
    context = authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    remote = Remote(limits=LIMITS)
    with serving({"/fine": b"fine"}, tls=context) as secure:
        secure.script("/a", redirect(f"{site.url}/a"))
        assert remote.get(f"{secure.url}/fine").body == b"fine"
        with pytest.raises(NetworkError) as caught:
            remote.get(f"{secure.url}/a")
        assert str(caught.value) == f"{secure.url}/a: redirected from https to {site.url}/a; expected https to the end"
        remote.close()
    assert not site.seen


def test_a_certificate_that_the_system_does_not_trust_is_refused(tmp_path: Path) -> None:
    """A self-signed certificate is not accepted, not tried again, and the message says how to add an authority."""
    with serving(tls=authority(tmp_path)) as secure:
        with pytest.raises(NetworkError) as caught:
            Remote(limits=LIMITS).get(f"{secure.url}/a")
        assert str(caught.value) == (
            f"{secure.url}/a: certificate not trusted (self-signed certificate); expected one that the system trusts; "
            "try: SSL_CERT_FILE=<file with your certificate authority>"
        )


def authority(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1 that signs itself."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    arguments = [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(arguments, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_credentials_are_sent_to_their_own_origin_only(site: Site, remote: Remote) -> None:
    """FAULTS 23: user and password of an address go to its host and port, also for links there, and nowhere else."""
    with serving({"/a": b"other"}) as other:
        site.script("/away", redirect(f"{other.url}/a"))
        site.script("/near", redirect("/a"))
        base = site.url.replace("://", "://us%40er:p%3Aw@")
        answer = remote.get(f"{base}/near")
        assert remote.get(f"{base}/away").body == b"other"
        assert remote.get(f"{site.url}/big").body == BIG
        assert answer.url == f"{site.url}/a"
        sent = [seen.headers.get("authorization") for seen in site.seen]
        assert sent == ["Basic dXNAZXI6cDp3"] * 4
        assert [seen.headers.get("authorization") for seen in other.seen] == [None]


@pytest.mark.parametrize("code", [401, 500, 302])
def test_credentials_are_in_no_error_and_no_note(site: Site, code: int) -> None:
    """FAULTS 23: neither user, password nor the query of a signed address is repeated."""
    notes = Notes()
    site.script("/a", status(code, {"Location": "/a?signature=hidden"}), forever=True)
    url = site.url.replace("://", "://someone:s3cret@") + "/a?token=hidden#hidden"
    with pytest.raises(NetworkError) as caught:
        Remote(notes, LIMITS).get(url)
    said = str(caught.value) + repr(caught.value.args) + " ".join(notes.notes)
    assert f"{site.url}/a" in said
    assert "someone" not in said
    assert "s3cret" not in said
    assert "hidden" not in said


def test_a_malformed_address_is_not_repeated() -> None:
    """FAULTS 23: a password with a slash breaks the address; the refusal shows none of it."""
    with pytest.raises(NetworkError) as caught:
        origin("https://someone:s3/cret@host/simple/")
    assert "s3" not in str(caught.value)
    assert redact("http://[broken") == "an address that is no URL"


def test_a_netrc_file_is_not_used(site: Site, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~/.netrc entry for the host sends no credentials that the index's address does not have."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    remote.get(f"{site.url}/a")
    assert "authorization" not in site.seen[0].headers


def test_the_proxy_of_the_environment_is_used(site: Site, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is honoured, NO_PROXY too, and the proxy's password is in no error."""
    site.script("http://elsewhere.invalid/a", status(200, body=b"through"), reset, forever=True)
    monkeypatch.setenv("http_proxy", site.url.replace("://", "://someone:s3cret@"))
    assert remote.get("http://elsewhere.invalid/a").body == b"through"
    assert site.seen[0].headers["proxy-authorization"].startswith("Basic ")
    with pytest.raises(NetworkError) as caught:
        remote.get("http://elsewhere.invalid/a")
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving({"/direct": b"direct"}) as other:
        assert remote.get(f"{other.url}/direct").body == b"direct"
        assert len(other.seen) == 1


def test_a_socks_proxy_is_never_passed_by(site: Site, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy of the environment is used or refused, but no connection goes around it."""
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:1")
    with pytest.raises(NetworkError, match=r"a proxy of this kind cannot be used here; expected http|no connection"):
        remote.get(f"{site.url}/a")
    assert not site.seen


def test_gzip_pages_are_inflated_up_to_the_limit(site: Site, remote: Remote) -> None:
    """A compressed page is read, and one that inflates past the limit is refused before it fills the memory."""
    site.script("/a", status(200, {"Content-Encoding": "gzip"}, gzip.compress(b"page")))
    assert remote.get(f"{site.url}/a").body == b"page"
    site.script("/a", status(200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50 << 20))))
    with pytest.raises(NetworkError, match="more than 1048576 bytes; expected a smaller answer"):
        remote.get(f"{site.url}/a")
    site.script("/a", status(200, {"Content-Encoding": "gzip"}, gzip.compress(b"page")[:-9]), forever=True)
    with pytest.raises(NetworkError, match="its gzip ended early"):
        remote.get(f"{site.url}/a")
    site.script("/a", status(200, {"Content-Encoding": "gzip"}, b"page"), forever=True)
    with pytest.raises(NetworkError, match="its gzip is broken"):
        remote.get(f"{site.url}/a")
    site.script("/a", status(200, {"Content-Encoding": "br"}, b"?"), forever=True)
    with pytest.raises(NetworkError, match="Content-Encoding 'br'; expected gzip or none"):
        remote.get(f"{site.url}/a")


def test_a_small_answer_without_end_is_stopped(site: Site, remote: Remote) -> None:
    """FAULTS 17: `get` reads no more than its limit."""
    site.script("/a", endless)
    with pytest.raises(NetworkError, match="more than 5000 bytes"):
        remote.get(f"{site.url}/a", limit=5000)


@pytest.mark.parametrize("fault", [drip(0.02), drip(0.02, head=900), drip(0.02, head=90_000), drip_headers(0.02)])
def test_a_drip_is_refused_by_the_minimum_rate(site: Site, fault: object) -> None:
    """FAULTS 17: bytes that come one by one never run into a read timeout, yet are refused, in headers too."""
    site.script("/big", fault, forever=True)  # type: ignore[arg-type]
    limits = Limits(tries=2, pause=0.001, connect=0.1, read=0.2, rate=10_000, rate_window=0.1)
    since = time.monotonic()
    with pytest.raises(NetworkError, match=r"too slow|no answer in time"):
        Remote(limits=limits).get(f"{site.url}/big")
    assert time.monotonic() - since < 20


def test_a_stream_starts_where_it_is_asked_to(site: Site, remote: Remote) -> None:
    """`stream` yields the offset served, the size of the whole file, and the bytes from there, undecoded."""
    assert whole(remote, f"{site.url}/big") == (0, len(BIG), BIG)
    assert whole(remote, f"{site.url}/big", 123) == (123, len(BIG), BIG[123:])
    assert [seen.headers["accept-encoding"] for seen in site.seen] == ["identity", "identity"]


@pytest.mark.parametrize("fault", [ignoring_range, wrong_offset, status(416), status(206, body=b"no range named")])
def test_a_wrong_answer_to_a_range_starts_from_zero(site: Site, remote: Remote, fault: object) -> None:
    """FAULTS 18: bytes of another offset are never spliced: the stream says that it starts at 0."""
    site.script("/big", fault)  # type: ignore[arg-type]
    assert whole(remote, f"{site.url}/big", 1000) == (0, len(BIG), BIG)


def test_a_stream_that_breaks_says_so_and_can_go_on(site: Site, remote: Remote) -> None:
    """FAULTS 14: a short body raises TransientError after its good bytes were yielded."""
    site.script("/big", cut(1000))
    got = bytearray()
    with pytest.raises(TransientError, match="the body ended 299000 bytes early"):
        append(remote, f"{site.url}/big", got)
    assert got == BIG[:1000]
    assert got + whole(remote, f"{site.url}/big", len(got))[2] == BIG


def test_hanging_up_ends_a_read_at_once(site: Site, remote: Remote) -> None:
    """`hang_up` from another thread wakes one that waits for bytes, and a set `stop` ends its tries."""
    site.script("/big", drip(30, head=10))
    stop = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            with remote.stream(f"{site.url}/big", budget=remote.budget(stop)) as body:
                list(body.blocks)
        except NetworkError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while not site.seen:
        time.sleep(0.001)
    time.sleep(0.05)
    since = time.monotonic()
    stop.set()
    remote.hang_up()
    thread.join()
    assert time.monotonic() - since < 5
    assert isinstance(errors[0], TransientError)


def test_a_remote_zip_is_read_by_ranges(site: Site, remote: Remote) -> None:
    """A `range_reader` starts with the tail, knows its size, and fetches only the blocks that are read."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("big.bin", BIG)
        archive.writestr("x.dist-info/METADATA", "Name: x\n")
    site.files["/x.whl"] = content.getvalue()
    with remote.range_reader(f"{site.url}/x.whl") as file:
        assert file.size == len(content.getvalue())
        assert zipfile.ZipFile(file).read("x.dist-info/METADATA") == b"Name: x\n"
        assert site.sent < 5000
    assert site.seen[0].headers["range"] == "bytes=-1024"


def test_random_reads_are_those_of_the_file(site: Site, remote: Remote) -> None:
    """Any order of seeks and reads gives the file's bytes, also at its end and beyond."""
    dice, local = random.Random(7), BytesIO(BIG)  # noqa: S311 - the same reads each time
    with remote.range_reader(f"{site.url}/big") as file:
        for _ in range(100):
            place, count = dice.randrange(len(BIG) + 2000), dice.choice([0, 1, 7, 1023, 1024, 5000, 80_000])
            assert file.seek(place) == local.seek(place)
            assert file.read(count) == local.read(count)
        file.seek(-5, 2)
        assert file.read() == BIG[-5:]
    assert site.sent < 100 * len(BIG)


def test_a_file_smaller_than_a_block_takes_one_request(site: Site, remote: Remote) -> None:
    """The tail of a small file is the whole file."""
    with remote.range_reader(f"{site.url}/a") as file:
        assert (file.size, file.read()) == (5, b"alpha")
    assert len(site.seen) == 1


def test_a_server_without_ranges_is_read_whole_once(site: Site, remote: Remote) -> None:
    """FAULTS 18: 200 in answer to a range is taken as the whole file; a break within it starts it again."""
    site.script("/big", cut(10, length=True), ignoring_range, forever=True)
    site.faults["/big"].insert(0, _cut_whole)
    with remote.range_reader(f"{site.url}/big") as file:
        assert file.size == len(BIG)
        file.seek(1000)
        assert file.read(10) == BIG[1000:1010]
    with pytest.raises(NetworkError, match="more than 1000 bytes, and no ranges"):
        Remote(limits=Limits(large=1000)).range_reader(f"{site.url}/big")


def _cut_whole(handler: object) -> None:
    del handler.headers["Range"]  # type: ignore[attr-defined]
    cut(100)(handler)  # type: ignore[arg-type]


def test_a_server_that_knows_no_tail_is_asked_for_the_head(site: Site, remote: Remote) -> None:
    """A server that refuses suffix ranges is asked for the first block instead."""
    site.script("/big", status(501))
    with remote.range_reader(f"{site.url}/big") as file:
        assert (file.size, file.read(2000)) == (len(BIG), BIG[:2000])


@pytest.mark.parametrize("when", [0, 1])
def test_a_wrong_range_is_refused(site: Site, remote: Remote, when: int) -> None:
    """FAULTS 18: another offset than the one asked for is never taken, first or later."""
    site.script("/big", *[None] * when, wrong_offset)
    with pytest.raises(NetworkError, match=r"answered from byte|another range than the one asked for"):
        remote.range_reader(f"{site.url}/big").read(10)


def test_a_file_that_changes_while_it_is_read_is_refused(site: Site, remote: Remote) -> None:
    """Ranges of two different files are never put together: size and ETag must stay."""
    with remote.range_reader(f"{site.url}/big") as file:
        site.files["/big"] = BIG + b"more"
        with pytest.raises(NetworkError, match="the file changed while it was read"):
            file.read(10)
    site.headers["/a"] = {"ETag": '"1"'}
    site.files["/a"] = BIG
    with remote.range_reader(f"{site.url}/a") as file:
        site.headers["/a"] = {"ETag": '"2"'}
        with pytest.raises(NetworkError, match="the file changed while it was read"):
            file.read(10)


def test_a_range_that_lies_about_its_length_is_refused(site: Site, remote: Remote) -> None:
    """A partial answer has exactly the bytes that its Content-Range promises."""
    site.script("/a", status(206, {"Content-Range": "bytes 0-4/5"}, b"alph"), forever=True)
    with pytest.raises(NetworkError, match="4 bytes in a range of 5"):
        remote.range_reader(f"{site.url}/a")
    site.script("/a", status(206, body=b"alpha"), forever=True)
    with pytest.raises(NetworkError, match="a partial answer without a Content-Range and size"):
        remote.range_reader(f"{site.url}/a")


def test_a_dropped_range_is_tried_again(site: Site, remote: Remote) -> None:
    """A break within a range costs another request, not the whole read."""
    site.script("/big", cut(10), None, cut(10), reset)
    with remote.range_reader(f"{site.url}/big") as file:
        assert file.read(3000) == BIG[:3000]


def test_connections_are_used_again(site: Site, remote: Remote) -> None:
    """Ten small answers of one host come over one connection."""
    for _ in range(10):
        remote.get(f"{site.url}/a")
    assert len({seen.client for seen in site.seen}) == 1
