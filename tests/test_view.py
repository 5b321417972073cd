"""Views: what one target may choose from, and what is said of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

import snapshots
from snapshots import file
from torchlock.errors import SnapshotError
from torchlock.indexes.view import View, admits

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.indexes.snapshot import Snapshot
    from torchlock.profiles.profile import Target

LINUX = "cp311-cp311-manylinux_2_17_x86_64"


def target(*requirements: str, **changes: object) -> Target:
    """Return a target for Python 3.11 on linux-64."""
    return snapshots.target(*requirements, **{"platform": "linux-64", "python": "3.11", **changes})


def named(view: View, project: str) -> list[str]:
    """Return the names of the files that a view has of a project."""
    return [item.name for item in view.files(project)]


def test_only_wheels_that_fit_and_were_not_yanked_are_seen(tmp_path: Path) -> None:
    """Another platform's, another Python's and yanked wheels are not there; the others come sorted."""
    snapshot = snapshots.write(
        tmp_path,
        file(f"alpha-2.0-{LINUX}.whl"),
        file("alpha-1.0-py3-none-any.whl"),
        file("alpha-3.0-py3-none-any.whl", yanked=""),
        file("alpha-3.0-cp312-cp312-manylinux_2_17_x86_64.whl"),
        file("alpha-3.0-cp311-cp311-win_amd64.whl"),
    )
    assert named(View(snapshot, target()), "alpha") == ["alpha-1.0-py3-none-any.whl", f"alpha-2.0-{LINUX}.whl"]


def test_a_project_comes_from_its_one_index(tmp_path: Path) -> None:
    """Where a profile names an index for a project, another index's files are not merged in."""
    snapshots.write(tmp_path, file("alpha-9.0-py3-none-any.whl"))
    snapshot = snapshots.write(tmp_path, file("alpha-1.0-py3-none-any.whl"), index="private")
    view = View(snapshot, target(indexes={"alpha": "private"}))
    assert named(view, "alpha") == ["alpha-1.0-py3-none-any.whl"]
    assert named(View(snapshot, target()), "alpha") == ["alpha-9.0-py3-none-any.whl"]


def test_offline_a_missing_page_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Without a recorder nothing is asked for: the file that lacks and the way to fill it are told."""
    snapshot = snapshots.write(tmp_path, file("alpha-9.0-py3-none-any.whl"))
    with pytest.raises(SnapshotError) as caught:
        View(snapshot, target(indexes={"alpha": "private"})).page("alpha")
    assert str(caught.value) == ("lockfiles/index/private/alpha.json: not recorded; try: the same without OFFLINE=1")


@pytest.mark.parametrize(("requires", "changes", "lacks"), [(None, {}, "metadata"), ((), {"sha256": None}, "sha256")])
def test_offline_missing_facts_are_named_with_the_remedy(
    tmp_path: Path, requires: tuple[str, ...] | None, changes: dict[str, None], lacks: str
) -> None:
    """A wheel that is listed, but whose metadata or hash was never recorded, is refused by name."""
    snapshot = snapshots.write(tmp_path, file("alpha-1.0-py3-none-any.whl", requires, **changes))
    with pytest.raises(SnapshotError) as caught:
        View(snapshot, target()).best("alpha", "1.0")
    assert str(caught.value) == (
        f"lockfiles/index/pypi/alpha.json: the {lacks} of alpha-1.0-py3-none-any.whl is not recorded; "
        "try: the same without OFFLINE=1"
    )


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["alpha-1.0-py3-none-any.whl", f"alpha-1.0-{LINUX}.whl"], f"alpha-1.0-{LINUX}.whl"),
        (
            ["alpha-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", f"alpha-1.0-{LINUX}.whl"],
            "alpha-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (["alpha-1.0-cp38-abi3-manylinux_2_28_x86_64.whl", f"alpha-1.0-{LINUX}.whl"], f"alpha-1.0-{LINUX}.whl"),
        (["alpha-1.0-9-py3-none-any.whl", "alpha-1.0-10-py3-none-any.whl"], "alpha-1.0-10-py3-none-any.whl"),
        (["alpha-1.0-1-py3-none-any.whl", "alpha-1.0-py3-none-any.whl"], "alpha-1.0-1-py3-none-any.whl"),
        (["alpha-1.0-1-py3-none-any.whl", f"alpha-1.0-{LINUX}.whl"], f"alpha-1.0-{LINUX}.whl"),
        (["alpha-1.0-py3-none-any.whl", "alpha-1.0-py2.py3-none-any.whl"], "alpha-1.0-py2.py3-none-any.whl"),
    ],
)
def test_the_best_wheel_is_the_one_that_an_installer_takes(tmp_path: Path, names: list[str], best: str) -> None:
    """The better tag wins, then the higher build number as a number, then the name: whatever the order of the page."""
    for number, order in enumerate((names, names[::-1])):
        snapshot = snapshots.write(tmp_path / str(number), *map(file, order))
        assert View(snapshot, target()).best("alpha", "1.0").name == best


def test_a_version_without_a_wheel_that_fits_is_refused(tmp_path: Path) -> None:
    """A lock is never written for a version that only other platforms have."""
    snapshot = snapshots.write(tmp_path, file("alpha-1.0-cp311-cp311-win_amd64.whl"))
    with pytest.raises(SnapshotError) as caught:
        View(snapshot, target()).best("alpha", "1.0")
    assert str(caught.value) == "demo-cpu on linux-64: no wheel of alpha 1.0 for Python 3.11 there"


def test_the_digest_moves_with_what_could_be_chosen_and_with_nothing_else(tmp_path: Path) -> None:
    """A new, yanked or re-labelled wheel that fits changes it; another platform's wheel or learnt metadata does not."""

    def digest(name: str, *more: object) -> str:
        files = [item for item in more if item]
        return str(View(snapshots.write(tmp_path / name, *files), target()).digest(["alpha"]))  # type: ignore[arg-type]

    one, two = file("alpha-1.0-py3-none-any.whl"), file("alpha-2.0-py3-none-any.whl")
    base = digest("base", one, two)
    assert digest("windows", one, two, file("alpha-3.0-cp311-cp311-win_amd64.whl")) == base
    assert digest("learnt", one, file(two.name, None)) == base
    assert digest("other", one, two, file("beta-1.0-py3-none-any.whl")) == base
    assert digest("new", one, two, file("alpha-3.0-py3-none-any.whl")) != base
    assert digest("yanked", one, file(two.name, yanked="")) != base
    assert digest("label", one, file(two.name, requires_python=">=3.12")) != base


