"""What profiles reach of a channel: all that a solver could look at for them, and what keeps priorities as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import rattler
from rattler.repo_data.sparse import SparseRepoData

import recorded
from recorded import PROFILE, WORLD, asking, record, subdir
from torchlock.conda.reach import reach, roots

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.conda.channels import Subdir
    from torchlock.profiles.conda import CondaProfile


def reached(tmp_path: Path, *profiles: CondaProfile, subdirs: tuple[Subdir, ...] = ()) -> dict[str, set[str]]:
    """Return the files that are reached, by channel and subdir."""
    channels = recorded.recorded(tmp_path, *(subdirs or (subdir(WORLD),)))
    names = {name for profile in profiles for name in profile.channels}
    channels.publish(tmp_path / "channels", sorted(names), ["linux-64"], loose=True)
    asked = []

    def query(channel: str, name: str, package: str) -> list[rattler.RepoDataRecord]:
        asked.append((channel, name, package))
        path = tmp_path / "channels" / channel / name / "repodata.json"
        return SparseRepoData(rattler.Channel(channel), name, path).load_records(rattler.PackageName(package))

    found = {"/".join(key): set(records) for key, records in reach(profiles, query).items()}
    assert len(asked) == len(set(asked))
    return found


def test_roots() -> None:
    """More is recorded than is asked for: all builds of this torch, and all of NumPy's generation."""
    assert roots(asking(also=("mkl 2023.*",)).targets[0]) == (
        "python 3.11.*",
        "pytorch 2.4.1",
        "numpy 2.*",
        "mkl 2023.*",
    )


def test_reached(tmp_path: Path) -> None:
    """What is asked for and what it may depend on is reached; another Python, and what stands alone, is not."""
    lone = record("scipy 1.14.0 py311_0", "numpy")
    found = reached(tmp_path, PROFILE, subdirs=(subdir([*WORLD, lone]),))
    expected = {item.filename for item in WORLD} - {"python-3.12.1-h1_0.conda"}
    assert found == {"main/linux-64": expected, "main/noarch": set()}


def test_union(tmp_path: Path) -> None:
    """Several profiles reach what each of them does."""
    other = asking(python="3.12")
    assert reached(tmp_path, PROFILE, other)["main/linux-64"] == {item.filename for item in WORLD}


def test_priority(tmp_path: Path) -> None:
    """Of a name that two channels have, only the first one's are reached, and one of them also where none fits."""
    first = subdir([record("numpy 1.26.4 py311_0"), record("numpy 1.25.0 py311_0")], "first")
    both = replace(PROFILE, channels=("first", "main"))
    found = reached(tmp_path, both, subdirs=(first, subdir(WORLD)))
    assert len(found["first/linux-64"]) == 1
    assert not any(name.startswith("numpy") for name in found["main/linux-64"])
