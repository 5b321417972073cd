"""The arguments of the command line: the verbs, and the options that are variables of the Makefile, too."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

# A verb's name, its function, the names that it takes (`profile` or `profiles`), and its options.
Verb: TypeAlias = tuple[str, Callable[[Any, argparse.Namespace], int], tuple[str, ...], str]
FLAGS = frozenset(("offline", "json", "observe", "again", "update", "evidence"))
_OPTIONS = {
    "offline": "never use the network",
    "resolver": "one resolver alone, and its kind of lock: uv, pip-tools or conda-lock",
    "platform": "one platform, such as linux-aarch64",
    "mirror": "another simple root: URL, or 'alias=URL alias=URL'",
    "wheelhouse": "folders of wheels to take before the index",
    "store": "the folder of verified wheels (default: the user's cache)",
    "envs": "the folder of the environments (default: envs)",
    "python": "the interpreter to build with, or to examine: a path or a command",
    "lock": "the pylock.toml that the environment should equal (default: its own)",
    "require": "cuda or mps: its device checks must run",
    "json": "print JSON",
    "observe": "try the cells that were never tried, as far as this Python can",
    "again": "do what was done before once more: cells that were tried, layers that are known",
    "base": "another base of docker/base.yaml than its default",
    "images": "the folder of the image layouts (default: images)",
    "registry": "host[:port]/repository of a container registry",
    "mount": "other repositories of that registry to mount blobs from",
    "evidence": "attach the evidence of the last smoke run in a container",
    "conda": "a conda, mamba or micromamba that conda-lock is to call, instead of torchlock's own solver",
    "channels": "another root of the conda channels: URL",
    "scripts": "skip: leave out the link scripts of conda packages instead of refusing them",
    "debian": "the Debian mirror that a base's packages come from (default: this machine's own)",
    "update": "lock the base anew, from the newest packages",
    "pkg": "refresh this package only",
    "against": "the git revision to compare with (default: HEAD)",
    "facts": "a JSON file of recorded index records, or a folder of recorded channels",
    "index": "the alias to import into",
    "source": "the index in the file to import from",
}


def parser(rows: Iterable[Verb]) -> argparse.ArgumentParser:
    """Return the parser of all verbs; what was given is then in its namespace, the verb's function as `run`."""
    parser = argparse.ArgumentParser(
        prog="torchlock",
        description="Reproducible PyTorch + NumPy environments: resolve, lock, fetch, build and prove.",
        epilog="Every option is also a variable of the Makefile: make lock OFFLINE=1.",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes on standard error")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, run, names, options in rows:
        verb = verbs.add_parser(name, help=(run.__doc__ or "").splitlines()[0], description=run.__doc__)
        verb.set_defaults(run=run)
        for item in names:
            verb.add_argument(
                item,
                nargs="*" if item == "profiles" else None,
                metavar="PROFILE",
                help="torch2.2-cuda, or a bare variant: cuda",
            )
        for option in options.split():
            _add(verb, option)
    return parser


def _add(verb: argparse.ArgumentParser, option: str) -> None:
    """Add an option whose default is the Makefile's variable of the same name."""
    default = os.environ.get(f"TORCHLOCK_{option.upper()}") or None
    if option in FLAGS:
        verb.add_argument(
            f"--{option}", action="store_true", default=default not in {None, "0", "no"}, help=_OPTIONS[option]
        )
    else:
        required = option in {"facts", "index", "source"} and default is None
        verb.add_argument(
            f"--{option}", default=default, required=required, help=_OPTIONS[option], metavar=option.upper()
        )
