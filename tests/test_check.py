"""The check of a lock: sound, fresh, and rendered as it says."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from packaging.markers import Marker, default_environment

import locks
from torchlock import check as module
from torchlock.digest import Digest
from torchlock.errors import LockError, StaleError, TorchlockError
from torchlock.platforms import PLATFORMS, host
from torchlock.profiles.conda import CondaProfile
from torchlock.profiles.line import Waiver
from torchlock.profiles.profile import Catalogue, Profile, Target

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.locks.lock import Lock
    from torchlock.locks.summary import Summary

PLACE = "lockfiles/torch2.2-cpu/linux-64"
WHERE = f"{PLACE}/pylock.toml"
TARGET = Target(
    profile="torch2.2-cpu",
    line="torch2.2",
    variant="cpu",
    platform="linux-64",
    python="3.11",
    requirements=("numpy==1.26.4", "pywin32; sys_platform == 'win32'", "torch==2.2.2+cpu"),
    indexes={"torch": "pytorch-cpu"},
    default_index="pypi",
    cuda=None,
    source="environments/torch2.2.yaml",
)
LOCK = locks.make(profile_digest=TARGET.digest())
RECORDED = {(item.index, item.project, item.filename): (item.sha256, item.size) for item in LOCK.artifacts}


def check(
    root: Path,
    target: Target = TARGET,
    snapshot: bytes = b"snapshot",
    recorded: dict[Any, Any] | None = None,
    facts: Summary | None = None,
) -> Lock:
    """Check against a snapshot that recorded both wheels, unless it is another one."""
    known = RECORDED if recorded is None else recorded
    return module.check(
        target, root, lambda _: Digest.of(snapshot), lambda *key: known.get(key), lambda lock: facts or lock.facts
    )


def refused(kind: type[TorchlockError], root: Path, **changes: Any) -> str:
    """Return the message with which a check ends, after a look at its exact kind."""
    with pytest.raises(kind) as caught:
        check(root, **changes)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder of a lock that is as it should be."""
    return locks.write(LOCK, tmp_path)


def test_passes(place: Path, tmp_path: Path) -> None:
    """A sound and fresh lock is returned, with wheels and an image beside it."""
    (place / "wheels").mkdir()
    (place / "image").mkdir()
    (place / ".tmp-killed").touch()
    assert check(tmp_path) == LOCK


def test_changes_nothing(place: Path, tmp_path: Path) -> None:
    """A check writes nothing: it works where it must not write."""
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    check(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


def test_no_lock(tmp_path: Path) -> None:
    """A lock that is not there yet is stale, not broken."""
    assert refused(StaleError, tmp_path) == f"{WHERE}: there is no lock yet; try: make lock-torch2.2-cpu"


def test_profile_changed(place: Path, tmp_path: Path) -> None:
    """A profile that changed after its lock has the exit status of its own, 3."""
    target = replace(TARGET, requirements=("numpy==1.26.4", "torch==2.2.1+cpu"))
    expected = (
        f"{WHERE}: environments/torch2.2.yaml has changed since this was locked ({TARGET.digest()}); "
        f"expected {target.digest()}; try: make lock-torch2.2-cpu"
    )
    assert refused(StaleError, tmp_path, target=target) == expected
    assert StaleError.status == 3


def test_python_changed(place: Path, tmp_path: Path) -> None:
    """A profile that asks for another Python than its lock makes it stale."""
    assert "has changed since" in refused(StaleError, tmp_path, target=replace(TARGET, python="3.12"))


def test_moved_file_is_not_stale(place: Path, tmp_path: Path) -> None:
    """Staleness is a comparison of digests: neither file times nor the name of the profile's file matter."""
    os.utime(place / "pylock.toml", (1, 1))
    check(tmp_path, target=replace(TARGET, source="environments/mine.yaml"))


def test_snapshot_changed(place: Path, tmp_path: Path) -> None:
    """A snapshot that offers something else now makes the lock stale."""
    message = refused(StaleError, tmp_path, snapshot=b"other")
    assert message == (
        f"{WHERE}: the index snapshot has changed since this was locked ({Digest.of(b'snapshot')}); "
        f"expected {Digest.of(b'other')}; try: make lock-torch2.2-cpu"
    )


def test_broken_lock(place: Path, tmp_path: Path) -> None:
    """A lock that does not read is broken, with the place."""
    path = place / "pylock.toml"
    path.write_text(path.read_text().replace("size = 18251754", "size = 18251755"))
    assert f"{WHERE}: tool.torchlock.digest: edited by hand" in refused(LockError, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("profile", "torch2.4-cpu"), ("platform", "linux-aarch64")])
