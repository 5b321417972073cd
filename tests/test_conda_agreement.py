"""The check of a conda lock: broken before stale, and everything beside it is its own."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from torchlock.conda import agreement, document, metadata, values
from torchlock.conda.channels import Channels
from torchlock.errors import CondaError, GateError, StaleError, TorchlockError
from torchlock.locks import lock as locks
from torchlock.profiles import profile as profiles
from torchlock.profiles import rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlock.conda.document import CondaLock
    from torchlock.profiles.conda import CondaProfile

ROOT = Path(__file__).parents[1]
NAME = "torch2.4-cpu"
WHERE = f"lockfiles/{NAME}/conda-lock.yml"
# libyaml's writer, where PyYAML was built with it, is ten times faster.
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
RULES = rules.load(ROOT / "environments/compat.yaml")
AGAIN = f"; try: make lock-{NAME}"


@pytest.fixture(scope="module")
def profile() -> CondaProfile:
    """Give the conda part of a real profile with two platforms."""
    found = profiles.load(ROOT / "environments").profiles[NAME].conda
    assert found is not None
    assert [target.platform for target in found.targets] == ["linux-64", "linux-aarch64"]
    return found


@pytest.fixture(scope="module")
def channels() -> Channels:
    """Give the recorded channels."""
    return Channels(ROOT / "lockfiles/index/conda")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder with the committed conda lock of the profile, and what lies beside it."""
    target = tmp_path / "lockfiles" / NAME
    target.mkdir(parents=True)
    for path in sorted((ROOT / "lockfiles" / NAME).glob("conda*")):
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target / path.name)
    return tmp_path


def check(root: Path, profile: CondaProfile, channels: Channels) -> CondaLock:
    """Check the lock in a folder."""
    return agreement.check(profile, root, channels, RULES)


def refused(root: Path, profile: CondaProfile, channels: Channels, kind: type[TorchlockError] = CondaError) -> str:
    """Return the message with which the lock is refused."""
    with pytest.raises(kind) as caught:
        check(root, profile, channels)
    assert type(caught.value) is kind
    return str(caught.value)


def edit(root: Path, change: Callable[[Any], None]) -> CondaLock:
    """Change the values of the lock, stamp it anew as one does who knows how, and render it again."""
    path = root / WHERE
    value = values.load(path.read_bytes(), WHERE)
    change(value)
    value["metadata"]["custom_metadata"]["torchlock-digest"] = str(metadata.digest(value))
    path.write_text(yaml.dump(value, Dumper=DUMPER, sort_keys=False))
    lock = document.read(path, root)
    for name, data in agreement.renderings(lock).items():
        (path.parent / name).write_bytes(data)
    return lock


def package(value: Any, name: str, platform: str = "linux-64") -> Any:
    """Return one package of a lock's values."""
    return next(item for item in value["package"] if (item["name"], item["platform"]) == (name, platform))


