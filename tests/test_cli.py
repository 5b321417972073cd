"""The command line over a small project of its own: wheels, an index on loopback, locks, an environment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import servers
import wheels
from torchlock import cli
from torchlock.cli import main
from torchlock.facts.cache import Cache
from torchlock.facts.facts import Facts, Module
from torchlock.locks.lock import FILE, read
from torchlock.platforms import host

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
LINE = """
python: "{python}"
torch: "2.4.1"
numpy: "2.1.3"
also: [{also}]
variants:
  cpu: {{platforms: [{platform}], builds: {{{platform}: {{torch: "2.4.1+cpu", index: pypi}}}}}}
"""
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
COMPAT = (Path(__file__).resolve().parents[1] / "environments" / "compat.yaml").read_text(encoding="utf-8")


class Project:
    """A project folder, the site that it fetches from, and the store of its own."""

    def __init__(self, root: Path, site: servers.Site) -> None:
        self.root, self.site = root, site
        self.store = root / "store"
        (root / "environments").mkdir()
        (root / "environments" / "compat.yaml").write_text(COMPAT, encoding="utf-8")
        self.write("defaults", "line: demo\nindex: pypi\nindexes: {pypi: {}}\n")
        self.line()
        made = root / "made"
        made.mkdir()
        paths = [
            wheels.make(made, {"torch.py": "x = 1\n"}, name="torch", version="2.4.1+cpu", requires=["small"]),
            wheels.make(made, {"numpy.py": "y = 1\n"}, name="numpy", version="2.1.3"),
            wheels.make(made, {"small.py": "z = 1\n"}, name="small", version="1.0"),
            wheels.make(made, {"small.py": "z = 2\n"}, name="small", version="2.0"),
            wheels.make(made, {"extra.py": "z = 2\n"}, name="extra", version="1.0"),
        ]
        self.mirror = site.index({path.name: path.read_bytes() for path in paths})

    def write(self, name: str, text: str) -> None:
        """Write a file under `environments/`."""
        (self.root / "environments" / f"{name}.yaml").write_text(text, encoding="utf-8")

    def line(self, also: str = "") -> None:
        """Write the line, with more requirements or without."""
        self.write("demo", LINE.format(python=RUNNING, platform=host().name, also=also))

    def run(self, *arguments: str) -> int:
        """Run one verb in this process."""
        return main(["--quiet", *arguments], self.root)

    def locked(self) -> int:
        """Lock from the site, by uv alone (pip-compile takes a second)."""
        return self.run("lock", "--mirror", self.mirror, "--resolver", "uv")

    @property
    def lock(self) -> Path:
        """The folder of the lock."""
        return self.root / "lockfiles" / "demo-cpu" / host().name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Make a project whose settings come from the command line alone."""
    for name in list(os.environ):
        if name.startswith("TORCHLOCK_"):
            monkeypatch.delenv(name)
    before = signal.getsignal(signal.SIGTERM)
    with servers.serving() as site:
        yield Project(tmp_path, site)
    signal.signal(signal.SIGTERM, before)


