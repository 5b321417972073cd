"""The table of real wheels: what their bytes predict is what their import under NumPy 2 showed."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

import facts_evidence
from torchlock.digest import Digest

TABLE: dict[str, Any] = json.loads(facts_evidence.TABLE.read_bytes())
WHEELS: list[dict[str, Any]] = TABLE["wheels"]


def generations(item: dict[str, Any]) -> set[str]:
    """Return the generations of a wheel's modules."""
    return {predicted[0] for predicted, _ in item["modules"].values() if predicted != "none"}


def find(requirement: str) -> dict[str, Any]:
    """Return a copy of a wheel's part of the table."""
    return copy.deepcopy(next(item for item in WHEELS if item["requirement"] == requirement))


def test_the_table_is_broad_enough() -> None:
    """At least 60 wheels of 25 packages, most of them in a version before and one after their NumPy 2 build."""
    packages: dict[str, set[str]] = {}
    for item in WHEELS:
        packages.setdefault(item["requirement"].partition("==")[0], set()).update(generations(item))
    both = [name for name, found in packages.items() if found == {"1", "2"}]
    assert len(WHEELS) >= 60
    assert len(packages) >= 25
    assert len(both) >= 25
    assert any(not found for found in packages.values())
    assert all(Digest(item["sha256"]) and item["filename"].endswith(".whl") for item in WHEELS)


def test_nothing_in_the_table_disagrees() -> None:
    """Module by module."""
    assert [text for item in WHEELS for text in facts_evidence.disagreements(item)] == []


def test_every_module_was_observed() -> None:
    """Hundreds of each generation: taken without an exception, or refused by NumPy in its own words."""
    pairs = [tuple(pair) for item in WHEELS for pair in item["modules"].values()]
    assert {outcome for predicted, outcome in pairs if predicted == "2"} <= {"ok", "not a module"}
    assert sum(pair == ("2", "ok") for pair in pairs) > 300
    assert sum(pair == ("1", "numpy") for pair in pairs) > 300


def test_torch_itself_is_in_the_table() -> None:
    """Built for NumPy 1 it cannot convert under NumPy 2; built for NumPy 2 it can under both."""
    for item in TABLE["environments"]:
        broken = item["predicted"] == "1" and not item["numpy"].startswith("1.")
        assert item["observed"] == ("RuntimeError: Numpy is not available" if broken else "ok")
    assert len({(item["predicted"], item["numpy"][0]) for item in TABLE["environments"]}) >= 3


@pytest.mark.parametrize(
    ("requirement", "pair"),
    [
        ("pandas==2.1.4", ["1", "ok"]),
        ("pandas==2.2.2", ["2", "numpy"]),
        ("pandas==2.2.2", ["2", "killed by signal 11"]),
        ("pandas==2.2.2", ["none", "numpy"]),
        ("pandas==2.1.4", ["1", "ModuleNotFoundError: No module named 'pytz'"]),
        ("pandas==2.1.4", ["1", "behind pandas/nowhere.so"]),
        ("contourpy==1.2.1", ["2 late", "unheard"]),
    ],
)
def test_a_disagreement_is_seen(requirement: str, pair: list[str]) -> None:
    """One module that behaves otherwise is enough, also one that could not be observed."""
    item = find(requirement)
    path = next(iter(item["modules"]))
    item["modules"][path] = pair
    (text,) = facts_evidence.disagreements(item)
    assert re.fullmatch(rf"{re.escape(item['filename'])}: {re.escape(path)}: predicted {pair[0]}, yet .+", text)


def test_a_broken_conversion_is_seen() -> None:
    """A wheel of generation 2 must convert."""
    item = find("contourpy==1.2.1")
    item["probe"] = "broken"
    assert facts_evidence.disagreements(item) == [f"{item['filename']}: its first conversion is broken"]
