"""Installations: read wheels with `installer`'s semantics into a plan of what goes where."""

from __future__ import annotations

import io
import os
import posixpath
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from configparser import Error as ConfigError
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from installer import install as install_wheel
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelSource
from installer.utils import construct_record_file, get_launcher_kind

from torchlock.digest import Digest
from torchlock.environment.placement import Claim, Layout, Link, Plan
from torchlock.errors import EnvError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import PurePath

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement
    from installer.utils import Scheme

INSTALLER = b"torchlock\n"


class Listed(io.RawIOBase):
    """A file that RECORD lists, in the place of an open stream: it is placed as it is, and seldom read.

    `path` is where its bytes lie, in the source's own terms; `content` reads them.
    """

    def __init__(self, path: str, entry: RecordEntry, content: Callable[[], bytes]) -> None:
        super().__init__()
        self.path = path
        self.entry = entry
        self.content = content


class ListedSource(WheelSource, ABC):
    """A verified wheel whose files are to be placed, not copied; `info` is its .dist-info folder."""

    def __init__(self, project: str, version: str, info: str) -> None:
        super().__init__(project, version)
        self._info = info

    @property
    def dist_info_dir(self) -> str:
        """Return the name of the `.dist-info` folder as the wheel spells it."""
        return self._info

    @property
    def data_dir(self) -> str:
        """Return the name of the `.data` folder, whether there is one or not."""
        return self._info.removesuffix(".dist-info") + ".data"

    def read_dist_info(self, filename: str) -> str:
        """Return the text of a file in the `.dist-info` folder."""
        data = io.BytesIO(self.content(f"{self._info}/{filename}"))
        return io.TextIOWrapper(data, encoding="utf-8").read()

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Give every file that RECORD lists, but no byte code: that belongs to whoever runs the environment."""
        for row in parse_record_file(self.read_dist_info("RECORD").splitlines()):
            path = row[0]
            if "__pycache__/" not in path and path != f"{self._info}/INSTALLER":
                listed = Listed(self.place(path), RecordEntry.from_elements(*row), partial(self.content, path))
                yield row, cast("BinaryIO", listed), False

    @abstractmethod
    def place(self, name: str) -> str:
        """Return where a file's bytes lie."""

    @abstractmethod
    def content(self, name: str) -> bytes:
        """Return a file's bytes."""


class TreeSource(ListedSource):
    """The unpacked, verified content of one wheel."""

    def __init__(self, tree: Path, project: str, version: str) -> None:
        found = [path.name for path in tree.iterdir() if path.name.endswith(".dist-info")]
        if len(found) != 1:
            raise EnvError(f"{project} {version}", f"{len(found)} .dist-info folders in its tree", "one")
        super().__init__(project, version, found[0])
        self._tree = tree
        self._root = os.fspath(tree)

    @property
    def dist_info_filenames(self) -> list[str]:
        """List the files directly in the `.dist-info` folder."""
        return [path.name for path in (self._tree / self._info).iterdir()]

    def place(self, name: str) -> str:
        """Return a file's path."""
        return f"{self._root}/{name}"

    def content(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self._tree / name).read_bytes()


class PlanDestination(WheelDestination):
    """A destination that plans: it claims paths, generates scripts and RECORD, and leaves the files to be linked."""

    def __init__(self, plan: Plan, final: PurePath, layout: Layout, source: WheelSource) -> None:
        self._plan = plan
        self._layout = layout
        self._launcher = "posix" if layout.posix else get_launcher_kind()
        self._python = os.fspath((final if final.is_absolute() else Path(final).absolute()) / layout.python)
        self._project = source.distribution
        self._owner = f"{source.distribution} {source.version}"

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        """Plan the script of an entry point, which starts the interpreter at its final path."""
        filename, data = Script(name, module, attr, section).generate(self._python, self._launcher)
        return self._write("scripts", filename, data, executable=True)

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,  # noqa: FBT001 - the signature is that of `installer`
    ) -> RecordEntry:
        """Plan one file: a link, or new bytes for a script and for what no wheel holds."""
        name = os.fspath(path)
        if not isinstance(stream, Listed):
            return self._write(scheme, name, stream.read(), executable=is_executable)
        if scheme == "scripts":
            return self._write(scheme, name, self._started(stream.content()), executable=True)
        entry, target = stream.entry, self._target(scheme, name)
        if entry.hash_ is None or entry.size is None:
            raise EnvError(self._owner, f"RECORD gives no hash or size for {name!r}", "both")
        if self._plan.claim(Claim(path=target, owner=self._owner, hash=str(entry.hash_))):
            self._plan.links.append(Link(source=stream.path, target=target, size=entry.size))
        return RecordEntry(name, entry.hash_, entry.size)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Plan the installed RECORD and remember its digest."""

        def prefix(other: Scheme) -> str | None:
            if other in ("purelib", "platlib"):
                return None
            return posixpath.relpath(self._layout.folder(other, self._project) or ".", self._layout.site) + "/"

        with construct_record_file(records, prefix) as stream:
            data = stream.read()
        self._write(scheme, record_file_path, data, executable=False)
        self._plan.records[posixpath.dirname(record_file_path)] = Digest.of(data)

    def _target(self, scheme: str, path: str) -> str:
        folder = self._layout.folder(scheme, self._project)
        return f"{folder}/{path}" if folder else path

    def _write(self, scheme: str, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        value = Hash("sha256", urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode())
        target = self._target(scheme, path)
        if self._plan.claim(Claim(path=target, owner=self._owner, hash=str(value))):
            self._plan.written[target] = (data, executable)
        return RecordEntry(path, value, len(data))

    def _started(self, data: bytes) -> bytes:
        """Replace a `#!python` line by one that starts the environment's interpreter, whatever its path."""
        if not data.startswith(b"#!python"):
            return data
        _, script = Script("any", "any", "any", "console").generate(self._python, "posix")
        return script[: script.index(b"# -*- coding")] + data.partition(b"\n")[2]


def plan_wheel(plan: Plan, source: ListedSource, layout: Layout, final: PurePath) -> None:
    """Add one wheel to the plan of an environment that will stand at `final`; its scripts hold that path.

    Raise EnvError where the wheel clashes with another or cannot be installed.
    """
    destination = PlanDestination(plan, final, layout, source)
    try:
        install_wheel(source, destination, {"INSTALLER": INSTALLER})
    except (InstallerError, ConfigError, AssertionError, KeyError, ValueError) as error:
        owner = f"{source.distribution} {source.version}"
        raise EnvError(owner, f"cannot be installed: {str(error) or type(error).__name__}") from error