def test_lock_of_another(name: str, value: str, place: Path, tmp_path: Path) -> None:
    """A lock that was copied from another profile or platform is refused."""
    pure = replace(locks.NUMPY, filename="numpy-1.26.4-py3-none-any.whl")
    changes: dict[str, Any] = {name: value, "artifacts": (pure,)}
    (place / "pylock.toml").write_bytes(locks.make(**changes).to_toml())
    expected = f"{WHERE}: tool.torchlock.{name}: '{value}'; expected '{getattr(LOCK, name)}'"
    assert refused(LockError, tmp_path) == f"{expected}; try: make lock-torch2.2-cpu"


def test_hash_is_not_the_snapshots(place: Path, tmp_path: Path) -> None:
    """A hash that the snapshot does not know is refused with both, even where the lock is stale as well."""
    other = {**RECORDED, ("pypi", "numpy", locks.NUMPY.filename): (Digest.of(b"other"), locks.NUMPY.size)}
    expected = (
        f"{WHERE}: packages[0].wheels[0].hashes.sha256: {locks.NUMPY.filename} has {locks.NUMPY.sha256} here and "
        f"{Digest.of(b'other')} in the snapshot; expected the same in both; try: make lock-torch2.2-cpu"
    )
    assert refused(LockError, tmp_path, recorded=other) == expected
    assert refused(LockError, tmp_path, recorded=other, snapshot=b"other") == expected


def test_hash_is_not_recorded(place: Path, tmp_path: Path) -> None:
    """A file whose hash the snapshot lacks proves nothing."""
    other = {**RECORDED, ("pypi", "numpy", locks.NUMPY.filename): (None, locks.NUMPY.size)}
    assert "and no hash in the snapshot" in refused(LockError, tmp_path, recorded=other)


@pytest.mark.parametrize("size", [None, 18_251_755])
def test_size_is_not_the_snapshots(size: int | None, place: Path, tmp_path: Path) -> None:
    """A size that the snapshot does not have is refused with both."""
    other = {**RECORDED, ("pypi", "numpy", locks.NUMPY.filename): (locks.NUMPY.sha256, size)}
    found = f"wheels[0].size: {locks.NUMPY.filename} has 18251754 bytes here and {size} in the snapshot"
    assert found in refused(LockError, tmp_path, recorded=other)


def test_file_is_not_recorded(place: Path, tmp_path: Path) -> None:
    """A wheel that its index never had is refused; where the snapshot has changed, the lock is stale."""
    expected = (
        f"{WHERE}: packages[0].wheels[0]: the snapshot of pypi has no {locks.NUMPY.filename}; expected a recorded"
    )
    assert expected in refused(LockError, tmp_path, recorded={**RECORDED, next(iter(RECORDED)): None})
    refused(StaleError, tmp_path, recorded={}, snapshot=b"other")


def write(root: Path, **changes: Any) -> None:
    """Write a sound lock that claims to come from the target, with other values."""
    locks.write(locks.make(**{"profile_digest": LOCK.profile_digest, **changes}), root)


def test_python_is_not_the_profiles(tmp_path: Path) -> None:
    """A lock for another Python than the profile that it names is refused."""
    write(tmp_path, python="3.12", artifacts=(replace(locks.NUMPY, filename="numpy-1.26.4-py3-none-any.whl"),))
    recorded = {("pypi", "numpy", "numpy-1.26.4-py3-none-any.whl"): (locks.NUMPY.sha256, locks.NUMPY.size)}
    assert "tool.torchlock.python: '3.12'; expected '3.11'" in refused(LockError, tmp_path, recorded=recorded)


def test_requirement_is_missing(tmp_path: Path) -> None:
    """A lock that lacks what the profile asks for on this platform is refused."""
    write(tmp_path, artifacts=(locks.NUMPY,))
    expected = f"{WHERE}: packages: torch is missing; expected torch==2.2.2+cpu, as environments/torch2.2.yaml asks"
    assert expected in refused(LockError, tmp_path)


