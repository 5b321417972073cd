"""Profiles: the catalogue of a folder, what a target's digest covers, names and addresses."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlock.digest import Digest
from torchlock.errors import ProfileError
from torchlock.profiles import profile
from torchlock.profiles.line import Waiver

if TYPE_CHECKING:
    from collections.abc import Mapping

REAL = Path(__file__).parents[1] / "environments"
DEFAULTS = """\
line: base
index: pypi
indexes:
  pypi: {}
  pytorch-cpu:
    address: https://download.pytorch.org/whl/cpu/
"""
BASE = """\
python: "3.11"
torch: "2.2.2"
numpy: "1.26.4"
variants:
  cpu:
    platforms: [win-64, linux-64]
    builds:
      linux-64: {torch: "2.2.2+cpu", index: pytorch-cpu}
  cuda:
    platforms: [linux-64]
    cuda: "12.1"
"""


def catalogue(root: Path, files: Mapping[str, str] | None = None) -> profile.Catalogue:
    """Write a folder of lines, and read it."""
    folder = root / "environments"
    folder.mkdir(exist_ok=True)
    for name, text in {"defaults.yaml": DEFAULTS, "base.yaml": BASE, **(files or {})}.items():
        (folder / name).write_text(text)
    return profile.load(folder)


def refused(root: Path, files: Mapping[str, str]) -> str:
    """Return the message with which a folder is refused."""
    with pytest.raises(ProfileError) as caught:
        catalogue(root, files)
    return str(caught.value).removeprefix("environments/")


def test_real_lines() -> None:
    """The lines of this project pin what they are named for, on the platforms that have wheels for it."""
    found = profile.load(REAL)
    platforms = {name: [target.platform for target in item.targets] for name, item in found.profiles.items()}
    assert platforms == {
        "torch2.2-cpu": ["linux-64", "linux-aarch64", "osx-64", "win-64"],
        "torch2.2-cuda": ["linux-64"],
        "torch2.2-mps": ["osx-arm64"],
        "torch2.4-cpu": ["linux-64", "linux-aarch64", "win-64"],
        "torch2.4-cuda": ["linux-64"],
        "torch2.4-mps": ["osx-arm64"],
    }
    assert found.find("cuda").targets[0].requirements == ("numpy==1.26.4", "torch==2.2.2")
    assert found.find("torch2.4-cpu").targets[0].requirements == ("numpy==2.1.3", "torch==2.4.1+cpu")
    assert {target.python for item in found.profiles.values() for target in item.targets} == {"3.11"}


def test_targets(tmp_path: Path) -> None:
    """A profile has a target for each platform, in the order of the file; a build names its index."""
    windows, linux = catalogue(tmp_path).find("base-cpu").targets
    assert windows == profile.Target(
        profile="base-cpu",
        line="base",
        variant="cpu",
        platform="win-64",
        python="3.11",
        requirements=("numpy==1.26.4", "torch==2.2.2"),
        indexes={},
        default_index="pypi",
        cuda=None,
        source="environments/base.yaml",
    )
    assert linux == replace(
        windows,
        platform="linux-64",
        requirements=("numpy==1.26.4", "torch==2.2.2+cpu"),
        indexes={"torch": "pytorch-cpu"},
    )
    assert (linux.index_of("Torch"), linux.index_of("numpy")) == ("pytorch-cpu", "pypi")
    assert hash(linux) != hash(windows)


def test_extending_file(tmp_path: Path) -> None:
    """A user's own file is a line of its own, with what it adds and the index that it names for it."""
    mine = "extends: base\nalso: [My_Tool==1]\nindexes: {my.tool: pytorch-cpu, rich: pypi}\nvariants: {cuda: {}}\n"
    found = catalogue(tmp_path, {"mine.yaml": mine})
    assert [name for name in found.profiles if name.startswith("mine")] == ["mine-cuda"]
    target = found.find("mine-cuda").targets[0]
    assert target.requirements == ("my-tool==1", "numpy==1.26.4", "torch==2.2.2")
    assert target.indexes == {"my-tool": "pytorch-cpu"}
    assert (target.cuda, target.source) == ("12.1", "environments/mine.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('python: "3.11"', '# a comment\n\npython:   "3.11"\nalso: []'),
        ('cuda: "12.1"', 'cuda: "12.4"'),
        ("  cuda:\n", "    also: [rich]\n  cuda:\n"),
        ("[win-64, linux-64]", "[linux-64, win-64, osx-64]"),
    ],
)
def test_digest_stays(tmp_path: Path, old: str, new: str) -> None:
    """A comment, spaces, or another variant or platform change no digest but their own."""
    variant = "cpu" if "cuda" in old and "also" not in new else "cuda"
    before = catalogue(tmp_path).find(variant).targets
    after = catalogue(tmp_path, {"base.yaml": BASE.replace(old, new, 1)}).find(variant).targets
    assert {item.platform: item.digest() for item in before}.items() <= {
        item.platform: item.digest() for item in after
    }.items()


