"""Installed wheels: a layer holds what an environment would, and each wheel's part depends on that wheel alone."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

import wheels
from torchlock.digest import Digest
from torchlock.environment.installation import TreeSource, plan_wheel
from torchlock.environment.placement import Layout, Plan, carry_out
from torchlock.errors import ImageError, WheelError
from torchlock.layers import installed
from torchlock.layers.layer import Packed, Piece, arranged, write
from torchlock.reporter import Silent
from torchlock.wheels.wheel import Wheel

PREFIX = "opt/torchlock/env"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
FILES: dict[str, bytes | str] = {
    "pkg/__init__.py": "def main(): print('ran')\n",
    "pkg/data.txt": "data\n",
    "pkg/__pycache__/__init__.cpython-311.pyc": "byte code",
    "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\nrun = pkg:main\n[gui_scripts]\nshow = pkg:main\n",
    "demo-1.0.dist-info/INSTALLER": "conda\n",
    "demo-1.0.dist-info/licenses/LICENSE": "free\n",
    "demo-1.0.data/scripts/plain": "#!python -s\nprint('plain')\n",
    "demo-1.0.data/scripts/native": "#!/bin/sh\necho native\n",
    "demo-1.0.data/data/share/demo/doc.txt": "doc\n",
    "demo-1.0.data/headers/demo.h": "int demo;\n",
    "demo-1.0.data/platlib/fast.py": "",
    "demo-1.0.data/purelib/slow.py": "",
}


def pieces(*paths: Path) -> dict[str, list[Piece]]:
    """Return the pieces of wheels for Python 3.11 on Linux."""
    return installed.pieces([(wheels.artifact(path), path) for path in paths], "3.11", "linux-64")


def contents(found: list[Piece]) -> dict[str, tuple[int, bytes | None]]:
    """Return mode and bytes of each path of a layer."""
    sink = io.BytesIO()
    write(found, sink)
    sink.seek(0)
    with tarfile.open(fileobj=sink) as file:
        streams = {member.name: (member.mode, file.extractfile(member)) for member in file if not member.isdir()}
        return {name: (mode, stream.read() if stream else None) for name, (mode, stream) in streams.items()}


def test_as_an_environment(tmp_path: Path) -> None:
    """File by file, mode by mode: what the same wheel becomes in an environment at /opt/torchlock/env."""
    path = wheels.make(tmp_path, FILES, modes={"pkg/data.txt": 0o100777, "pkg/__init__.py": 0o104700})
    tree = tmp_path / "tree"
    with path.open("rb") as file:
        Wheel.read(file, path.name, Silent()).unpack(tree, Silent())
    plan = Plan()
    plan_wheel(plan, TreeSource(tree, "demo", "1.0"), Layout.of("3.11", "linux-64"), Path("/opt/torchlock/env"))
    carry_out(plan, tmp_path / "env")
    expected = {
        f"{PREFIX}/{file.relative_to(tmp_path / 'env').as_posix()}": (file.stat().st_mode & 0o7777, file.read_bytes())
        for file in (tmp_path / "env").rglob("*")
        if file.is_file()
    }
    assert contents(pieces(path)["demo"]) == expected
    assert len(expected) == 16


def test_paths_and_modes(tmp_path: Path) -> None:
    """Scripts, data, headers and both libraries lie where a virtual environment has them; no byte code."""
    found = {piece.entry.path: oct(piece.entry.mode) for piece in pieces(wheels.make(tmp_path, FILES))["demo"]}
    folders = {path for path, mode in found.items() if any(other.startswith(f"{path}/") for other in found)}
    assert {found[path] for path in folders} == {"0o755"}
    assert {path.removeprefix(f"{PREFIX}/"): mode for path, mode in found.items() if path not in folders} == {
        "bin/native": "0o755",
        "bin/plain": "0o755",
        "bin/run": "0o755",
        "bin/show": "0o755",
        "include/site/python3.11/demo/demo.h": "0o644",
        **{
            f"lib/python3.11/site-packages/{name}": "0o644"
            for name in (
                *("demo-1.0.dist-info/INSTALLER", "demo-1.0.dist-info/METADATA", "demo-1.0.dist-info/RECORD"),
                *("demo-1.0.dist-info/WHEEL", "demo-1.0.dist-info/entry_points.txt"),
                *("demo-1.0.dist-info/licenses/LICENSE", "fast.py", "pkg/__init__.py", "pkg/data.txt", "slow.py"),
            )
        },
        "share/demo/doc.txt": "0o644",
    }
    assert {"opt", "opt/torchlock", PREFIX, SITE} <= folders


def test_scripts_start_the_image_s_python(tmp_path: Path) -> None:
    """The interpreter of scripts is that of the image, wherever this is built."""
    found = contents(pieces(wheels.make(tmp_path, FILES))["demo"])
    python = b"#!/opt/torchlock/env/bin/python\n"
    assert found[f"{PREFIX}/bin/plain"] == (0o755, python + b"print('plain')\n")
    assert found[f"{PREFIX}/bin/native"] == (0o755, b"#!/bin/sh\necho native\n")
    assert (found[f"{PREFIX}/bin/run"][1] or b"").startswith(python)
    assert found[f"{SITE}/demo-1.0.dist-info/INSTALLER"] == (0o644, b"torchlock\n")
    assert b"../../../bin/run,sha256=" in (found[f"{SITE}/demo-1.0.dist-info/RECORD"][1] or b"")


def test_only_what_changes_is_kept_in_memory(tmp_path: Path) -> None:
    """A file that is installed as it is stays packed, with what RECORD and the ZIP say of it."""
    found = {piece.entry.path: piece.content for piece in pieces(wheels.make(tmp_path, FILES))["demo"]}
    data = found[f"{SITE}/pkg/data.txt"]
    assert isinstance(data, Packed)
    assert (data.member.name, data.sha256) == ("pkg/data.txt", Digest.of(b"data\n"))
    assert isinstance(found[f"{PREFIX}/bin/plain"], bytes)


def test_each_wheel_alone(tmp_path: Path) -> None:
    """What a wheel puts into its layer does not depend on the wheels beside it, even where they share a file."""
    one = wheels.make(tmp_path, {"shared/__init__.py": "", "one.py": "1"}, name="one")
    two = wheels.make(tmp_path, {"shared/__init__.py": "", "two.py": "2"}, name="two")
    both = pieces(one, two)
    assert both == pieces(one) | pieces(two) == pieces(two, one)
    together = contents(arranged([*both["one"], *both["two"]]))
    assert together == contents(both["one"]) | contents(both["two"])


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"a.py": "1"}, {"a.py": "2"}, "a.py: one 1.0 and two 1.0 both own it, with different bytes"),
        ({"a.py": "1"}, {"A.py": "1"}, "A.py: two 1.0 owns it, and one 1.0 owns lib/python3.11/site-packages/a.py"),
        ({"a": "1"}, {"a/b": "1"}, "a/b: two 1.0 owns it, and one 1.0 owns lib/python3.11/site-packages/a"),
    ],
)
def test_clash(tmp_path: Path, first: dict[str, bytes | str], second: dict[str, bytes | str], found: str) -> None:
    """Two wheels cannot own one path with different bytes; the message names both."""
    paths = [wheels.make(tmp_path, files, name=name) for files, name in ((first, "one"), (second, "two"))]
    with pytest.raises(ImageError) as error:
        pieces(*paths)
    assert str(error.value).startswith(f"lib/python3.11/site-packages/{found}")


def test_two_scripts(tmp_path: Path) -> None:
    """Two wheels that generate the same script clash, too."""
    paths = [
        wheels.make(
            tmp_path, {f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\nrun = {name}:x\n"}, name=name
        )
        for name in ("one", "two")
    ]
    with pytest.raises(ImageError, match=r"^bin/run: one 1.0 and two 1.0 both own it, with different bytes"):
        pieces(*paths)


def test_settings_are_not_a_wheel_s(tmp_path: Path) -> None:
    """A wheel cannot put itself in the place of the interpreter."""
    path = wheels.make(tmp_path, {"demo-1.0.data/data/bin/python3.11": "x"})
    with pytest.raises(WheelError, match="would replace the interpreter"):
        pieces(path)


def test_cannot_be_installed(tmp_path: Path) -> None:
    """A wheel that an environment does not take is refused as part of an image, in the same words."""
    signature = "demo-1.0.dist-info/RECORD.jws"
    path = wheels.make(tmp_path, {"a.py": "", signature: "signed"}, record={signature: ","})
    with pytest.raises(ImageError) as error:
        pieces(path)
    assert str(error.value) == f"demo 1.0: RECORD gives no hash or size for {signature!r}; expected both"


def test_broken_wheel(tmp_path: Path) -> None:
    """A wheel that breaks a rule is refused by that rule."""
    path = wheels.make(tmp_path, record={"demo/__init__.py": None})
    with pytest.raises(WheelError, match=r"'demo/__init__.py' is not in RECORD"):
        pieces(path)
