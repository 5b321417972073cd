"""Building: write the layers that are not here, all at once, and make the image of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock as Guard
from typing import TYPE_CHECKING

from torchlock.errors import ImageError, WheelError
from torchlock.images import application, image, licences
from torchlock.images.inputs import APPLICATION, BYTECODE
from torchlock.images.known import Known
from torchlock.layers import installed, layer
from torchlock.oci.blobs import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as Unordered
    from pathlib import Path

    from torchlock.images.image import Image
    from torchlock.images.inputs import Inputs, Part
    from torchlock.images.known import Knowledge
    from torchlock.layers.bytecode import Compiler
    from torchlock.layers.layer import Blob, Piece
    from torchlock.locks.lock import Artifact
    from torchlock.oci.blobs import Blobs
    from torchlock.reporter import Reporter
    from torchlock.storage.fetch import Fetcher


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An image whose layers, but for the base's, are all in the blobs; and how each of them got there, by its name."""

    image: Image
    present: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    size: int = 0


@dataclass(kw_only=True, slots=True)
class _Work:
    """One build: what is known, what is to be made, and where it goes."""

    inputs: Inputs
    knowledge: Knowledge
    blobs: Blobs
    compiler: Callable[[], Compiler]
    reporter: Reporter
    known: dict[Part, Known] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    guard: Guard = field(default_factory=Guard)
    done: int = 0
    total: int = 0

    def recall(self, part: Part) -> bool:
        """Tell whether a layer is known and its blob here, every byte of it."""
        known = self.knowledge.get(self.inputs.key(part.content))
        if known is None:
            return False
        self.known[part] = known
        return self.blobs.get(_content(known.blob)) is not None

    def make(self, part: Part, pieces: Sequence[Piece], said: Mapping[str, str], *, verified: bool) -> None:
        """Write a layer into the blobs: copy a known one, and make it anew only where verified wheels give another."""
        known = self.known.get(part)
        if known is not None:
            try:
                self._write(pieces, known.blob)
            except ImageError as error:
                if not verified:
                    raise
                self.reporter.note(f"{part.name}: not what is known of it, so made anew: {error.found}")
            else:
                self.copied.append(part.name)
                return
        self.known[part] = made = Known(blob=self._write(pieces, None), licences=said)
        self.knowledge.learn(self.inputs.key(part.content), made)
        self.written.append(part.name)

    def _write(self, pieces: Sequence[Piece], known: Blob | None) -> Blob:
        seen = 0

        def progress(count: int) -> None:
            nonlocal seen
            with self.guard:
                self.done, seen = self.done + count - seen, count
                self.reporter.progress("layers", min(self.done, self.total - 1), self.total)

        with self.blobs.writing(hashing=False) as sink:
            made = layer.write(pieces, sink, known=known, progress=progress if self.total else None)
            sink.commit(_content(made))
        return made


def recalled(inputs: Inputs, knowledge: Knowledge) -> Image:
    """Return the image of layers that are all known, without a wheel and without a blob."""
    known = {}
    for part in inputs.parts():
        if (found := knowledge.get(inputs.key(part.content))) is None:
            where = f"{inputs.lock.profile} on {inputs.lock.platform}"
            raise ImageError(
                where, f"nothing is known of its layer {part.name}", remedy=f"make image-{inputs.lock.profile}"
            )
        known[part] = found
    return image.assembled(inputs, known)