def test_requirement_is_not_met(tmp_path: Path) -> None:
    """A locked version that the profile does not allow is refused."""
    target = replace(TARGET, requirements=("NumPy>=2",))
    write(tmp_path, profile_digest=target.digest())
    assert "packages: numpy 1.26.4; expected NumPy>=2, as" in refused(LockError, tmp_path, target=target)


def test_pre_release_meets_its_pin(tmp_path: Path) -> None:
    """A pre-release that the profile pins is no fault."""
    numpy = replace(locks.NUMPY, version="2.0.0rc1", filename="numpy-2.0.0rc1-py3-none-any.whl")
    target = replace(TARGET, requirements=("numpy>=2.0.0rc1",))
    write(tmp_path, profile_digest=target.digest(), artifacts=(numpy,))
    recorded = {("pypi", "numpy", numpy.filename): (numpy.sha256, numpy.size)}
    check(tmp_path, target=target, recorded=recorded)


def test_index_is_not_the_profiles(tmp_path: Path) -> None:
    """A package from another index than the one that the profile names is refused."""
    torch = replace(locks.TORCH, index="pypi")
    write(tmp_path, artifacts=(locks.NUMPY, torch))
    recorded = {**RECORDED, ("pypi", "torch", torch.filename): (torch.sha256, torch.size)}
    expected = "packages[1].tool.torchlock.index: 'pypi'; expected 'pytorch-cpu', as environments/torch2.2.yaml asks"
    assert expected in refused(LockError, tmp_path, recorded=recorded)


def test_rendering_differs(place: Path, tmp_path: Path) -> None:
    """A rendering that is not the lock's own, or is missing, is broken."""
    path = place / "requirements.txt"
    path.write_bytes(path.read_bytes() + b"\n")
    remedy = "try: make lock-torch2.2-cpu"
    expected = f"{PLACE}/requirements.txt: is not what pylock.toml renders to; expected the same bytes; {remedy}"
    assert refused(LockError, tmp_path) == expected
    path.unlink()
    expected = f"{PLACE}/requirements.txt: is missing; expected the rendering of pylock.toml; {remedy}"
    assert refused(LockError, tmp_path) == expected
    path.mkdir()
    assert "cannot be read: Is a directory" in refused(LockError, tmp_path)


def test_foreign_file(place: Path, tmp_path: Path) -> None:
    """A file that torchlock did not write beside a lock is named."""
    (place / "pylock.old.toml").touch()
    (place / "notes").mkdir()
    assert f"{PLACE}: torchlock did not write notes, pylock.old.toml; expected" in refused(LockError, tmp_path)


CONDA = CondaProfile(profile="torch2.2-cpu", variant="cpu", channels=("main",), targets=(), source=TARGET.source)


def catalogue(conda: CondaProfile | None = None) -> Catalogue:
    """Return the catalogue of the one profile, for two platforms."""
    targets = (TARGET, replace(TARGET, platform="win-64"))
    profile = Profile(
        name="torch2.2-cpu", line="torch2.2", variant="cpu", targets=targets, source=TARGET.source, conda=conda
    )
    return Catalogue(profiles={profile.name: profile}, default_line="torch2.2", indexes={"pypi": None})


def test_folder_passes(place: Path, tmp_path: Path) -> None:
    """The folders of profiles, the snapshot, frozen sets, an index of images and conda's files belong there."""
    for name in ("index/pypi", "frozen/v1", "torch2.2-cpu/win-64", "torch2.2-cpu/conda"):
        (tmp_path / "lockfiles" / name).mkdir(parents=True)
    for name in ("conda-lock.yml", "conda-linux-64.lock", "image-index.json"):
        (tmp_path / "lockfiles" / "torch2.2-cpu" / name).touch()
    (tmp_path / "lockfiles" / ".lock").touch()
    module.check_folder(tmp_path, catalogue(CONDA))


def test_folder_without_conda(place: Path, tmp_path: Path) -> None:
    """What conda-lock left of a profile that has no conda environment any more is too many."""
    (tmp_path / "lockfiles" / "torch2.2-cpu" / "conda-lock.yml").touch()
    with pytest.raises(LockError, match=r"lockfiles/torch2\.2-cpu/conda-lock\.yml: no profile asks for it"):
        module.check_folder(tmp_path, catalogue())