def test_committed(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """The committed lock is sound, fresh, and all beside it agrees."""
    assert check(root, profile, channels).profile == NAME


def test_all_committed(channels: Channels) -> None:
    """So are all conda locks of the project, and they agree with those of wheels."""
    catalogue = profiles.load(ROOT / "environments")
    found = [item for item in catalogue.profiles.values() if item.conda is not None]
    assert len(found) >= 5
    for item in found:
        assert item.conda is not None
        lock = check(ROOT, item.conda, channels)
        paths = [locks.folder(ROOT, item.name, platform) / locks.FILE for platform in lock.platforms]
        agreement.agree(lock, [locks.read(path, ROOT) for path in paths])


def test_missing(tmp_path: Path, profile: CondaProfile, channels: Channels) -> None:
    """A lock that is not there is stale, not broken."""
    assert refused(tmp_path, profile, channels, StaleError) == f"{WHERE}: there is no conda lock yet{AGAIN}"


def test_edited_by_hand(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A dependency that was edited in the file is found out by the lock's own digest."""
    path = root / WHERE
    text = path.read_text()
    path.write_text(text.replace("    __glibc: '>=2.17,<3.0.a0'\n", "    __glibc: '>=2.28'\n", 1))
    assert "torchlock-digest: edited by hand: " in refused(root, profile, channels)


def test_hash_swapped(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A sha256 that is not the channel's is broken, also in a lock that was stamped anew."""
    lock = edit(root, lambda value: package(value, "numpy")["hash"].update(sha256="0" * 64))
    url = next(item.url for item in lock.packages("linux-64") if item.name == "numpy")
    recorded = channels.records(profile.channels, "linux-64")[url].sha256
    assert refused(root, profile, channels) == (
        f"{WHERE}: numpy on linux-64: hash.sha256: sha256:{'0' * 64}; expected {recorded}, as recorded{AGAIN}"
    )


def test_md5_swapped(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """So is an md5."""
    edit(root, lambda value: package(value, "numpy")["hash"].update(md5="0" * 32))
    assert refused(root, profile, channels).startswith(f"{WHERE}: numpy on linux-64: hash.md5: {'0' * 32}; expected ")


def test_sha256_missing(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A package without a sha256 is refused, whatever its md5."""
    value = values.load((root / WHERE).read_bytes(), WHERE)
    del package(value, "numpy")["hash"]["sha256"]
    (root / WHERE).write_text(yaml.dump(value, Dumper=DUMPER, sort_keys=False))
    assert "the key 'sha256' is missing" in refused(root, profile, channels)


def test_package_twice(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A package that stands there twice is refused."""
    value = values.load((root / WHERE).read_bytes(), WHERE)
    place = value["package"].index(package(value, "numpy"))
    value["package"].insert(place, copy.deepcopy(value["package"][place]))
    (root / WHERE).write_text(yaml.dump(value, Dumper=DUMPER, sort_keys=False))
    assert "expected each package once" in refused(root, profile, channels)


def test_dependencies(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A dependency that was taken out, so that a package seems to need less, is broken."""
    edit(root, lambda value: package(value, "numpy")["dependencies"].pop("libblas", None) or None)
    assert ": numpy on linux-64: dependencies: " in refused(root, profile, channels)


def test_other_channel(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A package from another channel is broken, though it has the same name and bytes."""

    def change(value: Any) -> None:
        item = package(value, "numpy")
        item["url"] = item["url"].replace("/conda-forge/", "/evil/")

    edit(root, change)
    text = "comes from https://conda.anaconda.org/evil; expected the channels conda-forge"
    assert refused(root, profile, channels) == f"{WHERE}: numpy on linux-64: {text}{AGAIN}"


def test_not_recorded(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A package that its channel is not recorded with is broken, where nothing else says that the lock is stale."""

    def change(value: Any) -> None:
        item = package(value, "zstd")
        item["url"] = item["url"].replace(".conda", ".tar.bz2")

    edit(root, change)
    assert ": the recorded channels have no zstd-" in refused(root, profile, channels)


def test_rendering(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """An explicit list that is missing, or not what the lock renders to, is refused by its name."""
    path = root / f"lockfiles/{NAME}/conda-linux-aarch64.lock"
    path.write_bytes(path.read_bytes() + b"\n")
    where = f"lockfiles/{NAME}/conda-linux-aarch64.lock"
    expected = f"is not what conda-lock.yml renders to; expected the same bytes{AGAIN}"
    assert refused(root, profile, channels) == f"{where}: {expected}"
    path.unlink()
    assert refused(root, profile, channels) == f"{where}: is missing; expected what conda-lock.yml renders to{AGAIN}"


def test_inputs(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """What conda-lock was given must be what the profile says."""
    path = root / f"lockfiles/{NAME}/conda/environment.yml"
    path.write_bytes(path.read_bytes() + b"  - evil\n")
    assert refused(root, profile, channels) == (
        f"lockfiles/{NAME}/conda/environment.yml: is not what {profile.source} says; expected the same bytes{AGAIN}"
    )


def test_profile_moved(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A profile that has changed since makes the lock stale, with an exit status of its own."""
    moved = replace(profile, targets=tuple(replace(item, also=("mkl 2024.*",)) for item in profile.targets))
    text = refused(root, moved, channels, StaleError)
    assert text.startswith(f"{WHERE}: {profile.source} has changed since this was locked (sha256:")
    assert StaleError.status == 3


def test_channels_moved(root: Path, profile: CondaProfile, channels: Channels, tmp_path: Path) -> None:
    """A channel that has more of a locked package since makes the lock stale, one of another package does not."""
    shutil.copytree(channels.root, tmp_path / "index")
    found = Channels(tmp_path / "index").subdir("conda-forge", "linux-64")
    assert found is not None
    numpy = next(item for item in found.records.values() if item.name == "numpy")

    def adding(name: str) -> Channels:
        value = {**numpy.value, "name": name, "version": "9.9", "build": "0"}
        more = replace(numpy, filename=f"{name}-9.9-0.conda", value=value)
        changed = Channels(tmp_path / "index")
        changed.write(replace(found, records={**found.records, more.filename: more}))
        return Channels(tmp_path / "index")

    check(root, profile, adding("unrelated"))
    text = refused(root, profile, adding("numpy"), StaleError)
    assert text.startswith(f"{WHERE}: the recorded channels have changed since this was locked (sha256:")


def test_broken_before_stale(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A lock that is broken is not called stale, though its profile has moved, too."""
    edit(root, lambda value: package(value, "numpy")["hash"].update(sha256="0" * 64))
    moved = replace(profile, targets=tuple(replace(item, also=("mkl 2024.*",)) for item in profile.targets))
    assert "hash.sha256" in refused(root, moved, channels)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"torch": "2.4.0"}, "pytorch 2.4.1 on linux-64; expected 2.4.0"),
        ({"numpy": "2.1.2"}, "numpy 2.1.3 on linux-64; expected 2.1.2"),
        ({"python": "3.10"}, "expected 3.10.*"),
        ({"build": "cuda120_*"}, "on linux-64; expected conda-forge::cuda120_*"),
    ],
)
def test_answers(root: Path, profile: CondaProfile, channels: Channels, changes: dict[str, str], shown: str) -> None:
    """A lock that claims to come from a profile and does not give what it asks for is broken."""
    moved = replace(profile, targets=(replace(profile.targets[0], **changes), *profile.targets[1:]))  # type: ignore[arg-type]
    edit(
        root,
        lambda value: value["metadata"]["custom_metadata"].update({"torchlock-profile-digest": str(moved.digest())}),
    )
    for name, data in agreement.inputs(moved).items():
        (root / "lockfiles" / NAME / name).write_bytes(data)
    assert shown in refused(root, moved, channels)


def test_mixed(root: Path, profile: CondaProfile, channels: Channels) -> None:
    """A set that mixes builds for the CPU and for CUDA is refused by the gate."""
    moved = replace(profile, targets=(replace(profile.targets[0], variant="cuda", cuda="12.0"), *profile.targets[1:]))
    edit(
        root,
        lambda value: value["metadata"]["custom_metadata"].update({"torchlock-profile-digest": str(moved.digest())}),
    )
    text = refused(root, moved, channels, GateError)
    assert "a cpu build; expected cuda builds alone" in text


def test_wheels_disagree(root: Path) -> None:
    """The conda lock and the locks of wheels of one profile have the same torch and NumPy, local versions aside."""
    lock = document.read(root / WHERE, root)
    wheels = locks.read(locks.folder(ROOT, NAME, "linux-64") / locks.FILE, ROOT)
    agreement.agree(lock, [wheels])
    artifacts = tuple(replace(item, version="2.1.2") if item.project == "numpy" else item for item in wheels.artifacts)
    with pytest.raises(CondaError) as caught:
        agreement.agree(lock, [replace(wheels, artifacts=artifacts)])
    assert str(caught.value) == (
        f"{WHERE}: numpy on linux-64: 2.1.3; expected 2.1.2, as in lockfiles/{NAME}/linux-64/pylock.toml{AGAIN}"
    )
