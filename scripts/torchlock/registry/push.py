"""Pushing: blobs that a registry lacks, then manifests, then indexes, each by digest, and tags last of all."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci import layout
from torchlock.oci.descriptor import INDEXES, MANIFESTS
from torchlock.oci.document import LIMIT
from torchlock.registry import documents
from torchlock.registry.client import PUSH, Client
from torchlock.registry.reference import repository
from torchlock.registry.upload import Uploaded, upload
from torchlock.storage.crew import Crew

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from torchlock.oci.descriptor import Descriptor
    from torchlock.registry.reference import Reference
    from torchlock.reporter import Reporter

    # Gives the file of a blob; it is called for a document, and for another blob only where the registry lacks it.
    Source: TypeAlias = Callable[[Descriptor], Path]

WORKERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What a push did: bytes of blobs and documents sent; blobs sent, skipped, mounted; uploads resumed; tags moved."""

    reference: Reference
    sent: int
    uploaded: int
    skipped: int
    mounted: int
    resumed: int
    tags: tuple[str, ...]


def push(  # noqa: PLR0913 - what it works with, each of its own kind
    top: Descriptor,
    source: Source,
    target: Reference,
    *,
    tags: Sequence[str] = (),
    mounts: Sequence[str] = (),
    client: Client | None = None,
    reporter: Reporter | None = None,
) -> Pushed:
    """Bring an image, or an index with all its images, into a repository; it is there whole or cannot be named.

    `mounts` are repositories of the same registry that may have some of the blobs. The target's tag counts as one of
    `tags`. Raise ImageError where a local blob is not what it must be, RegistryError for what the registry does.
    """
    if target.digest not in {None, top.digest}:
        raise RegistryError(target, f"this image is {top.digest}", "the digest of the reference, or none")
    names = [target.tagged(tag) for tag in dict.fromkeys((*([target.tag] if target.tag else []), *tags))]
    others = [repository(name, target.registry) for name in dict.fromkeys(mounts) if name != target.repository]
    if client is None:
        with closing(Client(target, PUSH, readable=others, reporter=reporter)) as made:
            return push(top, source, target, tags=tags, mounts=mounts, client=made)
    closure = layout.closure(top, lambda item: content(source, item), str(target))
    parts = list({item.digest: item for item in closure}.values())
    done = send(client, [item for item in parts if not _document(item)], source, others)
    sent = sum(item.sent for item in done)
    for item in parts:
        if _document(item):
            sent += _put(client, target.at(item.digest), content(source, item), item.media_type)
    for name in names:
        sent += _put(client, name, content(source, top), top.media_type)
    return Pushed(
        reference=target.at(top.digest),
        sent=sent,
        uploaded=sum(not (item.there or item.mounted) for item in done),
        skipped=sum(item.there for item in done),
        mounted=sum(item.mounted for item in done),
        resumed=sum(item.resumed for item in done),
        tags=tuple(name.tag for name in names if name.tag),
    )


def send(
    client: Client, blobs: Iterable[Descriptor], source: Source, mounts: Sequence[str] = (), workers: int = WORKERS
) -> list[Uploaded]:
    """See to it that a repository has these blobs, several at once; say how each came there."""
    done: list[Uploaded] = []

    def job(descriptor: Descriptor, stop: threading.Event) -> None:
        done.append(upload(client, descriptor, lambda: source(descriptor).open("rb"), stop, mounts))

    Crew(job, client.hang_up).run(sorted(blobs, key=lambda item: (-item.size, item.digest)), workers)
    return done


def content(source: Source, descriptor: Descriptor) -> bytes:
    """Return a local document's verified bytes."""
    path = source(descriptor)
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if (len(data), Digest.of(data)) != (descriptor.size, descriptor.digest):
        raise ImageError(path.name, f"holds {Digest.of(data)}", str(descriptor.digest), "build the image again")
    return data


def _put(client: Client, reference: Reference, data: bytes, media_type: str) -> int:
    """Put a document where it is not there yet, and look whether it is then; return how many bytes were sent."""
    digest = Digest.of(data)
    if client.run(lambda: documents.has(client, reference, digest)):
        return 0
    client.run(lambda: documents.write(client, reference, data, media_type))
    if not client.run(lambda: documents.has(client, reference, digest)):
        raise RegistryError(reference, "was put there, and is not there", f"{digest}")
    return len(data)


def _document(descriptor: Descriptor) -> bool:
    return descriptor.media_type in INDEXES | MANIFESTS
