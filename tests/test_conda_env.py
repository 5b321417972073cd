"""The verbs of conda environments: what they are told by settings, and what they refuse before they begin."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers import Notes
from torchlock.commands import conda_env
from torchlock.conda import document
from torchlock.conda.prefix import Manifest
from torchlock.environment.manifest import place_of
from torchlock.errors import CondaError, ProfileError
from torchlock.platforms import host
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    from torchlock.conda.installation import CondaEnvironments

ROOT = Path(__file__).parents[1]
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"


def workspace(root: Path = ROOT, **settings: Any) -> Workspace:
    """Return the workspace of a folder."""
    return Workspace(root, Settings(**settings), Notes())


def options(**given: Any) -> argparse.Namespace:
    """Return a command line."""
    defaults: dict[str, Any] = {"profile": "torch2.4-cpu", "profiles": [], "require": None, "json": False}
    return argparse.Namespace(**{**defaults, **given})


def environments(tmp_path: Path, scripts: str | None = None, **settings: Any) -> CondaEnvironments:
    """Return the environments of the committed profile torch2.4-cpu, with these settings."""
    space = workspace(store=str(tmp_path / "store"), envs=str(tmp_path / "envs"), **settings)
    profile = space.catalogue.profiles["torch2.4-cpu"].conda
    assert profile is not None
    return conda_env.environments(space, options(scripts=scripts), profile, "linux-64")


def test_sizes(tmp_path: Path) -> None:
    """The sizes that the channels record reach the fetcher, which conda-lock's own file has not."""
    made = environments(tmp_path)
    lock = document.read(document.path(ROOT, "torch2.4-cpu"), ROOT)
    assert all(made.sizes[item.url] > 0 for item in lock.packages("linux-64"))


@pytest.mark.parametrize("text", ["evil=https://x/", "https://x/", "nvidia=https://x/"])
def test_mirror_unknown(tmp_path: Path, text: str) -> None:
    """A mirror is of a channel of the profile, by its name."""
    with pytest.raises(ProfileError) as caught:
        environments(tmp_path, mirror=text)
    assert (
        str(caught.value) == f"MIRROR: found {text.partition('=')[0]!r}; expected one of conda-forge, then =<address>"
    )


def test_scripts(tmp_path: Path) -> None:
    """Link scripts are refused, or skipped on request; nothing else can be asked for."""
    assert not environments(tmp_path).skip_scripts
    assert environments(tmp_path, scripts="skip").skip_scripts
    with pytest.raises(ProfileError, match=r"SCRIPTS: found 'run'; expected skip, or nothing"):
        environments(tmp_path, scripts="run")


def test_offline_without_package(tmp_path: Path) -> None:
    """Offline, the first package that is not in the store is named, and nothing is built."""
    made = environments(tmp_path, offline=True)
    lock = document.read(document.path(ROOT, "torch2.4-cpu"), ROOT)
    with pytest.raises(CondaError, match="not in the store, and no channel may be asked"):
        made.build(lock, host().name)
    assert not list(made.root.glob("conda-*"))


def test_no_conda(tmp_path: Path) -> None:
    """A profile without a conda part says what it lacks."""
    for verb in (conda_env.make_conda_env, conda_env.smoke_conda, conda_env.drift_conda):
        with pytest.raises(CondaError) as caught:
            verb(workspace(envs=str(tmp_path)), options(profile="torch2.2-cpu"))
        assert str(caught.value) == (
            "environments/torch2.2.yaml: torch2.2-cpu: has no conda environment; expected conda: under variants.cpu"
        )


def test_other_machine(tmp_path: Path) -> None:
    """A profile for another machine names the machines that it is for."""
    with pytest.raises(CondaError, match=r"has no conda environment for linux-.*; expected a machine of osx-arm64"):
        conda_env.make_conda_env(workspace(envs=str(tmp_path)), options(profile="torch2.4-mps"))


def test_no_environment(tmp_path: Path) -> None:
    """Drift of an environment that is not there names the command that makes it."""
    with pytest.raises(CondaError) as caught:
        conda_env.drift_conda(workspace(envs=str(tmp_path)), options())
    assert str(caught.value) == (
        f"{tmp_path}/conda-torch2.4-cpu: there is no such environment yet; try: make conda-env-torch2.4-cpu"
    )


def test_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment that lacks what is locked has drifted: in words or in JSON, with exit status 1."""
    env = tmp_path / "conda-torch2.4-cpu"
    (env / "conda-meta").mkdir(parents=True)
    lock = document.read(document.path(ROOT, "torch2.4-cpu"), ROOT)
    place = place_of(env)
    Manifest(profile="torch2.4-cpu", platform="linux-64", lock=str(lock.digest), place=place, records={}).write(env)
    assert conda_env.drift_conda(workspace(envs=str(tmp_path)), options()) == 1
    count = len(lock.packages("linux-64"))
    assert capsys.readouterr().out.count("\n  removed ") == count
    conda_env.drift_conda(workspace(envs=str(tmp_path)), options(json=True))
    assert len(json.loads(capsys.readouterr().out)["removed"]) == count


def test_flavours(capsys: pytest.CaptureFixture[str]) -> None:
    """Every conda lock is shown beside that of its wheels, as Markdown or as one JSON value a line."""
    assert conda_env.compare_flavours(workspace(), options()) == 0
    shown = capsys.readouterr().out
    assert "| torch2.4-cpu on linux-aarch64 | pip | conda |" in shown
    assert "not known |\n" not in shown.partition("| torch2.4-cuda")[2]
    conda_env.compare_flavours(workspace(), options(profiles=["torch2.4-cuda"], json=True))
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["platform"], row["pip"]["kind"], row["conda"]["kind"]) == ("linux-64", "pip", "conda")


def test_wheels_disagree(tmp_path: Path) -> None:
    """A profile whose wheels and conda packages are of other versions is refused before anything is fetched."""
    for name in ("environments", "lockfiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("wheels"))
    source = tmp_path / "lockfiles/torch2.4-mps/osx-arm64"
    shutil.rmtree(source)
    shutil.copytree(ROOT / "lockfiles/torch2.2-mps/osx-arm64", source)
    space = workspace(tmp_path)
    profile = space.catalogue.profiles["torch2.4-mps"].conda
    assert profile is not None
    with pytest.raises(CondaError, match=r"conda-lock\.yml: numpy on osx-arm64: 2\.1\.3; expected"):
        conda_env.check_conda(space, profile)
