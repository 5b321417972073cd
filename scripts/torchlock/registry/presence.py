"""Whether a registry has a blob already, here or in another repository that it can be mounted from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from torchlock.errors import RegistryError
from torchlock.network.answers import length
from torchlock.registry.client import StatusError, digest_header

if TYPE_CHECKING:
    from torchlock.oci.descriptor import Descriptor
    from torchlock.registry.client import Answer, Client

_CLOSED = frozenset({401, 403, 404})


def exists(client: Client, descriptor: Descriptor, repository: str | None = None) -> bool:
    """Whether a repository has a blob; refuse one that is there with another size or digest."""
    where = str(client.repository.at(descriptor.digest))
    url = client.url(f"blobs/{descriptor.digest}", repository)
    try:
        answer = client.answer("HEAD", url)
    except StatusError as error:
        if error.code == 404 or (repository is not None and error.code in _CLOSED):
            return False
        raise
    said, size = digest_header(answer, where), length(answer.headers)
    if said not in {None, descriptor.digest}:
        raise RegistryError(where, f"the registry says that it has {said}", str(descriptor.digest))
    if size not in {None, descriptor.size}:
        raise RegistryError(where, f"{size} bytes at the registry", f"{descriptor.size} bytes")
    return True


def mount(client: Client, descriptor: Descriptor, name: str) -> Answer | None:
    """Ask for a blob of another repository; return the upload that the registry begins instead, if it does."""
    query = urlencode({"mount": str(descriptor.digest), "from": name})
    answer = client.answer("POST", client.url(f"blobs/uploads/?{query}"))
    if answer.code != 201:
        return answer
    confirm(answer, descriptor, str(client.repository.at(descriptor.digest)))
    return None


def confirm(answer: Answer, descriptor: Descriptor, where: str) -> None:
    """Refuse an answer that says that another blob was taken."""
    said = digest_header(answer, where)
    if said not in {None, descriptor.digest}:
        raise RegistryError(where, f"the registry says that it took {said}", str(descriptor.digest))