def build(  # noqa: PLR0913 - what it works with, each of its own kind
    inputs: Inputs,
    *,
    knowledge: Knowledge,
    blobs: Blobs,
    fetcher: Fetcher,
    compiler: Callable[[], Compiler],
    reporter: Reporter,
) -> Built:
    """Return the image, all of whose own layers lie in `blobs` then; wheels are needed only for those to be written.

    `compiler` gives the base's own Python, where byte code has to be made. Raise WheelError for a wheel that is damaged
    or breaks a rule, ImageError where two own the same path.
    """
    work = _Work(inputs=inputs, knowledge=knowledge, blobs=blobs, compiler=compiler, reporter=reporter)
    parts = inputs.parts()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            here = dict(zip(parts, pool.map(work.recall, parts), strict=True))
            todo = sorted((part for part in parts if not here[part]), key=lambda part: -part.size)
            if todo:
                _make_all(work, todo, fetcher, pool)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    known = {part: work.known[part] for part in parts}
    said = image.facts(inputs, known)
    with blobs.writing(hashing=False) as sink:
        last = layer.write(image.application_pieces(inputs, said), sink)
        sink.commit(_content(last))
    made = image.assemble(inputs, known, said, last)
    for data in (made.config, made.manifest):
        blobs.add_bytes(data)
    return Built(
        image=made,
        present=tuple(part.name for part in parts if here[part]),
        copied=tuple(sorted(work.copied)),
        written=(*sorted(work.written), APPLICATION),
        size=sum(item.blob.size for item in known.values()) + last.size + sum(it.size for it, _ in inputs.base.layers),
    )


def _make_all(work: _Work, todo: Sequence[Part], fetcher: Fetcher, pool: ThreadPoolExecutor) -> None:
    """Write layers. Wheels of known ones are not read for their own sake: the layer's digest vouches for them.

    Where it does not, every wheel is verified, and what is left is done with those.
    """
    artifacts = work.inputs.lock.artifacts
    doubtful = {item for part in todo if part not in work.known for item in part.artifacts}
    found = {item: fetcher.store.get(item, verify=False) for item in artifacts if item not in doubtful}
    lying = {item: path for item, path in found.items() if path is not None}
    work.total = sum(part.size for part in todo)
    work.blobs.room(work.total)
    try:
        _make(
            work, todo, {**lying, **_verified(fetcher, [it for it in artifacts if it not in lying])}, pool, lying.keys()
        )
    except (ImageError, WheelError) as error:
        if not lying:
            raise
        work.reporter.note(f"every wheel is read again: {error}")
        done = {*work.copied, *work.written}
        _make(work, [part for part in todo if part.name not in done], _verified(fetcher, artifacts), pool, set())
    work.reporter.progress("layers", work.total, work.total)


def _make(
    work: _Work,
    todo: Sequence[Part],
    paths: Mapping[Artifact, Path],
    pool: ThreadPoolExecutor,
    unverified: Unordered[Artifact],
) -> None:
    """Write layers, the longest first; all wheels are planned together, since none may own what another does."""
    lock = work.inputs.lock
    wheels = [(item, paths[item]) for item in lock.artifacts]
    with ExitStack() as stack:
        if any(part.kind == BYTECODE for part in todo):
            # The first job of the pool: who waits for it never waits for a thread.
            compiler = pool.submit(lambda: stack.enter_context(work.compiler()))
            stack.callback(wait, [compiler])
        planned = installed.pieces(wheels, lock.python, lock.platform, application.ENVIRONMENT, work.reporter)

        def make(part: Part) -> None:
            pieces = [piece for item in part.artifacts for piece in planned[item.project]]
            said = {it.project: licences.of_wheel(paths[it], it.filename, it.project) for it in part.artifacts}
            if part.kind == BYTECODE:
                pieces, said = compiler.result().pieces(pieces), {}
            work.make(part, layer.arranged(pieces), said, verified=unverified.isdisjoint(part.artifacts))

        for _ in pool.map(make, todo):
            pass


def _verified(fetcher: Fetcher, artifacts: Sequence[Artifact]) -> dict[Artifact, Path]:
    """Return the files of artifacts, fetched where they are missing, every byte of them read."""
    found: dict[Artifact, Path] = {}
    if artifacts:
        fetcher.fetch(artifacts, found.__setitem__)
    return found


def _content(blob: Blob) -> Content:
    return Content(digest=blob.digest, size=blob.size)
