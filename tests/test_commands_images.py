"""The verb `image`: every platform that can have one, the committed digest met, the layout swapped in, all said."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import studio
from torchlock.base import declaration
from torchlock.base.packages import BaseLock, Layer
from torchlock.commands import images
from torchlock.digest import Digest
from torchlock.errors import ImageError, NetworkError, StaleError
from torchlock.images import committed, config, index
from torchlock.layers import layer
from torchlock.locks.summary import Summary
from torchlock.oci import layout
from torchlock.oci.blobs import Content
from torchlock.oci.descriptor import LAYER_GZIP
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.locks.lock import Lock
    from torchlock.profiles.profile import Target

BASES = """
default: tiny
bases:
  tiny: {suite: bookworm, packages: [python3], python: /usr/bin/python3.11}
  other: {suite: bookworm, packages: [python3, netbase], python: /usr/bin/python3.11}
"""


class Bench(Workspace):
    """A project whose locks are given, and hold for every target."""

    locks: Mapping[str, Lock]

    def check(self, target: Target) -> Lock:
        """Return the lock of a target."""
        facts = studio.CUDA if target.variant == "cuda" else Summary()
        return replace(self.locks[target.platform], profile=target.profile, platform=target.platform, facts=facts)


class Project:
    """A checkout with two bases, and wheels that fit every platform."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made = studio.furnished(root)
        shutil.copytree(studio.ROOT / "environments", root / "environments")
        (root / "scripts").symlink_to(studio.ROOT / "scripts")
        (root / "docker").mkdir()
        # Without byte code: these bases hold no Python.
        (root / "docker" / "layers.yaml").write_text("order: [torch, numpy]\n", encoding="utf-8")
        (root / "docker" / "base.yaml").write_text(BASES, encoding="utf-8")
        declared = declaration.load(root)
        self.bases: set[str] = set()
        for name in declared.bases:
            for platform in declared.bases[name].platforms:
                self._lock_base(declared, name, platform)

    def _lock_base(self, declared: declaration.Declaration, name: str, platform: str) -> None:
        with self.made.blobs.writing() as sink:
            made = layer.write(layer.arranged([layer.file("etc/base", f"{name} {platform}".encode())]), sink)
            found = sink.commit(Content(digest=made.digest, size=made.size))
        self.bases.add(found.digest.hex)
        below = Layer(descriptor=found.descriptor(LAYER_GZIP), diff_id=made.diff_id)
        lock = BaseLock(
            base=name,
            platform=platform,
            declared=declared.bases[name].digest(platform),
            layers=(below,),
            python="/usr/bin/python3.11",
            version="3.11.2",
            config={"Env": ["PATH=/usr/bin"]},
        )
        path = self.root / declared.lock_path(name, platform)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lock.to_json())

    def run(self, profile: str = "torch2.2-cuda", **options: Any) -> int:
        """Run the verb."""
        workspace = self.workspace(options.get("platform"))
        given = {"base": None, "images": None, "again": False, "json": False, "registry": None}
        values = {"profile": profile, **given, **options}
        return images.image(workspace, argparse.Namespace(**values))

    def workspace(self, platform: str | None = None) -> Bench:
        """Return the project under its settings."""
        settings = Settings(
            offline=True, store=str(self.made.store.root), wheelhouse=str(self.made.wheels), platform=platform
        )
        found = Bench(self.root, settings, self.made.notes)
        found.locks = dict.fromkeys(("linux-64", "linux-aarch64", "osx-arm64", "win-64"), self.made.lock)
        return found

    def digest(self, platform: str = "linux-64", profile: str = "torch2.2-cuda") -> str:
        """Return the digest that is committed."""
        found = committed.read(self.root, profile, platform)
        assert found is not None
        return str(found.image.digest)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a checkout."""
    return Project(tmp_path)


def test_an_image_is_made_committed_and_laid_out(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary names digest, layers, size and place; the layout holds the whole image under its tag."""
    assert project.run() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"torch2.2-cuda linux-64: {project.digest()} (committed now)"
    assert second == "  5 layers (1 of the base, 4 written), 1 MB, in images/torch2.2-cuda-linux-64"
    folder = project.root / "images" / "torch2.2-cuda-linux-64"
    (manifest,) = layout.read(folder).manifests
    assert str(manifest.digest) == project.digest()
    assert manifest.annotations == {layout.REF_NAME: "2.2.2-1.26.4-cuda"}
    assert len(layout.verify(folder)) == 5 + 2
    assert not index.path(project.root, "torch2.2-cuda").exists()