def test_from_profile_to_environment(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Lock, check, fetch and build follow from one profile, the last without the network."""
    platform, mirror, store = host().name, project.mirror, str(project.store)
    assert project.run("lock", "--mirror", mirror) == 0
    assert capsys.readouterr().out == f"demo-cpu {platform}: 3 packages, pip-tools and uv agree, written\n"
    assert project.run("check") == 0
    assert capsys.readouterr().out == f"demo-cpu {platform}: good\n"
    assert project.run("profiles") == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split() == ["demo-cpu", platform, "numpy==2.1.3,", "torch==2.4.1+cpu", "good"]
    assert project.run("fetch", "cpu", "--mirror", mirror, "--store", store) == 0
    assert sorted(path.name for path in (project.lock / "wheels").iterdir()) == [
        "numpy-2.1.3-py3-none-any.whl",
        "small-2.0-py3-none-any.whl",
        "torch-2.4.1+cpu-py3-none-any.whl",
    ]
    assert capsys.readouterr().out == f"demo-cpu {platform}: 3 wheels in lockfiles/demo-cpu/{platform}/wheels\n"
    status = project.run("env", "cpu", "--offline", "--store", store, "--python", sys.executable)
    assert status == 1, "the smoke script must not call these modules torch and numpy"
    assert "3 packages" in capsys.readouterr().out
    python = project.root / "envs" / "demo-cpu" / "bin" / "python"
    done = subprocess.run([python, "-c", "import torch, small; print(small.z)"], capture_output=True, check=True)
    assert done.stdout == b"2\n"
    evidence = json.loads((project.root / "envs" / "demo-cpu" / "evidence.json").read_bytes())
    assert evidence["status"] == "fail"


def test_relock_offline(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """A lock is written again from the snapshot alone with the same bytes; a changed profile is stale until then."""
    assert project.locked() == 0
    before, asked = (project.lock / "pylock.toml").read_bytes(), len(project.site.seen)
    assert project.run("lock", "--offline", "--resolver", "uv") == 0
    assert (project.lock / "pylock.toml").read_bytes() == before
    assert capsys.readouterr().out.endswith("unchanged\n")
    project.line('"small<2"')
    assert project.run("check") == 3
    assert "stale: " in capsys.readouterr().out
    assert project.run("env", "cpu", "--store", str(project.store)) == 3
    assert "; try: make lock-demo-cpu" in capsys.readouterr().err
    assert len(project.site.seen) == asked
    assert project.locked() == 0
    assert project.run("check") == 0
    assert b"small-1.0-" in (project.lock / "pylock.toml").read_bytes()


def test_offline_names_what_is_missing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Offline, what the snapshot lacks is named with the way out, and no lock appears."""
    assert project.run("lock", "--offline", "--resolver", "uv") == 1
    error = capsys.readouterr().err
    assert error.startswith("torchlock: lockfiles/index/pypi/")
    assert error.endswith("not recorded; try: the same without OFFLINE=1\n")
    assert not project.lock.exists()


def test_update_moves_one_package(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """An update takes what the index has now; with a package named, its page alone is read."""
    assert project.locked() == 0
    newer = wheels.make(project.root / "made", {"small.py": "z = 3\n"}, name="small", version="3.0")
    older = [path for path in (project.root / "made").iterdir() if path.name.startswith("small")]
    project.site.index({path.name: path.read_bytes() for path in (*older, newer)})
    assert project.locked() == 0
    assert b"small-2.0-" in (project.lock / "pylock.toml").read_bytes()
    project.site.seen.clear()
    assert project.run("update", "--pkg", "small", "--mirror", project.mirror, "--resolver", "uv") == 0
    assert b"small-3.0-" in (project.lock / "pylock.toml").read_bytes()
    assert {seen.path.split("/")[2] for seen in project.site.seen if seen.path.startswith("/simple/")} == {"small"}
    assert project.run("update", "--pkg", "nothing", "--mirror", project.mirror) == 1
    assert "holds no page of nothing" in capsys.readouterr().err


def test_update_keeps_what_cannot_be_read(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Where an index does not answer, its pages stay as recorded, the locks stay good, and the status says so."""
    assert project.locked() == 0
    before = (project.lock / "pylock.toml").read_bytes()
    project.site.files.clear()
    assert project.run("update", "--mirror", project.mirror, "--resolver", "uv") == 1
    assert "kept as it was recorded: " in capsys.readouterr().err
    assert (project.lock / "pylock.toml").read_bytes() == before
    assert project.run("check") == 0


def test_one_refusal_writes_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one of several targets is refused, no lock is written."""
    bad = LINE.format(python=RUNNING, platform=host().name, also="").replace("2.4.1", "2.2.2")
    project.write("other", bad)
    assert project.locked() == 1
    error = capsys.readouterr().err
    assert "environments/other.yaml" in error
    assert "numpy<2" in error
    assert "torch>=2.4.1" in error
    assert not project.lock.exists()


def test_tampered_lock(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """An edited lock is broken, not stale, and nothing is built from it."""
    assert project.locked() == 0
    path = project.lock / "pylock.toml"
    path.write_bytes(path.read_bytes().replace(b"size = ", b"size = 1", 1))
    assert project.run("check") == 1
    assert "broken: lockfiles/demo-cpu/" in capsys.readouterr().out
    assert project.run("env", "cpu", "--store", str(project.store)) == 1
    assert not (project.root / "envs").exists()


def test_other_platform(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """An environment for another platform is refused with the platforms that the profile has."""
    other = "win-64" if host().name != "win-64" else "linux-64"
    text = LINE.format(python=RUNNING, platform=other, also="")
    project.write("demo", text)
    assert project.run("env", "cpu", "--python", sys.executable) == 1
    error = capsys.readouterr().err
    assert f"demo-cpu: is not for {host().name}" in error
    assert f"expected a machine of {other}" in error


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is status 2; an unknown profile is named with the nearest."""
    with pytest.raises(SystemExit, match="2"):
        main(["no-such-verb"])
    assert main(["--quiet", "env", "torch2.2-cudda"]) == 1
    assert capsys.readouterr().err.endswith("; try: torch2.2-cuda\n")


def test_every_verb_has_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Help names all of them, whatever else it is asked with; a verb's own help is the same alone and among others."""
    for words in (["--help"], ["--help", "lock"]):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        said = capsys.readouterr().out.splitlines()
        named = {line.split()[0] for line in said if line.startswith("    ")}
        assert {name for name, *_ in cli._VERBS} <= named
    for name, *_ in cli._VERBS:
        with pytest.raises(SystemExit, match="0"):
            main(["--quiet", name, "--help"])
        assert f"torchlock {name} [-h]" in capsys.readouterr().out


def test_a_verb_loads_what_it_needs() -> None:
    """Who locks waits for neither Docker's library nor the registries' client."""
    code = (
        "import contextlib, sys; from torchlock.cli import main\n"
        "with contextlib.suppress(SystemExit): main([sys.argv[1], '--help'])\n"
        "print(sorted({'docker', 'torchlock.registry.push', 'rattler'} & sys.modules.keys()))"
    )
    found = {}
    for verb in ("lock", "load", "push"):
        command = [sys.executable, "-c", code, verb]
        said = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True).stdout
        found[verb] = said.splitlines()[-1]
    assert found == {"lock": "[]", "load": "['docker']", "push": "['docker', 'torchlock.registry.push']"}


def test_settings_from_the_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Make exports is read, an empty variable is no setting, and a mirror of an unknown index is refused."""
    monkeypatch.setenv("TORCHLOCK_MIRROR", f"pypi={project.mirror}")
    monkeypatch.setenv("TORCHLOCK_OFFLINE", "")
    monkeypatch.setenv("TORCHLOCK_RESOLVER", "uv")
    assert project.run("lock") == 0
    assert b'resolvers = [\n    "uv",\n]' in (project.lock / "pylock.toml").read_bytes()
    monkeypatch.setenv("TORCHLOCK_OFFLINE", "1")
    monkeypatch.setenv("TORCHLOCK_MIRROR", "conda=http://127.0.0.1:1/")
    (project.root / "lockfiles" / "index" / "pypi" / "small.json").unlink()
    assert project.run("lock") == 1
    monkeypatch.setenv("TORCHLOCK_OFFLINE", "0")
    assert project.run("lock") == 1


def test_sweeps_what_a_killed_lock_left(project: Project) -> None:
    """Temporary files of a killed process, beside locks and in the snapshot, are gone after the next lock."""
    assert project.locked() == 0
    left = [project.lock / ".tmp-a", project.root / "lockfiles" / "index" / "pypi" / ".tmp-b"]
    for path in left:
        path.write_bytes(b"torn")
    assert project.locked() == 0
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(project: Project, number: int, status: int) -> None:
    """Ctrl-C and SIGTERM end a fetch with 130 and 143, without a traceback, and the same command then succeeds."""
    assert project.locked() == 0
    page = "/simple/torch/"
    project.site.script(page, lambda _handler: time.sleep(30))
    code = "import sys, pathlib, torchlock.cli as c; sys.exit(c.main(sys.argv[2:], pathlib.Path(sys.argv[1])))"
    arguments = ["fetch", "cpu", "--mirror", project.mirror, "--store", str(project.store)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "scripts")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(project.root), *arguments], env=environment, stderr=subprocess.PIPE
    )
    project.site.seen.clear()
    while not project.site.asked(page):
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == status
    assert b"Traceback" not in error
    assert not list(project.root.rglob(".tmp-*"))
    assert project.run(*arguments) == 0


def test_facts_are_part_of_the_snapshot(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """They are read once, from the index; without them an offline lock says so, and check tells it from its lock."""
    assert project.run("lock", "--offline", "--resolver", "uv") == 1, "nothing is recorded yet"
    assert project.locked() == 0
    folder = project.root / "lockfiles" / "index" / "facts"
    assert len(list(folder.iterdir())) == 3
    capsys.readouterr()
    shutil.rmtree(folder)
    assert project.run("check") == 1
    out = capsys.readouterr().out
    assert f"{host().name}/pylock.toml: good" not in out
    again = ("lock", "--offline", "--resolver", "uv", "--store", str(project.store))
    assert project.run(*again) == 0
    unread = "facts of numpy, small, torch not read"
    place = f"demo-cpu {host().name}"
    assert capsys.readouterr().out == f"{place}: 3 packages, uv alone, written, {unread}\n"
    assert project.run("check") == 0
    assert capsys.readouterr().out == f"{place}: good, {unread}\n"
    assert project.locked() == 0
    assert capsys.readouterr().out == f"{place}: 3 packages, uv alone, written\n"
    project.site.files.clear()
    shutil.rmtree(folder)
    assert project.run("fetch", "cpu", "--offline", "--store", str(project.store)) == 1


def test_an_exception_is_said_by_every_verb(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    """Lock, check, profiles and env repeat what a profile lets pass, with its reason."""
    small = next(path for path in (project.root / "made").iterdir() if path.name.startswith("small-2"))
    sha256 = hashlib.sha256(small.read_bytes()).hexdigest()
    project.line()
    path = project.root / "environments" / "demo.yaml"
    waiver = f"exceptions: [{{project: small, sha256: '{sha256}', reason: it isn't used}}]\n"
    path.write_text(path.read_text() + waiver)
    words, place = "exception for small 2.0 (it isn't used)", f"demo-cpu {host().name}"
    assert project.locked() == 0
    assert capfd.readouterr().out == f"{place}: 3 packages, uv alone, written, {words}\n"
    assert project.run("check") == 0
    assert capfd.readouterr().out == f"{place}: good, {words}\n"
    assert project.run("profiles") == 0
    assert capfd.readouterr().out.splitlines()[1].endswith(f"good, {words}")
    store = ("--store", str(project.store))
    assert main(["env", "cpu", "--mirror", project.mirror, *store, "--python", sys.executable], project.root) == 1
    assert f"demo-cpu: {words}\n" in capfd.readouterr().err


def test_check_asks_the_gate_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """A lock that agrees with its facts, all sound and fresh, is broken where the gate would refuse it now."""
    assert project.locked() == 0
    found = read(project.lock / FILE, project.root)
    old = Facts(modules=(Module(path="small/_x.so", numpy="1", kind="elf"),))
    small = next(item for item in found.artifacts if item.project == "small")
    Cache(root=project.root / "lockfiles" / "index" / "facts").put(small.sha256, old)
    forged = replace(found, facts=replace(found.facts, numpy_1=("small",)))
    (project.lock / FILE).write_bytes(forged.to_toml())
    capsys.readouterr()
    assert project.run("check") == 1
    assert "broken: environments/demo.yaml: demo-cpu" in (out := capsys.readouterr().out)
    assert "small 2.0: small/_x.so was built for NumPy 1.x alone, beside numpy 2.1.3" in out
