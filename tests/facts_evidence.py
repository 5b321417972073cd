"""The evidence for the facts: real wheels, predicted from their bytes and imported under NumPy 2.

`python tests/facts_evidence.py --record` downloads the wheels of the table (Linux, x86-64, Python 3.11), reads their
facts, imports every module of theirs in a process of its own, and writes `tests/data/facts.json`; `--check` does the
same and ends with status 1 where anything differs. `--only NAME` takes the wheels of one package, `--environment
PYTHON` adds an environment that holds torch. Wheels are kept under `--work` (1.1 GB).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from torchlock.digest import Digest  # noqa: E402
from torchlock.facts.read import of_folder, of_wheel  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.facts.facts import Module

TABLE = ROOT / "tests" / "data" / "facts.json"
OBSERVER = ROOT / "tests" / "facts_observer.py"
PYTHON = "3.11"
CONTROL = "numpy==1.26.4"
LIBRARY = re.compile(r"lib[^.]*\.so")
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 28, 27, 24, 17, 12, 5)]
PLATFORMS += [f"manylinux{name}_x86_64" for name in ("2014", "2010", "1")]
# What the first conversion is, where a module looks NumPy up at its first use: an error, or a wrong answer, is broken.
PROBES = {
    "contourpy": (
        "import contourpy, numpy as n; z = n.add.outer(n.arange(4.0), n.arange(5.0) ** 2)\n"
        "assert contourpy.contour_generator(z=z).lines(3.0)[0][0].tolist() == [0.0, 3.0]"
    ),
    "jaxlib": (
        "import numpy as n; from jaxlib import xla_client as x, xla_extension as e; c = x.make_cpu_client()\n"
        "e.jax_jit.set_thread_local_state_initialization_callback(lambda: None); s = e.jax_jit.global_state()\n"
        "s.enable_memories = s.enable_x64 = s.disable_jit = False; c.buffer_from_pyval(n.arange(6, dtype='f4'))"
    ),
    "numba": (  # it asks when it is told of its types
        "import sys, types, numpy; p = types.ModuleType('numba'); sys.modules['numba'] = p\n"
        "p.__path__ = [sys.path[1] + '/numba']; from numba import _dispatcher as d\n"
        "try: d.typeof_init(type, {})\n"
        "except (KeyError, SystemError): pass"  # the types are not in the empty table
    ),
    "rustworkx": (
        "import rustworkx as r, numpy as n; g = r.PyGraph.from_adjacency_matrix(n.array([[0, 2.0], [2.0, 0]]))\n"
        "assert r.adjacency_matrix(g, float)[0, 1] == 2.0"
    ),
    "tokenizers": (
        "import numpy as n; from tokenizers import Tokenizer, models as m\n"
        "t = Tokenizer(m.WordLevel({'a': 0, 'b': 1, 'u': 2}, unk_token='u'))\n"
        "assert t.encode(n.array(['a', 'b']), is_pretokenized=True).ids == [0, 1]"
    ),
}


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed; raise RuntimeError with its last words."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[:4]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def downloaded(requirement: str, work: Path) -> Path:
    """Return the wheel of a requirement, from its folder or else from the index that pip is set up for."""
    folder = work / "wheels" / requirement
    if not list(folder.glob("*.whl")):
        tags = [part for name in PLATFORMS for part in ("--platform", name)]
        tags += [
            "--python-version",
            PYTHON,
            "--implementation",
            "cp",
            "--abi",
            "cp311",
            "--abi",
            "abi3",
            "--abi",
            "none",
        ]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *tags]
        run([*command, "-d", str(folder), requirement])
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(wheel: Path, work: Path) -> Path:
    """Return the folder of a wheel's files."""
    folder = work / "trees" / wheel.stem
    if not folder.is_dir():
        staging = folder.with_suffix(".part")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(staging)
        staging.rename(folder)
    return folder


def supported(packages: list[str], work: Path) -> Path:
    """Return a folder with what the packages of the table import, NumPy among it."""
    folder = work / "support"
    install = ["uv", "pip", "install", "-q", "--no-deps", "--python", PYTHON, "--target"]
    if not folder.is_dir():
        run([*install, str(folder), *packages])
        run([*install, str(folder / "numpy1"), CONTROL])
    return folder


def interpreter() -> str:
    """Return the Python that observes."""
    return run(["uv", "python", "find", "--no-project", "--system", PYTHON]).strip()


def told(module: Module | None) -> str:
    """Return a prediction in a word: a generation, `late` behind it where it is looked up at first use, or none."""
    return "none" if module is None else f"{module.numpy}{' late' if module.late else ''}"


def observed(folder: Path, support: Path, python: str) -> dict[str, str]:
    """Import every module of an unpacked wheel and return what became of each."""
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.so"))]
    modules = [path for path in paths if ".libs/" not in path and not LIBRARY.match(path.rpartition("/")[2])]
    if not modules:
        return {}
    text = run([python, "-S", str(OBSERVER), str(folder), *modules], {**os.environ, "PYTHONPATH": str(support)})
    found: dict[str, str] = json.loads(text)
    return found