def reason(snapshot: Snapshot, *requirements: str) -> str | None:
    """Return what a view says of requirements that have no wheel for it."""
    return View(snapshot, target(*requirements)).reason()


def test_a_requirement_without_a_wheel_for_the_platform_has_a_reason(tmp_path: Path) -> None:
    """The version is there, but for other platforms and Pythons alone: that is said, with examples."""
    names = [f"alpha-1.0-cp{python}-cp{python}-win_amd64.whl" for python in (310, 311, 312)]
    snapshot = snapshots.write(tmp_path, *map(file, names), file("alpha-0.9-py3-none-any.whl"))
    assert reason(snapshot, "alpha==1.0") == (
        f"alpha==1.0: no wheel for Python 3.11 on linux-64, only {names[0]}, {names[1]}, …"
    )


def test_a_yanked_requirement_has_a_reason(tmp_path: Path) -> None:
    """A pin on a yanked version says why it was yanked."""
    snapshot = snapshots.write(
        tmp_path,
        file("alpha-1.0-py3-none-any.whl", yanked="lost its licence"),
        file("beta-1.0-py3-none-any.whl", yanked=""),
    )
    assert reason(snapshot, "alpha==1.0") == "alpha==1.0: alpha-1.0-py3-none-any.whl was yanked (lost its licence)"
    assert reason(snapshot, "beta==1.0") == "beta==1.0: beta-1.0-py3-none-any.whl was yanked (without a reason)"


@pytest.mark.parametrize(
    "requirement", ["alpha", "alpha>=1", "alpha==3.0", "gamma==1", 'beta==1.0; python_version<"3"']
)
def test_other_requirements_have_no_reason(tmp_path: Path, requirement: str) -> None:
    """Where some wheel fits, no version matches, or nothing is recorded, the resolver's own words are better."""
    snapshot = snapshots.write(
        tmp_path,
        file("alpha-1.0-py3-none-any.whl"),
        file("alpha-2.0-cp311-cp311-win_amd64.whl"),
        file("beta-1.0-cp311-cp311-win_amd64.whl"),
    )
    assert reason(snapshot, requirement) is None


def test_a_specifier_admits_pre_releases() -> None:
    """What a resolver was asked for by an exact pin is no surprise."""
    assert admits(Requirement("alpha>=1"), "2.0rc1")
    assert not admits(Requirement("alpha==1.0"), "1.1")
