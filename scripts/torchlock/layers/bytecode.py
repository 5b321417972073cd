"""Byte code as a layer: what the base's own Python makes of a wheel's modules, the same bytes wherever it is made.

Two things make byte code differ from one process to the next. A `.pyc` holds its source's time, or a hash that is
checked: these are hash-based and unchecked (PEP 552), as the source beside them cannot change. And `marshal` since
version 3 writes which objects are shared, by what else the process refers to: version 2 has no references, so that its
bytes are a function of the code's values alone. It costs 28 % of size and nothing that could be measured at import.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock.errors import ImageError
from torchlock.layers.layer import Packed, Piece, arranged, file
from torchlock.layers.unpacked import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import IO

# Raised when byte code is made in another way, so that its bytes are others.
RECIPE = 1

_FORMAT = 2
_LENGTH = struct.Struct("<L")
_MODULE = re.compile(r"(?P<folder>.+/lib/python3\.[0-9]+/site-packages/(?:[^\W\d]\w*/)*)(?P<name>[^\W\d]\w*)\.py")
# Folders of what is never imported where it is installed for use.
_UNUSED = frozenset({"tests", "test"})
_DONE, _NOT_PYTHON, _FAILED = b"+", b"-", b"!"

# Reads name and source, each with its length before it; answers a mark, and byte code or words, with the length.
_CHILD = f"""
import importlib.util, marshal, struct, sys
length, source, sink = struct.Struct("<L"), sys.stdin.buffer, sys.stdout.buffer
def take():
    return source.read(length.unpack(source.read(4))[0])
def give(mark, data):
    sink.write(mark + length.pack(len(data)) + data)
    sink.flush()
give(b"+", repr(("%d.%d.%d" % sys.version_info[:3], sys.implementation.cache_tag)).encode())
while name := source.read(4):
    name = source.read(length.unpack(name)[0]).decode()
    text = take()
    try:
        code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError) as error:
        give(b"-", str(error).encode())
        continue
    try:
        data = marshal.dumps(code, {_FORMAT})
    except ValueError as error:
        give(b"!", str(error).encode())
        continue
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(text)
    give(b"+", head + data)
"""


class Compiler:
    """A base's own Python, unpacked for as long as it is used as a context; several threads may use it at once."""

    def __init__(self, layers: Sequence[tuple[Path, str]], python: str, version: str) -> None:
        """Take the layers' files and media types, bottom first, the interpreter's path in them and its version."""
        self._layers, self._python, self._version = layers, python, version
        self._command: tuple[str, ...] = ()

    def __enter__(self) -> Compiler:
        self._folder = tempfile.TemporaryDirectory(prefix="torchlock-python-")
        try:
            self._command = unpack(self._layers, self._python, Path(self._folder.name)).command
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def pieces(self, installed: Iterable[Piece], progress: Callable[[int], None] | None = None) -> list[Piece]:
        """Return the byte code of the modules among a wheel's pieces, arranged; `progress` is told how many are done.

        Files named `.py` that are no Python, and those below `tests`, have none. Raise ImageError where the
        interpreter does not run here, or is not of the version that it should be.
        """
        made: list[Piece] = []
        with self._started() as process:
            try:
                for count, (path, piece) in enumerate(_modules(installed, self._tag(process)), 1):
                    data = self._compiled(process, f"/{piece.entry.path}", _content(piece))
                    if data is not None:
                        made.append(file(path, data))
                    if progress is not None:
                        progress(count)
            except BaseException:
                process.kill()
                raise
        return arranged(made)

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        options = ["-S", "-s", "-B", "-W", "ignore", "-c", _CHILD]
        try:
            return subprocess.Popen(
                [*self._command, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=self._folder.name,
            )
        except OSError as error:
            raise self._refusal(str(error)) from error

    def _tag(self, process: subprocess.Popen[bytes]) -> str:
        """Return what the files of byte code are named by; refuse an interpreter of another version."""
        expected = repr((self._version, "cpython-" + "".join(self._version.split(".")[:2])))
        _, said = self._answer(process)
        if said.decode() != expected:
            raise self._refusal(f"it says that it is {said.decode()}")
        return expected.rpartition(" ")[2].strip("')")

    def _compiled(self, process: subprocess.Popen[bytes], name: str, source: bytes) -> bytes | None:
        for data in (name.encode(), source):
            try:
                _pipe(process.stdin).write(_LENGTH.pack(len(data)) + data)
            except OSError as error:
                raise self._refusal(f"it ended at {name}") from error
        _pipe(process.stdin).flush()
        mark, data = self._answer(process)
        if mark == _FAILED:
            raise ImageError(name, data.decode(), "a module whose byte code can be written without references")
        return data if mark == _DONE else None

    def _answer(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        stream = _pipe(process.stdout)
        head = stream.read(1 + _LENGTH.size)
        if len(head) == 1 + _LENGTH.size:
            (size,) = _LENGTH.unpack(head[1:])
            data = stream.read(size)
            if len(data) == size and head[:1] in {_DONE, _NOT_PYTHON, _FAILED}:
                return head[:1], data
        raise self._refusal("it gives no answer")

    def _refusal(self, found: str) -> ImageError:
        expected = f"the Python {self._version} of a base for this machine"
        return ImageError(f"{self._python} of the base", found, expected, "make pull-<profile> REGISTRY=…")


def _modules(installed: Iterable[Piece], tag: str) -> list[tuple[str, Piece]]:
    """Return the modules that something may import, each with the path of its byte code."""
    found = []
    for piece in installed:
        match = _MODULE.fullmatch(piece.entry.path)
        if match and piece.entry.kind == "file" and _UNUSED.isdisjoint(match["folder"].split("/")):
            found.append((f"{match['folder']}__pycache__/{match['name']}.{tag}.pyc", piece))
    return sorted(found, key=lambda item: item[0])


def _content(piece: Piece) -> bytes:
    return piece.content.content() if isinstance(piece.content, Packed) else piece.content or b""


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:  # pragma: no cover - both are pipes
        raise ValueError("not a pipe")
    return stream
