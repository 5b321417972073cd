"""One working folder, one fresh clone and its environments, for all end-to-end tests; removed when they end.

`TORCHLOCK_E2E_CACHE` names where the working folder and the aarch64 Debian lie; `TORCHLOCK_E2E_WHEELHOUSE` a folder of
wheels to take instead of downloading; `TORCHLOCK_E2E_KEEP=1` leaves the working folder until the next run.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest

from e2e import arm64, images
from e2e.project import Clone, Result, Runner, copy_head, git
from torchlock.files import exclusive, remove
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALIVE = ".alive"
NAMED = "TORCHLOCK_E2E_PYTHON"
READERS = {"test_smoke_mutations.py"}
FIRST = "test_environment.py"
# The tests that wait for the emulated machine come last: it works beside the others.
LAST = "emulated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An environment that `make env-<p>` built, and what that printed."""

    clone: Clone
    profile: str
    result: Result

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.clone.python(self.profile)


@dataclass(frozen=True, kw_only=True, slots=True)
class Emulated:
    """What the emulated machine does meanwhile: a result for each goal of make, and one note for each command."""

    notes: list[str]
    results: Future[dict[str, Result]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of a fresh clone first, and those that wait for the emulated machine last."""
    items.sort(key=lambda item: (_waits(item), item.path.name != FIRST))


def _waits(item: pytest.Item) -> bool:
    return LAST in getattr(item, "fixturenames", ())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each test that was not run, and why: "not run" is not "passed"."""
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"not run: {report.nodeid.rpartition('::')[2]}: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print one line at once, whatever pytest captures."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert terminal is not None
    assert capture is not None

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write(f"\n  {line}", flush=True)

    return write


@pytest.fixture(scope="session")
def runner(say: Callable[[str], None], work: Path) -> Iterator[Runner]:
    """Run commands, print how long each took, and leave none running."""
    made = Runner(say=lambda line: say(line.replace(f"{work}/", "")))
    yield made
    made.close()


@pytest.fixture(scope="session")
def cache() -> Path:
    """Return the folder that outlives a run."""
    named = os.environ.get("TORCHLOCK_E2E_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "torchlock-e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@pytest.fixture(scope="session")
def work(cache: Path) -> Iterator[Path]:
    """Return an empty folder with room for the environments; what killed runs left beside it is removed."""
    runs = cache / "runs"
    runs.mkdir(exist_ok=True)
    with exclusive(cache / ".runs.lock", Silent()):
        for old in runs.iterdir():
            if not _alive(old):
                remove(old)
        folder = Path(tempfile.mkdtemp(dir=runs))
        alive = filelock.FileLock(folder / ALIVE)
        alive.acquire()
    try:
        yield folder
    finally:
        alive.release()
        if not os.environ.get("TORCHLOCK_E2E_KEEP"):
            remove(folder)


def _alive(folder: Path) -> bool:
    try:
        with filelock.FileLock(folder / ALIVE, blocking=False):
            return False
    except filelock.Timeout:
        return True


@pytest.fixture(scope="session")
def origin(work: Path, say: Callable[[str], None]) -> Path:
    """Return the repository that the tests clone: what is committed here."""
    copy_head(work / "origin", say)
    return work / "origin"


@pytest.fixture(scope="session")
def new_clone(origin: Path, work: Path, runner: Runner) -> Callable[[str], Clone]:
    """Return what makes a fresh clone with an empty store of its own."""

    def make(name: str) -> Clone:
        git(work, "clone", "--quiet", str(origin), name)
        variables: dict[str, str | Path] = {"STORE": work / f"{name}-store"}
        if house := os.environ.get("TORCHLOCK_E2E_WHEELHOUSE"):
            variables["WHEELHOUSE"] = house
        return Clone(folder=work / name, runner=runner, variables=variables)

    return make


@pytest.fixture(scope="session")
def clone(new_clone: Callable[[str], Clone]) -> Clone:
    """Return the clone that most tests share; none may leave its tracked files changed."""
    return new_clone("project")


@pytest.fixture(scope="session")
def prepared(clone: Clone) -> Clone:
    """Return the shared clone with the tool's own environment made."""
    clone.make("profiles")
    return clone


@pytest.fixture
def pristine(prepared: Clone) -> Iterator[Clone]:
    """Return the shared clone, ready for use; put its tracked files back afterwards, and drop what locking recorded."""
    try:
        yield prepared
    finally:
        prepared.git("checkout", "--quiet", "--force", "HEAD", "--", ".")
        prepared.git("clean", "--quiet", "--force", "-d", "--", "environments", "lockfiles")


@pytest.fixture(scope="session")
def registry(work: Path) -> Iterator[images.Registry]:
    """Return a container registry on loopback, which asks for a user."""
    with images.registry(work / "registry") as made:
        yield made


@pytest.fixture(scope="session")
def engine(work: Path, runner: Runner) -> Iterator[images.Engine]:
    """Return Docker, which must answer; the images that the tests put into it are removed."""
    made = images.Engine(runner=runner, folder=work)
    made("version")
    before = made.containers()
    yield made
    made.clean()
    assert made.containers() <= before


@pytest.fixture(scope="session")
def image22(prepared: Clone) -> images.Image:
    """Return the default line's CUDA image, made by `make image-cuda` in a fresh clone."""
    return images.Image(clone=prepared, profile="torch2.2-cuda", result=prepared.make("image-cuda"))


@pytest.fixture(scope="session")
def image24(prepared: Clone) -> images.Image:
    """Return the CUDA image of torch 2.4.1 and NumPy 2."""
    return images.Image(clone=prepared, profile="torch2.4-cuda", result=prepared.make("image-torch2.4-cuda"))


@pytest.fixture(scope="session")
def arm(prepared: Clone) -> images.Image:
    """Return the default line's image for aarch64, whose base is made under emulation."""
    made = prepared.make("image-cpu", f"PLATFORM={images.ARM}")
    return images.Image(clone=prepared, profile="torch2.2-cpu", platform=images.ARM, result=made)


@pytest.fixture(scope="session")
def torch22(clone: Clone) -> Built:
    """Return the default line's CUDA environment, made by `make env-cuda` in a fresh clone."""
    return Built(clone=clone, profile="torch2.2-cuda", result=clone.make("env-cuda"))


@pytest.fixture(scope="session")
def torch24(clone: Clone) -> Built:
    """Return the CUDA environment of torch 2.4.1 and NumPy 2, made by `make env-torch2.4-cuda`."""
    return Built(clone=clone, profile="torch2.4-cuda", result=clone.make("env-torch2.4-cuda"))


@pytest.fixture(scope="session")
def torch22_python(torch22: Built) -> Iterator[Path]:
    """Return that environment's interpreter; `TORCHLOCK_E2E_PYTHON` names it meanwhile, unless it names another."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get(NAMED):
            patch.setenv(NAMED, str(torch22.python))
        yield Path(os.environ[NAMED])


@pytest.fixture(scope="module", autouse=True)
def _named(request: pytest.FixtureRequest) -> None:
    """Build an environment for the tests that read its name from `TORCHLOCK_E2E_PYTHON`."""
    if request.path.name in READERS:
        request.getfixturevalue("torch22_python")


@pytest.fixture(scope="session")
def emulated(cache: Path, work: Path, new_clone: Callable[[str], Clone]) -> Iterator[Emulated]:
    """Return the emulated machine's work, started before the first test: it needs one core of two."""
    (work / "aarch64").mkdir()
    clone = new_clone("aarch64/project")
    notes: list[str] = []
    runner = Runner(say=notes.append)
    with ThreadPoolExecutor(1) as pool:
        yield Emulated(notes=notes, results=pool.submit(_emulate, clone, cache, runner))
        runner.close()


def _emulate(clone: Clone, cache: Path, runner: Runner) -> dict[str, Result]:
    """Do what a user of an aarch64 machine does; return the result of each goal."""
    root = arm64.prepare(cache, runner.say)
    machine = arm64.Machine(root=root, work=clone.folder.parent)
    results = {}
    for goal in ("profiles", "env-cpu", "env-torch2.4-cpu"):
        inside = ["make", "-C", f"{arm64.WORK}/{clone.folder.name}", goal, f"STORE={arm64.WORK}/store"]
        shown = f"aarch64: make {goal}"
        results[goal] = runner.run(machine.command(*inside), folder=clone.folder, seconds=1200, shown=shown)
    return results


@pytest.fixture(scope="session", autouse=True)
def _early(request: pytest.FixtureRequest) -> None:
    """Start the emulated machine at once, if any test waits for it."""
    if any(_waits(item) for item in request.session.items):
        request.getfixturevalue(LAST)
