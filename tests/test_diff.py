"""What changed between two locks, in words and as JSON, and the lock at a revision."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import locks
from torchlock.diff import at_revision, diff
from torchlock.digest import Digest
from torchlock.errors import LockError
from torchlock.locks.lock import Lock
from torchlock.locks.summary import Summary
from torchlock.profiles.line import Waiver

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.locks.lock import Artifact

HEAD = "torch2.2-cpu on linux-64:"
SMALL = replace(locks.TORCH, size=2_000_000)
NUMPY2 = replace(
    locks.NUMPY, version="2.0.2", filename=locks.NUMPY.filename.replace("1.26.4", "2.0.2"), size=19_251_754
)


def words(old: tuple[Artifact, ...], new: tuple[Artifact, ...]) -> list[str]:
    """Return what is said of two sets of artifacts, without the title."""
    title, *lines = diff(locks.make(artifacts=old), locks.make(artifacts=new)).lines()
    assert title == HEAD
    return lines


def test_no_change() -> None:
    """Two equal locks have nothing to say."""
    value = diff(locks.make(), locks.make())
    assert list(value.lines()) == [f"{HEAD} no change"]
    assert value.changes == ()
    assert value.alarms == ()


def test_added_and_removed() -> None:
    """A package that came or went is said with its version and size, and the total moves."""
    assert words((locks.NUMPY,), (locks.NUMPY, SMALL)) == [
        "  added torch 2.2.2+cpu (+2.00 MB)",
        "  download: 18.25 MB -> 20.25 MB",
    ]
    assert words((locks.NUMPY, SMALL), (locks.NUMPY,)) == [
        "  removed torch 2.2.2+cpu (-2.00 MB)",
        "  download: 20.25 MB -> 18.25 MB",
    ]


def test_up_and_down() -> None:
    """A version that moved is said to have gone up or down, by version order and not by spelling."""
    assert words((locks.NUMPY,), (NUMPY2,))[0] == "  up numpy 1.26.4 -> 2.0.2 (+1.00 MB)"
    assert words((NUMPY2,), (locks.NUMPY,))[0] == "  down numpy 2.0.2 -> 1.26.4 (-1.00 MB)"
    ten = replace(locks.NUMPY, version="1.9.0", filename=locks.NUMPY.filename.replace("1.26.4", "1.9.0"))
    assert words((ten,), (locks.NUMPY,))[0] == "  up numpy 1.9.0 -> 1.26.4"


def test_size_not_known() -> None:
    """A size that one side lacks is said to be unknown, and the total names what it lacks."""
    other = replace(locks.TORCH, version="2.2.1+cpu", filename=locks.TORCH.filename.replace("2.2.2", "2.2.1"))
    assert words((locks.NUMPY, other), (locks.NUMPY, locks.TORCH)) == [
        "  up torch 2.2.1+cpu -> 2.2.2+cpu (size not known)",
        "  download: 18.25 MB and torch of unknown size -> 18.25 MB and torch of unknown size",
    ]


def test_index_moved() -> None:
    """A package that comes from another index is said to, with the same bytes or with others."""
    moved = replace(SMALL, index="pypi")
    assert words((SMALL,), (moved,))[0] == "  index of torch 2.2.2+cpu (index pytorch-cpu -> pypi)"
    other = replace(moved, sha256=Digest.of(b"pypi"))
    said = words((SMALL,), (other,))[0]
    assert said == (
        f"  other bytes under the name {SMALL.filename}: {SMALL.sha256} -> {other.sha256} (index pytorch-cpu -> pypi)"
    )
    assert diff(locks.make(artifacts=(SMALL,)), locks.make(artifacts=(other,))).alarms == ()


def test_bytes_changed_is_an_alarm() -> None:
    """Other bytes from the same index under the same name are an alarm with both hashes, said first."""
    evil = replace(SMALL, sha256=Digest.of(b"evil"))
    value = diff(locks.make(artifacts=(locks.NUMPY, SMALL)), locks.make(artifacts=(NUMPY2, evil)))
    assert [change.project for change in value.alarms] == ["torch"]
    assert list(value.lines())[1:3] == [
        f"  ALARM: other bytes under the name {SMALL.filename}: {SMALL.sha256} -> {evil.sha256}",
        "  up numpy 1.26.4 -> 2.0.2 (+1.00 MB)",
    ]
    assert value.to_json()["alarm"] is True


def test_rebuilt() -> None:
    """Another file of the same version is no alarm: both names are said."""
    other = replace(locks.NUMPY, filename="numpy-1.26.4-1-py3-none-any.whl", sha256=Digest.of(b"build 1"))
    assert words((locks.NUMPY,), (other,))[0] == f"  rebuilt numpy 1.26.4: {locks.NUMPY.filename} -> {other.filename}"
    assert diff(locks.make(artifacts=(locks.NUMPY,)), locks.make(artifacts=(other,))).alarms == ()


def test_facts_of_a_wheel() -> None:
    """A size or time that became known changes no package, and is said."""
    assert words((locks.TORCH,), (SMALL,))[0] == "  facts of torch 2.2.2+cpu (size not known)"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"python": "3.12"}, "Python: 3.11 -> 3.12"),
        ({"platform": "win-64"}, "platform: linux-64 -> win-64"),
        ({"profile": "mine"}, "profile: torch2.2-cpu -> mine"),
        ({"resolvers": ("uv",)}, "resolvers: pip-tools, uv -> uv"),
        ({"profile_digest": Digest.of(b"x")}, f"profile digest: {Digest.of(b'profile')} -> {Digest.of(b'x')}"),
        ({"snapshot_digest": Digest.of(b"x")}, f"snapshot digest: {Digest.of(b'snapshot')} -> {Digest.of(b'x')}"),
    ],
)
def test_facts_of_the_lock(change: dict[str, Any], line: str) -> None:
    """What changed of the lock itself is said, and that no package did."""
    assert list(diff(locks.make(), locks.make(**change)).lines())[1:] == [f"  {line}", "  packages: no change"]


def test_json() -> None:
    """The JSON value holds both sides of each change, in bytes, and nothing that JSON cannot."""
    value = diff(
        locks.make(artifacts=(locks.NUMPY,)), locks.make(artifacts=(NUMPY2, locks.TORCH), python="3.12")
    ).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["facts"] == {"Python": ["3.11", "3.12"]}
    assert value["download"] == {
        "old": {"bytes": 18_251_754, "unknown": []},
        "new": {"bytes": 19_251_754, "unknown": ["torch"]},
    }
    numpy, torch = value["changes"]
    assert (numpy["kind"], numpy["growth"], numpy["alarm"]) == ("up", 1_000_000, False)
    assert (torch["kind"], torch["growth"], torch["old"]) == ("added", None, None)
    assert numpy["old"] == {
        "version": "1.26.4",
        "filename": locks.NUMPY.filename,
        "sha256": locks.NUMPY.sha256.hex,
        "size": 18_251_754,
        "upload-time": "2024-02-05T23:58:36.155264Z",
        "index": "pypi",
    }


def git(root: Path, *arguments: str) -> None:
    """Run git with an author of its own and no configuration of the user's."""
    names = {"GIT_AUTHOR_NAME": "t", "GIT_COMMITTER_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_EMAIL": "t@t"}
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", **names}
    subprocess.run(["git", *arguments], cwd=root, env=environment, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project two folders down in a repository, whose lock was committed and then changed."""
    root = tmp_path / "mono" / "project"
    root.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    locks.write(locks.make(), root)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    locks.write(locks.make(artifacts=(NUMPY2, locks.TORCH)), root)
    return root


PYLOCK = ("lockfiles", "torch2.2-cpu", "linux-64", "pylock.toml")


def lock_at(root: Path, rev: str, path: Path) -> Lock:
    """Read the lock that a file was at a revision, as the verb does."""
    return Lock.from_toml(*at_revision(root, rev, path))


def test_at_revision(project: Path) -> None:
    """The lock of a revision is read from git, not from the working tree."""
    assert lock_at(project, "HEAD", project.joinpath(*PYLOCK)) == locks.make()


@pytest.mark.parametrize("rev", ["--output=x", "-h", "HEAD\n", "a\0b"])
def test_revision_is_no_option(rev: str, project: Path) -> None:
    """What git would take for an option, or cannot be a name, is refused before git sees it."""
    with pytest.raises(LockError) as caught:
        lock_at(project, rev, project.joinpath(*PYLOCK))
    assert caught.value.found == repr(rev)
    assert not (project / "x").exists()


@pytest.mark.parametrize("rev", ["nowhere", "", "HEAD:mono", "HEAD~5", "$(touch x)"])
def test_no_such_revision(rev: str, project: Path) -> None:
    """A revision that is not there is refused by its name."""
    with pytest.raises(LockError) as caught:
        lock_at(project, rev, project.joinpath(*PYLOCK))
    assert str(caught.value) == (
        f"AGAINST: {rev!r} is no commit of this repository; expected a revision of git such as HEAD~1; "
        "try: git log --oneline"
    )


def test_not_in_revision(project: Path) -> None:
    """A lock that a revision does not have is refused by its path in the project."""
    path = locks.write(locks.make(profile="mine"), project) / "pylock.toml"
    with pytest.raises(LockError) as caught:
        lock_at(project, "HEAD", path)
    where = "lockfiles/mine/linux-64/pylock.toml"
    expected = f"{where}: is not in HEAD; expected a revision that has it; try: git log --oneline -- {where}"
    assert str(caught.value) == expected


def test_broken_at_revision(project: Path) -> None:
    """A lock that was broken at a revision is refused with the revision in its place."""
    path = project.joinpath(*PYLOCK)
    path.write_text("x = 1\n")
    git(project, "commit", "-qam", "two")
    with pytest.raises(LockError) as caught:
        lock_at(project, "HEAD", path)
    assert caught.value.where.startswith("lockfiles/torch2.2-cpu/linux-64/pylock.toml in HEAD: ")


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a repository git's own complaint is passed on; without git, that is said."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    path = locks.write(locks.make(), tmp_path) / "pylock.toml"
    with pytest.raises(LockError, match="AGAINST: fatal: not a git repository"):
        lock_at(tmp_path, "HEAD", path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LockError, match="git: is not installed; expected git on PATH"):
        lock_at(tmp_path, "HEAD", path)


def test_facts_in_words() -> None:
    """CUDA, NumPy generations, architectures, C library and drivers are said where they change, and only there."""
    old = Summary(
        numpy_1=("torch",), architectures=("sm_50", "sm_80"), cuda="12.1", cudnn="8", driver="525.60.13", glibc="2.17"
    )
    new = Summary(
        numpy_2=("torch",), architectures=("sm_80", "sm_90"), cuda="12.4", cudnn="9", driver="525.60.13", glibc="2.27"
    )
    assert list(diff(locks.make(facts=old), locks.make(facts=new)).lines()) == [
        HEAD,
        "  built for NumPy 1.x alone: torch -> none",
        "  built for NumPy 2: none -> torch",
        "  CUDA: 12.1 -> 12.4",
        "  cuDNN: 8 -> 9",
        "  GPU architectures: without sm_50; now sm_90",
        "  needs glibc: 2.17 -> 2.27",
        "  packages: no change",
    ]
    value = diff(locks.make(facts=old), locks.make(facts=new)).to_json()
    assert value["facts"]["GPU architectures"] == ["sm_50, sm_80", "sm_80, sm_90"]


def test_what_is_not_proven_in_words() -> None:
    """Facts that cannot be read any more, and a new exception, are changes too."""
    waiver = Waiver(project="numpy", sha256=locks.NUMPY.sha256, reason="tested by hand")
    old, new = locks.make(facts=Summary()), locks.make(facts=Summary(unread=("torch",)), exceptions=(waiver,))
    assert list(diff(old, new).lines())[1:] == [
        "  facts not read: none -> torch",
        f"  exceptions: none -> numpy {locks.NUMPY.sha256} (tested by hand)",
        "  packages: no change",
    ]
