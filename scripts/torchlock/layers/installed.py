"""Installed wheels: the pieces of an environment's layers, read from packed wheels with `installer`'s semantics."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from torchlock.environment.installation import ListedSource, plan_wheel
from torchlock.environment.placement import Layout, Plan
from torchlock.errors import EnvError, ImageError
from torchlock.layers.layer import Packed, Piece, arranged, file
from torchlock.layers.tar import Entry
from torchlock.reporter import Silent
from torchlock.wheels.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torchlock.locks.lock import Artifact
    from torchlock.reporter import Reporter

PREFIX = "opt/torchlock/env"


class PackedSource(ListedSource):
    """The content of one wheel as it lies in its archive."""

    def __init__(self, wheel: Wheel, project: str, version: str) -> None:
        super().__init__(project, version, wheel.info)
        self._wheel = wheel

    @property
    def dist_info_filenames(self) -> list[str]:
        """List the files directly in the `.dist-info` folder."""
        above = f"{self._info}/"
        names = [name.removeprefix(above) for name in self._wheel.archive.members if name.startswith(above)]
        return [name for name in names if "/" not in name]

    def place(self, name: str) -> str:
        """Return a file's name in the archive."""
        return name

    def content(self, name: str) -> bytes:
        """Return a file's bytes."""
        return self._wheel.archive.bytes_of(self._wheel.archive.members[name])


def pieces(
    wheels: Sequence[tuple[Artifact, Path]],
    python: str,
    platform: str,
    prefix: str = PREFIX,
    reporter: Reporter | None = None,
) -> dict[str, list[Piece]]:
    """Return for each project what its wheel alone puts below `prefix`, arranged, with the folders above.

    `python` is such as `3.11`; each path is that of a verified artifact. Raise WheelError where a wheel breaks a rule
    and ImageError where it cannot be installed, or owns a path that another wheel owns with different bytes.
    """
    layout, everything = Layout.of(python, platform), Plan()
    found: dict[str, list[Piece]] = {}
    try:
        for artifact, path in wheels:
            with path.open("rb") as opened:
                wheel = Wheel.read(opened, artifact.filename, reporter or Silent())
                plan = Plan()
                source = PackedSource(wheel, artifact.project, artifact.version)
                plan_wheel(plan, source, layout, PurePosixPath(f"/{prefix}"))
            for claim in plan.claims:
                everything.claim(claim)
            found[artifact.project] = arranged(_planned(plan, wheel, path, prefix))
    except EnvError as error:
        raise ImageError(error.where, error.found, error.expected, error.remedy) from error
    return found


def _planned(plan: Plan, wheel: Wheel, path: Path, prefix: str) -> Iterator[Piece]:
    """Give the pieces of one wheel: packed files, and what was written anew."""
    for target, (data, executable) in plan.written.items():
        yield file(f"{prefix}/{target}", data, executable=executable)
    for packed in plan.links:
        member = wheel.archive.members[packed.source]
        entry = Entry(path=f"{prefix}/{packed.target}", mode=wheel.mode(member), size=member.size)
        row = wheel.record[packed.source]
        yield Piece(entry=entry, content=Packed(path=path, where=wheel.where, member=member, row=row))
