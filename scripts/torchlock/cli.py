"""The command line: which verb takes what; errors become one line and an exit status here."""

from __future__ import annotations

import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import arguments, console
from torchlock.commands import (
    bases,
    checks,
    conda,
    conda_env,
    containers,
    environments,
    images,
    locks,
    registries,
)
from torchlock.errors import TorchlockError
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from types import FrameType

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


def _parser() -> argparse.ArgumentParser:
    one, many = ("profile",), ("profiles",)
    made = "platform base offline mirror wheelhouse store images debian"
    rows: list[arguments.Verb] = [
        ("profiles", locks.profiles, many, ""),
        ("lock", locks.make_all, many, "offline resolver platform mirror store conda"),
        ("update", locks.update, many, "offline resolver platform mirror store conda channels pkg"),
        ("import-index", locks.import_index, (), "facts index source"),
        ("import-channels", conda.import_channels, (), "facts"),
        ("check", checks.check_all, many, "platform"),
        ("diff", locks.show_diff, one, "platform against json"),
        ("fetch", environments.fetch, one, "platform offline mirror wheelhouse store"),
        ("env", environments.make_env, one, "python offline mirror wheelhouse store envs require json"),
        ("smoke", environments.smoke, one, "envs require json"),
        ("image", images.image, one, "platform base again registry offline mirror wheelhouse store images debian json"),
        ("load", containers.load, one, made),
        ("smoke-image", containers.smoke_image, one, f"{made} require json"),
        ("push", registries.push_image, one, f"{made} registry mount evidence"),
        ("pull", registries.pull_image, one, "platform store images registry"),
        ("base", bases.base, (), "platform base update offline store debian"),
        ("conda-env", conda_env.make_conda_env, one, "offline mirror store envs scripts require json"),
        ("conda-smoke", conda_env.smoke_conda, one, "envs require json"),
        ("conda-drift", conda_env.drift_conda, one, "envs json"),
        ("flavours", conda_env.compare_flavours, many, "json"),
        ("matrix", environments.show_matrix, (), "observe again python offline mirror wheelhouse store envs json"),
        ("doctor", environments.doctor, (), "python lock envs json"),
    ]
    return arguments.parser(rows)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        **{item.name: getattr(options, item.name) for item in fields(Settings) if hasattr(options, item.name)}
    )
