"""Solving with rattler over `repodata.json` files: channels in strict priority, machines as they are described."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rattler
from rattler.exceptions import InvalidMatchSpecError, SolverError
from rattler.repo_data.sparse import SparseRepoData

from torchlock.conda.channels import NOARCH, REPODATA
from torchlock.conda.spec import to_rattler
from torchlock.errors import ResolveError
from torchlock.profiles.document import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A channel: its name or address, and the folder that holds its subdirs."""

    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be solved: specs as conda writes them; `virtual` maps `__glibc` and such to version and build."""

    sources: Sequence[Source]
    subdir: str
    specs: Sequence[str]
    virtual: Mapping[str, tuple[str, str]] = field(hash=False)


def virtual_packages(sources: Sequence[Source], subdir: str) -> tuple[list[Source], dict[str, tuple[str, str]]]:
    """Return the channels that hold packages, and the virtual packages that the other one describes."""
    real, found = [], {}
    for source in sources:
        records = _virtual_records(source, subdir)
        if records is None:
            real.append(source)
        for record in records or ():
            found[str(record["name"])] = (str(record["version"]), str(record["build"]))
    return real, found


def solve(request: Request) -> list[dict[str, Any]]:
    """Return the chosen records, sorted by name; raise ResolveError in the solver's own words."""
    data = [
        SparseRepoData(rattler.Channel(source.name), subdir, source.folder / subdir / REPODATA)
        for source in request.sources
        for subdir in (request.subdir, NOARCH)
        if (source.folder / subdir / REPODATA).is_file()
    ]
    if not data:
        names = ", ".join(source.name for source in request.sources) or "no channel"
        raise ResolveError(names, f"holds no {REPODATA} for {request.subdir}", "a channel that is there")
    try:
        found = asyncio.run(
            rattler.solve_with_sparse_repodata(
                [rattler.MatchSpec(to_rattler(spec)) for spec in request.specs],
                data,
                virtual_packages=[_virtual(name, *value) for name, value in sorted(request.virtual.items())],
                channel_priority=rattler.ChannelPriority.Strict,
            )
        )
    except SolverError as error:
        raise ResolveError(request.subdir, str(error)) from error
    except InvalidMatchSpecError as error:
        raise ResolveError(request.subdir, f"rattler does not read a spec: {show(str(error), 300)}") from error
    finally:
        for item in data:
            item.close()
    return sorted((json.loads(item.to_json()) for item in found), key=lambda item: str(item["name"]))


def _virtual(name: str, version: str, build: str) -> rattler.GenericVirtualPackage:
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
    )


def _virtual_records(source: Source, subdir: str) -> list[dict[str, Any]] | None:
    """Return the records of conda-lock's channel of virtual packages; None for a channel of another kind."""
    path = source.folder / subdir / REPODATA
    if not source.name.startswith("file:") or not path.is_file() or path.stat().st_size > 1 << 20:
        return None
    packages = json.loads(path.read_bytes()).get("packages", {})
    records = list(packages.values())
    known = all(record.get("package_type") == "virtual_system" for record in records)
    return records if known and (records or "fake-repodata" in source.name) else None
