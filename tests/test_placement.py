"""Placement: who owns which path, what two owners may share, and that planned files are really put there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from torchlock.environment.placement import Claim, Layout, Link, Plan, carry_out
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from pathlib import Path


def claim(path: str, owner: str = "a 1", value: str = "sha256=x") -> Claim:
    """Return a claim."""
    return Claim(path=path, owner=owner, hash=value)


def test_shared() -> None:
    """The first owner of a path gets it; a second with the same bytes need not put it there again."""
    plan = Plan()
    assert plan.claim(claim("pkg/__init__.py"))
    assert not plan.claim(claim("pkg/__init__.py", "b 2"))
    assert plan.claim(claim("pkg/other.py", "b 2"))


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("pkg/x.py", "pkg/x.py", "a 1 and b 2 both own it, with different bytes"),
        ("pkg/x.py", "pkg/X.py", "b 2 owns it, and a 1 owns pkg/x.py, which differs only by case"),
        ("pkg/x.py", "PKG/x.py", "b 2 owns it, and a 1 owns pkg/x.py, which differs only by case"),
        ("caf\u00e9.py", "cafe\u0301.py", "b 2 owns it, and a 1 owns caf\u00e9.py, which differs only by case"),
        ("pkg", "pkg/x.py", "b 2 owns it, and a 1 owns pkg: one path cannot be file and folder"),
        ("pkg/y/x.py", "pkg", "b 2 owns it, and a 1 owns pkg/y/x.py: one path cannot be file and folder"),
        ("pkg/y/x.py", "PKG/Y", "b 2 owns it, and a 1 owns pkg/y/x.py: one path cannot be file and folder"),
    ],
)
def test_clash(first: str, second: str, found: str) -> None:
    """Two owners of one path are refused by name, on any file system: by bytes, case, spelling, or file and folder."""
    plan = Plan()
    plan.claim(claim(first))
    with pytest.raises(EnvError) as refused:
        plan.claim(claim(second, "b 2", "sha256=y"))
    assert (refused.value.where, refused.value.found) == (second, found)


def test_case_same_bytes() -> None:
    """Paths that differ by case are refused even with the same bytes: a Mac would keep one of them."""
    plan = Plan()
    plan.claim(claim("pkg/x.py"))
    with pytest.raises(EnvError, match="differs only by case"):
        plan.claim(claim("pkg/X.py", "b 2"))


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a//b", "./x", "a/./b", "..", ".", "a\\b", "a/.."])
def test_leaves(path: str) -> None:
    """A path that could leave the environment is refused, naming its wheel."""
    with pytest.raises(EnvError) as refused:
        Plan().claim(claim(path))
    assert str(refused.value) == f"a 1: the path {path!r} leaves the environment; expected one inside it"


def test_carried_out(tmp_path: Path) -> None:
    """Links share the file's inode, written files have their bytes and their mode, whatever the umask."""
    source = tmp_path / "source"
    source.write_bytes(b"12345")
    plan = Plan()
    plan.links += [Link(source=str(source), target=f"pkg/{n % 7}/{n}.py", size=5) for n in range(100)]
    plan.written["bin/run"] = (b"#!/bin/sh\n", True)
    plan.written["pkg/RECORD"] = (b"x,,\n", False)
    assert plan.size == 500
    assert carry_out(plan, tmp_path / "env")
    assert source.stat().st_nlink == 101
    assert (tmp_path / "env/bin/run").read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE((tmp_path / "env/bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "env/pkg/RECORD").stat().st_mode) == 0o644


def test_vanished(tmp_path: Path) -> None:
    """A tree that vanishes while it is linked is an error, not a missing file."""
    plan = Plan()
    plan.links.append(Link(source=str(tmp_path / "gone"), target="x", size=1))
    with pytest.raises(FileNotFoundError):
        carry_out(plan, tmp_path)


def test_one_copied(tmp_path: Path) -> None:
    """One file that could not be linked is enough to say so, and all the others are there all the same."""
    folder = tmp_path / "tree"
    folder.mkdir()
    plan = Plan()
    for number in range(200):
        (folder / str(number)).write_bytes(b"x")
        plan.links.append(Link(source=str(folder / str(number)), target=str(number), size=1))
    real = os.link

    def link(source: str | Path, target: str | Path) -> None:
        if str(source).endswith("/3"):
            raise PermissionError(source)
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", link)
        assert not carry_out(plan, tmp_path / "env")
    assert sorted(path.name for path in (tmp_path / "env").iterdir()) == sorted(map(str, range(200)))
    assert (tmp_path / "env/3").stat().st_nlink == 1


def test_layout() -> None:
    """The folders are those that Python's own `venv` scheme has, on Windows too."""
    layout = Layout.of("3.11.7", "linux-64")
    assert layout == Layout.of("3.11", "osx-arm64")
    assert [layout.folder(scheme, "p") for scheme in ("purelib", "platlib", "scripts", "data", "headers")] == [
        "lib/python3.11/site-packages",
        "lib/python3.11/site-packages",
        "bin",
        "",
        "include/site/python3.11/p",
    ]
    windows = Layout.of("3.11.7", "win-64")
    assert (windows.site, windows.scripts, windows.python) == ("Lib/site-packages", "Scripts", "Scripts/python.exe")


def test_posix() -> None:
    """Scripts start by a `#!` line everywhere but on Windows, wherever this runs."""
    platforms = ("linux-64", "linux-aarch64", "osx-arm64", "osx-64", "win-64")
    assert [Layout.of("3.11", platform).posix for platform in platforms] == [True, True, True, True, False]


def test_claims() -> None:
    """A plan gives what was taken, each path once."""
    plan = Plan()
    first, second = (Claim(path=path, owner="demo 1.0", hash="sha256=x") for path in ("a/b", "c"))
    for taken in (first, second, Claim(path="c", owner="other 1.0", hash="sha256=x")):
        plan.claim(taken)
    assert list(plan.claims) == [first, second]
