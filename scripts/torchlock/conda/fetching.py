"""Fetching what a channel has, with rattler, in a child process: rattler can die of a signal as Python shuts down."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import rattler
from rattler.exceptions import FetchRepoDataError, GatewayError, IoError

from torchlock.errors import NetworkError
from torchlock.network.transport import redact
from torchlock.process import clean_environment, run

SECONDS = 600
_CODE = (
    "import os, sys; sys.path.insert(0, sys.argv.pop(1)); from torchlock.conda import fetching;"
    " said = fetching.child(*sys.argv[1:]); sys.stdout.write(said); sys.stdout.flush(); os._exit(1 if said else 0)"
)


def fetch(root: str, channel: str, subdir: str, folder: Path) -> Path:
    """Fetch `repodata.json` of a channel below `root` into an empty folder and return it; raise NetworkError."""
    address = f"{root.rstrip('/')}/{channel}"
    scripts = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-I", "-c", _CODE, scripts, address, subdir, str(folder)]
    done = run(command, environment=clean_environment({"HOME": str(folder)}, proxies=True), seconds=SECONDS)
    where = f"{redact(address)}/{subdir}"
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        raise NetworkError(where, f"does not give its packages: {''.join(said)[:500]}", remedy="the same again")
    found = [path for path in sorted(folder.glob("*.json")) if not path.name.endswith(".info.json")]
    if len(found) != 1:
        raise NetworkError(where, f"gave {len(found)} lists of packages", "one")
    return found[0]


def child(address: str, subdir: str, folder: str) -> str:
    """Do the work of the child process; return what went wrong, nothing where all went well."""
    options = rattler.networking.FetchRepoDataOptions(cache_action="no-cache")
    try:
        asyncio.run(
            rattler.fetch_repo_data(
                channels=[rattler.Channel(address)],
                platforms=[rattler.Subdir(subdir)],
                cache_path=folder,
                callback=None,
                fetch_options=options,
            )
        )
    except (FetchRepoDataError, GatewayError, IoError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