def probed(name: str, folder: Path, support: Path, python: str) -> str | None:
    """Run the first conversion of a package: ok or broken; None where it has none, `wrong` where NumPy 1 fails too."""
    if name not in PROBES:
        return None
    for before, outcome in ((support, "ok"), (support / "numpy1", "broken")):
        path = os.pathsep.join(map(str, (folder, before, support)))
        command = [python, "-S", "-W", "ignore", "-c", PROBES[name]]
        environment = {**os.environ, "PYTHONPATH": path}
        if subprocess.run(command, check=False, capture_output=True, env=environment).returncode == 0:
            return outcome
    return "wrong"


def row(requirement: str, work: Path, support: Path, python: str) -> dict[str, Any]:
    """Return what the table says of one wheel."""
    wheel = downloaded(requirement, work)
    with wheel.open("rb") as file:
        facts = of_wheel(file, wheel.name)
    folder = unpacked(wheel, work)
    outcomes = observed(folder, support, python)
    mine = {module.path: module for module in facts.modules}
    modules = {
        path: [told(mine.get(path)), outcomes.get(path, "not a module")] for path in sorted(mine.keys() | outcomes)
    }
    others = [outcome for path, outcome in outcomes.items() if path not in mine]
    value = {
        "filename": wheel.name,
        "modules": {path: pair for path, pair in modules.items() if pair != ["none", "ok"]},
        "others": others.count("ok"),
        "probe": probed(requirement.partition("==")[0], folder, support, python),
        "requirement": requirement,
        "sha256": Digest.of_file(wheel).hex,
    }
    return {key: item for key, item in value.items() if item is not None}


def environment(python: str) -> dict[str, str]:
    """Return what the bytes of an installed torch predict, and what its first conversion does."""
    text = "import json, pathlib, sys, sysconfig; print(json.dumps(sysconfig.get_path('platlib')))"
    platlib = Path(json.loads(run([python, "-c", text])))
    facts = of_folder(platlib, platlib.glob("torch/lib/*torch_python*"))
    text = "from importlib.metadata import version as v; print(v('torch'), v('numpy'))"
    torch, numpy = run([python, "-c", text]).split()
    text = "import numpy, torch; assert torch.arange(3).numpy().sum() == 3"
    done = subprocess.run([python, "-W", "ignore", "-c", text], check=False, capture_output=True, text=True)
    outcome = "ok" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
    return {"numpy": numpy, "observed": outcome, "predicted": told(facts.modules[0]), "torch": torch}


def refused(path: str, modules: dict[str, list[str]]) -> bool:
    """Tell whether NumPy refused a module, or one that it loads first."""
    seen = set()
    while path in modules and path not in seen:
        seen.add(path)
        outcome = modules[path][1]
        if outcome in {"numpy", "unheard"}:
            return True
        path = outcome.removeprefix("behind ")
    return False


def disagreements(item: dict[str, Any]) -> list[str]:
    """Return where a wheel's prediction and what was seen of it are not the same.

    A module of generation 1 is refused at its import or, where it asks late, at its first conversion; one of
    generation 2 is taken, and its conversion is right; one that does not use the interface is not refused for itself.
    """
    modules, found = item["modules"], []
    linked = {predicted for predicted, outcome in modules.values() if outcome == "not a module"}
    for path, (predicted, outcome) in modules.items():
        expected = {
            "1": refused(path, modules) or (outcome == "ok" and item.get("probe") == "broken"),
            "none": outcome != "numpy" or "1" in linked,  # it links a library that is refused
        }.get(predicted, outcome == "ok")
        if not expected and outcome != "not a module":
            found.append(f"{item['filename']}: {path}: predicted {predicted}, yet {outcome}")
    old = {predicted for predicted, _ in modules.values()} & {"1", "1 late"}
    if item.get("probe", "ok") != "ok" and not (old and item["probe"] == "broken"):
        found.append(f"{item['filename']}: its first conversion is {item['probe']}")
    return found


def main() -> int:
    """Record or check the table; return 1 where anything differs or disagrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "torchlock-evidence")
    parser.add_argument("--only", default="")
    parser.add_argument("--environment", action="append", default=[])
    given = parser.parse_args()
    table = json.loads(TABLE.read_bytes())
    work, python = given.work.resolve(), interpreter()
    support = supported(table["support"], work)
    wanted = [item["requirement"] for item in table["wheels"] if given.only in item["requirement"]]
    with ThreadPoolExecutor(2) as crew:
        rows = list(crew.map(partial(row, work=work, support=support, python=python), wanted))
    seen = [environment(name) for name in given.environment]
    old = {item["requirement"]: item for item in table["wheels"]}
    wrong = [text for item in rows for text in disagreements(item)]
    if given.record:
        table["wheels"] = [{**old, **{item["requirement"]: item for item in rows}}[name] for name in old]
        table["environments"] = seen or table.get("environments", [])
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    else:
        wrong += [f"{item['filename']}: not what the table says" for item in rows if item != old[item["requirement"]]]
        wrong += [f"torch {item['torch']}: not in the table" for item in seen if item not in table["environments"]]
    sys.stdout.write("".join(f"{text}\n" for text in wrong))
    sys.stdout.write(
        f"{len(rows)} wheels, {sum(len(item['modules']) for item in rows)} modules: {len(wrong)} disagree\n"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
