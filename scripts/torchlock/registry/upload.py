"""One blob on its way to a registry: in chunks, resumed where the registry says, or started again where it forgot."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlencode

from torchlock.digest import Digest
from torchlock.errors import ImageError, RegistryError
from torchlock.network.transport import TransientError
from torchlock.registry.client import StatusError
from torchlock.registry.presence import confirm, exists, mount
from torchlock.registry.wire import led
from torchlock.storage.crew import StoppedError
from torchlock.storage.reception import PROGRESS, RENEWAL

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from torchlock.network.budget import Budget
    from torchlock.oci.descriptor import Descriptor
    from torchlock.registry.client import Answer, Client

# What one request carries, in bytes: proxies before registries often refuse more than 100 MB.
CHUNK = 32 << 20

_BLOCK = 64 << 10
_STREAM = {"Content-Type": "application/octet-stream"}
# How often a registry may say that it received other bytes than were sent.
_DISPUTES = 2
_GONE = frozenset({404, 410})
# Parts are made no smaller for a proxy that refuses large ones.
_LEAST = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """How a blob came to be there: bytes sent, whether it was there or mounted, how often the upload was resumed."""

    sent: int = 0
    there: bool = False
    mounted: bool = False
    resumed: int = 0


def upload(  # noqa: PLR0913, PLR0917 - what it works with, each of its own kind
    client: Client,
    descriptor: Descriptor,
    opened: Callable[[], BinaryIO],
    stop: threading.Event,
    mounts: Sequence[str] = (),
    chunk: int = CHUNK,
) -> Uploaded:
    """See to it that a registry has a blob: skip one that is there, mount one of another repository, send any other.

    `opened` is called for a blob that must be sent; its bytes are verified while they are. Raise ImageError where they
    are not the descriptor's, RegistryError for what the registry does.
    """
    if client.run(lambda: exists(client, descriptor), client.budget(stop)):
        return Uploaded(there=True)
    session = None
    for name in mounts:
        if client.run(partial(exists, client, descriptor, name), client.budget(stop)):
            session = client.run(partial(mount, client, descriptor, name), client.budget(stop))
            if session is None:
                return Uploaded(mounted=True)
            break
    with opened() as file:
        return _Upload(client, _Content(file, descriptor, client, stop), chunk).run(session, stop)


class _Content:
    """A blob's bytes, hashed the first time they are read."""

    def __init__(self, file: BinaryIO, descriptor: Descriptor, client: Client, stop: threading.Event) -> None:
        self._file, self.descriptor, self._reporter, self._stop = file, descriptor, client.reporter, stop
        self._task = f"{client.repository.repository} {descriptor.digest.hex[:12]}"
        self._state, self._hashed = hashlib.sha256(), 0
        self._said = 0.0
        self.sent = 0

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield some bytes, which are sent."""
        self._file.seek(start)
        while start < stop:
            if self._stop.is_set():
                raise StoppedError
            block = self._file.read(min(_BLOCK, stop - start))
            if not block:
                raise self.damage(f"{start} bytes")
            if start <= self._hashed < start + len(block):
                self._state.update(memoryview(block)[self._hashed - start :])
                self._hashed = start + len(block)
            start += len(block)
            self.sent += len(block)
            yield block
            if time.monotonic() - self._said > PROGRESS:
                self._said = time.monotonic()
                self._reporter.progress(self._task, start, self.descriptor.size)

    def verify(self) -> None:
        """Refuse bytes that are not the descriptor's, when all have been read."""
        found = Digest(self._state.hexdigest())
        if self._hashed != self.descriptor.size or found != self.descriptor.digest or self._file.read(1):
            raise self.damage(str(found))

    def done(self) -> None:
        """Say that all of it is there."""
        self._reporter.progress(self._task, self.descriptor.size, self.descriptor.size)

    def damage(self, found: str) -> ImageError:
        """Return the refusal of a blob whose file holds something else."""
        wanted = f"{self.descriptor.digest} ({self.descriptor.size} bytes)"
        return ImageError("a blob to be sent", f"its file holds {found}", wanted, "build the image again")


