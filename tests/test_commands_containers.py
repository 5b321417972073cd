"""The verbs `load` and `smoke-image`: the committed image into Docker, through the smoke script, into evidence."""

from __future__ import annotations

import argparse
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

import engines
from test_commands_images import Project
from torchlock.commands import containers, images
from torchlock.doctor import machine
from torchlock.errors import EngineError, ImageError, SmokeError
from torchlock.images import committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engines import Engine

# The Docker SDK leaves the socket of a container that never ran to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
CUDA = "torch2.2-cuda"
FAILING = {"id": "import.torch", "group": "import", "status": "fail", "detail": "no", "remedy": "mend it"}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give a daemon that DOCKER_HOST names."""
    with engines.serve() as made:
        monkeypatch.setenv("DOCKER_HOST", made.url)
        yield made
    gc.collect()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a checkout without an image."""
    return Project(tmp_path)


def run(verb: Callable[..., int], project: Project, profile: str = CUDA, **options: Any) -> int:
    """Run a verb."""
    values = {"profile": profile, "base": None, "images": None, "require": None, "json": False, **options}
    return verb(project.workspace(options.get("platform")), argparse.Namespace(**values))


def test_an_image_is_made_and_loaded(project: Project, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output says what Docker has; how it was made is progress."""
    assert run(containers.load, project) == 0
    (identity,) = engine.images
    found = capsys.readouterr()
    assert found.out.startswith(
        f"torch2.2-cuda linux-64: {project.digest()} is in Docker as torchlock/torch2.2-cuda:2.2.2-1.26.4-cuda"
        f" (ID {identity}; "
    )
    assert found.out.endswith(" MB sent, 0 layers there already)\n")
    assert "(committed now)" in found.err
    assert engine.tags == {"torchlock/torch2.2-cuda:2.2.2-1.26.4-cuda": identity}


def test_a_layout_that_is_here_is_taken(
    project: Project, engine: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made again; Docker has it already, and that is said."""
    run(containers.load, project)
    monkeypatch.setattr(images, "image", None)
    run(containers.load, project)
    assert capsys.readouterr().out.splitlines()[-1].endswith("; there already)")
    assert len(engine.archives) == 1


def test_a_layout_of_another_image_is_made_anew(project: Project, engine: Engine) -> None:
    """What lies in the folder must be what is committed."""
    run(containers.load, project, base="other")
    assert committed.read(project.root, CUDA, "linux-64") is None
    run(containers.load, project)
    manifest = json.loads(engine.archives[-1]["index.json"])["manifests"][0]
    assert manifest["digest"] == project.digest()
    assert len(engine.images) == 2


@pytest.mark.parametrize(
    ("here", "named", "expected"),
    [
        ("x86_64", None, "torch2.2-cpu linux-64"),
        ("aarch64", None, "torch2.2-cpu linux-aarch64"),
        ("x86_64", "linux-aarch64", "torch2.2-cpu linux-aarch64"),
    ],
)
def test_docker_gets_the_image_of_its_machine(
    project: Project, engine: Engine, here: str, named: str | None, expected: str
) -> None:
    """Unless another platform is named, which then shows in the tag."""
    engine.info["Architecture"] = here
    run(containers.smoke_image, project, "torch2.2-cpu", platform=named)
    assert any(note.startswith(f"{expected}: ") for note in project.made.notes.notes)
    (tag,) = engine.tags
    assert tag.endswith("-arm64") == (named is not None)


def test_a_smoke_run_is_shown_and_kept(project: Project, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """The table on standard output, the statement beside the layout, about the digest that is committed."""
    assert run(containers.smoke_image, project) == 0
    found = capsys.readouterr().out
    assert found.startswith("Python 3.11.2, numpy 1.26.4, torch 2.2.2")
    assert found.endswith("\nsmoke passed: 1 pass, 1 not run\n")
    statement = json.loads((project.root / "images" / "evidence-torch2.2-cuda-linux-64.json").read_bytes())
    assert statement["subject"] == [
        {"name": "torch2.2-cuda-linux-64", "digest": {"sha256": project.digest().removeprefix("sha256:")}}
    ]
    lock = statement["predicate"]["configuration"][0]["annotations"]["dev.torchlock.lock"]
    manifest = project.root / "lockfiles/torch2.2-cuda/linux-64/image/manifest.json"
    assert lock == json.loads(manifest.read_bytes())["annotations"]["dev.torchlock.lock"]
    assert engine.created[0]["Image"] == next(iter(engine.images))
    assert project.made.notes.notes[-1] == (
        "the evidence of this run (WARNED) is in images/evidence-torch2.2-cuda-linux-64.json; EVIDENCE=1 pushes it"
    )


def test_json_alone_is_on_standard_output(project: Project, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """The report as the smoke script prints it, though the image was made first."""
    run(containers.smoke_image, project, json=True)
    assert json.loads(capsys.readouterr().out) == engines.REPORT


def test_a_failure_is_shown_kept_and_refused(
    project: Project, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table comes first, the evidence says FAILED, and the command fails with the remedy."""
    report = engines.REPORT | {"status": "fail", "checks": [FAILING]}
    engine.words, engine.status = (json.dumps(report).encode(), b""), 1
    with pytest.raises(SmokeError, match=r"1 of 1 checks failed: import.torch; expected none; try: mend it$"):
        run(containers.smoke_image, project)
    assert "smoke FAILED: 1 fail" in capsys.readouterr().out
    statement = json.loads((project.root / "images" / "evidence-torch2.2-cuda-linux-64.json").read_bytes())
    assert statement["predicate"]["result"] == "FAILED"


def test_the_gpu_is_asked_for_where_there_is_a_sign_of_one(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA's runtime in Docker, or a required device; never for an image without CUDA."""
    monkeypatch.setattr(machine, "look", machine.Machine)
    run(containers.smoke_image, project)
    run(containers.smoke_image, project, require="cuda")
    engine.info["Runtimes"] = {"nvidia": {}}
    run(containers.smoke_image, project)
    run(containers.smoke_image, project, "torch2.2-cpu")
    assert ["DeviceRequests" in item["HostConfig"] for item in engine.created] == [False, True, True, False]


def test_without_a_daemon_nothing_is_made(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docker is asked first: making an image for nobody takes time."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(EngineError, match="no Docker daemon answers there: Connection refused"):
        run(containers.load, project)
    assert not (tmp_path / "images").exists()


def test_a_profile_without_an_image_says_why(project: Project, engine: Engine) -> None:
    """As `make image-mps` does."""
    with pytest.raises(ImageError, match="no Metal in Linux containers"):
        run(containers.load, project, "torch2.2-mps")
    with pytest.raises(ImageError, match="it has no image for win-64"):
        run(containers.load, project, "torch2.2-cpu", platform="win-64")
