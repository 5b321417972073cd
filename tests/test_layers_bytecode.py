"""Byte code: the same bytes wherever it is made, and good for the Python that it is made for."""

from __future__ import annotations

import importlib.util
import marshal
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pythons
from torchlock.errors import ImageError
from torchlock.layers import layer
from torchlock.layers.bytecode import Compiler
from torchlock.layers.layer import file, link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import CodeType

SITE = f"opt/torchlock/env/lib/python{pythons.MINOR}/site-packages"
TAG = f"cpython-{pythons.MINOR.replace('.', '')}"
SOURCE = b'''"""A module."""
NAMES = {"b", "a", "some text", 3.5, (1, 2), "module"}
def function(value, *, other="some text"):
    """Do it."""
    return value in {"x", "y", "z", b"x"} and [function for function in NAMES if function != other]
class Thing:
    attribute = "some text"
    def method(self): return lambda: self.attribute
'''


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Give the running interpreter as layers."""
    return pythons.layers(tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def compiler(layers: list[tuple[Path, str]]) -> Iterator[Compiler]:
    """Give a compiler of the running interpreter."""
    with Compiler(layers, pythons.PYTHON, pythons.VERSION) as found:
        yield found


def made(compiler: Compiler, **sources: bytes) -> dict[str, bytes]:
    """Compile modules by name; return the byte code by path."""
    pieces = [file(f"{SITE}/{name.replace('__dot__', '/')}.py", data) for name, data in sources.items()]
    found = {item.entry.path: item.content for item in compiler.pieces(pieces) if item.entry.kind == "file"}
    return {path: data for path, data in found.items() if isinstance(data, bytes)}


def test_the_form_of_byte_code(compiler: Compiler) -> None:
    """Hash-based and unchecked, named for the interpreter, and saying where the module lies in the image."""
    found = made(compiler, module=SOURCE)
    assert list(found) == [f"{SITE}/__pycache__/module.{TAG}.pyc"]
    (data,) = found.values()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == (1).to_bytes(4, "little")
    assert data[8:16] == importlib.util.source_hash(SOURCE)
    code: CodeType = marshal.loads(data[16:])  # noqa: S302 - made by this test
    assert code.co_filename == f"/{SITE}/module.py"


def test_marshal_has_no_references(compiler: Compiler) -> None:
    """What this process shares does not matter: its own bytes of that format are the same, those of others differ."""
    (data,) = made(compiler, module=SOURCE).values()
    code = compile(SOURCE, f"/{SITE}/module.py", "exec", dont_inherit=True, optimize=0)
    assert data[16:] == marshal.dumps(code, 2)
    assert data[16:] != marshal.dumps(code, 4)


def test_the_same_elsewhere(
    compiler: Compiler, layers: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes, folders, orders, hash seeds and settings of the user: the same bytes."""
    names = {f"module_{number}": SOURCE.replace(b"function", b"f%d" % number) for number in range(5)}
    first = made(compiler, **names)
    for name, value in (
        ("PYTHONHASHSEED", "7"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONPATH", "/nowhere"),
        ("TZ", "Asia/Tokyo"),
    ):
        monkeypatch.setenv(name, value)
    with Compiler(layers, pythons.PYTHON, pythons.VERSION) as other:
        assert made(other, **dict(reversed(names.items()))) == first
        assert made(other, module_3=names["module_3"]).items() <= first.items()


@pytest.mark.parametrize("seed", ["1", "2", "random"])
def test_no_hash_seed_decides_a_byte(compiler: Compiler, seed: str) -> None:
    """A set's order in the compiling process is not that of its byte code."""
    program = (
        "import marshal, sys; source = sys.stdin.buffer.read(); "
        f"sys.stdout.buffer.write(marshal.dumps(compile(source, '/{SITE}/module.py', 'exec'), 2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=SOURCE,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    (data,) = made(compiler, module=SOURCE).values()
    assert done.stdout == data[16:]


def test_it_is_what_the_interpreter_loads(compiler: Compiler, tmp_path: Path) -> None:
    """Without a look at the source, which may be another one here."""
    for path, data in made(compiler, module=b"value = 'from byte code'").items():
        target = tmp_path / path.removeprefix(f"{SITE}/")
        target.parent.mkdir(parents=True)
        target.write_bytes(data)
    (tmp_path / "module.py").write_text("value = 'from source'")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import module; print(module.value)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "from byte code\n"


def test_what_has_byte_code(compiler: Compiler) -> None:
    """Modules that something may import: no tests, no names that cannot be imported, nothing that is no Python."""
    found = made(
        compiler,
        package__dot____init__=b"",
        package__dot__tests__dot__test_it=b"",
        package__dot__test__dot__it=b"",
        package__dot__testing=b"",
        **{"not-a-name": b"", "template": b"print 'Python 2'", "nul": b"a\0b", "1st": b""},
    )
    assert list(found) == [
        f"{SITE}/package/__pycache__/__init__.{TAG}.pyc",
        f"{SITE}/package/__pycache__/testing.{TAG}.pyc",
    ]


def test_other_pieces_have_none(compiler: Compiler) -> None:
    """Scripts, data and links are passed over; an empty wheel gives nothing."""
    pieces = [file("opt/torchlock/env/bin/tool.py", b""), file(f"{SITE}/data.txt", b""), link(f"{SITE}/x.py", "y")]
    assert compiler.pieces(pieces) == []


def test_encodings_are_those_of_the_source(compiler: Compiler) -> None:
    """A coding cookie is followed."""
    (data,) = made(compiler, module="# coding: latin-1\nx = 'ä'\n".encode("latin-1")).values()
    code: CodeType = marshal.loads(data[16:])  # noqa: S302 - made by this test
    assert "ä" in code.co_consts


def test_pieces_make_a_layer(compiler: Compiler, tmp_path: Path) -> None:
    """They are arranged, with the folders above."""
    pieces = compiler.pieces([file(f"{SITE}/b.py", b""), file(f"{SITE}/a.py", b"")])
    with (tmp_path / "layer").open("wb") as sink:
        assert layer.write(pieces, sink).size
    names = [item.entry.path for item in pieces]
    assert names == sorted(names)
    assert names[0] == "opt"


def test_progress_is_told(compiler: Compiler) -> None:
    """Module by module."""
    told: list[int] = []
    compiler.pieces([file(f"{SITE}/b.py", b""), file(f"{SITE}/a.py", b"")], told.append)
    assert told == [1, 2]


def test_another_version_than_the_base_s(layers: list[tuple[Path, str]]) -> None:
    """Byte code of another release might not load, or might not be the same."""
    with Compiler(layers, pythons.PYTHON, "3.11.99") as other, pytest.raises(ImageError) as caught:
        other.pieces([file(f"{SITE}/a.py", b"")])
    assert str(caught.value) == (
        f"{pythons.PYTHON} of the base: it says that it is ('{pythons.VERSION}', '{TAG}'); "
        "expected the Python 3.11.99 of a base for this machine; try: make pull-<profile> REGISTRY=…"
    )


def test_nothing_is_left(layers: list[tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unpacked interpreter is gone when it is not used any more."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Compiler(layers, pythons.PYTHON, pythons.VERSION):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
