"""Solving with rattler: what it is given, and what it says; each solve in a process that ends at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import recorded

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import json
from pathlib import Path
from torchlock.conda import solver
from torchlock.errors import ResolveError
wanted = json.loads(sys.argv[1])
sources = [solver.Source(name=name, folder=Path(folder)) for name, folder in wanted["sources"]]
virtual = {name: tuple(value) for name, value in wanted.get("virtual", {}).items()}
request = solver.Request(sources=sources, subdir="linux-64", specs=wanted["specs"], virtual=virtual)
try:
    print(json.dumps([[item["name"], item["url"]] for item in solver.solve(request)]))
except ResolveError as error:
    print(json.dumps(str(error)))
"""


def solve(tmp_path: Path, *specs: str, **virtual: tuple[str, str]) -> object:
    """Return what is chosen, or the message that refuses."""
    folder = tmp_path / "channels"
    if not folder.exists():
        recorded.recorded(tmp_path).publish(folder, ["main"], ["linux-64"], loose=True)
    sources = [["main", str(folder / "main")]]
    wanted = {"sources": sources, "specs": specs, "virtual": {"__glibc": ("2.28", "0"), **virtual}}
    return json.loads(recorded.run(CODE, json.dumps(wanted)))


def test_solved(tmp_path: Path) -> None:
    """The newest that fits is chosen, sorted by name, with the address below the channel's own."""
    base = "https://conda.anaconda.org/main/linux-64/"
    assert solve(tmp_path, "numpy 2.1.*", "python 3.11.*") == [
        ["libblas", f"{base}libblas-3.11.0-2_mkl.conda"],
        ["numpy", f"{base}numpy-2.1.3-py311_0.conda"],
        ["python", f"{base}python-3.11.9-h1_0.conda"],
    ]


def test_said(tmp_path: Path) -> None:
    """What cannot be is said in the solver's own words."""
    found = solve(tmp_path, "pytorch 2.4.1 cpu*", "python 3.12.*")
    assert isinstance(found, str)
    assert found.startswith("linux-64: Cannot solve the request because of: ")
    assert "pytorch 2.4.1 would require" in found
    assert "__cuda" in str(solve(tmp_path, "pytorch 2.4.1 cuda*"))
    assert isinstance(solve(tmp_path, "pytorch 2.4.1 cuda*", __cuda=("12.1", "0")), list)


def test_empty(tmp_path: Path) -> None:
    """A channel without a list of packages is refused."""
    (tmp_path / "channels" / "main").mkdir(parents=True)
    assert solve(tmp_path, "numpy") == ("main: holds no repodata.json for linux-64; expected a channel that is there")
