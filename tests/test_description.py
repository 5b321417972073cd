"""What a wheel says of itself: each untruth is refused by name, and all of them at once."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

import wheels
from servers import Notes
from torchlock.errors import WheelError
from torchlock.reporter import Silent
from torchlock.wheels.archive import REMEDY
from torchlock.wheels.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.reporter import Reporter

INFO = "demo-1.0.dist-info"
INIT = "demo/__init__.py"
WHEEL = "Wheel-Version: {}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def read(path: Path, reporter: Reporter | None = None) -> Wheel:
    """Read a wheel strictly."""
    with path.open("rb") as file:
        return Wheel.read(file, path.name, reporter or Silent())


def refusal(path: Path) -> str:
    """Return what is said of a wheel that must be refused."""
    with pytest.raises(WheelError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path.name}: ")
    assert text.endswith(f"; try: {REMEDY}")
    found: str = caught.value.found
    return found


def test_a_true_wheel(tmp_path: Path) -> None:
    """A true wheel gives its name, version, tags and RECORD."""
    wheel = read(wheels.make(tmp_path, name="De.mo", version="1.0+cpu", tag="cp311-cp311-linux_x86_64"))
    assert (wheel.name, str(wheel.version), wheel.info) == ("de-mo", "1.0+cpu", "De.mo-1.0+cpu.dist-info")
    assert sorted(map(str, wheel.tags)) == ["cp311-cp311-linux_x86_64"]
    assert sorted(wheel.record) == [
        "De.mo-1.0+cpu.dist-info/METADATA",
        "De.mo-1.0+cpu.dist-info/WHEEL",
        "De.mo/__init__.py",
    ]


@pytest.mark.parametrize(
    ("filename", "found"),
    [
        ("demo.whl", "Invalid wheel filename (wrong number of parts): 'demo'"),
        ("demo-1.0-py3-none-any.zip", "Invalid wheel filename (extension must be '.whl'): 'demo-1.0-py3-none-any.zip'"),
        ("demo-one-py3-none-any.whl", "Invalid wheel filename (invalid version): 'demo-one-py3-none-any'"),
    ],
)
def test_file_names(tmp_path: Path, filename: str, found: str) -> None:
    """A file name that is not a wheel's is refused."""
    assert refusal(wheels.make(tmp_path, filename=filename)) == found


@pytest.mark.parametrize(
    ("filename", "found"),
    [
        (
            "other-1.0-py3-none-any.whl",
            "its folder demo-1.0.dist-info is not other 1.0; its METADATA says demo 1.0, not other 1.0",
        ),
        (
            "demo-1.1-py3-none-any.whl",
            "its folder demo-1.0.dist-info is not demo 1.1; its METADATA says demo 1.0, not demo 1.1",
        ),
    ],
)
def test_file_name_disagrees(tmp_path: Path, filename: str, found: str) -> None:
    """The file name must be of the same name and version as .dist-info and METADATA."""
    assert refusal(wheels.make(tmp_path, filename=filename)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (wheels.metadata("other", "1.0"), "its METADATA says other 1.0, not demo 1.0"),
        (wheels.metadata("demo", "2.0"), "its METADATA says demo 2.0, not demo 1.0"),
        (wheels.metadata("demo", "one"), "its METADATA says demo one, not demo 1.0"),
        ("Metadata-Version: 2.1\nName: demo\n", "its METADATA says demo no version, not demo 1.0"),
        ("Metadata-Version: 2.1\nVersion: 1.0\n", "its METADATA says no name 1.0, not demo 1.0"),
        (
            "Metadata-Version: 2.1\nName: demo\nName: evil\nVersion: 1.0\n",
            "its METADATA says no name 1.0, not demo 1.0",
        ),
        ("Metadata-Version: 2.1\nVersion: 1.0\n\nName: demo\n", "its METADATA says no name 1.0, not demo 1.0"),
    ],
)
def test_metadata_disagrees(tmp_path: Path, text: str, found: str) -> None:
    """METADATA must name the same project and version, once, in its header."""
    assert refusal(wheels.make(tmp_path, {f"{INFO}/METADATA": text})) == found


def test_spelling_does_not_matter(tmp_path: Path) -> None:
    """Names and versions agree where their normalised forms do."""
    files = {"Foo_Bar-1.0.dist-info/METADATA": wheels.metadata("foo.bar", "1.0.0")}
    assert read(wheels.make(tmp_path, files, name="Foo_Bar", filename="foo_bar-1.0-py3-none-any.whl")).name == "foo-bar"


