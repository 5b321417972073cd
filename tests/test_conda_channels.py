"""The recorded channels: what is stored comes back, and nothing else is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import recorded
from recorded import FULL, LOOSE, record, subdir
from torchlock.conda.channels import Channels, Record, check_address
from torchlock.errors import CondaError

if TYPE_CHECKING:
    from pathlib import Path

BLAS = record("libblas 3.9.0 1_mkl", "mkl", constrains=["blas * mkl"], track_features=["a", "b"], icon="x.png")
OLD = record("mkl 2023.1 h0_0", evidence=LOOSE)


def test_stored(tmp_path: Path) -> None:
    """A subdir is one line a package, sorted, and comes back as it was."""
    channels = recorded.recorded(tmp_path, subdir([OLD, BLAS]))
    data = channels.path("main", "linux-64").read_bytes()
    assert data == (
        b'{"schema": 1, "channel": "main", "subdir": "linux-64", "base-url": "https://conda.anaconda.org/main/linux-64/",'
        b' "records": {\n'
        b'  "libblas-3.9.0-1_mkl.conda": {"build": "1_mkl", "build_number": 0, "constrains": ["blas * mkl"], "depends":'
        b' ["mkl"], "md5": "' + BLAS.value["md5"].encode() + b'", "name": "libblas", "sha256": "'
        b"" + BLAS.sha256.hex.encode() + b'", "track_features": "a b", "version": "3.9.0", "evidence": {"kind":'
        b' "pixi.lock", "lockfiles": 2}},\n'
        b'  "mkl-2023.1-h0_0.conda": {"build": "h0_0", "build_number": 0, "depends": [], "md5": "'
        b"" + OLD.value["md5"].encode() + b'", "name": "mkl", "sha256": "' + OLD.sha256.hex.encode() + b'", "version":'
        b' "2023.1", "evidence": {"kind": "conda-lock", "lockfiles": 1}}\n'
        b"}}\n"
    )
    again = Channels(channels.root).subdir("main", "linux-64")
    assert again == subdir([BLAS, OLD])
    assert again is not None
    assert again.records[BLAS.filename].value == BLAS.value
    assert again.records[OLD.filename].evidence == LOOSE


def test_constrained() -> None:
    """A record that was read from a lock of conda-lock says nothing of constrains; any other does."""
    assert BLAS.constrained
    assert not OLD.constrained
    assert record("a 1 0", evidence={}).constrained


def test_published(tmp_path: Path) -> None:
    """Solvers see the real address, and records without constrains only where they are asked for."""
    channels = recorded.recorded(tmp_path, subdir([BLAS, OLD]))
    channels.publish(tmp_path / "strict", ["main"], ["linux-64"], loose=False)
    channels.publish(tmp_path / "loose", ["main"], ["linux-64"], loose=True)
    strict = json.loads((tmp_path / "strict/main/linux-64/repodata.json").read_bytes())
    loose = json.loads((tmp_path / "loose/main/linux-64/repodata.json").read_bytes())
    assert strict["info"] == {"subdir": "linux-64", "base_url": "https://conda.anaconda.org/main/linux-64/"}
    assert list(strict["packages.conda"]) == [BLAS.filename]
    assert list(loose["packages.conda"]) == [BLAS.filename, OLD.filename]
    assert "evidence" not in strict["packages.conda"][BLAS.filename]
    assert (tmp_path / "strict/main/noarch/repodata.json").is_file()


def test_digest(tmp_path: Path) -> None:
    """The digest is that of the wanted names alone, on the wanted platform."""
    one = recorded.recorded(tmp_path / "one", subdir([BLAS, OLD]))
    more = recorded.recorded(tmp_path / "more", subdir([BLAS, OLD, record("zlib 1 0")]))
    other = recorded.recorded(tmp_path / "other", subdir([BLAS, OLD, record("mkl 2024.0 h0_0")]))
    wanted = {"linux-64": ["libblas", "mkl"]}
    assert one.digest(["main"], wanted) == more.digest(["main"], wanted)
    assert one.digest(["main"], wanted) != other.digest(["main"], wanted)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('"schema": 1', '"schema": 2', "schema 2; expected 1 at most; try: a newer torchlock"),
        ('"channel": "main"', '"channel": "x"', "x/linux-64; expected main/linux-64"),
        ("https://conda", "https://u:p@conda", "not a recorded channel (ValueError: base-url is no https://host"),
        ('"version": "3.9.0"', '"version": 3', "not a recorded channel (TypeError: libblas-3.9.0-1_mkl.conda: version"),
        (
            '"version": "3.9.0"',
            '"version": "3.9.1"',
            "not a recorded channel (ValueError: 'libblas-3.9.0-1_mkl.conda' is",
        ),
        (
            '"build_number": 0, ',
            "",
            "not a recorded channel (ValueError: 'libblas-3.9.0-1_mkl.conda' has no build_number",
        ),
        ('"md5": "', '"md5": "zz', "not a recorded channel (ValueError: libblas-3.9.0-1_mkl.conda: md5 is"),
        (
            '"name": "libblas"',
            '"name": "libblas", "x": "y"',
            "not a recorded channel (TypeError: libblas-3.9.0-1_mkl.conda: x",
        ),
        (",\n", ", \n", "not a recorded channel (ValueError: it is not as torchlock writes it"),
        ("}}\n", "}}", "not a recorded channel (ValueError: it is not as torchlock writes it"),
    ],
)
def test_refused(tmp_path: Path, old: str, new: str, found: str) -> None:
    """A file that torchlock did not write so is refused, with what is wrong in it."""
    path = recorded.recorded(tmp_path, subdir([BLAS, OLD])).path("main", "linux-64")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CondaError) as caught:
        Channels(path.parents[1]).subdir("main", "linux-64")
    assert str(caught.value).startswith(f"lockfiles/index/conda/main/linux-64.json: {found}")


@pytest.mark.parametrize("missing", ["sha256", "name", "version", "build"])
def test_lacking(missing: str) -> None:
    """A record without its name or its sha256 is none: an md5 alone proves nothing."""
    value = {key: item for key, item in BLAS.value.items() if key != missing}
    with pytest.raises(ValueError, match=rf"has no {missing}$"):
        Record.make(BLAS.filename, value, FULL)


@pytest.mark.parametrize(
    "text", ["http://host.test/a/", "https://host/a", "https://u:p@host/a/", "https://host/a/?t=1", "file:///a/"]
)
def test_address(text: str) -> None:
    """Only plain https addresses, and http ones of this machine, are recorded."""
    assert check_address("http://127.0.0.1:8000/c/linux-64/")
    with pytest.raises(ValueError, match=r"^base-url is no https://host/channel/subdir/ without credentials$"):
        check_address(text)