@pytest.mark.parametrize(
    "change",
    [
        {"python": "3.12"},
        {"requirements": ("numpy==1.26.4", "torch==2.2.1")},
        {"indexes": {"torch": "pytorch-cpu"}},
        {"default_index": "own"},
        {"cuda": "11.8"},
        {"platform": "win-64"},
        {"profile": "x-cuda"},
        {"line": "x"},
        {"variant": "cpu"},
        {"exceptions": (Waiver(project="pandas", sha256=Digest("0" * 64), reason="why"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_digest_moves(tmp_path: Path, change: dict[str, str]) -> None:
    """Whatever a resolver or the gate sees is part of the digest; the file that says it is not."""
    target = catalogue(tmp_path).find("cuda").targets[0]
    assert replace(target, **change).digest() != target.digest()  # type: ignore[arg-type]
    assert replace(target, source="elsewhere.yaml").digest() == target.digest()


def test_exceptions_reach_every_target(tmp_path: Path) -> None:
    """What a line lets pass is part of all its targets: the sha256 says which of them it is about."""
    text = f"{BASE}exceptions: [{{project: pandas, sha256: '{'a' * 64}', reason: why}}]\n"
    targets = [item for name in ("cpu", "cuda") for item in catalogue(tmp_path, {"base.yaml": text}).find(name).targets]
    waiver = Waiver(project="pandas", sha256=Digest("a" * 64), reason="why")
    assert {target.exceptions for target in targets} == {(waiver,)}


def test_digest_value(tmp_path: Path) -> None:
    """The digest of a target is the same in every release: locks hold it."""
    text = (
        '{"cuda":"12.1","default_index":"pypi","indexes":{},"line":"base","platform":"linux-64","profile":"base-cuda",'
        '"python":"3.11","requirements":["numpy==1.26.4","torch==2.2.2"],"variant":"cuda"}'
    )
    assert catalogue(tmp_path).find("cuda").targets[0].digest() == Digest.of(text.encode())


def test_find(tmp_path: Path) -> None:
    """A bare variant means the default line; an unknown name is refused with the nearest known one."""
    found = catalogue(tmp_path)
    assert found.find("cuda") is found.profiles["base-cuda"]
    for name, near in (("bse-cuda", "; try: base-cuda"), ("cdua", "; try: cuda"), ("mps", ""), ("$(id)", "")):
        with pytest.raises(ProfileError) as caught:
            found.find(name)
        expected = f"environments: no profile {name!r}; expected one of base-cpu, base-cuda{near}"
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    "name", ["a;b", "a b", "$(id)", "`id`", "A", "-a", ".a", "é", "a'b", "a&b", "a|b", "a\nb", "x" * 65]
)
def test_names(tmp_path: Path, name: str) -> None:
    """A file whose name could mean something to a shell is refused, and not read; a hidden one is no line."""
    if name == ".a":
        assert set(catalogue(tmp_path, {f"{name}.yaml": "<"}).profiles) == {"base-cpu", "base-cuda"}
        return
    message = refused(tmp_path, {f"{name}.yaml": "<"})
    assert message.endswith(": not a line's name; expected a-z, 0-9, '.', '_', '-' before .yaml; try: rename the file")
    assert "\n" not in message


def test_other_files(tmp_path: Path) -> None:
    """Only .yaml files are lines; .yml is refused, so that none is passed over in silence."""
    assert set(catalogue(tmp_path, {"README.md": "x", "base.yaml~": "x", "compat.yaml": "x"}).profiles) == {
        "base-cpu",
        "base-cuda",
    }
    expected = "mine.yml: the ending .yml; expected .yaml; try: rename the file"
    assert refused(tmp_path, {"mine.yml": BASE}) == expected


def test_order_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue does not depend on the order in which a folder lists its files."""
    files = {"z.yaml": BASE, "a.yaml": BASE}
    forwards = catalogue(tmp_path, files)
    paths = list((tmp_path / "environments").iterdir())
    monkeypatch.setattr(Path, "iterdir", lambda _: sorted(paths, reverse=True))
    assert list(profile.load(tmp_path / "environments").profiles) == list(forwards.profiles)


def test_absent_folder(tmp_path: Path) -> None:
    """A folder without defaults is refused."""
    with pytest.raises(ProfileError, match=r"^environments/defaults\.yaml: no such file; expected a YAML file$"):
        profile.load(tmp_path / "environments")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("line: base", "line: bse", "defaults.yaml:1: line: unknown line 'bse'; expected one of base; try: base"),
        (
            "index: pypi",
            "index: pypy",
            "defaults.yaml:2: index: unknown index 'pypy'; expected one of pypi, pytorch-cpu; try: pypi",
        ),
        ("index: pypi\n", "", "defaults.yaml: the key 'index' is missing; expected all of line, index, indexes"),
        (
            "  pytorch-cpu:",
            "  facts:",
            (
                "defaults.yaml:5: indexes.facts: found the alias facts, which is the folder of facts; "
                "expected another name"
            ),
        ),
        (
            "  pytorch-cpu:",
            "  pytorch/../cpu:",
            (
                "defaults.yaml:5: indexes.\"pytorch/../cpu\": found the alias 'pytorch/../cpu'; "
                "expected a-z, 0-9, '.', '_' and '-'"
            ),
        ),
        (
            "  pypi: {}",
            "  pypi: {}\n  other: {}",
            "defaults.yaml:5: indexes.other: the key 'address' is missing; expected all of address",
        ),
    ],
)
def test_defaults(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Defaults name a line and indexes that exist; every index but the first has an address."""
    assert refused(tmp_path, {"defaults.yaml": DEFAULTS.replace(old, new, 1)}) == message


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "https://u:secret@host/simple/",
            (
                "found credentials in an address; "
                "expected an address without them; try: "
                "put the whole address into the environment variable TORCHLOCK_MIRROR, as pytorch-cpu=https://…"
            ),
        ),
        (
            "https://secret@host/simple/",
            (
                "found credentials in an address; "
                "expected an address without them; try: "
                "put the whole address into the environment variable TORCHLOCK_MIRROR, as pytorch-cpu=https://…"
            ),
        ),
        ("ftp://host/simple/", "found ftp://host/simple/; expected https://host/simple/ (http only on this machine)"),
        ("http://host/simple/", "found http://host/simple/; expected https://host/simple/ (http only on this machine)"),
        ("file:///etc/", "found file:///etc/; expected https://host/simple/ (http only on this machine)"),
        ("https:///simple/", "found https:///simple/; expected a host and a path that ends in / and nothing after it"),
        (
            "https://host/simple",
            "found https://host/simple; expected a host and a path that ends in / and nothing after it",
        ),
        (
            "https://host/?token=secret",
            "found https://host/?…; expected a host and a path that ends in / and nothing after it",
        ),
        ("https://[::1/", "found https://[::1/, which is no address; expected https://host/simple/"),
        ("https://host:99999/", "found https://host:99999/, which is no address; expected https://host/simple/"),
    ],
)
def test_addresses(tmp_path: Path, address: str, message: str) -> None:
    """An address is https (or this machine's), a folder, and holds no secret: none is repeated either."""
    text = DEFAULTS.replace("https://download.pytorch.org/whl/cpu/", f'"{address}"')
    found = refused(tmp_path, {"defaults.yaml": text})
    assert found == f"defaults.yaml:6: indexes.pytorch-cpu.address: {message}"
    assert "secret" not in found


def test_loopback(tmp_path: Path) -> None:
    """An index on this machine may be plain http."""
    text = DEFAULTS.replace("https://download.pytorch.org/whl/cpu/", "http://127.0.0.1:8080/simple/")
    found = catalogue(tmp_path, {"defaults.yaml": text})
    assert found.indexes == {"pypi": None, "pytorch-cpu": "http://127.0.0.1:8080/simple/"}


PIECES = re.findall(r"\s+|[\w.+-]+|.", DEFAULTS + BASE)


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(st.data())
def test_any_edit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Files with pieces swapped, lost or added give a catalogue or a ProfileError, and no other exception."""
    root = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}"
    root.mkdir(exist_ok=True)
    files = {}
    for name, text in (("defaults.yaml", DEFAULTS), ("base.yaml", BASE)):
        pieces = re.findall(r"\s+|[\w.+-]+|.", text)
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(pieces) - 1))
            pieces[at] = data.draw(st.sampled_from(["", "[]", "{}", "''", "'('", "\u00a0", *PIECES]))
        files[name] = "".join(pieces)
    with suppress(ProfileError):
        assert catalogue(root, files).profiles
