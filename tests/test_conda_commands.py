"""The verbs of conda over a small project: import, lock, record anew from a channel on loopback, move one package."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from channels import Package, publish
from recorded import WORLD, subdir
from servers import Notes, serving
from torchlock.commands import conda
from torchlock.conda import document
from torchlock.errors import CondaError, ProfileError, StaleError, TorchlockError
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    from pathlib import Path

LINE = """\
python: "3.11"
torch: "2.4.1"
numpy: "2.1.3"
conda:
  channels: [main]
  virtual:
    linux-64: {__unix: "0", __linux: "5.10", __glibc: "2.28"}
variants:
  cpu:
    platforms: [linux-64, win-64]
    conda:
      platforms:
        linux-64: {torch: {channel: main, build: cpu_*}, also: [libblas 3.*]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project folder with one line, and facts of the small world beside it."""
    folder = tmp_path / "environments"
    folder.mkdir()
    (folder / "compat.yaml").write_bytes((recorded.ROOT / "environments" / "compat.yaml").read_bytes())
    (folder / "defaults.yaml").write_text("line: demo\nindex: pypi\nindexes: {pypi: {}}\n")
    (folder / "demo.yaml").write_text(LINE)
    place = tmp_path / "facts" / "main" / "linux-64"
    place.mkdir(parents=True)
    found = subdir(WORLD)
    (place / "repodata.json").write_bytes(found.repodata(lambda _: True))
    known = {f"{found.base_url}{name}": dict(item.evidence) for name, item in found.records.items()}
    (tmp_path / "facts" / "provenance.json").write_text(json.dumps(known))
    return tmp_path


def workspace(root: Path, **settings: Any) -> Workspace:
    """Return the project under settings."""
    return Workspace(root, Settings(**settings), Notes())


def options(*profiles: str, **more: Any) -> argparse.Namespace:
    """Return what the command line gives a verb."""
    return argparse.Namespace(profiles=list(profiles), **more)


def test_locked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts are imported and locked without any network, and again nothing changes."""
    found = workspace(project, offline=True)
    assert conda.import_channels(found, options(facts=str(project / "facts"))) == 0
    assert capsys.readouterr().out == "main/linux-64: 11 packages imported\n"
    assert conda.lock_conda(found, options()) == 0
    assert capsys.readouterr().out == "demo-cpu linux-64: 5 conda packages, rattler, written\n"
    assert conda.lock_conda(found, options("cpu")) == 0
    assert capsys.readouterr().out == "demo-cpu linux-64: 5 conda packages, rattler, unchanged\n"
    lock = document.read(document.path(project, "demo-cpu"), project)
    assert lock.profile_digest == found.catalogue.find("cpu").conda.digest()  # type: ignore[union-attr]
    assert conda.lock_conda(workspace(project, platform="win-64"), options()) == 0
    assert capsys.readouterr().out == ""


def test_refused(project: Path) -> None:
    """One profile that cannot be locked leaves all files as they were."""
    found = workspace(project, offline=True)
    conda.import_channels(found, options(facts=str(project / "facts")))
    two = LINE.replace("build: cpu_*", "build: gpu_*")
    (project / "environments" / "other.yaml").write_text(two)
    with pytest.raises(TorchlockError, match="is recorded without pytorch"):
        conda.lock_conda(workspace(project, offline=True), options())
    assert not (project / "lockfiles" / "demo-cpu" / "conda-lock.yml").exists()
    with pytest.raises(ProfileError, match="no profile 'nothing'"):
        conda.lock_conda(found, options("nothing"))


def test_update_offline(project: Path) -> None:
    """Recording anew needs the network, and says so."""
    with pytest.raises(TorchlockError, match=r"^update: reads the channels over the network"):
        conda.update_conda(workspace(project, offline=True), options(pkg=None))


def test_updated(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a package's name only that one moves, by the name that pip has for it or by conda's; without, all move."""
    first = (
        Package(name="python", version="3.11.9"),
        Package(name="numpy", version="2.1.3", depends=("python", "libblas")),
        Package(name="libblas", version="3.9.0"),
        Package(name="pytorch", version="2.4.1", build="cpu_0", depends=("numpy",)),
    )
    newer = (
        Package(name="python", version="3.11.10"),
        Package(name="libblas", version="3.11.0"),
        Package(name="pytorch", version="2.4.1", build="cpu_1", depends=("numpy",)),
    )
    with serving() as site:
        publish(site, first, "main")
        given = {"channels": site.url}
        with pytest.raises(StaleError, match="there is no conda lock yet"):
            conda.update_conda(workspace(project), options(pkg="libblas", **given))
        conda.update_conda(workspace(project), options(pkg=None, **given))
        publish(site, (*first, *newer), "main")
        before = chosen(project)
        conda.update_conda(workspace(project), options(pkg="libblas", **given))
        assert chosen(project) == {**before, "libblas": "3.11.0 0"}
        stored = (project / "lockfiles" / "index" / "conda" / "main" / "linux-64.json").read_text()
        assert "libblas-3.11.0" in stored
        assert "python-3.11.10" not in stored
        conda.update_conda(workspace(project), options(pkg="torch", **given))
        assert chosen(project) == {**before, "libblas": "3.11.0 0", "pytorch": "2.4.1 cpu_1"}
        capsys.readouterr()
        conda.update_conda(workspace(project), options(pkg="scipy", **given))
        assert "packages recorded" in capsys.readouterr().out
        assert chosen(project)["python"] == "3.11.9 0"
        conda.update_conda(workspace(project), options(pkg=None, **given))
        assert chosen(project)["python"] == "3.11.10 0"


def chosen(root: Path) -> dict[str, str]:
    """Return name -> version and build of the written lock."""
    lock = document.read(document.path(root, "demo-cpu"), root)
    return {item.name: f"{item.version} {item.build}" for item in lock.packages("linux-64")}


def test_damaged(project: Path) -> None:
    """A damaged snapshot is refused before anything is solved."""
    found = workspace(project, offline=True)
    conda.import_channels(found, options(facts=str(project / "facts")))
    path = project / "lockfiles" / "index" / "conda" / "main" / "linux-64.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CondaError, match=r"^lockfiles/index/conda/main/linux-64\.json: not a recorded channel"):
        conda.lock_conda(workspace(project, offline=True), options())
