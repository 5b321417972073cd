"""The workshop: one build at a time, in a folder that is gone afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import bases
from torchlock.digest import Digest
from torchlock.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_folder_is_empty_and_then_gone(tmp_path: Path) -> None:
    """Also where the work in it fails."""
    workshop = bases.workshop(tmp_path)
    seen = []

    def work() -> None:
        with workshop.alone("x") as folder:
            seen.append((folder, list(folder.iterdir()), folder.stat().st_mode & 0o777))
            (folder / "sub").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        work()
    ((folder, inside, mode),) = seen
    assert (inside, mode) == ([], 0o755)
    assert not folder.exists()


def test_without_root_the_folder_is_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's home folder may not be entered from the namespace of the build."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with bases.workshop(tmp_path / "store").alone("x") as folder:
        assert folder.parent == tmp_path / "temporary"
    assert not folder.exists()


def test_packages_lie_beside_the_wheels(tmp_path: Path) -> None:
    """By the sha256 of their bytes."""
    assert bases.workshop(tmp_path).debs.path(Digest("ab" * 32)) == tmp_path / "debs" / "ab" / ("ab" * 32)


def test_offline(tmp_path: Path) -> None:
    """What is not here stays away."""
    bases.workshop(tmp_path).online("it")
    with pytest.raises(ImageError) as caught:
        bases.workshop(tmp_path, offline=True).online("the base x")
    expected = "the base x: it is not here, and nothing may be fetched; try: the same without OFFLINE=1"
    assert str(caught.value) == expected
