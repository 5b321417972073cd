"""Verbs of environments: fetch, build, smoke, examine, and the matrix of what works with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock import interpreter, matrix
from torchlock.doctor import machine, report
from torchlock.environment import trial
from torchlock.gate import remarks
from torchlock.locks import lock
from torchlock.matrix import cells, rendering
from torchlock.matrix.record import Record
from torchlock.platforms import host
from torchlock.preflight import preflight

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace


def fetch(workspace: Workspace, options: argparse.Namespace) -> int:
    """Fill `wheels/` beside the locks of a profile: an offline bundle for pip and uv."""
    for target in workspace.targets([options.profile]):
        found = workspace.check(target)
        workspace.fetcher.fetch(found.artifacts, workspace.inspect)
        folder = workspace.lock_path(target).parent / lock.WHEELS
        workspace.fetcher.link(found.artifacts, folder)
        print(
            f"{target.profile} {target.platform}: {len(found.artifacts)} wheels in {folder.relative_to(workspace.root)}"
        )
    return 0


def make_env(workspace: Workspace, options: argparse.Namespace) -> int:
    """Fetch what is missing, build the environment of a profile and smoke it."""
    source = workspace.catalogue.find(options.profile).targets[0]
    python = interpreter.find(source.python, workspace.settings.python, workspace.reporter)
    target = workspace.target(options.profile, python.platform.name, f"the platform of {python.path}")
    found = workspace.check(target)
    for text in remarks(found):
        workspace.reporter.note(f"{target.profile}: {text}")
    if target.variant == "cuda":
        needs = preflight(target.profile, found.facts, machine.look(), required=options.require == "cuda")
        workspace.reporter.note(needs)
    built = workspace.environments.build(found, python)
    print(
        f"{target.profile}: {len(found.artifacts)} packages of {target.platform} in {_shown(workspace, built)}",
        flush=True,
    )
    return _smoke(workspace, target, options)


def smoke(workspace: Workspace, options: argparse.Namespace) -> int:
    """Run the smoke script in an environment that is there already."""
    target = workspace.target(options.profile, host().name, "the platform of this machine")
    return _smoke(workspace, target, options)


def _smoke(workspace: Workspace, target: Target, options: argparse.Namespace) -> int:
    trial.run(
        workspace.envs / target.profile,
        lock=workspace.lock_path(target),
        variant=target.variant,
        require=options.require,
        as_json=options.json,
        reporter=workspace.reporter,
    )
    return 0


def doctor(workspace: Workspace, options: argparse.Namespace) -> int:
    """Say what is wrong with any environment, how it is known, and the one command that mends it."""
    found = workspace.doctor.examine(workspace.settings.python, options.lock)
    print(report.shown(found, as_json=options.json))
    return 0 if found.healthy else 1


def show_matrix(workspace: Workspace, options: argparse.Namespace) -> int:
    """Say which NumPy works with which torch: read from the wheels and, with OBSERVE=1, tried with PYTHON."""
    laboratory = None
    if options.observe:
        python = interpreter.find(cells.PYTHON, workspace.settings.python, workspace.reporter)
        laboratory = workspace.laboratory(python)
    record = Record(workspace.root, workspace.reporter)
    found = matrix.make(record, workspace.snapshot, workspace.source, laboratory, again=options.again)
    print(found.to_json().decode() if options.json else rendering.table(found))
    cells.judge(found)
    return 0


def _shown(workspace: Workspace, path: Path) -> str:
    return str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else str(path)
