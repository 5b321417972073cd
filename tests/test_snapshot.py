"""Snapshots: pages stored deterministically, and read only if they are what torchlock writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.indexes.snapshot import File, Metadata, Page, Snapshot, is_supported, parse

QUIET = settings(deadline=None, database=None, derandomize=True, max_examples=150)
HEX = "0" * 64
FULL = File(
    name="alpha-1.0-py3-none-any.whl",
    sha256=Digest(HEX),
    size=5,
    upload_time="2024-02-05T23:58:36.155264Z",
    requires_python=">=3.9",
    yanked="broken on Mondays",
    metadata=Metadata(
        requires_dist=("beta>=1 ; extra == 'x'", "gamma"), provides_extra=("x",), sha256=Digest("1" * 64)
    ),
    evidence={"sha256": "computed"},
)
BARE = File(name="alpha-2.0-py3-none-any.whl")
PAGE = Page(index="pypi", project="alpha", files={BARE.name: BARE, FULL.name: FULL})
TEXT = """\
{"schema": 1, "index": "pypi", "project": "alpha", "files": {
  "alpha-1.0-py3-none-any.whl": {"sha256": "ZERO", "size": 5, "upload-time": "2024-02-05T23:58:36.155264Z", \
"requires-python": ">=3.9", "yanked": "broken on Mondays", "evidence": {"sha256": "computed"}, \
"requires-dist": ["beta>=1 ; extra == 'x'", "gamma"], "provides-extra": ["x"], "metadata-sha256": "ONE"},
  "alpha-2.0-py3-none-any.whl": {}
}}
""".replace("ZERO", "0" * 64).replace("ONE", "1" * 64)


def stored(root: Path, data: bytes) -> Snapshot:
    """Return a snapshot whose page of alpha on pypi has these bytes."""
    path = root / "pypi" / "alpha.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return Snapshot(root)


def refused(root: Path, text: str) -> str:
    """Return the message with which a page is refused."""
    with pytest.raises(SnapshotError) as caught:
        stored(root, text.encode()).page("pypi", "alpha")
    return str(caught.value)


def test_a_page_has_one_line_a_file_sorted_and_only_what_is_known() -> None:
    """The bytes are a function of the values: not of the order in which files were found."""
    assert PAGE.to_json().decode() == TEXT
    assert replace(PAGE, files={FULL.name: FULL, BARE.name: BARE}).to_json().decode() == TEXT


def test_an_empty_page_is_json() -> None:
    """A project without wheels is recorded, too."""
    assert json.loads(replace(PAGE, files={}).to_json())["files"] == {}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Every value survives; so does an empty page, and the second writing changes nothing."""
    for page in (PAGE, replace(PAGE, files={})):
        snapshot = Snapshot(tmp_path)
        assert snapshot.write(page)
        assert snapshot.page("pypi", "alpha") == page
        assert Snapshot(tmp_path).page("pypi", "alpha") == page
        assert not Snapshot(tmp_path).write(page)
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / f"{'0' * 64}.json").write_text("{}")
    assert Snapshot(tmp_path).pages() == [("pypi", "alpha")], "facts are no page"


def test_what_was_not_recorded_is_none_until_it_is(tmp_path: Path) -> None:
    """An absent page is None, and no longer once it was written."""
    snapshot = Snapshot(tmp_path)
    assert snapshot.page("pypi", "alpha") is None
    snapshot.write(PAGE)
    assert snapshot.page("pypi", "alpha") == PAGE
    assert snapshot.page("other", "alpha") is None


