"""The verbs `push` and `pull`: what a registry lacks, the committed digest, evidence, and tags that nobody trusts."""

from __future__ import annotations

import argparse
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import registries
from test_commands_images import Project
from torchlock.commands import cache
from torchlock.commands import registries as verbs
from torchlock.digest import Digest
from torchlock.engine import evidence
from torchlock.errors import ImageError, RegistryError
from torchlock.images import index
from torchlock.oci import layout
from torchlock.registry.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registries import Registry

CUDA, CPU = "torch2.2-cuda", "torch2.2-cpu"
TAG = "2.2.2-1.26.4-cuda"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """Give a registry, and no credentials and no Docker."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with registries.serving(registries.Registry()) as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a checkout without an image."""
    return Project(tmp_path / "project")


def run(verb: Callable[..., int], project: Project, place: Registry, profile: str = CUDA, **options: Any) -> int:
    """Run a verb on the repository me/images, unless another is named."""
    values: dict[str, Any] = {"base": None, "images": None, "mount": None, "evidence": False, "platform": None}
    values |= {"profile": profile, "registry": f"{place.host}/me/images", **options}
    return verb(project.workspace(values["platform"]), argparse.Namespace(**values))


def smoked(project: Project, about: str | None = None) -> None:
    """Keep evidence about an image, the committed one unless another is named."""
    import engines  # noqa: PLC0415 - one test's need
    from torchlock.engine.report import Report  # noqa: PLC0415 - as above

    digest = Digest.parse(about or project.digest())
    subject = evidence.Subject(name="x", platform="linux-64", image=digest, lock="sha256:1")
    found = evidence.of(subject, Report.read(json.dumps(engines.REPORT).encode(), "a report"))
    found.write(project.root / "images" / "evidence-torch2.2-cuda-linux-64.json")


