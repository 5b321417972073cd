"""Verbs of images in Docker: load them, and smoke them in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.commands import layouts
from torchlock.doctor import machine
from torchlock.engine import container, docker, evidence, loading
from torchlock.engine.evidence import Subject

if TYPE_CHECKING:
    import argparse

    from torchlock.commands.layouts import Ready
    from torchlock.engine.docker import Docker
    from torchlock.engine.evidence import Evidence
    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace


def load(workspace: Workspace, options: argparse.Namespace) -> int:
    """Load the image of a profile into Docker, by its digest; make it first where it is not here."""
    with docker.connect() as daemon:
        ready = layouts.ready(workspace, options, layouts.chosen(workspace, options, daemon.facts.architecture))
        print(_load(workspace, daemon, ready)[1])
    return 0


def smoke_image(workspace: Workspace, options: argparse.Namespace) -> int:
    """Smoke the image of a profile in a container, with the GPU where there is one; keep what it found as evidence."""
    with docker.connect() as daemon:
        ready = layouts.ready(workspace, options, layouts.chosen(workspace, options, daemon.facts.architecture))
        identity, said = _load(workspace, daemon, ready)
        workspace.reporter.note(said)
        run = container.smoke(
            daemon,
            identity,
            ready.platform,
            gpu=_gpu(ready.target, daemon, options.require),
            require=options.require,
            reporter=workspace.reporter,
        )
    print(run.report.to_json() if options.json else run.report.table(), end="\n" if options.json else "", flush=True)
    found = _evidence(ready, run)
    found.write(ready.evidence)
    run.report.judge(f"{ready.name} {ready.image.digest}", run.status, f"make smoke-image-{ready.target.profile}")
    shown = layouts.shown(workspace, ready.evidence)
    workspace.reporter.note(f"the evidence of this run ({found.result}) is in {shown}; EVIDENCE=1 pushes it")
    return 0


def _load(workspace: Workspace, daemon: Docker, ready: Ready) -> tuple[str, str]:
    """Load an image; return its ID in Docker, and what is said of it."""
    foreign = ready.platform.architecture != daemon.facts.architecture
    tag = f"torchlock/{ready.target.profile}:{ready.tag}{f'-{ready.platform.architecture}' if foreign else ''}"
    done = loading.load(daemon, ready.folder, ready.image, [tag], workspace.reporter)
    how = f"{done.sent / 1e6:,.1f} MB sent, {done.kept} layers there already" if done.sent else "there already"
    return done.image, f"{ready.name}: {ready.image.digest} is in Docker as {tag} (ID {done.image}; {how})"


def _gpu(target: Target, daemon: Docker, require: str | None) -> bool:
    """Whether a container should have the GPU: a CUDA build, and a sign of one."""
    return target.variant == "cuda" and (require == "cuda" or daemon.facts.nvidia or bool(machine.look().devices))


def _evidence(ready: Ready, run: container.Run) -> Evidence:
    lock = ready.labels[layouts.LOCK]
    subject = Subject(name=ready.folder.name, platform=ready.target.platform, image=ready.image.digest, lock=lock)
    return evidence.of(subject, run.report)
