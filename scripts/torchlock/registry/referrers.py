"""Referrers (distribution specification 1.1): artifacts that name an image as their subject, put there and listed."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.errors import ImageError, RegistryError
from torchlock.oci.blobs import Content
from torchlock.oci.descriptor import EMPTY, EMPTY_CONTENT, INDEX, MANIFEST, Descriptor
from torchlock.oci.document import LIMIT, shown
from torchlock.oci.manifest import Index, Manifest
from torchlock.registry import documents
from torchlock.registry.client import Client, StatusError
from torchlock.registry.download import download
from torchlock.registry.upload import upload
from torchlock.registry.wire import led

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.digest import Digest
    from torchlock.oci.blobs import Blobs

_NEXT = re.compile(r"<([^>]*)>[^,]*;\s*rel=\"?next\"?", re.IGNORECASE)
_PAGES = 100
_TRIES = 5
# How registries without the interface say so.
_ABSENT = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, kw_only=True, slots=True)
class Attached:
    """An artifact that was attached: its manifest's descriptor, and whether a tag had to stand in for the interface."""

    descriptor: Descriptor
    sent: int
    by_tag: bool


def artifact(subject: Descriptor, artifact_type: str, data: bytes, annotations: Mapping[str, str]) -> Manifest:
    """Return the manifest of an artifact that refers to an image: a function of what it is given, without a clock."""
    return Manifest(
        config=Content.of(EMPTY_CONTENT).descriptor(EMPTY),
        layers=(Content.of(data).descriptor(artifact_type),),
        annotations=dict(annotations),
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        artifact_type=artifact_type,
    )


def attach(
    client: Client, subject: Descriptor, artifact_type: str, data: bytes, annotations: Mapping[str, str]
) -> Attached:
    """Put data into a repository as an artifact that refers to an image, unless it is there.

    Where the registry has no referrers interface, the tag `sha256-<hex>` of the subject lists it, as the
    specification has it.
    """
    manifest = artifact(subject, artifact_type, data, annotations)
    stop, sent = threading.Event(), 0
    for blob, content in ((manifest.config, EMPTY_CONTENT), *((layer, data) for layer in manifest.layers)):
        sent += upload(client, blob, lambda content=content: io.BytesIO(content), stop).sent  # type: ignore[misc]
    encoded = manifest.to_json()
    mine = Descriptor(
        media_type=MANIFEST,
        digest=Content.of(encoded).digest,
        size=len(encoded),
        annotations=manifest.annotations,
        artifact_type=artifact_type,
    )
    reference = client.repository.at(mine.digest)
    answer = client.run(lambda: documents.write(client, reference, encoded, MANIFEST))
    if answer.headers.get("oci-subject") == str(subject.digest) or _has(_listed(client, subject.digest), mine):
        return Attached(descriptor=mine, sent=sent + len(encoded), by_tag=False)
    return Attached(descriptor=mine, sent=sent + len(encoded) + _tag(client, subject.digest, mine), by_tag=True)


def referrers(client: Client, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
    """Return the artifacts that refer to an image, by digest in order; those of one type where one is named."""
    found = _listed(client, subject)
    if found is None:
        found = _tagged(client, subject).manifests
    unique = {item.digest: item for item in found if artifact_type in {None, item.artifact_type}}
    return tuple(unique[digest] for digest in sorted(unique))


def read(client: Client, descriptor: Descriptor, subject: Digest, blobs: Blobs) -> tuple[Manifest, bytes]:
    """Return an artifact's verified manifest and data; refuse one that refers to another subject."""
    where = str(client.repository.at(descriptor.digest))
    data = blobs.read(documents.document(client, client.repository.at(descriptor.digest), blobs))
    manifest = Manifest.from_json(data, where)
    if manifest.subject is None or manifest.subject.digest != subject:
        named = "no subject" if manifest.subject is None else f"the subject {manifest.subject.digest}"
        raise ImageError(where, named, str(subject))
    if len(manifest.layers) != 1 or manifest.layers[0].size > LIMIT:
        raise ImageError(where, f"{len(manifest.layers)} layers", f"one of at most {LIMIT} bytes")
    download(client, manifest.layers[0], blobs, threading.Event())
    return manifest, blobs.read(manifest.layers[0])


def _listed(client: Client, subject: Digest) -> tuple[Descriptor, ...] | None:
    """Return what the referrers interface lists, all pages of it; None where there is no such interface."""
    url = client.url(f"referrers/{subject}")
    found: list[Descriptor] = []
    where = str(client.repository.at(subject))
    for page in range(_PAGES):
        here = url
        try:
            answer, data = client.run(lambda: client.small(here, INDEX, LIMIT))  # noqa: B023 - called at once
        except StatusError as error:
            if page == 0 and error.code in _ABSENT:
                return None
            raise
        found += Index.from_json(data, f"{where}: referrers").manifests
        link = _NEXT.search(answer.headers.get("link", ""))
        if link is None:
            return tuple(found)
        url = led(answer.url, link[1])
    raise RegistryError(where, f"more than {_PAGES} pages of referrers", "an end to them")


def _tagged(client: Client, subject: Digest) -> Index:
    """Return the index that stands in for the interface; an empty one where there is none."""
    reference = client.repository.tagged(f"sha256-{subject.hex}")
    try:
        data, media_type = client.run(lambda: documents.read(client, reference))
    except StatusError as error:
        if error.code == 404:
            return Index(manifests=())
        raise
    if media_type != INDEX:
        raise ImageError(reference, shown(media_type), f"{INDEX}, a list of referrers")
    return Index.from_json(data, str(reference))


def _tag(client: Client, subject: Digest, mine: Descriptor) -> int:
    """Add an artifact to the tag that stands in for the interface; again where another writer was faster."""
    reference, sent = client.repository.tagged(f"sha256-{subject.hex}"), 0
    for _ in range(_TRIES):
        known = _tagged(client, subject)
        if _has(known.manifests, mine):
            return sent
        manifests = tuple(sorted((*known.manifests, mine), key=lambda item: item.digest))
        data = Index(manifests=manifests, annotations=known.annotations).to_json()
        client.run(lambda: documents.write(client, reference, data, INDEX))  # noqa: B023 - called at once
        sent += len(data)
    if _has(_tagged(client, subject).manifests, mine):
        return sent
    raise RegistryError(reference, f"does not keep {mine.digest}", "a tag that lists it", "the same again")


def _has(found: tuple[Descriptor, ...] | None, mine: Descriptor) -> bool:
    return found is not None and mine.digest in {item.digest for item in found}