def test_folder_without_locks(tmp_path: Path) -> None:
    """A project without locks has none too many."""
    module.check_folder(tmp_path, catalogue())


def test_folder_without_profile(place: Path, tmp_path: Path) -> None:
    """Locks that no profile asks for are named, all of them, with how to remove them."""
    (tmp_path / "lockfiles" / "torch1.9-cpu" / "linux-64").mkdir(parents=True)
    (tmp_path / "lockfiles" / "torch2.2-cpu" / "osx-64").mkdir()
    names = ("lockfiles/torch1.9-cpu", "lockfiles/torch2.2-cpu/osx-64")
    with pytest.raises(LockError) as caught:
        module.check_folder(tmp_path, catalogue())
    assert str(caught.value) == (
        f"{names[0]}, {names[1]}: no profile asks for it; expected a profile under environments/; "
        f"try: git rm -r {names[0]} {names[1]}"
    )


def test_environment_of_this_machine() -> None:
    """The markers of the host's platform are those that this interpreter gives."""
    here = {key: str(value) for key, value in default_environment().items()}
    found = module.environment(host().name, here["python_version"])
    same = ("os_name", "sys_platform", "platform_machine", "platform_system", "platform_python_implementation",
            "implementation_name", "python_version")  # fmt: skip
    assert {key: found[key] for key in same} == {key: here[key] for key in same}
    assert here.keys() <= found.keys()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_environment_of_every_platform(platform: str) -> None:
    """Every platform has a value for each marker, and its own marker is true of them."""
    assert Marker(PLATFORMS[platform].marker).evaluate(module.environment(platform, "3.11"))


def test_facts_that_are_recorded_since_make_a_lock_stale(tmp_path: Path) -> None:
    """What could not be read when the lock was written, and was since: lock again."""
    write(tmp_path, facts=replace(LOCK.facts, unread=("torch",)))
    facts = replace(LOCK.facts, numpy_1=("torch",))
    assert refused(StaleError, tmp_path, facts=facts) == (
        f"{WHERE}: torch: recorded since this was locked; try: make lock-torch2.2-cpu"
    )


def test_other_drivers_make_a_lock_stale(place: Path, tmp_path: Path) -> None:
    """The drivers come from environments/compat.yaml, which may have moved."""
    assert "the drivers of environments/compat.yaml: recorded since" in refused(
        StaleError, tmp_path, facts=replace(LOCK.facts, driver="525.60.13")
    )


def test_facts_that_are_no_longer_recorded_break_a_lock(place: Path, tmp_path: Path) -> None:
    """A lock whose facts nobody can show is broken, not stale."""
    assert refused(LockError, tmp_path, facts=replace(LOCK.facts, unread=("numpy",))) == (
        f"{WHERE}: tool.torchlock.facts: the facts of numpy are here, but not under lockfiles/index/facts; "
        "expected both; try: make lock-torch2.2-cpu"
    )


def test_other_facts_than_the_recorded_ones_break_a_lock(place: Path, tmp_path: Path) -> None:
    """The lock says what the snapshot's facts say, value by value."""
    assert refused(LockError, tmp_path, facts=replace(LOCK.facts, glibc="2.28")) == (
        f"{WHERE}: tool.torchlock.facts.glibc: '2.17'; expected '2.28', as recorded; try: make lock-torch2.2-cpu"
    )


def test_exceptions_are_the_profiles(tmp_path: Path) -> None:
    """A lock that lets something pass which its profile does not is broken."""
    waiver = Waiver(project="numpy", sha256=locks.NUMPY.sha256, reason="it's tested")
    write(tmp_path, exceptions=(waiver,))
    assert refused(LockError, tmp_path) == (
        f"{WHERE}: tool.torchlock.exceptions: not the profile's; expected those of environments/torch2.2.yaml; "
        "try: make lock-torch2.2-cpu"
    )
    target = replace(TARGET, exceptions=(waiver, replace(waiver, sha256=Digest.of(b"that of another platform"))))
    write(tmp_path, exceptions=(waiver,), profile_digest=target.digest())
    assert check(tmp_path, target).exceptions == (waiver,)
