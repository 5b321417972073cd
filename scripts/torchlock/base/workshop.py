"""Where bases are made: the store's folders, the blobs that they become, and the mirror, where one is named."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import files
from torchlock.errors import ImageError
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.digest import Digest
    from torchlock.oci.blobs import Blobs
    from torchlock.reporter import Reporter

_TRIES, _PAUSE = 20, 0.1


class Debs(Store):
    """The packages that were fetched, by their sha256, beside the wheels of a store."""

    def path(self, digest: Digest) -> Path:
        """Return where a package's file lies if it is here."""
        return self.root / "debs" / digest.hex[:2] / digest.hex


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """What a base is made with; `store` is the store's folder, `mirror` the setting DEBIAN."""

    store: Path
    blobs: Blobs
    reporter: Reporter
    mirror: str | None = None
    offline: bool = False

    @property
    def debs(self) -> Debs:
        """The packages that are here."""
        return Debs(self.store, self.reporter)

    def online(self, what: str) -> None:
        """Refuse to ask the network where it must not be asked."""
        if self.offline:
            raise ImageError(what, "it is not here, and nothing may be fetched", "", "the same without OFFLINE=1")

    @contextmanager
    def alone(self, name: str) -> Iterator[Path]:
        """Give an empty folder for building, while no other process builds the same; it is removed in the end.

        Without the rights of root it lies where the system's temporary files do: the namespace in which mmdebstrap
        then works may not enter a home folder.
        """
        with files.exclusive(self.store / "locks" / f"base-{name}.lock", self.reporter):
            if os.geteuid() != 0:
                with tempfile.TemporaryDirectory(prefix="torchlock-base-") as folder:
                    Path(folder).chmod(0o755)
                    yield Path(folder)
                return
            staging = self.store / "bases" / f"{files.TEMPORARY}{name}"
            files.remove(staging)
            staging.mkdir(parents=True)
            staging.chmod(0o755)
            try:
                yield staging
            finally:
                _remove(staging)


def _remove(folder: Path) -> None:
    """Remove a folder in which processes may still be dying."""
    for _ in range(_TRIES):
        try:
            files.remove(folder)
        except OSError:
            time.sleep(_PAUSE)
        else:
            return
    files.remove(folder)