def test_dist_info_folders(tmp_path: Path) -> None:
    """There must be one .dist-info folder."""
    two = wheels.make(tmp_path, {INIT: "", "evil-1.0.dist-info/METADATA": "Name: evil"})
    assert refusal(two) == "it has 2 .dist-info folders (demo-1.0.dist-info, evil-1.0.dist-info)"
    none = wheels.make(tmp_path, {}, omit=[f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD")])
    assert refusal(none) == "it has 0 .dist-info folders (none)"


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_missing_parts(tmp_path: Path, name: str) -> None:
    """METADATA, WHEEL and RECORD must be there."""
    path = wheels.make(tmp_path, omit=[f"{INFO}/{name}"], record={f"{INFO}/{name}": None})
    assert refusal(path) == f"it has no {INFO}/{name}"


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD", "entry_points.txt"])
def test_encoding(tmp_path: Path, name: str) -> None:
    """A description that is not UTF-8 is a refusal, not a traceback."""
    assert f"{INFO}/{name} is not UTF-8" in refusal(wheels.make(tmp_path, {INIT: "", f"{INFO}/{name}": b"\xff\n"}))


@pytest.mark.parametrize("version", ["2.0", "0.9", "one", "1"])
def test_wheel_version_refused(tmp_path: Path, version: str) -> None:
    """Another major Wheel-Version is refused."""
    found = refusal(wheels.make(tmp_path, {f"{INFO}/WHEEL": WHEEL.format(version)}))
    assert found == f"its Wheel-Version is {version}, and only 1.x can be read"


def test_wheel_version_absent_or_twice(tmp_path: Path) -> None:
    """The Wheel-Version must be there once."""
    absent = wheels.make(tmp_path, {f"{INFO}/WHEEL": "Tag: py3-none-any\n"})
    assert refusal(absent) == "its Wheel-Version is absent, and only 1.x can be read"
    twice = wheels.make(tmp_path, {f"{INFO}/WHEEL": "Wheel-Version: 1.0\nWheel-Version: 2.0\n"})
    assert refusal(twice) == "its Wheel-Version is 1.0, 2.0, and only 1.x can be read"


@pytest.mark.parametrize(
    ("version", "notes"),
    [
        ("1.0", []),
        ("1.9", ["demo-1.0-py3-none-any.whl: its Wheel-Version is 1.9, newer than the 1.0 known here"]),
    ],
)
def test_wheel_version_newer(tmp_path: Path, version: str, notes: list[str]) -> None:
    """A newer minor Wheel-Version is noted, and the wheel read."""
    reporter = Notes()
    read(wheels.make(tmp_path, {f"{INFO}/WHEEL": WHEEL.format(version)}), reporter)
    assert reporter.notes == notes


ROW = wheels.row(b"value = 1\n")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({INIT: ROW.replace(",10", ",11")}, f"RECORD gives {INIT!r} 11 bytes, yet it has 10"),
        ({INIT: ROW.replace(",10", ",")}, f"RECORD gives {INIT!r} no bytes, yet it has 10"),
        ({INIT: ROW.replace(",10", ",010")}, f"RECORD gives {INIT!r} 010 bytes, yet it has 10"),
        ({INIT: None}, f"{INIT!r} is not in RECORD"),
        ({"demo/ghost.py": ROW}, "RECORD lists 'demo/ghost.py', which is absent"),
        ({INIT: wheels.row(b"value = 1\n", "md5")}, f"RECORD gives {INIT!r} md5, not sha256 or better"),
        ({INIT: wheels.row(b"value = 1\n", "sha1")}, f"RECORD gives {INIT!r} sha1, not sha256 or better"),
        ({INIT: ",10"}, f"RECORD gives {INIT!r} no hash, not sha256 or better"),
        ({INIT: "sha256=,10"}, f"RECORD gives {INIT!r} sha256, not sha256 or better"),
        ({INIT: ROW.replace(",", "=,")}, f"{INIT!r} a sha256 that is not URL-safe base64 without padding"),
        ({INIT: f"sha256={'0' * 64},10"}, f"{INIT!r} a sha256 that is not URL-safe base64 without padding"),
        ({INIT: f"{ROW}\n{INIT},{ROW}"}, f"RECORD lists {INIT!r} twice"),
        ({INIT: f"{ROW},more"}, f"'{INIT},{ROW},more', which is absent"),
    ],
)
def test_record(tmp_path: Path, record: Mapping[str, str | None], found: str) -> None:
    """RECORD must list each file once, with its size and a strong hash, and no other file."""
    assert found in refusal(wheels.make(tmp_path, record=record))


def test_record_as_text(tmp_path: Path) -> None:
    """A RECORD that is no table is refused."""
    assert "unexpected end of data" in refusal(wheels.make(tmp_path, record='"open'))


