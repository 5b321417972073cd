"""One blob on its way from a registry: resumed where a connection broke, never past its size plus one byte."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from torchlock.digest import Digest
from torchlock.errors import RegistryError
from torchlock.network.answers import length
from torchlock.network.ranges import ContentRange
from torchlock.network.remote import Body
from torchlock.network.transport import TransientError
from torchlock.registry.client import digest_header
from torchlock.storage.crew import StoppedError
from torchlock.storage.reception import Reception

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from torchlock.oci.blobs import Blobs
    from torchlock.oci.descriptor import Descriptor
    from torchlock.registry.client import Answer, Client
    from torchlock.storage.store import Partial


def download(client: Client, descriptor: Descriptor, blobs: Blobs, stop: threading.Event) -> int:
    """Bring a blob into `blobs`, verified; return how many bytes came, 0 where it was there.

    Threads and processes that want the same blob wait for one of them. What came of one that failed is kept.
    """
    if blobs.get(descriptor) is not None:
        return 0
    with blobs.receiving(descriptor) as received:
        if stop.is_set():
            raise StoppedError
        if blobs.get(descriptor) is not None:
            return 0
        came = 0
        if not received.whole:
            blobs.room(descriptor.size - received.size)
            came = _Source(client, descriptor, received).receive(stop)
        blobs.publish(descriptor, received)
        return came


class _Source:
    """A blob in a registry, as it is asked for and refused."""

    def __init__(self, client: Client, descriptor: Descriptor, received: Partial) -> None:
        self._client, self._descriptor, self._received = client, descriptor, received
        self._where = str(client.repository.at(descriptor.digest))

    def receive(self, stop: threading.Event) -> int:
        """Bring the blob; return how many bytes came."""
        client, received = self._client, self._received
        reception = Reception(
            received,
            self._opened,
            self._refusal,
            where=self._where,
            task=f"{client.repository.repository} {self._descriptor.digest.hex[:12]}",
            reporter=client.reporter,
            stop=stop,
            budget=client.budget(stop),
        )
        if received.size == self._descriptor.size:
            received.restart()  # as many bytes as there should be, and not these
        return reception.run()

    @contextmanager
    def _opened(self, offset: int) -> Iterator[Body]:
        """Ask for the blob from an offset on."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = self._client.url(f"blobs/{self._descriptor.digest}")
        with self._client.ask("GET", url, headers=headers, also=(416,)) as (answer, response):
            yield Body(*self._begun(answer, offset), self._client.blocks(response))

    def _begun(self, answer: Answer, offset: int) -> tuple[int, int | None]:
        """Return where an answer begins, and the size that it tells; refuse it if it is another blob's."""
        said = digest_header(answer, self._where)
        if said not in {None, self._descriptor.digest}:
            raise self._refusal(f"the registry says that it sends {said}", self._descriptor.digest)
        ranged = ContentRange.of(answer.headers.get("content-range")) if answer.code == 206 else None
        if answer.code != 200 and (ranged is None or ranged.start != offset):
            self._received.restart()
            raise TransientError(self._where, "another range than the one asked for", f"from byte {offset}")
        total = ranged.total if ranged else length(answer.headers)
        if total is not None and total != self._descriptor.size:
            raise self._refusal(f"{total} bytes", self._descriptor.size)
        return ranged.start if ranged else 0, total

    def _refusal(self, found: str | Digest, expected: int | Digest) -> RegistryError:
        said = f"the bytes are {found}" if isinstance(found, Digest) else found
        wanted = f"{expected} bytes" if isinstance(expected, int) else str(expected)
        return RegistryError(self._where, said, wanted, "another registry: this one sends what it does not name")
