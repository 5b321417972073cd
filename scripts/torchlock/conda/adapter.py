"""The conda executable that conda-lock calls: its command line answered by rattler, from files alone."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from torchlock.conda import listing, solver
from torchlock.conda.spec import name_of
from torchlock.errors import CondaError, TorchlockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What conda-lock's checks of versions take for a conda of today.
VERSION = "24.11.0"
# The name that the launcher has: conda-lock tells mamba and micromamba by theirs.
NAME = "torchlock-conda"
# conda's own setting for where the names of channels lead; here it must be a folder.
ALIAS = "CONDA_CHANNEL_ALIAS"
# The end of the process: at once, since rattler can die of a signal as Python shuts down after a good answer.
_END = (
    "text, status = adapter.answer(sys.argv[1:], os.environ);"
    " sys.stdout.write(text); sys.stdout.flush(); os._exit(status)"
)
_OVERRIDE = "CONDA_OVERRIDE_"
_ENDINGS = (".conda", ".tar.bz2")


def launcher(folder: Path) -> Path:
    """Write the executable into a folder and return it: this interpreter, without the settings of its user."""
    scripts = str(Path(__file__).resolve().parents[2])
    code = f"import os, sys; sys.path.insert(0, {scripts!r}); from torchlock.conda import adapter; {_END}"
    path = folder / NAME
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -c {shlex.quote(code)} "$@"\n')
    path.chmod(0o755)
    return path


def answer(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[str, int]:
    """Return what conda would print and its exit status; a failure is `{"message": …}` and 1."""
    try:
        return _answer(_parser().parse_intermixed_args(arguments), environment), 0
    except TorchlockError as error:
        message = error.found if error.expected == "" else str(error)
        return _json({"message": message, "error": message, "exception_name": type(error).__name__}), 1
    except (OSError, ValueError, KeyError) as error:
        message = f"{type(error).__name__}: {error}"
        return _json({"message": message, "error": message, "exception_name": type(error).__name__}), 1


def _answer(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if options.version:
        return f"conda {VERSION}\n"
    verbs = {"info": _info, "config": _info, "list": _list, "create": _create, "install": _change, "update": _change}
    if options.verb not in verbs:
        raise CondaError(NAME, f"no command {options.verb!r}", f"one of {', '.join(verbs)}")
    return verbs[options.verb](options, environment)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise what becomes an answer, instead of leaving the process."""
        raise CondaError(NAME, message, "the command line of conda that conda-lock writes")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=NAME, add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?", default="")
    parser.add_argument("specs", nargs="*", default=[])
    parser.add_argument("-p", "--prefix", type=Path)
    parser.add_argument("-c", "--channel", dest="channels", action="append", default=[])
    parser.add_argument("--file", type=Path)
    for flag in ("version", "json", "dry-run", "override-channels", "no-pip", "quiet", "yes", "copy", "show"):
        parser.add_argument(f"--{flag}", action="store_true")
    return parser


