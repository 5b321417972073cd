"""The command line: which verb takes what; errors become one line and an exit status here."""

from __future__ import annotations

import signal
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import arguments, console
from torchlock.errors import TorchlockError
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from types import FrameType

ROOT = Path(__file__).resolve().parents[2]

_ONE, _MANY = ("profile",), ("profiles",)
_MADE = "platform base offline mirror wheelhouse store images debian"
# A verb, its function below `commands`, the names that it takes, and its options.
_VERBS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("profiles", "locks.profiles", _MANY, ""),
    ("lock", "locks.make_all", _MANY, "offline resolver platform mirror store conda"),
    ("update", "locks.update", _MANY, "offline resolver platform mirror store conda channels pkg"),
    ("import-index", "locks.import_index", (), "facts index source"),
    ("import-channels", "conda.import_channels", (), "facts"),
    ("check", "checks.check_all", _MANY, "platform"),
    ("diff", "locks.show_diff", _ONE, "platform against json"),
    ("fetch", "environments.fetch", _ONE, "platform offline mirror wheelhouse store"),
    ("env", "environments.make_env", _ONE, "python offline mirror wheelhouse store envs require json"),
    ("smoke", "environments.smoke", _ONE, "envs require json"),
    ("image", "images.image", _ONE, "platform base again registry offline mirror wheelhouse store images debian json"),
    ("load", "containers.load", _ONE, _MADE),
    ("smoke-image", "containers.smoke_image", _ONE, f"{_MADE} require json"),
    ("push", "registries.push_image", _ONE, f"{_MADE} registry mount evidence"),
    ("pull", "registries.pull_image", _ONE, "platform store images registry"),
    ("base", "bases.base", (), "platform base update offline store debian"),
    ("conda-env", "conda_env.make_conda_env", _ONE, "offline mirror store envs scripts require json"),
    ("conda-smoke", "conda_env.smoke_conda", _ONE, "envs require json"),
    ("conda-drift", "conda_env.drift_conda", _ONE, "envs json"),
    ("flavours", "conda_env.compare_flavours", _MANY, "json"),
    ("matrix", "environments.show_matrix", (), "observe again python offline mirror wheelhouse store envs json"),
    ("doctor", "environments.doctor", (), "python lock envs json"),
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one verb; return its exit status: 0 good, 1 refused, 2 wrong usage, 3 stale, 130 and 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words).parse_args(words)
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


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the verb that is named first, or of all; only what they need is imported."""
    first = next((word for word in words if word != "--quiet"), "")
    rows = [row for row in _VERBS if row[0] == first] or _VERBS
    return arguments.parser((name, _function(place), names, options) for name, place, names, options in rows)


def _function(place: str) -> Callable[[Workspace, argparse.Namespace], int]:
    module, _, name = place.partition(".")
    found: Callable[[Workspace, argparse.Namespace], int] = getattr(import_module(f"torchlock.commands.{module}"), name)
    return found


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        **{item.name: getattr(options, item.name) for item in fields(Settings) if hasattr(options, item.name)}
    )