def test_a_second_run_meets_the_committed_digest(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing but the application written."""
    project.run()
    project.run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"torch2.2-cuda linux-64: {project.digest()} (the committed one)"
    assert lines[3].startswith("  5 layers (1 of the base, 3 present, 1 written)")


def test_again_makes_every_layer_anew(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """What is known is not believed, and the digest is met all the same."""
    project.run()
    project.run(again=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("(the committed one)")
    assert lines[3].startswith("  5 layers (1 of the base, 4 written)")


def test_another_machine_needs_only_what_is_committed_and_the_wheels(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its own memory the layers are copied: the committed image knows them."""
    project.run()
    shutil.rmtree(project.made.store.root / "layers")
    for path in (project.made.blobs.root / "sha256").iterdir():
        if path.name not in project.bases:
            path.unlink()
    project.run()
    assert capsys.readouterr().out.splitlines()[3].startswith("  5 layers (1 of the base, 3 copied, 1 written)")


def test_every_platform_that_can_have_an_image_gets_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """And an index over them; macOS and Windows are passed over."""
    assert project.run("torch2.2-cpu", json=True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["platform"], row["digest"], row["state"]) for row in rows] == [
        (name, project.digest(name, "torch2.2-cpu"), "committed now") for name in ("linux-64", "linux-aarch64")
    ]
    assert rows[0]["layout"] == "images/torch2.2-cpu-linux-64"
    value = json.loads(index.path(project.root, "torch2.2-cpu").read_bytes())
    assert [item["digest"] for item in value["manifests"]] == [row["digest"] for row in rows]


def test_one_platform_may_be_named(project: Project) -> None:
    """Then only that one is made."""
    project.run("torch2.2-cpu", platform="linux-aarch64")
    assert [path.name for path in (project.root / "images").iterdir()] == ["torch2.2-cpu-linux-aarch64"]


def test_what_can_have_no_image_is_refused(project: Project) -> None:
    """With the reason, also where a platform that cannot is named."""
    with pytest.raises(ImageError, match="no Metal in Linux containers"):
        project.run("torch2.2-mps")
    with pytest.raises(ImageError, match="it has no image for win-64: containers run Linux"):
        project.run("torch2.2-cpu", platform="win-64")
    assert not (project.root / "images").exists()


def test_one_platform_that_fails_does_not_stop_the_other(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be made is made and said; the command fails all the same."""
    check = Bench.check

    def failing(self: Bench, target: Target) -> Lock:
        if target.platform == "linux-64":
            raise NetworkError("index pytorch-cpu", "no answer")
        return check(self, target)

    monkeypatch.setattr(Bench, "check", failing)
    with pytest.raises(NetworkError):
        project.run("torch2.2-cpu")
    digest = project.digest("linux-aarch64", "torch2.2-cpu")
    assert capsys.readouterr().out.startswith(f"torch2.2-cpu linux-aarch64: {digest}")


def test_another_base_is_built_and_not_committed(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """What is committed stands on the default one."""
    project.run(base="other")
    assert "(not committed: its base is not the default one)" in capsys.readouterr().out
    assert committed.read(project.root, "torch2.2-cuda", "linux-64") is None
    assert (project.root / "images" / "torch2.2-cuda-linux-64" / "index.json").is_file()


def test_a_digest_that_is_not_met_leaves_the_old_layout(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both; nothing that was published changes."""
    project.run()
    before = project.digest()
    made = config.config

    def changed(*values: Any) -> dict[str, Any]:
        return {**made(*values), "StopSignal": "SIGKILL"}

    monkeypatch.setattr(config, "config", changed)
    with pytest.raises(ImageError, match="the same inputs give sha256:"):
        project.run()
    (manifest,) = layout.read(project.root / "images" / "torch2.2-cuda-linux-64").manifests
    assert str(manifest.digest) == before
    assert 'config .config.StopSignal: null -> "SIGKILL"' in project.made.notes.notes


def test_a_committed_image_is_checked_against_its_lock(project: Project) -> None:
    """Its digest is given where it is good; without one there is nothing to check."""
    workspace = project.workspace()
    target = workspace.target("torch2.2-cuda", "linux-64", "")
    lock = workspace.check(target)
    assert images.check(workspace, target, lock) == ""
    project.run()
    assert images.check(workspace, target, lock) == project.digest()
    with pytest.raises(StaleError, match="the lock has changed since this image was made"):
        images.check(workspace, target, replace(lock, snapshot_digest=Digest.of(b"moved")))


def test_an_image_where_none_can_be_is_refused(project: Project) -> None:
    """A folder that was copied beside the lock of another platform."""
    workspace = project.workspace()
    target = workspace.target("torch2.2-cpu", "win-64", "")
    committed.folder(project.root, "torch2.2-cpu", "win-64").mkdir(parents=True)
    with pytest.raises(ImageError, match="it has no image for win-64"):
        images.check(workspace, target, workspace.check(target))


def test_images_may_lie_elsewhere(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """IMAGES names the folder."""
    project.run(images=str(tmp_path / "over there"))
    assert (tmp_path / "over there" / "torch2.2-cuda-linux-64" / "oci-layout").is_file()
    assert "in over there/torch2.2-cuda-linux-64" in capsys.readouterr().out
