"""Lists of addresses (`@EXPLICIT`) installed with rattler: what `conda create --file` does for `conda-lock install`."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import rattler

from torchlock.conda.channels import NOARCH, REPODATA
from torchlock.errors import CondaError
from torchlock.profiles.document import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK = "@EXPLICIT"
_LINE = re.compile(r"(?P<url>[a-z]+://\S+?)#(?:sha256:)?(?P<hash>[0-9a-f]{32}|[0-9a-f]{64})")
_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")


def install(path: Path, prefix: Path, subdir: str, recorded: Iterable[Path]) -> None:
    """Install a list into a prefix, link scripts run as conda does.

    Where a channel of the folders `recorded` has a package, its bytes must have the sha256 that stands there, too.
    """
    lines = [line.strip() for line in path.read_text().splitlines()]
    if MARK not in lines:
        raise CondaError(path.name, f"holds no line {MARK}", "a list as conda-lock renders it")
    known = _known(recorded)
    records = [_record(line, path.name, known) for line in lines if line and not line.startswith(("#", "@"))]
    # After a failure rattler's threads may still unpack other packages into the folder that is being removed.
    with tempfile.TemporaryDirectory(prefix="torchlock-conda-", ignore_cleanup_errors=True) as cache:
        try:
            asyncio.run(
                rattler.install(
                    records,
                    target_prefix=prefix,
                    cache_dir=Path(cache),
                    platform=rattler.Subdir(subdir) if subdir else None,
                    execute_link_scripts=True,
                    show_progress=False,
                )
            )
        except Exception as error:  # rattler's errors have no class of their own in common
            raise CondaError(path.name, f"cannot be installed: {error}") from error


def _known(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the records of channels by their addresses."""
    found = {}
    for path in (path for folder in folders for path in folder.glob(f"*/{REPODATA}")):
        value = json.loads(path.read_bytes())
        base = value["info"].get("base_url", "")
        for kind in ("packages", "packages.conda"):
            found.update({f"{base}{name}": record for name, record in value.get(kind, {}).items()})
    return found


def _record(line: str, where: str, known: Mapping[str, Mapping[str, Any]]) -> rattler.RepoDataRecord:
    match = _LINE.fullmatch(line)
    file = match and _FILE.fullmatch(urlsplit(match["url"]).path.rpartition("/")[2])
    if not match or not file:
        raise CondaError(where, f"found {show(line)!r}", "an address and # and a hash")
    base, _, filename = match["url"].rpartition("/")
    channel, _, subdir = base.rpartition("/")
    record = known.get(match["url"], {})
    algorithm = "sha256" if len(match["hash"]) == 64 else "md5"
    hashes = {key: str(record[key]) for key in ("sha256", "md5") if record.get(key)}
    if hashes.setdefault(algorithm, match["hash"]) != match["hash"]:
        raise CondaError(where, f"{filename} has {algorithm} {match['hash']}", f"{hashes[algorithm]}, as recorded")
    package = rattler.PackageRecord(
        name=file["name"],
        version=file["version"],
        build=rattler.BuildString(file["build"]),
        build_number=int(record.get("build_number", 0)),
        subdir=subdir,
        noarch=record.get("noarch") if subdir == NOARCH else None,
        depends=list(record.get("depends", [])),
        sha256=bytes.fromhex(hashes["sha256"]) if "sha256" in hashes else None,
        md5=bytes.fromhex(hashes["md5"]) if "md5" in hashes else None,
    )
    return rattler.RepoDataRecord(package, filename, match["url"], channel)