def test_a_page_is_read_once(tmp_path: Path) -> None:
    """A run sees one state of a page, whatever happens to the file meanwhile."""
    snapshot = stored(tmp_path, TEXT.encode())
    snapshot.page("pypi", "alpha")
    snapshot.path("pypi", "alpha").unlink()
    assert snapshot.page("pypi", "alpha") == PAGE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"size": 5', '"size": "5"', "TypeError: alpha-1.0-py3-none-any.whl: size is '5'"),
        ('"size": 5', '"size": 5.0', "size is 5.0"),
        ('"size": 5', '"size": true', "size is True"),
        ('"size": 5', '"size": NaN', "size is nan"),
        ('"size": 5', '"size": null', "size is None"),
        ('"size": 5', '"size": 5, "size": 5', "line 2 is not as torchlock writes it"),
        ('"size": 5', '"size": 5, "colour": 5', "colour is 5"),
        ('"size": 5', '"size": 05', "JSONDecodeError"),
        (f'"sha256": "{HEX}"', f'"sha256": "{HEX[1:]}"', "not a sha256 of 64 lower-case hexadecimal digits"),
        (f'"sha256": "{HEX}"', '"sha256": 5', "sha256 is 5"),
        ('["beta>=1', '[5, "beta>=1', "requires-dist is [5"),
        ('["x"]', '"x"', "provides-extra is 'x'"),
        ('"gamma"', '"gamma\\nRequires-Dist: evil"', "requires-dist is"),
        ('">=3.9"', '"\\ud800"', "requires-python is"),
        ('{"sha256": "computed"}', "[]", "evidence is []"),
        ('"alpha-2.0-py3-none-any.whl": {}', '"alpha-2.0-py3-none-any.whl": []', "AttributeError"),
        ("alpha-2.0-", "beta-2.0-", "'beta-2.0-py3-none-any.whl' is no wheel of alpha"),
        ("alpha-2.0-py3-none-any.whl", "alpha-2.0.tar.gz", "'alpha-2.0.tar.gz' is no wheel of alpha"),
        ("alpha-2.0-py3", "../alpha-2.0-py3", "'../alpha-2.0-py3-none-any.whl' is no wheel of alpha"),
        ('"project": "alpha"', '"project": "beta"', "pypi/beta; expected pypi/alpha"),
        ('"index": "pypi"', '"index": "other"', "other/alpha; expected pypi/alpha"),
        ('"schema": 1', '"schema": 2', "schema 2; expected 1 at most; try: a newer torchlock"),
        ('"schema": 1', '"schema": true', "line 1 is not as torchlock writes it"),
        ('"schema": 1, ', "", "KeyError: 'schema'"),
        ("\n", "\r\n", "line 1 is not as torchlock writes it (it has CRLF line ends)"),
        ("}}\n", "}}", "line 5 is not as torchlock writes it"),
        ("{", "<<<<<<< HEAD\n{", "JSONDecodeError"),
        (TEXT, "[" * 100_000, "RecursionError"),
        (TEXT, "[]", "TypeError"),
        (TEXT, "", "JSONDecodeError"),
    ],
)
def test_a_page_that_torchlock_does_not_write_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A wrong type, an unknown or double key, another file's page, a conflict: the place and a remedy are named."""
    assert old in TEXT
    message = refused(tmp_path, TEXT.replace(old, new, 1))
    assert message.startswith("lockfiles/index/pypi/alpha.json: ")
    assert said in message
    assert "try: git checkout -- lockfiles/index/pypi/alpha.json" in message or "a newer torchlock" in message
    assert len(message) < 600


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A page that is not UTF-8 is a SnapshotError, too."""
    with pytest.raises(SnapshotError, match="not a recorded page"):
        stored(tmp_path, TEXT.encode() + b"\xff").page("pypi", "alpha")


def test_a_page_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's refusal is told with the page's place."""

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    snapshot = stored(tmp_path, TEXT.encode())
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(SnapshotError, match=r"lockfiles/index/pypi/alpha\.json: cannot be read: Permission denied"):
        snapshot.page("pypi", "alpha")


@QUIET
@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 40), new=st.binary(max_size=12))
def test_any_edit_is_refused_as_a_snapshot_error_or_is_another_page(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, new: bytes
) -> None:
    """Whatever bytes stand in a page, reading gives a page with just these bytes, or SnapshotError."""
    data = TEXT.encode()
    edited = data[:start] + new + data[start + length :]
    try:
        page = stored(tmp_path_factory.getbasetemp(), edited).page("pypi", "alpha")
    except SnapshotError:
        return
    assert page is not None
    assert page.to_json() == edited


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["sha256", "size", "upload-time", "requires-python", "yanked", "evidence", "requires-dist", "provides-extra"]


@QUIET
@given(record=st.dictionaries(st.sampled_from([*KEYS, "metadata-sha256", "x"]), JSON, max_size=4) | JSON)
def test_any_value_is_refused_as_a_snapshot_error_or_is_kept(
    tmp_path_factory: pytest.TempPathFactory, record: Any
) -> None:
    """Whatever JSON stands for a file, no other exception comes out, and what is taken is of the right types."""
    head = '{"schema": 1, "index": "pypi", "project": "alpha", "files": {\n  "alpha-1-py3-none-any.whl": '
    data = f"{head}{json.dumps(record)}\n}}}}\n".encode()
    try:
        page = stored(tmp_path_factory.getbasetemp(), data).page("pypi", "alpha")
    except SnapshotError:
        return
    assert page is not None
    file = page.files["alpha-1-py3-none-any.whl"]
    assert file.size is None or type(file.size) is int
    assert file.requires_python is None or type(file.requires_python) is str


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("torch-2.2.2+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("numpy-1.26.4-cp310-cp310-macosx_11_0_arm64.whl", True),
        ("alpha-1.0-2-py2.py3-none-any.whl", True),
        ("numpy-1.26.4-cp39-cp39-win_amd64.whl", False),
        ("numpy-1.26.4-cp311-cp311-musllinux_1_1_x86_64.whl", False),
        ("numpy-1.26.4-pp39-pypy39_pp73-win_amd64.whl", False),
        ("numpy-1.26.4.tar.gz", False),
        ("alpha-1.0-1\x1b[2J-py3-none-any.whl", False),
        ("alpha-1.0-py3-none-any.whl\n", False),
        ("alpha-one-py3-none-any.whl", False),
        ("", False),
    ],
)
def test_only_wheels_that_some_lock_could_take_are_recorded(name: str, known: bool) -> None:
    """Sources, other Pythons, other systems and strange names are passed over."""
    assert is_supported(name) is known


@QUIET
@given(st.text(max_size=60) | st.text(alphabet="a1-._+!pyw", max_size=40).map(lambda text: f"{text}.whl"))
def test_a_name_is_a_wheels_or_none(name: str) -> None:
    """No name breaks the parser."""
    parsed = parse(name)
    assert parsed is None or str(parsed[0])
