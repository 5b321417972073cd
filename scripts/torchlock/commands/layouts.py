"""Images that are made: found in their layouts under `images/`, and made first where they are not."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock.commands import images
from torchlock.engine import docker
from torchlock.errors import EngineError, ImageError
from torchlock.images import committed, config, inputs
from torchlock.oci import layout
from torchlock.oci.descriptor import PLATFORMS
from torchlock.oci.manifest import Manifest
from torchlock.platforms import host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.oci.descriptor import Descriptor, Platform
    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace

VERSION = f"{config.TITLE}.version"
LOCK = f"{config.OWN}.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """An image whose layout is here: its target, the layout's folder, and in it its manifest with what that says."""

    target: Target
    folder: Path
    image: Descriptor
    labels: Mapping[str, str]

    @property
    def platform(self) -> Platform:
        """The platform in the words of images."""
        return PLATFORMS[self.target.platform]

    @property
    def tag(self) -> str:
        """The tag by which people may call it."""
        return self.labels[VERSION]

    @property
    def name(self) -> str:
        """Profile and platform."""
        return f"{self.target.profile} {self.target.platform}"

    @property
    def evidence(self) -> Path:
        """Where the evidence of its last smoke run lies."""
        return self.folder.with_name(f"evidence-{self.folder.name}.json")

    def file(self, descriptor: Descriptor) -> Path:
        """Return where one of its blobs lies."""
        return layout.path(self.folder, descriptor)


def capable(workspace: Workspace, name: str) -> list[Target]:
    """Return the targets of a profile that can have images; say why where none can."""
    found = _on(workspace, None).targets([name])
    able = [target for target in found if target.platform in PLATFORMS and target.variant != "mps"]
    if not able:
        inputs.check_target(found[0])
    return able


def chosen(workspace: Workspace, options: Namespace, architecture: str) -> Target:
    """Return the target that PLATFORM names, or else the one of an architecture, or else the first."""
    able = capable(workspace, options.profile)
    if workspace.settings.platform is not None:
        (target,) = workspace.targets([options.profile])
        inputs.check_target(target)
        return target
    return next((item for item in able if PLATFORMS[item.platform].architecture == architecture), able[0])


def here(workspace: Workspace, options: Namespace) -> Target:
    """Return the target that PLATFORM names, or else that of Docker's machine, or of this one where none answers."""
    if workspace.settings.platform is not None:
        return chosen(workspace, options, "")
    try:
        with docker.connect() as daemon:
            architecture = daemon.facts.architecture
    except EngineError:
        architecture = PLATFORMS.get(host().name, PLATFORMS["linux-64"]).architecture
    return chosen(workspace, options, architecture)


def targets(workspace: Workspace, options: Namespace) -> list[Target]:
    """Return the target that PLATFORM names, or else all whose image is committed, or else all that can have one."""
    able = capable(workspace, options.profile)
    if workspace.settings.platform is not None:
        return [chosen(workspace, options, "")]
    read = partial(committed.read, workspace.root)
    return [item for item in able if read(item.profile, item.platform) is not None] or able


def folder(workspace: Workspace, options: Namespace, target: Target) -> Path:
    """Return where the layout of a target's image lies."""
    place = Path(options.images).expanduser().resolve() if options.images else workspace.root / "images"
    return place / f"{target.profile}-{target.platform}"


def ready(workspace: Workspace, options: Namespace, target: Target) -> Ready:
    """Return a target's image; unless its layout is here and that of the committed image, make it first."""
    place = folder(workspace, options, target)
    known = None if options.base else committed.read(workspace.root, target.profile, target.platform)
    found = _manifest(place, PLATFORMS[target.platform])
    if found is None or known is None or found.digest != known.image.digest:
        wanted = Namespace(**{**vars(options), "json": False, "again": False, "registry": None})
        with redirect_stdout(sys.stderr):
            images.image(_on(workspace, target.platform), wanted)
        found = _manifest(place, PLATFORMS[target.platform])
        if found is None:
            raise ImageError(place, "holds no image of this platform", str(PLATFORMS[target.platform]))
    labels = Manifest.from_json(layout.content(place, found), str(place)).annotations
    if not {VERSION, LOCK} <= labels.keys():
        raise ImageError(place, "an image that torchlock did not make", f"the labels {VERSION} and {LOCK}")
    return Ready(target=target, folder=place, image=found, labels=labels)


def _on(workspace: Workspace, platform: str | None) -> Workspace:
    """Return the same workspace on another platform, or on all."""
    found = copy(workspace)
    found.settings = replace(workspace.settings, platform=platform)
    return found


def _manifest(folder: Path, platform: Platform) -> Descriptor | None:
    """Return the manifest of a platform in a layout; None where there is no such layout."""
    if not (folder / layout.MARKER).is_file():
        return None
    found = layout.read(folder).of(platform, str(folder))
    return replace(found, annotations={})


def shown(workspace: Workspace, path: Path) -> str:
    """Return a path as people read it: from the project's folder."""
    return str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else str(path)
