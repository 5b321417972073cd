"""Loading: an image of a layout goes into Docker, which then has it by its digest, or has nothing new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from torchlock.engine.archive import Archive
from torchlock.engine.docker import refusal
from torchlock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlock.engine.docker import Docker
    from torchlock.oci.descriptor import Descriptor
    from torchlock.reporter import Reporter

SENDING = "sending to Docker"
UNPACKING = "unpacking in Docker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """An image that Docker has: its ID there, the bytes sent for it, the layers that Docker had already, its tags."""

    image: str
    sent: int
    kept: int
    tags: tuple[str, ...]


def load(daemon: Docker, folder: Path, image: Descriptor, tags: Sequence[str], reporter: Reporter) -> Loaded:
    """Give Docker the image that a layout's descriptor names, and verify by its ID that it has it.

    Every blob is verified while it is sent. Where Docker has the image, nothing is sent; where it has its first layers
    from another, those are not. Raise EngineError where Docker refuses or does not hold the image afterwards.
    """
    archive = Archive.open(folder, image)
    identity = _known_as(daemon, archive)
    sent = kept = 0
    if daemon.image(identity) is None:
        lean = _lean(daemon, archive)
        kept = len(lean.without)
        try:
            sent = _send(daemon, lean, reporter)
        except EngineError:
            if not kept or daemon.image(identity) is not None:
                raise
            sent, kept = _send(daemon, archive, reporter), 0
        if daemon.image(identity) is None:
            raise EngineError(daemon.where, "Docker took the image, but has none of its ID", identity)
    for tag in tags:
        repository, _, name = tag.rpartition(":")
        with daemon.asked(f"docker tag {identity} {tag}"):
            daemon.client.tag(identity, repository, name)
    return Loaded(image=identity, sent=sent, kept=kept, tags=tuple(tags))


def _known_as(daemon: Docker, archive: Archive) -> str:
    """Return the ID that Docker gives an image: its config's digest or, where containerd keeps images, its own."""
    return str((archive.image if daemon.facts.containerd else archive.manifest.config).digest)


def _lean(daemon: Docker, archive: Archive) -> Archive:
    """Leave out the first layers where an image in Docker begins with the same (containerd's store needs them all)."""
    if daemon.facts.containerd:
        return archive
    wanted = [str(item) for item in archive.config.diff_ids]
    shared = max((_common(wanted, found["RootFS"].get("Layers") or ()) for found in daemon.images()), default=0)
    layers = archive.manifest.layers
    return replace(archive, without=frozenset(layers[:shared]) - frozenset(layers[shared:]))


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _send(daemon: Docker, archive: Archive, reporter: Reporter) -> int:
    total, what = archive.size, "docker load"
    layers = {item.digest: item.size for item in archive.blobs if item in archive.manifest.layers}
    unpacking = _Unpacking(sum(layers.values()), reporter)
    with daemon.asked(what):
        for event in daemon.client.load_image(_counted(archive, total, reporter), quiet=False):  # type: ignore[no-untyped-call]  # in its stubs
            text = event.get("error") or event.get("message")
            if text:
                raise refusal(what, str(text))
            unpacking.take(event)
    unpacking.end()
    return total


def _counted(archive: Archive, total: int, reporter: Reporter) -> Iterator[bytes]:
    done = 0
    for block in archive.blocks():
        yield block
        done += len(block)
        reporter.progress(SENDING, done, total)


class _Unpacking:
    """How far Docker is with all layers, from what it says of each."""

    def __init__(self, total: int, reporter: Reporter) -> None:
        self._total, self._reporter = total, reporter
        self._done: dict[str, int] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one word of Docker's: a layer's ID, and how many of its bytes are read."""
        current = (event.get("progressDetail") or {}).get("current")
        if isinstance(current, int):
            self._done[str(event.get("id"))] = current
            done = min(sum(self._done.values()), self._total - 1)
            self._reporter.progress(UNPACKING, max(done, 0), self._total)

    def end(self) -> None:
        """Say that all is done."""
        self._reporter.progress(UNPACKING, self._total, self._total)
