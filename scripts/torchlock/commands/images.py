"""Verbs of images: make them, and check those that are committed."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock.base import image as bases
from torchlock.commands import cache
from torchlock.errors import TorchlockError
from torchlock.images import build, committed, config, index, inputs
from torchlock.images.known import FOLDER, Knowledge
from torchlock.oci import layout
from torchlock.oci.descriptor import PLATFORMS
from torchlock.registry.reference import Reference

if TYPE_CHECKING:
    import argparse

    from torchlock.images.build import Built
    from torchlock.images.inputs import Inputs
    from torchlock.locks.lock import Lock
    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace


def image(workspace: Workspace, options: argparse.Namespace) -> int:
    """Make the images of a profile from its locks, each with the digest that is committed, or say what differs."""
    targets = _targets(workspace, options.profile)
    rows: list[dict[str, Any]] = []
    failed: list[TorchlockError] = []
    for target in targets:
        try:
            rows.append(_image(workspace, options, target))
        except TorchlockError as error:
            failed.append(error)
            continue
        if not options.json:
            print(_shown(rows[-1]), flush=True)
    if options.base is None and rows:
        index.write(workspace.root, workspace.catalogue.find(options.profile))
    if options.json:
        print(json.dumps(rows, indent=2, sort_keys=True))
    for why in failed[:-1]:
        print(f"torchlock: {why}", file=sys.stderr)
    if failed:
        raise failed[-1]
    return 0


def check(workspace: Workspace, target: Target, lock: Lock) -> str:
    """Return the digest of a target's committed image, made again from its lock without a wheel; nothing without one.

    Raise StaleError where its lock, its base or what runs inside has moved, ImageError where it is broken.
    """
    if not committed.folder(workspace.root, target.profile, target.platform).exists():
        return ""
    inputs.check_target(target)
    base = bases.resolve(workspace.root, None, target.platform)
    found = committed.check(workspace.root, inputs.of_target(workspace.root, target, lock, base))
    return str(found.image.digest) if found else ""


def _targets(workspace: Workspace, name: str) -> list[Target]:
    """Return the targets that are to have images: all that can, or the one that PLATFORM names."""
    targets = workspace.targets([name])
    able = [target for target in targets if target.platform in PLATFORMS and target.variant != "mps"]
    if workspace.settings.platform is not None or not able:
        inputs.check_target(targets[0])
    return able


def _image(workspace: Workspace, options: argparse.Namespace, target: Target) -> dict[str, Any]:
    """Make one image and its layout; return what is said of it."""
    blobs = workspace.blobs
    lock = workspace.check(target)
    if options.registry and options.base is None:
        cache.restore(workspace, target, Reference.parse(options.registry), blobs)
    base = bases.resolve(workspace.root, options.base, target.platform, workspace.workshop)
    wanted = inputs.of_target(workspace.root, target, lock, base)
    knowledge = Knowledge(
        given=committed.everything(workspace.root), folder=workspace.store.root / FOLDER, blank=bool(options.again)
    )
    made = build.build(
        wanted,
        knowledge=knowledge,
        blobs=blobs,
        fetcher=workspace.fetcher,
        compiler=partial(bases.compiler, workspace.root, base, workspace.workshop),
        reporter=workspace.reporter,
    )
    state = "not committed: its base is not the default one"
    if options.base is None:
        state = committed.settle(workspace.root, wanted, made.image, blobs, workspace.reporter)
    images = Path(options.images).expanduser().resolve() if options.images else workspace.root / "images"
    folder = images / f"{target.profile}-{target.platform}"
    name = {layout.REF_NAME: config.tag(lock, target.variant)}
    layout.write(folder, [made.image.descriptor(name)], blobs, workspace.reporter)
    return _row(workspace, wanted, made, folder, state)


def _row(workspace: Workspace, wanted: Inputs, made: Built, folder: Path, state: str) -> dict[str, Any]:
    return {
        "profile": wanted.lock.profile,
        "platform": wanted.lock.platform,
        "digest": str(made.image.digest),
        "lock": str(wanted.lock.digest()),
        "base": wanted.base.name,
        "state": state,
        "layers": {
            "base": len(wanted.base.layers),
            "present": list(made.present),
            "copied": list(made.copied),
            "written": list(made.written),
        },
        "size": made.size,
        "layout": str(folder.relative_to(workspace.root) if folder.is_relative_to(workspace.root) else folder),
    }


def _shown(row: dict[str, Any]) -> str:
    counts = {key: item if isinstance(item, int) else len(item) for key, item in row["layers"].items()}
    said = ", ".join(f"{count} {'of the base' if key == 'base' else key}" for key, count in counts.items() if count)
    return (
        f"{row['profile']} {row['platform']}: {row['digest']} ({row['state']})\n"
        f"  {sum(counts.values())} layers ({said}), {row['size'] / 1e6:,.0f} MB, in {row['layout']}"
    )