class _Piece:
    """A part of a blob as the body of a request, which may have to be sent again."""

    def __init__(self, content: _Content, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[bytes]:
        return self._content.blocks(self._start, self._stop)


class _Upload:
    """An upload under way: the session's address, and how far the registry has it."""

    def __init__(self, client: Client, content: _Content, chunk: int) -> None:
        self._client, self._content, self._chunk = client, content, chunk
        self._descriptor = content.descriptor
        self._where = str(client.repository.at(self._descriptor.digest))
        self._location, self._offset, self._farthest = "", 0, 0
        self._unsure = self._asked = self._finishing = False
        self._disputes = self._resumed = 0

    def run(self, session: Answer | None, stop: threading.Event) -> Uploaded:
        """Send until the registry has the blob; raise RegistryError where the budget is spent."""
        budget = self._client.budget(stop)
        if session is not None:
            self._begun(session)
        while True:
            try:
                self._go_on(budget)
            except TransientError as error:
                if stop.is_set():
                    raise StoppedError from None
                budget.spend(error)
                continue
            self._content.done()
            return Uploaded(sent=self._content.sent, resumed=self._resumed)

    def _go_on(self, budget: Budget) -> None:
        if self._finishing and exists(self._client, self._descriptor):
            return  # the last answer was lost, not the upload
        if self._location and self._unsure:
            self._ask_how_far()
            self._renew(budget)
        if not self._location:
            self._begun(self._client.answer("POST", self._client.url("blobs/uploads/")))
        while self._offset < self._descriptor.size:
            self._send()
            self._renew(budget)
        self._finish()

    def _renew(self, budget: Budget) -> None:
        """Renew the budget on new ground."""
        if self._offset >= self._farthest + RENEWAL:
            self._farthest = self._offset
            budget.renew()

    def _begun(self, answer: Answer) -> None:
        """Take a new session."""
        if "location" not in answer.headers:
            raise RegistryError(self._where, "began an upload without a Location", "its address")
        self._location, self._offset = led(answer.url, answer.headers["location"]), 0
        self._unsure = self._asked = self._finishing = False
        least = answer.headers.get("oci-chunk-min-length", "")
        if least.isdigit():
            self._chunk = max(self._chunk, int(least[:12]))

    def _ask_how_far(self) -> None:
        """Learn from the registry where to go on, or that the session is gone."""
        try:
            answer = self._client.answer("GET", self._location)
        except StatusError:
            self._location = ""
            return
        self._take(answer, self._farthest_sent(), acknowledged=False)
        self._asked = True
        self._resumed += bool(self._location and self._offset)

    def _farthest_sent(self) -> int:
        return min(self._offset + self._chunk, self._descriptor.size)

    def _send(self) -> None:
        """Send one chunk."""
        stop = self._farthest_sent()
        headers = {**_STREAM, "Content-Range": f"{self._offset}-{stop - 1}"}
        self._unsure = True
        answer = self._request("PATCH", self._location, headers, _Piece(self._content, self._offset, stop))
        self._asked = False
        self._take(answer, stop, acknowledged=True)
        if not self._location:
            raise TransientError(self._where, "the registry has another part of it than was sent")

    def _take(self, answer: Answer, stop: int, *, acknowledged: bool) -> None:
        """Go on where an answer says, if that is no farther than what was sent; otherwise forget the session."""
        match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", answer.headers.get("range", ""))
        reached = int(match[1]) + 1 if match else stop if acknowledged else 0
        if reached == 1 and not (acknowledged and stop == 1):
            reached = 0  # `0-0` is how registries say that they have nothing
        if "location" in answer.headers:
            self._location = led(answer.url, answer.headers["location"])
        if not (self._offset if acknowledged else 0) <= reached <= stop:
            self._location = ""
        self._offset, self._unsure = reached, False

    def _finish(self) -> None:
        """Close the session; the registry checks the digest, and so do we, before."""
        try:
            self._content.verify()
        except ImageError:
            self._abandon()
            raise
        mark = "&" if "?" in self._location else "?"
        url = f"{self._location}{mark}{urlencode({'digest': str(self._descriptor.digest)})}"
        self._unsure = self._finishing = True
        confirm(self._request("PUT", url, _STREAM, b""), self._descriptor, self._where)

    def _request(self, method: str, url: str, headers: dict[str, str], body: _Piece | bytes) -> Answer:
        """Send a part; a session that is gone or out of step is another try's business."""
        try:
            return self._client.answer(method, url, headers=headers, body=body)
        except StatusError as error:
            if "DIGEST_INVALID" in error.names:
                self._disputes += 1
                if self._disputes >= _DISPUTES:
                    raise
            elif error.code == 413 and self._chunk > _LEAST:
                self._chunk //= 4
            elif error.code == 416 and not self._asked:
                raise TransientError(self._where, error.found) from None
            elif error.code not in {*_GONE, 416} and not any(name.startswith("BLOB_UPLOAD_") for name in error.names):
                raise
            self._location = ""
            raise TransientError(self._where, f"{error.found}; the upload starts again") from None

    def _abandon(self) -> None:
        """Let the registry forget the session, if it will."""
        try:
            self._client.answer("DELETE", self._location)
        except (TransientError, RegistryError):
            return