def _info(_options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    folder = environment.get("CONDA_PKGS_DIRS", "")
    platform = environment.get("CONDA_SUBDIR", "")
    return _json({"conda_version": VERSION, "platform": platform, "pkgs_dirs": [folder] if folder else []})


def _list(options: argparse.Namespace, _environment: Mapping[str, str]) -> str:
    return _json([_link(item) for item in _installed(_prefix(options))])


def _create(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if options.file is not None:
        if options.dry_run or options.specs:
            raise CondaError(NAME, "--file with specs or --dry-run", "a list to install, as conda-lock install calls")
        alias = urlsplit(environment.get(ALIAS, ""))
        recorded = Path(unquote(alias.path)).glob("*") if alias.scheme == "file" else ()
        listing.install(options.file, _prefix(options), environment.get("CONDA_SUBDIR", ""), recorded)
        return ""
    if not options.dry_run:
        raise CondaError(NAME, "create without --dry-run or --file", "the command line that conda-lock writes")
    chosen = solver.solve(_request(options, environment, options.specs))
    return _actions(chosen)


def _change(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """Move the packages that the specs name, and none of the others that are installed: those are pinned."""
    if not options.dry_run:
        raise CondaError(NAME, f"{options.verb} without --dry-run", "the command line that conda-lock writes")
    moving = {name_of(spec) for spec in options.specs}
    installed = {item["name"]: item for item in _installed(_prefix(options))}
    pins = [f"{name} {item['version']} {item['build']}" for name, item in installed.items() if name not in moving]
    chosen = solver.solve(_request(options, environment, [*options.specs, *pins]))
    return _actions([item for item in chosen if not _same(item, installed.get(item["name"]))])


def _same(record: Mapping[str, Any], installed: Mapping[str, Any] | None) -> bool:
    return installed is not None and all(record[key] == installed[key] for key in ("version", "build"))


def _request(options: argparse.Namespace, environment: Mapping[str, str], specs: Sequence[str]) -> solver.Request:
    subdir = environment.get("CONDA_SUBDIR", "")
    if not subdir:
        raise CondaError("CONDA_SUBDIR", "is not set", "a platform such as linux-64")
    if not options.channels:
        raise CondaError(NAME, "found no --channel", "channels in the order of their priority")
    sources = [_source(name, environment) for name in options.channels]
    real, virtual = solver.virtual_packages(sources, subdir)
    for key, value in sorted(environment.items()):
        if key.startswith(_OVERRIDE) and value:
            name = f"__{key.removeprefix(_OVERRIDE).lower()}"
            virtual[name] = ("1", value) if name == "__archspec" else (value, virtual.get(name, ("", "0"))[1])
    return solver.Request(sources=real, subdir=subdir, specs=specs, virtual=virtual)


def _source(name: str, environment: Mapping[str, str]) -> solver.Source:
    """Return a channel by its `file:` address, or by its name below the alias."""
    address = name if "://" in name else f"{environment.get(ALIAS, '').rstrip('/')}/{name}"
    parts = urlsplit(address)
    if parts.scheme != "file":
        remedy = f"{ALIAS}=file:///folder"
        raise CondaError(
            f"the channel {name}", f"found {address}, which is no folder", "a channel on this disk", remedy
        )
    folder = Path(unquote(parts.path))
    if not folder.is_dir():
        raise CondaError(f"the channel {name}", "is not recorded", "a recorded channel", "make update")
    return solver.Source(name=name, folder=folder)


def _prefix(options: argparse.Namespace) -> Path:
    if options.prefix is None:
        raise CondaError(NAME, "found no --prefix", "the folder of an environment")
    prefix: Path = options.prefix
    return prefix


def _installed(prefix: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((prefix / "conda-meta").glob("*.json"))]


def _actions(chosen: Sequence[dict[str, Any]]) -> str:
    """Return the plan as conda prints it; every package is fetched, since nothing is in a cache."""
    fetch = [{**item, "build_string": item["build"], "dist_name": _stem(item["fn"])} for item in chosen]
    actions = {"FETCH": fetch, "LINK": [_link(item) for item in chosen]}
    return _json({"success": True, "dry_run": True, "actions": actions})


def _link(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a package as conda lists it: without its hashes."""
    base = str(item.get("channel", "")).rstrip("/")
    return {
        "name": item["name"],
        "version": item["version"],
        "build_string": item["build"],
        "build_number": item.get("build_number", 0),
        "channel": base.rpartition("/")[2] or base,
        "base_url": base,
        "platform": item.get("subdir", ""),
        "dist_name": _stem(item.get("fn", "")) or f"{item['name']}-{item['version']}-{item['build']}",
    }


def _stem(filename: str) -> str:
    return next((filename.removesuffix(ending) for ending in _ENDINGS if filename.endswith(ending)), filename)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
