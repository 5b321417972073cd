"""Recording: the part of the channels that the profiles reach, imported from facts or fetched with rattler."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rattler
from rattler.repo_data.sparse import SparseRepoData

from torchlock.conda import fetching
from torchlock.conda.channels import REPODATA, Record, Subdir, check_address
from torchlock.conda.reach import reach
from torchlock.errors import CondaError
from torchlock.network.transport import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlock.conda.channels import Channels
    from torchlock.profiles.conda import CondaProfile

PROVENANCE = "provenance.json"
# Where channels are found by their names, as conda finds them.
ROOT = "https://conda.anaconda.org/"


def import_channels(folder: Path, profiles: Sequence[CondaProfile], channels: Channels) -> dict[str, int]:
    """Take what profiles reach of a folder of facts into the snapshot; return packages per channel and subdir.

    The folder holds `<channel>/<subdir>/repodata.json` with `info.base_url` (CEP 15), and `provenance.json`: how the
    record of each address is known. A record without evidence, and one that contradicts the snapshot, is refused.
    """
    evidence = _json(folder / PROVENANCE)
    with _Opened(lambda channel, subdir: folder / channel / subdir / REPODATA) as opened:
        reached = reach(profiles, opened.query)
    found = []
    for (channel, subdir), records in sorted(reached.items()):
        if (path := folder / channel / subdir / REPODATA).is_file():
            base = _base(path, _json(path))
            lacking = [name for name in sorted(records) if f"{base}{name}" not in evidence]
            if lacking:
                raise CondaError(folder / PROVENANCE, f"says nothing of {lacking[0]}", "evidence of each record")
            known = {name: evidence[f"{base}{name}"] for name in records}
            found.append(_subdir(channel, subdir, base, records, known))
    return _write(found, channels)


def refresh(root: str, profiles: Sequence[CondaProfile], channels: Channels, only: str | None = None) -> dict[str, int]:
    """Record anew, over the network, what profiles reach of the channels below `root`; return packages per subdir.

    What was imported gives way to what the channel itself says; a package whose bytes are others now is refused. With
    `only`, the records of that name are taken, and those of names that were never recorded; all others stay.
    """
    with tempfile.TemporaryDirectory(prefix="torchlock-conda-") as cache:

        def fetched(channel: str, subdir: str) -> Path:
            folder = Path(cache) / channel / subdir
            folder.mkdir(parents=True)
            return fetching.fetch(root, channel, subdir, folder)

        with _Opened(fetched, root) as opened:
            reached = reach(profiles, opened.query)
    found = []
    for (channel, subdir), records in sorted(reached.items()):
        where = f"{redact(root).rstrip('/')}/{channel}/{subdir}/"
        bases = {item.url.removesuffix(name) for name, item in records.items()} or {where}
        if len(bases) > 1:
            raise CondaError(where, "serves packages from two places", "one base_url")
        found.append(_chosen(_subdir(channel, subdir, bases.pop(), records, {}), channels, only))
    return _write(found, channels)


class _Opened:
    """The lists of packages that were asked for, each opened once; `place` gives the file of a channel and a subdir."""

    def __init__(self, place: Callable[[str, str], Path], root: str = "") -> None:
        self._place = place
        self._root = f"{root.rstrip('/')}/" if root else ""
        self._open: dict[tuple[str, str], SparseRepoData | None] = {}

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for data in self._open.values():
            if data is not None:
                data.close()

    def query(self, channel: str, subdir: str, name: str) -> list[rattler.RepoDataRecord]:
        """Return the records of a name; none where the channel has no such subdir."""
        if (channel, subdir) not in self._open:
            path = self._place(channel, subdir)
            address = rattler.Channel(f"{self._root}{channel}")
            self._open[channel, subdir] = SparseRepoData(address, subdir, path) if path.is_file() else None
        data = self._open[channel, subdir]
        return data.load_records(rattler.PackageName(name)) if data is not None else []


def _base(path: Path, value: Any) -> str:
    base = value.get("info", {}).get("base_url") if isinstance(value, dict) else None
    if not isinstance(base, str):
        raise CondaError(path, "has no info.base_url", "the channel's own address, as CEP 15 has it")
    return base


def _subdir(
    channel: str,
    subdir: str,
    base: str,
    records: Mapping[str, rattler.RepoDataRecord],
    evidence: Mapping[str, Mapping[str, Any]],
) -> Subdir:
    try:
        made = {
            name: Record.make(name, json.loads(item.to_json()), evidence.get(name, {}))
            for name, item in records.items()
            if item.sha256 is not None
        }
        return Subdir(channel=channel, subdir=subdir, base_url=check_address(base), records=made)
    except (ValueError, TypeError, AttributeError) as error:
        raise CondaError(f"{channel}/{subdir}", f"not the packages of a channel: {str(error)[:200]}") from error


def _chosen(found: Subdir, channels: Channels, only: str | None) -> Subdir:
    """Return what is to be stored of a subdir: all of it, or what is recorded with one name's records replaced."""
    before = channels.subdir(found.channel, found.subdir)
    if only is None or before is None:
        return found
    known = {record.name for record in before.records.values()}
    stays = {name: record for name, record in before.records.items() if record.name != only}
    comes = {name: record for name, record in found.records.items() if record.name == only or record.name not in known}
    return replace(before, records={**stays, **comes})


def _write(found: Iterable[Subdir], channels: Channels) -> dict[str, int]:
    """Write what was found, once all of it is known to agree with what is recorded."""
    made = [_kept(item, channels) for item in found]
    for item in made:
        channels.write(item)
    return {f"{item.channel}/{item.subdir}": len(item.records) for item in made}


def _kept(found: Subdir, channels: Channels) -> Subdir:
    """Return a subdir whose packages have the recorded bytes; what is imported takes no channel's own word away."""
    known = channels.subdir(found.channel, found.subdir)
    before = dict(known.records) if known else {}
    for name, record in found.records.items():
        if name in before and before[name].sha256 != record.sha256:
            where = f"{found.channel}/{found.subdir}: {name}"
            raise CondaError(where, f"has {record.sha256} now", f"{before[name].sha256}, as recorded")
    imported = any(record.evidence for record in found.records.values())
    said = {name: record for name, record in before.items() if imported and not record.evidence}
    return replace(found, records={**found.records, **said})


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise CondaError(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CondaError(path, f"is not JSON: {str(error)[:200]}") from error
