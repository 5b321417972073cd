"""Prefixes: the manifest and the records of an environment, and what is refused of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from condas import FEW, URL, Shop, locked, standing
from torchlock.conda import prefix
from torchlock.errors import CondaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Give an environment as it was built."""
    with standing(tmp_path, FEW) as made:
        yield made


def test_record(shop: Shop) -> None:
    """A record that was edited together with its file is found out: the manifest holds its digest."""
    path = shop.env / "conda-meta/data-1.0-h0_0.json"
    value = json.loads(path.read_text())
    value["paths_data"]["paths"] = []
    path.write_text(json.dumps(value))
    issues = prefix.verify(shop.env, prefix.read_manifest(shop.env), shop.reporter)
    assert issues == ["conda-meta/data-1.0-h0_0.json: changed or missing"]


def test_moved(shop: Shop) -> None:
    """An environment that was moved is not what it was built as: its scripts hold another path."""
    other = shop.env.rename(shop.root / "elsewhere")
    assert prefix.verify(other, prefix.read_manifest(other), shop.reporter) == ["elsewhere: the environment was moved"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "{"])
def test_no_manifest(shop: Shop, text: str) -> None:
    """A manifest that this torchlock did not write is refused, and the environment is then built anew."""
    (shop.env / "torchlock.json").write_text(text)
    with pytest.raises(CondaError):
        prefix.read_manifest(shop.env)
    (issue,) = shop.envs.differences(locked(URL, FEW))
    assert issue.startswith("torchlock.json: ")


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"name": "x", "version": "1", "build": "0", "paths_data": {"paths": [1]}}']
)
def test_bad_record(shop: Shop, text: str) -> None:
    """A record that is none is refused in one line."""
    (shop.env / "conda-meta/x.json").write_text(text)
    with pytest.raises(CondaError, match=r"conda-meta/x\.json: "):
        prefix.read(shop.env)
