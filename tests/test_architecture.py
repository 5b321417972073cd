"""The shape of the code: floors, sizes, who prints, and no address of a package registry anywhere."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "scripts" / "torchlock"


def package(name: str, modules: str) -> list[str]:
    """Return a package and its modules, in their order."""
    return [name, *(f"{name}.{module}" for module in modules.split())]


# A module imports only modules that stand before it: those of lower floors, and earlier ones of its own.
FLOORS = (
    ("errors", "digest", "reporter", "files", "process", "platforms"),
    (
        *package("profiles", "document conda line profile rules compat"),
        *package("locks", "pylock summary lock render"),
    ),
    (
        *package("network", "transport budget answers ranges remote"),
        *package("wheels", "names archive description wheel"),
        *package("indexes", "simple snapshot record view server importer"),
        *package("storage", "crew store reception trees fetch"),
        *package("facts", "facts libraries binary read cache"),
        *("gate.source", "gate.examination", "gate.neighbour", "gate"),
        "interpreter",
        *package("oci", "document descriptor manifest blobs layout"),
        *package(
            "registry",
            "reference credentials wire tokens client documents presence download upload pull push referrers",
        ),
    ),
    (
        *("resolve.child", "resolve.uv", "resolve.piptools", "resolve", "resolve.locking"),
        *package("environment", "placement manifest installation env trial"),
        *("matrix.cells", "matrix.rendering", "matrix.record", "matrix.prediction", "matrix.observation", "matrix"),
        *("check", "diff"),
        *package("layers", "tar stream layer installed order headers reading unpacked bytecode"),
        *package("base", "declaration packages workshop child apt rewriting debian remote image"),
        *package("images", "licences application config inputs known image build difference committed index"),
        *package(
            "conda",
            "values metadata document explicit channels spec solver listing adapter reach fetching recording gating"
            " locking packages prefix linking installation trial drift flavours difference agreement",
        ),
    ),
    (
        "preflight",
        *package(
            "doctor",
            "child patient distributions machine findings remedies abi integrity locked stack gpu imports"
            " examination report",
        ),
    ),
    (
        *package("engine", "docker archive loading report container evidence"),
        "console",
        "workspace",
        *package(
            "commands", "conda conda_env locks environments bases cache images layouts containers registries checks"
        ),
        *("arguments", "cli", "__main__"),
    ),
)
PRINTING = {"cli", "console", "__main__"}
ORDER = [name for floor in FLOORS for name in floor]
# In pieces, so that this file does not hold them.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("debian", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
    )
]


def modules() -> dict[str, Path]:
    """Return the modules of the package by their names in it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


MODULES = modules()
NAMED = [name for name in MODULES if name != "__init__"]


@cache
def tree(name: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(MODULES[name].read_bytes())


def imported(name: str) -> set[str]:
    """Return the modules of the package that a module imports, for its types alone, too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {item.name.removeprefix("torchlock.") for item in node.names if item.name.startswith("torchlock")}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            if node.module and node.module.partition(".")[0] == "torchlock":
                base = node.module.partition(".")[2]
                inner = {f"{base}.{item.name}".lstrip(".") for item in node.names} & MODULES.keys()
                found |= inner or {base}
    return found


def test_every_module_has_its_floor() -> None:
    """A new module is given a place here, once; one that is gone leaves none."""
    assert sorted(ORDER) == sorted(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_module_imports_only_downwards(name: str) -> None:
    """Nothing above it, nothing after it on its own floor, and so no circle."""
    below = ORDER[: ORDER.index(name)]
    assert imported(name) <= set(below)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_says_what_it_holds(name: str) -> None:
    """Under 300 lines; its first line is a sentence that says what it is."""
    lines = MODULES[name].read_text(encoding="utf-8").splitlines()
    assert len(lines) < 300
    assert ast.get_docstring(tree(name))
    assert lines[0].startswith('"""')
    assert lines[0].endswith(('."""', "."))


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PRINTING and not name.startswith("commands")])
def test_a_module_neither_prints_nor_exits(name: str) -> None:
    """Only the command line does: everything else returns values and raises errors."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Name):
            assert node.id not in {"print", "input", "breakpoint", "exit", "quit", "SystemExit"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {
                ("sys", "stdout"),
                ("sys", "stderr"),
                ("sys", "exit"),
                ("os", "_exit"),
                ("os", "abort"),
            }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_uses_no_other_tools_insides(name: str) -> None:
    """Only public interfaces: nothing below `_internal` or `_vendor` is imported."""
    for node in ast.walk(tree(name)):
        names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not any(part.startswith("_") and part != "__future__" for item in names for part in item.split("."))


def test_no_file_names_a_package_registry() -> None:
    """A client library's default serves: no committed file holds the host name of a registry."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    assert Path(__file__).resolve() in {path.resolve() for path in files}
    found = {
        f"{path.relative_to(ROOT)}: {host}"
        for path in files
        for host in REGISTRIES
        if host.encode() in path.read_bytes().lower()
    }
    assert found == set()
