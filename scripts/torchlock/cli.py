"""The command line: one function a verb; the only place that prints and exits."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import arguments, check, console, diff, interpreter, matrix
from torchlock.doctor import machine, report
from torchlock.environment import trial
from torchlock.errors import StaleError, TorchlockError
from torchlock.files import exclusive, sweep
from torchlock.gate import remarks
from torchlock.indexes import importer
from torchlock.indexes.server import LoopbackIndex, serve
from torchlock.locks import lock
from torchlock.matrix import cells, rendering
from torchlock.matrix.record import Record
from torchlock.platforms import host
from torchlock.preflight import preflight
from torchlock.resolve import locking
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from types import FrameType

    from torchlock.gate import Gate
    from torchlock.locks.lock import Lock
    from torchlock.profiles.profile import Target

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one verb; return its exit status: 0 good, 1 refused, 2 wrong usage, 3 stale, 130 and 143 interrupted."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with console.Terminal(quiet=options.quiet) as reporter:
            workspace = Workspace(root, _settings(options), reporter)
            verb: Callable[[Workspace, argparse.Namespace], int] = options.run
            return verb(workspace, options)
    except TorchlockError as error:
        print(f"torchlock: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("torchlock: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"torchlock: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def profiles(workspace: Workspace, options: argparse.Namespace) -> int:
    """List the profiles, their platforms and the state of their locks."""
    rows = [("PROFILE", "PLATFORM", "REQUIRES", "LOCK")]
    rows += [
        (target.profile, target.platform, ", ".join(target.requirements), _state(workspace, target))
        for target in workspace.targets(options.profiles)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def make_locks(workspace: Workspace, options: argparse.Namespace) -> int:
    """Resolve, and write the locks: all of them or, where one is refused, none."""
    targets, gate = workspace.targets(options.profiles), workspace.gate
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter), serve() as index:
        for folder in (*workspace.snapshot.root.glob("*"), *(workspace.lock_path(target).parent for target in targets)):
            sweep(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = list(pool.map(lambda target: _make_lock(workspace, index, target, gate), targets))
        for item in made:
            state = "written" if locking.write(item, workspace.root) else "unchanged"
            who = " and ".join(item.resolvers) + (" agree" if len(item.resolvers) > 1 else " alone")
            parts = [f"{len(item.artifacts)} packages", who, state, *remarks(item)]
            print(f"{item.profile} {item.platform}: {', '.join(parts)}")
    return 0


def _make_lock(workspace: Workspace, index: LoopbackIndex, target: Target, gate: Gate) -> Lock:
    view = workspace.view(target)
    try:
        previous = workspace.lock(target)
    except TorchlockError:
        previous = None
    return locking.make(view, index.add(view), workspace.settings.resolver, gate, previous)


def update(workspace: Workspace, options: argparse.Namespace) -> int:
    """Record the indexes anew (one package's pages with --pkg), then lock."""
    if workspace.settings.offline:
        raise TorchlockError("update", "reads the indexes over the network", "OFFLINE= unset", "make lock OFFLINE=1")
    pages = [page for page in workspace.snapshot.pages() if options.pkg in {None, page[1]}]
    if not pages:
        raise TorchlockError("lockfiles/index", f"holds no page of {options.pkg}", remedy="make lock")
    failed = []
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        for name, project in pages:
            try:
                workspace.recorder.refresh(name, project)
            except TorchlockError as error:
                failed.append(error)
    status = make_locks(workspace, options)
    for why in failed:
        print(f"torchlock: kept as it was recorded: {why}", file=sys.stderr)
    return 1 if failed else status


def import_index(workspace: Workspace, options: argparse.Namespace) -> int:
    """Take recorded facts of an index into the snapshot, with the evidence of each record."""
    with exclusive(workspace.root / "lockfiles" / ".lock", workspace.reporter):
        found = importer.import_index(Path(options.facts), options.source, options.index, workspace.snapshot)
    for project, count in found.items():
        print(f"{options.index}: {project}: {count} wheels imported")
    return 0


def check_all(workspace: Workspace, options: argparse.Namespace) -> int:
    """Check profiles, locks, renderings and gates against each other, offline; tell stale (3) from broken (1)."""
    errors: list[TorchlockError] = []
    for target in workspace.targets(options.profiles):
        try:
            print(f"{target.profile} {target.platform}: {', '.join(['good', *remarks(workspace.check(target))])}")
        except TorchlockError as error:
            errors.append(error)
            print(
                f"{target.profile} {target.platform}: {'stale' if isinstance(error, StaleError) else 'broken'}: {error}"
            )
    if not options.profiles:
        check.check_folder(workspace.root, workspace.catalogue)
    return max((error.status for error in errors), key=lambda status: status == 1, default=0)


def _state(workspace: Workspace, target: Target) -> str:
    try:
        found = workspace.check(target)
    except StaleError:
        return "stale" if workspace.lock_path(target).exists() else "none"
    except TorchlockError as error:
        return f"broken: {error}"
    return ", ".join(["good", *remarks(found)])


def show_diff(workspace: Workspace, options: argparse.Namespace) -> int:
    """Say what changed in a profile's locks since a revision."""
    revision = options.against or "HEAD"
    paths = {workspace.lock_path(target): target for target in workspace.targets([options.profile])}
    found = [
        diff.diff(diff.at_revision(workspace.root, revision, path), workspace.lock(target))
        for path, target in paths.items()
    ]
    if options.json:
        print(json.dumps([item.to_json() for item in found], indent=2, sort_keys=True))
    else:
        print("\n\n".join("\n".join(item.lines()) for item in found))
    return 0


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


def _parser() -> argparse.ArgumentParser:
    one, many = ("profile",), ("profiles",)
    rows: list[arguments.Verb] = [
        ("profiles", profiles, many, ""),
        ("lock", make_locks, many, "offline resolver platform mirror store"),
        ("update", update, many, "offline resolver platform mirror store pkg"),
        ("import-index", import_index, (), "facts index source"),
        ("check", check_all, many, "platform"),
        ("diff", show_diff, one, "platform against json"),
        ("fetch", fetch, one, "platform offline mirror wheelhouse store"),
        ("env", make_env, one, "python offline mirror wheelhouse store envs require json"),
        ("smoke", smoke, one, "envs require json"),
        ("matrix", show_matrix, (), "observe again python offline mirror wheelhouse store envs json"),
        ("doctor", doctor, (), "python lock envs json"),
    ]
    return arguments.parser(rows)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        **{item.name: getattr(options, item.name) for item in fields(Settings) if hasattr(options, item.name)}
    )
