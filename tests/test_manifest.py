"""Manifests: written in one form, read strictly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import wheels
from torchlock.digest import Digest
from torchlock.environment import manifest
from torchlock.environment.manifest import Manifest
from torchlock.errors import EnvError
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from pathlib import Path

GOOD = Manifest(
    profile="demo-cpu",
    platform="linux-64",
    python="3.11.7",
    lock="sha256:1",
    place="sha256:2",
    base={"b": "sha256:3", "a": "sha256:4"},
    records={"x-1.dist-info": "sha256:5"},
)


class Bars(Silent):
    """A reporter that keeps the progress."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, int | None]] = []

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Keep the state."""
        self.said.append((task, done, total))


def test_form(tmp_path: Path) -> None:
    """A manifest is JSON with sorted keys that ends in a newline, and reads back as it was."""
    GOOD.write(tmp_path)
    text = (tmp_path / "torchlock.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
    assert manifest.read(tmp_path) == GOOD


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"schema": 2}, "schema is not what this torchlock writes"),
        ({"schema": True}, "schema is not what this torchlock writes"),
        ({"lock": 3}, "lock is not what this torchlock writes"),
        ({"records": []}, "records is not what this torchlock writes"),
        ({"more": ""}, "not the keys of a manifest"),
    ],
)
def test_strict(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    """A manifest of another schema, or with other keys or types, is refused."""
    GOOD.write(tmp_path)
    path = tmp_path / "torchlock.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EnvError) as refused:
        manifest.read(tmp_path)
    assert refused.value.found == found


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"3", b"null"])
def test_broken(tmp_path: Path, data: bytes) -> None:
    """A file that is no manifest at all is one line."""
    (tmp_path / "torchlock.json").write_bytes(data)
    with pytest.raises(EnvError):
        manifest.read(tmp_path)


def test_empty(tmp_path: Path) -> None:
    """An environment without its files fails with each of them, not with an exception."""
    site = "lib/python3.11/site-packages"
    issues = manifest.verify(tmp_path, GOOD, Silent())
    assert issues == [
        f"{tmp_path.name}: the environment was moved",
        "a: changed or missing",
        "b: changed or missing",
        f"{site}/x-1.dist-info/RECORD: changed or missing",
    ]


def test_progress(tmp_path: Path) -> None:
    """Verifying says how many bytes of how many are done, and ends with all of them."""
    site = tmp_path / "lib/python3.11/site-packages"
    (site / "x-1.dist-info").mkdir(parents=True)
    rows = []
    for number in range(1000):
        (site / f"{number}.py").write_bytes(b"x" * 10)
        rows.append(f"{number}.py,{_row(b'x' * 10)}\n")
    record = site / "x-1.dist-info/RECORD"
    record.write_text("".join(rows) + "x-1.dist-info/RECORD,,\n")
    made = Manifest(
        profile="demo-cpu",
        platform="linux-64",
        python="3.11.7",
        lock="sha256:1",
        place=manifest.place_of(tmp_path),
        base={},
        records={"x-1.dist-info": str(Digest.of_file(record))},
    )
    bars = Bars()
    assert manifest.verify(tmp_path, made, bars) == []
    assert bars.said[-1] == (f"checking {tmp_path.name}", 10_000, 10_000)
    assert 100 < len(bars.said) <= 201


def _row(data: bytes) -> str:
    return wheels.row(data)