def test_an_image_is_made_and_pushed(project: Project, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """By its digest, under its tag; a second push sends nothing."""
    assert run(verbs.push_image, project, registry) == 0
    there = registry.repository("me/images")
    assert list(there.manifests) == [project.digest()]
    assert there.tags == {TAG: project.digest()}
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"torch2.2-cuda linux-64: {registry.host}/me/images@{project.digest()}"
    assert second.endswith(f" MB sent; 6 blobs sent, 0 there already, 0 mounted, tagged {TAG}")
    run(verbs.push_image, project, registry)
    second = capsys.readouterr().out.splitlines()[1]
    assert second == f"  0.000 MB sent; 0 blobs sent, 6 there already, 0 mounted, tagged {TAG}"


def test_blobs_of_another_repository_are_mounted(
    project: Project, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """MOUNT names those that may have them."""
    run(verbs.push_image, project, registry)
    run(verbs.push_image, project, registry, registry=f"{registry.host}/other", mount="me/images me/none")
    assert " MB sent; 0 blobs sent, 0 there already, 6 mounted" in capsys.readouterr().out.splitlines()[-1]


def test_all_platforms_are_pushed_with_their_index(
    project: Project, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each under a tag of its own, the index that is committed under the plain one."""
    run(verbs.push_image, project, registry, CPU)
    there = registry.repository("me/images")
    whole = index.path(project.root, CPU).read_bytes()
    assert there.tags == {
        "2.2.2-1.26.4-cpu-amd64": project.digest("linux-64", CPU),
        "2.2.2-1.26.4-cpu-arm64": project.digest("linux-aarch64", CPU),
        "2.2.2-1.26.4-cpu": str(Digest.of(whole)),
    }
    assert there.manifests[str(Digest.of(whole))][1] == whole
    assert f"torch2.2-cpu on 2 platforms: {registry.host}/me/images@{Digest.of(whole)}" in capsys.readouterr().out


def test_one_platform_is_pushed_without_the_index(project: Project, registry: Registry) -> None:
    """PLATFORM names it; another runner pushes the other."""
    run(verbs.push_image, project, registry, CPU, platform="linux-aarch64")
    assert list(registry.repository("me/images").tags) == ["2.2.2-1.26.4-cpu-arm64"]


def test_evidence_is_attached(project: Project, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """As a referrer of the image, with its result for people to read."""
    run(verbs.push_image, project, registry)
    smoked(project)
    run(verbs.push_image, project, registry, evidence=True)
    assert "torch2.2-cuda linux-64: evidence WARNED attached as sha256:" in capsys.readouterr().out
    manifests = registry.repository("me/images").manifests.values()
    (attached,) = [found for _, data in manifests if (found := json.loads(data)).get("subject")]
    assert attached["subject"]["digest"] == project.digest()
    assert attached["artifactType"] == "application/vnd.in-toto+json"
    assert attached["annotations"]["dev.torchlock.result"] == "WARNED"


@pytest.mark.parametrize("about", [None, "sha256:" + "a" * 64], ids=["none", "another image"])
def test_evidence_of_another_image_is_refused(project: Project, registry: Registry, about: str | None) -> None:
    """And of none: before a byte is pushed."""
    run(verbs.push_image, project, registry, registry=f"{registry.host}/elsewhere")
    if about:
        smoked(project, about)
    with pytest.raises(ImageError, match=r"try: make smoke-image-torch2\.2-cuda PLATFORM=linux-64$"):
        run(verbs.push_image, project, registry, evidence=True)
    assert not registry.repository("me/images").blobs


def test_an_image_is_pulled_by_its_committed_digest(
    project: Project, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into the layout that `image` makes, all of it verified."""
    run(verbs.push_image, project, registry)
    shutil.rmtree(project.root / "images")
    shutil.rmtree(project.made.blobs.root)
    capsys.readouterr()
    assert run(verbs.pull_image, project, registry) == 0
    folder = project.root / "images" / "torch2.2-cuda-linux-64"
    assert len(layout.verify(folder)) == 7
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"/me/images@{project.digest()}, the committed digest")
    assert second.endswith("0 blobs here already, in images/torch2.2-cuda-linux-64")


@pytest.mark.parametrize("moved", [True, False])
def test_a_tag_is_a_remark(project: Project, registry: Registry, moved: bool) -> None:
    """One that is another image, or gone, changes nothing but what is said."""
    run(verbs.push_image, project, registry)
    there = registry.repository("me/images")
    other = registries.picture(b"other")
    other.put(there)
    there.tags = {TAG: str(other.descriptor.digest)} if moved else {}
    run(verbs.pull_image, project, registry)
    name = f"{registry.host}/me/images:{TAG}"
    assert project.made.notes.notes[-1] == (
        f"{name} is {other.descriptor.digest}: tags move, and this image was pulled by its digest"
        if moved
        else f"{name} is not there: this image was pulled by its digest"
    )


def test_a_lying_registry_publishes_nothing(project: Project, registry: Registry) -> None:
    """Other bytes under the committed digest: the layout that was here stays."""
    run(verbs.push_image, project, registry)
    shutil.rmtree(project.root / "images")
    shutil.rmtree(project.made.blobs.root)
    there = registry.repository("me/images")
    there.manifests[project.digest()] = (there.manifests[project.digest()][0], b'{"schemaVersion":2}')
    with pytest.raises(RegistryError, match=f"expected {project.digest()}"):
        run(verbs.pull_image, project, registry)
    assert not (project.root / "images").exists()


def test_without_a_committed_image_nothing_is_trusted(project: Project, registry: Registry) -> None:
    """There is no digest to pull by."""
    with pytest.raises(ImageError) as caught:
        run(verbs.pull_image, project, registry)
    assert str(caught.value) == (
        "torch2.2-cuda linux-64: no image is committed, and nothing else says what to trust;"
        " try: make image-torch2.2-cuda"
    )


def test_a_registry_must_be_named(project: Project, registry: Registry) -> None:
    """With an example."""
    with pytest.raises(ImageError, match=r"^REGISTRY: is not given; expected host\[:port\]/repository; try: REGISTRY="):
        run(verbs.push_image, project, registry, registry=None)


def test_the_registry_is_a_cache(project: Project, registry: Registry) -> None:
    """Layers of the committed image come from there, whether its manifest is there or not; base and all."""
    run(verbs.push_image, project, registry)
    registry.repository("me/images").manifests.clear()
    lost = registry.repository("me/images").blobs
    shutil.rmtree(project.made.blobs.root)
    workspace = project.workspace()
    target = workspace.target(CUDA, "linux-64", "")
    where = f"{registry.host}/me/images"
    cache.restore(workspace, target, Reference.parse(where), project.made.blobs)
    here = {path.name for path in (project.made.blobs.root / "sha256").iterdir()}
    assert len(here) == 5
    assert {f"sha256:{name}" for name in here} <= lost.keys()
    assert project.made.notes.notes[-1].startswith(f"torch2.2-cuda linux-64: 5 of 5 missing layers came from {where} (")


def test_a_cache_that_is_closed_is_none(project: Project, registry: Registry) -> None:
    """Nobody has pushed yet, or this user may not read: that is said, and the image is made."""
    run(verbs.push_image, project, registry)
    shutil.rmtree(project.made.blobs.root)
    registry.fault("HEAD", "blobs", registries.answering(403), times=99)
    workspace = project.workspace()
    target = workspace.target(CUDA, "linux-64", "")
    cache.restore(workspace, target, Reference.parse(f"{registry.host}/me/images"), project.made.blobs)
    assert "no layers from the registry: " in project.made.notes.notes[-1]
    assert "(403)" in project.made.notes.notes[-1]
