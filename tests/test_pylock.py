"""The text of a lock file: plain TOML, PEP 751, and nothing that torchlock does not write."""

from __future__ import annotations

import pytest
import tomli_w

import locks
from torchlock.locks import pylock


@pytest.mark.parametrize("kind", ["vcs", "directory", "archive", "sdist"])
def test_only_wheels(kind: str) -> None:
    """An entry that is no wheel is refused, beside a wheel and in place of one."""
    entry = {
        "vcs": {"type": "git", "url": "https://x/", "commit-id": "1"},
        "directory": {"path": "x"},
        "archive": {"path": "x.zip", "hashes": {"sha256": locks.NUMPY.sha256.hex}},
        "sdist": {"path": "numpy-1.26.4.tar.gz", "hashes": {"sha256": locks.NUMPY.sha256.hex}},
    }[kind]
    value = locks.document()
    value["packages"][0][kind] = entry
    assert f"{locks.WHERE}: packages[0]" in locks.refused(tomli_w.dumps(value))
    del value["packages"][0]["wheels"]
    assert f"{locks.WHERE}: packages[0].{kind}: torchlock writes no such key" in locks.refused(tomli_w.dumps(value))


def test_two_wheels() -> None:
    """A package with a second wheel is refused."""
    value = locks.document()
    value["packages"][0]["wheels"] *= 2
    assert f"{locks.WHERE}: packages[0].wheels: 2 wheels; expected exactly one" in locks.refused(tomli_w.dumps(value))


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> theirs", "||||||| base"])
def test_merge_conflict(marker: str) -> None:
    """What a merge left behind is named as such, with its line."""
    message = locks.refused(locks.edited("created-by", f"{marker}\ncreated-by"))
    assert message == f"{locks.WHERE}: line 7: a merge conflict is left: {marker}; try: make lock"


def test_line_ends() -> None:
    """CRLF is refused with what to set in git."""
    expected = (
        f"{locks.WHERE}: has CRLF line ends; expected LF alone; try: keep `lockfiles/** -text` "
        f"in .gitattributes (or git config core.autocrlf false), then git checkout -- {locks.WHERE}"
    )
    assert locks.refused(locks.TEXT.replace("\n", "\r\n")) == expected
    assert "CRLF" in locks.refused(locks.edited("\n", "\r"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark(encoding: str) -> None:
    """A byte-order mark is refused by that name."""
    assert locks.refused(locks.TEXT.encode(encoding)).startswith(
        f"{locks.WHERE}: begins with a byte-order mark; expected plain UTF-8"
    )


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "Missing required value"),
        (b"\0", "is not TOML"),
        (b"x = \xff", "byte 4 is not UTF-8"),
        (b"a" * (pylock.LIMIT + 1), "has more than 4194304 bytes"),
        (b"a = " + b"[\n" * 100_000, "is nested too deep"),
        (b"a = " + b"[" * 900 + b"]" * 90, "is "),
        (b"a." * 200_000 + b"b = 1", "line 1: is not a line that torchlock writes"),
        (b"[" + b"a." * 200_000 + b"b]", "line 1: is not a line that torchlock writes"),
        (b'"a"."b".' * 20 + b"c = 1", "line 1: is not a line that torchlock writes"),
        (b"'\"'." + b"a." * 20 + b"a = '\"'", "line 1: is not a line that torchlock writes"),
        (b't = {a = """\n""", ' + b"b." * 20 + b'b = "" }', "line 1: is not a line that torchlock writes"),
        (b'x = "' + b"x" * 1000 + b'"', "line 1: is not a line that torchlock writes"),
        (b"x = " + b"9" * 900, ""),
        (b"packages = 1\ntool = 2", ""),
        (b"tool.torchlock = 1", ""),
        (b"[tool.torchlock]\nschema = 99\n", "schema 99 was written by a newer torchlock; expected 2; try: git pull"),
    ],
    ids=range(16),
)
def test_no_lock_at_all(data: bytes, found: str) -> None:
    """Rubbish and bombs are refused in one line, at once."""
    message = locks.refused(data)
    assert message.startswith(f"{locks.WHERE}: ")
    assert found in message
    assert len(message) < 400
