"""Recording indexes: pages and metadata over the network into the snapshot, with an alarm when bytes change."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from dataclasses import replace
from datetime import timezone
from email.parser import BytesParser
from typing import TYPE_CHECKING

from torchlock import simple, wheel
from torchlock.digest import Digest
from torchlock.errors import SnapshotError
from torchlock.snapshot import File, Metadata, Page, is_supported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypi_simple import DistributionPackage

    from torchlock.remote import Remote
    from torchlock.reporter import Reporter
    from torchlock.snapshot import Snapshot

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
        self._locks: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)

    def page(self, index: str, project: str) -> Page:
        """Return a project's page, recorded now if the snapshot lacks it."""
        with self._locks[index, project]:
            return self.snapshot.page(index, project) or self.refresh(index, project)

    def refresh(self, index: str, project: str) -> Page:
        """Read a project's page from its index and store it, keeping what was learnt about unchanged files.

        A file that the index now lists with another sha256 or size is refused: SnapshotError with both.
        """
        with self._locks[index, project]:
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

    def metadata(self, index: str, project: str, name: str) -> File:
        """Return a wheel's record with its metadata and hash, read from the index if the snapshot lacks them."""
        with self._locks[index, project]:
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

    def _list(self, index: str, project: str) -> dict[str, DistributionPackage]:
        if (index, project) not in self._listed:
            if index not in self.roots:
                raise SnapshotError(f"index {index}", "no address", remedy="add it to environments/defaults.yaml")
            self.reporter.note(f"recording {project} from {index}")
            items = simple.listing(self.remote, self.roots[index], project)
            self._listed[index, project] = {item.filename: item for item in items if is_supported(item.filename)}
        return self._listed[index, project]

    def _read(self, file: File, item: DistributionPackage) -> File:
        """Read METADATA (PEP 658's file where the index has one, else by HTTP range); hash the wheel if need be."""
        size = file.size
        if item.has_metadata and item.metadata_digests and size is not None:
            raw = self.remote.get(item.metadata_url, limit=METADATA_LIMIT).body
            if Digest.of(raw).hex != item.metadata_digests.get("sha256", Digest.of(raw).hex):
                raise SnapshotError(file.name, f"metadata of {Digest.of(raw)}", f"{item.metadata_digests['sha256']}")
        else:
            with self.remote.range_reader(item.url) as reader:
                size = reader.seek(0, 2)
                raw = wheel.metadata(reader)
        if file.sha256 is None:
            sha256, size = self._hash(item.url)
            file = replace(file, sha256=sha256, evidence={**file.evidence, "sha256": "computed"})
        return replace(file, size=size, metadata=_metadata(raw))

    def _hash(self, url: str) -> tuple[Digest, int]:
        state, size = hashlib.sha256(), 0
        with self.remote.stream(url, 0) as (_, _, blocks):
            for block in blocks:
                state.update(block)
                size += len(block)
        return Digest(state.hexdigest()), size


def _metadata(raw: bytes) -> Metadata:
    fields = BytesParser().parsebytes(raw, headersonly=True)
    return Metadata(
        requires_dist=tuple(" ".join(str(text).split()) for text in fields.get_all("Requires-Dist", [])),
        provides_extra=tuple(str(text) for text in fields.get_all("Provides-Extra", [])),
        sha256=Digest.of(raw),
    )


def _file(item: DistributionPackage) -> File:
    """Read what an index lists of one file."""
    sha256 = item.digests.get("sha256")
    time = item.upload_time
    return File(
        name=item.filename,
        sha256=Digest(sha256.lower()) if sha256 else None,
        size=item.size,
        upload_time=time.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if time else None,
        requires_python=item.requires_python,
        yanked=(item.yanked_reason or "") if item.is_yanked else None,
    )


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
    return replace(
        new,
        sha256=new.sha256 or old.sha256,
        size=new.size if new.size is not None else old.size,
        upload_time=new.upload_time or old.upload_time,
        metadata=new.metadata or old.metadata,
        evidence={**old.evidence, **new.evidence},
    )
