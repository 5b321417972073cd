"""Verbs of bases: build or take what images stand on, or lock it anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.base import declaration, image

if TYPE_CHECKING:
    import argparse

    from torchlock.base.image import BaseImage
    from torchlock.workspace import Workspace


def base(workspace: Workspace, options: argparse.Namespace) -> int:
    """Build the base of the images from its locked packages, bit for bit; with UPDATE=1 lock the newest ones first."""
    root, workshop = workspace.root, workspace.workshop
    found = declaration.load(root).find(options.base)
    wanted = workspace.settings.platform
    for platform in [wanted] if wanted else found.platforms:
        if options.update:
            made, changes = image.update(root, options.base, platform, workshop)
            print("\n".join([_shown(made, "locked"), *(f"  {line}" for line in changes)]), flush=True)
        else:
            print(_shown(image.resolve(root, options.base, platform, workshop), "as locked"), flush=True)
    return 0


def _shown(made: BaseImage, state: str) -> str:
    size = sum(item.size for item, _ in made.layers)
    layers = ", ".join(str(item.digest) for item, _ in made.layers)
    return f"{made.name} {made.platform}: Python {made.python_version}, {size / 1e6:,.1f} MB, {state}\n  {layers}"
