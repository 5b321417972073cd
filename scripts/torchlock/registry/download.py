"""One blob on its way from a registry: resumed where a connection broke, never past its size plus one byte."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torchlock.errors import RegistryError
from torchlock.network.ranges import ContentRange
from torchlock.network.transport import TransientError
from torchlock.registry.client import digest_header
from torchlock.storage.crew import StoppedError

if TYPE_CHECKING:
    import threading

    from torchlock.network.budget import Budget
    from torchlock.oci.blobs import Blobs
    from torchlock.oci.descriptor import Descriptor
    from torchlock.registry.client import Answer, Client
    from torchlock.storage.store import Partial

_PROGRESS = 0.1
_RENEWAL = 1 << 20


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
        reception = _Reception(client, descriptor, received, stop)
        if not received.whole:
            blobs.room(descriptor.size - received.size)
            reception.run()
        blobs.publish(descriptor, received)
        return reception.came


class _Reception:
    """A blob that is being received."""

    def __init__(self, client: Client, descriptor: Descriptor, received: Partial, stop: threading.Event) -> None:
        self._client, self._descriptor, self._received, self._stop = client, descriptor, received, stop
        self._where = str(client.repository.at(descriptor.digest))
        self._task = f"{client.repository.repository} {descriptor.digest.hex[:12]}"
        self._farthest = received.size
        self.came = 0

    def run(self) -> None:
        """Receive until the bytes are the descriptor's; refuse others, but what was resumed is first fetched anew."""
        budget, received = self._client.budget(self._stop), self._received
        if received.size == self._descriptor.size:
            received.restart()  # as many bytes as there should be, and not these
        fresh = received.size == 0
        while True:
            try:
                self._connect(budget)
            except TransientError as error:
                if self._stop.is_set():
                    raise StoppedError from None
                self._client.spend(budget, error)
                fresh = fresh and received.size == 0
                continue
            if received.whole:
                return
            found = str(received.digest)
            received.restart()
            if fresh:
                raise self._refusal(f"the bytes are {found}", str(self._descriptor.digest))
            fresh = True
            self._client.reporter.note(f"{self._where}: what was resumed is wrong; started again")

    def _connect(self, budget: Budget) -> None:
        """Append what one connection brings."""
        received, size = self._received, self._descriptor.size
        offset = received.size
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = self._client.url(f"blobs/{self._descriptor.digest}")
        with self._client.ask("GET", url, headers=headers, also=(416,)) as (answer, response):
            self._begin(answer, offset)
            said = 0.0
            for block in self._client.blocks(response):
                self._append(block, budget)
                if time.monotonic() - said > _PROGRESS:
                    said = time.monotonic()
                    self._client.reporter.progress(self._task, received.size, size)
        if self._stop.is_set():
            raise StoppedError
        if received.size < size:
            raise TransientError(self._where, f"the body ended after {received.size} of {size} bytes")
        self._client.reporter.progress(self._task, size, size)

    def _begin(self, answer: Answer, offset: int) -> None:
        """Look at an answer's headers: forget what is here if it starts anew, refuse it if it is another blob's."""
        said = digest_header(answer, self._where)
        if said not in {None, self._descriptor.digest}:
            raise self._refusal(f"the registry says that it sends {said}", str(self._descriptor.digest))
        ranged = ContentRange.of(answer.headers.get("content-range")) if answer.code == 206 else None
        if answer.code != 200 and (ranged is None or ranged.start != offset):
            self._received.restart()
            raise TransientError(self._where, "another range than the one asked for", f"from byte {offset}")
        length = answer.headers.get("content-length", "")
        total = ranged.total if ranged else int(length) if length.isdigit() else None
        if total is not None and total != self._descriptor.size:
            raise self._refusal(f"{total} bytes", f"{self._descriptor.size} bytes")
        if ranged is None and offset:
            self._received.restart()

    def _append(self, block: bytes, budget: Budget) -> None:
        """Take a block, up to the blob's size plus one; new ground renews the budget."""
        if self._stop.is_set():
            raise StoppedError
        received, size = self._received, self._descriptor.size
        block = block[: size + 1 - received.size]
        received.write(block)
        self.came += len(block)
        if received.size > size:
            received.restart()
            raise self._refusal(f"more than {size} bytes", f"{size} bytes")
        if received.size >= self._farthest + _RENEWAL:
            self._farthest = received.size
            budget.renew()

    def _refusal(self, found: str, expected: str) -> RegistryError:
        return RegistryError(self._where, found, expected, "another registry: this one sends what it does not name")
