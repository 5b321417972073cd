"""Manifests and indexes at a registry: read and written by digest, their bytes always those of the digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.oci.blobs import Content
from torchlock.oci.descriptor import INDEXES, MANIFESTS, Descriptor
from torchlock.oci.document import LIMIT, shown
from torchlock.oci.manifest import media_type_of
from torchlock.registry.client import Answer, Client, StatusError, digest_header

if TYPE_CHECKING:
    from torchlock.oci.blobs import Blobs
    from torchlock.registry.reference import Reference

ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))


def document(client: Client, reference: Reference, blobs: Blobs, expected: Digest | None = None) -> Descriptor:
    """Bring a manifest or an index into `blobs`; return its descriptor.

    Its bytes must be of the digest that the reference, `expected` and the answer's header name. One that is named by
    digest and is here already is not asked for.
    """
    wanted = reference.digest or expected
    if reference.digest is not None and expected not in {None, reference.digest}:
        raise RegistryError(reference, f"is not {expected}", "the digest that is expected", "name that digest")
    if reference.digest is None and reference.tag is None:
        if expected is None:
            raise RegistryError(reference, "neither a tag nor a digest", "host/repository@sha256:…")
        reference = reference.at(expected)
    if reference.digest is not None and (here := _present(reference.digest, blobs)) is not None:
        data = blobs.read(here)
        return here.descriptor(media_type_of(data, str(reference)))
    data, media_type = client.run(lambda: read(client, reference, wanted))
    return blobs.add_bytes(data).descriptor(media_type)


def read(client: Client, reference: Reference, wanted: Digest | None = None) -> tuple[bytes, str]:
    """Return the verified bytes and media type of a manifest or an index; refuse others than wanted."""
    where, wanted = str(reference), wanted or reference.digest
    answer, data = client.small(client.url(f"manifests/{reference.digest or reference.tag}"), ACCEPT, LIMIT)
    found, said = Digest.of(data), digest_header(answer, where)
    if wanted is not None and found != wanted:
        raise RegistryError(where, f"the registry sends {found} ({len(data)} bytes)", str(wanted))
    if said not in {None, found}:
        raise RegistryError(where, f"the registry says that it sends {said}, and sends {found}", "the truth")
    media_type = media_type_of(data, where)
    header = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if header.startswith("application/vnd.") and header != media_type:
        raise RegistryError(where, f"the registry says that it sends {shown(header)}", f"{media_type} as its bytes say")
    return data, media_type


def has(client: Client, reference: Reference, digest: Digest) -> bool:
    """Whether a reference names the document of a digest; other bytes under a digest are refused."""
    try:
        data, _ = read(client, reference)
    except StatusError as error:
        if error.code == 404:
            return False
        raise
    except ImageError:  # a tag of something that is not read here
        return False
    return Digest.of(data) == digest


def write(client: Client, reference: Reference, data: bytes, media_type: str) -> Answer:
    """Put a document under its digest or a tag; raise RegistryError where the registry names another digest."""
    url = client.url(f"manifests/{reference.digest or reference.tag}")
    headers = {"Content-Type": media_type}
    answer = client.answer("PUT", url, headers=headers, body=data)
    said, wanted = digest_header(answer, str(reference)), Digest.of(data)
    if said not in {None, wanted}:
        raise RegistryError(reference, f"the registry says that it took {said}", str(wanted))
    return answer


def _present(digest: Digest, blobs: Blobs) -> Content | None:
    """Return what a document that is here is called, its bytes verified."""
    path = blobs.path(digest)
    if not path.is_file():
        return None
    content = Content(digest=digest, size=path.stat().st_size)
    return content if content.size <= LIMIT and blobs.get(content) is not None else None