def test_record_does_not_vouch_for_itself(tmp_path: Path) -> None:
    """RECORD and its signatures need no row and no hash, in .dist-info only."""
    signatures = {f"{INFO}/RECORD.jws": "{}", f"{INFO}/RECORD.p7s": "x"}
    rows = {f"{INFO}/{name}": None for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
    assert f"{INFO}/RECORD.jws" in read(wheels.make(tmp_path, {INIT: "", **signatures}, record=rows)).archive.members
    found = refusal(wheels.make(tmp_path, {"demo/RECORD.jws": ""}, record={"demo/RECORD.jws": None}))
    assert found == "'demo/RECORD.jws' is not in RECORD"


@pytest.mark.parametrize(
    ("name", "target", "found"),
    [
        ("../evil", "demo:main", "its entry point '../evil' leaves its folder"),
        ("sub/evil", "demo:main", "its entry point 'sub/evil' leaves its folder"),
        ("C:evil", "demo:main", "its entry point 'C:evil' leaves its folder"),
        ("..", "demo:main", "its entry point '..' leaves its folder"),
        ("a\\b", "demo:main", "its entry point 'a\\\\b' leaves its folder"),
        ("python", "demo:main", "its entry point 'python' would replace the interpreter"),
        ("python3", "demo:main", "its entry point 'python3' would replace the interpreter"),
        ("Python3.11", "demo:main", "its entry point 'Python3.11' would replace the interpreter"),
        ("python3.13t", "demo:main", "its entry point 'python3.13t' would replace the interpreter"),
        ("pythonw.exe", "demo:main", "its entry point 'pythonw.exe' would replace the interpreter"),
        ("demo", "demo;import os", "its entry point 'demo' is 'demo;import os', not module:name"),
        ("demo", "demo", "its entry point 'demo' is 'demo', not module:name"),
    ],
)
@pytest.mark.parametrize("section", ["console_scripts", "gui_scripts"])
def test_entry_points(tmp_path: Path, section: str, name: str, target: str, found: str) -> None:
    """An entry point stays in its folder, is not the interpreter, and names a function."""
    text = f"[{section}]\n{name} = {target}\n"
    assert refusal(wheels.make(tmp_path, {INIT: "", f"{INFO}/entry_points.txt": text})) == found


def test_sound_entry_points(tmp_path: Path) -> None:
    """Names that only begin like the interpreter, extras, and other sections are sound."""
    text = "[console_scripts]\npython-grpc-tools-protoc = a.b:c.d\nx = a:b [extra]\n[other]\npython = %(x)s\n"
    assert read(wheels.make(tmp_path, {INIT: "", f"{INFO}/entry_points.txt": text})).name == "demo"


def test_broken_entry_points(tmp_path: Path) -> None:
    """An entry point given twice, or a file that cannot be parsed, is refused."""
    for text in ("[console_scripts]\na = b:c\na = d:e\n", "no section\n"):
        path = wheels.make(tmp_path, {INIT: "", f"{INFO}/entry_points.txt": text})
        assert refusal(path).startswith("its entry_points.txt cannot be read (")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("demo-1.0.data/scripts/python", "would replace the interpreter"),
        ("demo-1.0.data/scripts/python3.11", "would replace the interpreter"),
        ("demo-1.0.data/data/bin/python", "would replace the interpreter"),
        ("demo-1.0.data/data/Scripts/PYTHON.EXE", "would replace the interpreter"),
        ("demo-1.0.data/data/pyvenv.cfg", "would replace the environment's settings"),
        ("demo-1.0.data/bin/x", "is in no scheme that wheels have (data, headers, platlib, purelib, scripts)"),
        ("demo-1.0.data/scripts/../../evil", "leaves its folder, or has an empty part"),
    ],
)
def test_data_files(tmp_path: Path, name: str, found: str) -> None:
    """A data file stays in its scheme and replaces neither the interpreter nor its settings."""
    assert refusal(wheels.make(tmp_path, {name: "x"})) == f"{name!r} {found}"


def test_sound_data_files(tmp_path: Path) -> None:
    """Ordinary scripts and data files are sound."""
    names = ("scripts/python-config", "scripts/demo.py", "data/share/python", "headers/python", "data/etc/pyvenv.cfg")
    assert read(wheels.make(tmp_path, {f"demo-1.0.data/{name}": "x" for name in names})).name == "demo"


@pytest.mark.parametrize("folder", ["other-1.0.data", "demo-2.0.data", "Demo-1.0.data"])
def test_data_folder_disagrees(tmp_path: Path, folder: str) -> None:
    """The .data folder is spelled as the .dist-info folder: else installers differ on what it is."""
    assert refusal(wheels.make(tmp_path, {f"{folder}/purelib/x": ""})) == f"its folder {folder} is not demo-1.0.data"


def test_all_issues_at_once(tmp_path: Path) -> None:
    """A wheel with several faults is refused once, with all of them."""
    files = {INIT: "", f"{INFO}/METADATA": wheels.metadata("evil", "1.0"), f"{INFO}/WHEEL": WHEEL.format("2.0")}
    assert refusal(wheels.make(tmp_path, files, record={INIT: None})) == (
        f"{INIT!r} is not in RECORD; its METADATA says evil 1.0, not demo 1.0; "
        "its Wheel-Version is 2.0, and only 1.x can be read"
    )


def test_structure_comes_first(tmp_path: Path) -> None:
    """A wheel whose ZIP is ambiguous is refused for that."""
    assert refusal(wheels.make(tmp_path, method=zipfile.ZIP_BZIP2)).startswith(f"{INIT!r} is compressed by method 12")
