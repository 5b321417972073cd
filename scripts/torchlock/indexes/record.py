"""Recording indexes: pages and metadata over the network into the snapshot, with an alarm when bytes change."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import timezone
from email.parser import BytesParser
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.indexes import simple
from torchlock.indexes.snapshot import File, Metadata, Page, is_supported
from torchlock.locks.lock import instant
from torchlock.network.transport import TransientError, redact
from torchlock.wheels import wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pypi_simple import DistributionPackage

    from torchlock.indexes.snapshot import Snapshot
    from torchlock.network.ranges import RangeFile
    from torchlock.network.remote import Remote
    from torchlock.reporter import Reporter

# The largest METADATA file that is read, in bytes; the largest known is under 1 MB.
METADATA_LIMIT = 8 << 20


class Recorder:
    """Fill a snapshot from its indexes; `roots` maps an index alias to the URL of its simple root."""

    def __init__(self, snapshot: Snapshot, remote: Remote, roots: Mapping[str, str], reporter: Reporter) -> None:
        self.snapshot = snapshot
        self.remote = remote
        self.roots = roots
        self.reporter = reporter
        self._listed: dict[tuple[str, str], dict[str, DistributionPackage]] = {}
        self._locks: dict[tuple[str, str], threading.RLock] = {}
        self._guard = threading.Lock()

    def page(self, index: str, project: str) -> Page:
        """Return a project's page, recorded now if the snapshot lacks it."""
        with self._lock(index, project):
            return self.snapshot.page(index, project) or self.refresh(index, project)

    def refresh(self, index: str, project: str) -> Page:
        """Read a project's page from its index and store it, keeping what was learnt about unchanged files.

        A file that the index now lists with another sha256 or size is refused: SnapshotError with both.
        """
        with self._lock(index, project):
            listed = self._list(index, project)
            known = old.files if (old := self.snapshot.page(index, project)) else {}
            files = {name: _merge(index, known.get(name), _file(item)) for name, item in listed.items()}
            if gone := sorted(set(known) - set(files)):
                self.reporter.note(
                    f"{index}: {project}: {len(gone)} wheels are no longer listed, among them {gone[-1]}"
                )
            page = Page(index=index, project=project, files=files)
            self.snapshot.write(page)
            return page

    def _lock(self, index: str, project: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault((index, project), threading.RLock())

    def metadata(self, index: str, project: str, name: str) -> File:
        """Return a wheel's record with its metadata and hash, read from the index if the snapshot lacks them."""
        with self._lock(index, project):
            page = self.page(index, project)
            file = page.files.get(name)
            if file is None:
                raise SnapshotError(f"{index}: {project}", f"no record of {name}", remedy=f"make update PKG={project}")
            if file.metadata is not None and file.sha256 is not None:
                return file
            item = self._list(index, project).get(name)
            if item is None:
                raise SnapshotError(f"{index}: {project}", f"{name} is no longer listed", remedy="make update")
            read = _merge(index, file, self._read(_file(item), item))
            self.snapshot.write(replace(page, files={**page.files, name: read}))
            return read

    def open(self, index: str, project: str, name: str) -> RangeFile | None:
        """Open a wheel on its index for random access, None where that no longer lists it; refuse an alarm."""
        with self._lock(index, project):
            item = self._list(index, project).get(name)
            if item is None:
                return None
            known = page.files.get(name) if (page := self.snapshot.page(index, project)) else None
            _merge(index, known, _file(item))
        return self.remote.range_reader(item.url)

    def _list(self, index: str, project: str) -> dict[str, DistributionPackage]:
        if (index, project) not in self._listed:
            if index not in self.roots:
                raise SnapshotError(f"index {index}", "no address", remedy="add it to environments/defaults.yaml")
            self.reporter.note(f"reading the page of {project} on {index}")
            items = simple.listing(self.remote, self.roots[index], project)
            own = [item for item in items if item.project and canonicalize_name(item.project) == project]
            if not own:
                found = f"its page lists {len(items)} files, none of this project"
                raise SnapshotError(f"{index}: {project}", found, remedy="another index for it in the profile")
            self._listed[index, project] = {item.filename: item for item in own if is_supported(item.filename)}
        return self._listed[index, project]

    def _read(self, file: File, item: DistributionPackage) -> File:
        """Read METADATA (PEP 658's file where the index has one, else by HTTP range); hash the wheel if need be."""
        size = file.size
        if item.has_metadata and item.metadata_digests and "sha256" in item.metadata_digests and size is not None:
            raw = self.remote.get(item.metadata_url, limit=METADATA_LIMIT).body
            found, listed = Digest.of(raw), item.metadata_digests["sha256"].lower()
            if found.hex != listed:
                raise SnapshotError(f"{file.name}.metadata", str(found), f"sha256:{listed}, as its index lists it")
        else:
            with self.remote.range_reader(item.url) as reader:
                size = reader.seek(0, 2)
                raw = wheel.metadata(reader, file.name)
        if file.sha256 is None:
            file = replace(file, sha256=self._hash(file.name, item.url, size), evidence={"sha256": "computed"})
        return replace(file, size=size, metadata=_metadata(raw))

    def _hash(self, name: str, url: str, size: int) -> Digest:
        """Return the sha256 of a wheel of `size` bytes, downloaded for this alone; a broken connection is resumed."""
        state, done, budget = hashlib.sha256(), 0, self.remote.budget()
        self.reporter.note(f"downloading {name}: its index lists no sha256")
        while done < size:
            try:
                with self.remote.stream(url, done, budget) as body:
                    if body.start != done:
                        state, done = hashlib.sha256(), 0
                    for block in body.blocks:
                        state.update(block)
                        done += len(block)
                        self.reporter.progress(name, min(done, size), size)
                        if done > size:
                            raise SnapshotError(name, f"more than {size} bytes", "as many as its index says")
                if done < size:
                    raise TransientError(redact(url), f"the body ended after {done} of {size} bytes")
            except TransientError as error:
                budget.spend(error)
        return Digest(state.hexdigest())


def _metadata(raw: bytes) -> Metadata:
    fields = BytesParser().parsebytes(raw, headersonly=True)
    return Metadata(
        requires_dist=tuple(_line(str(text)) for text in fields.get_all("Requires-Dist", [])),
        provides_extra=tuple(_line(str(text)) for text in fields.get_all("Provides-Extra", [])),
        sha256=Digest.of(raw),
    )


def _file(item: DistributionPackage) -> File:
    """Read what an index lists of one file."""
    sha256 = item.digests.get("sha256")
    try:
        return File(
            name=item.filename,
            sha256=Digest(sha256.lower()) if sha256 else None,
            size=item.size,
            upload_time=_utc(item.upload_time) if item.upload_time else None,
            requires_python=_line(item.requires_python or "") or None,
            yanked=_line(item.yanked_reason or "") if item.is_yanked else None,
        )
    except (ValueError, OverflowError) as error:
        raise SnapshotError(item.filename, f"its index lists {str(error)[:200]}") from error


def _line(text: str) -> str:
    """Return a text of the index on one line, all of it printable."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _utc(time: datetime) -> str:
    """Return a time as a lock writes it; one without a zone is UTC, whatever zone this machine is in."""
    return instant((time if time.tzinfo else time.replace(tzinfo=timezone.utc)).isoformat())


def _merge(index: str, old: File | None, new: File) -> File:
    """Join what was known with what is listed now; refuse other bytes under the same name."""
    if old is None:
        return new
    for what, before, now in (("sha256", old.sha256, new.sha256), ("size", old.size, new.size)):
        if before is not None and now is not None and before != now:
            raise SnapshotError(
                f"{index}: {new.name}",
                f"other bytes under the same file name: {what} {now}",
                f"{before}, as recorded",
                "find out why before anything else: do not install it",
            )
    evidence = {**old.evidence, **new.evidence}
    if new.sha256 is not None and "sha256" not in new.evidence:
        evidence.pop("sha256", None)
    return replace(
        new,
        sha256=new.sha256 or old.sha256,
        size=new.size if new.size is not None else old.size,
        upload_time=new.upload_time or old.upload_time,
        metadata=new.metadata or old.metadata,
        evidence=evidence,
    )
