"""A folder of small wheels, the lock of all of them, and the environments built from it: the real parts, no network."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import wheels
from servers import Notes
from torchlock import interpreter
from torchlock.digest import Digest
from torchlock.environment.env import Environments
from torchlock.locks.lock import Artifact, Lock
from torchlock.locks.summary import Summary
from torchlock.network.remote import Remote
from torchlock.storage.fetch import Fetcher
from torchlock.storage.store import Store
from torchlock.storage.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torchlock.interpreter import Interpreter

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROFILE = "demo-cpu"


class Counting(Fetcher):
    """The fetcher, which remembers what it was asked for."""

    def __init__(self, store: Store, folder: Path, reporter: Notes) -> None:
        super().__init__(store, Remote(reporter), {}, [folder], reporter)
        self.folder = folder
        self.asked: list[str] = []

    def fetch(self, artifacts: Iterable[Artifact], arrived: Callable[[Artifact, Path], None] | None = None) -> None:
        """Fetch from the folder of wheels."""
        wanted = list(artifacts)
        self.asked += [artifact.project for artifact in wanted]
        super().fetch(wanted, arrived)


class Workshop:
    """Everything below one folder; made again over the same folder it goes on where it was, as another process does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reporter = Notes()
        self.fetcher = Counting(Store(root / "store", self.reporter), root / "wheelhouse", self.reporter)
        self.trees = Trees(root / "store", self.reporter)
        self.envs = Environments(root=root / "envs", trees=self.trees, fetcher=self.fetcher, reporter=self.reporter)

    @property
    def interpreter(self) -> Interpreter:
        """The running interpreter."""
        return _running()

    @property
    def env(self) -> Path:
        """Where the environment stands."""
        return self.envs.root / PROFILE

    @property
    def site(self) -> Path:
        """The folder of the environment's modules."""
        return self.env / "lib" / f"python{RUNNING}" / "site-packages"

    def add(self, name: str, files: Mapping[str, str | bytes], version: str = "1.0") -> Path:
        """Put a wheel into the wheelhouse, in place of other versions of it."""
        for path in self.fetcher.folder.glob(f"{name}-*.whl"):
            path.unlink()
        return wheels.make(self.fetcher.folder, files, name=name, version=version)

    def lock(self) -> Lock:
        """Return the lock of all wheels in the wheelhouse."""
        zero = Digest("0" * 64)
        return Lock(
            profile=PROFILE,
            platform=self.interpreter.platform.name,
            python=RUNNING,
            profile_digest=zero,
            snapshot_digest=zero,
            resolvers=("uv",),
            artifacts=tuple(map(wheels.artifact, self.fetcher.folder.glob("*.whl"))),
            facts=Summary(),
        )

    def build(self) -> Path:
        """Build the environment of the wheelhouse."""
        return self.envs.build(self.lock(), self.interpreter)

    def run(self, *command: str) -> str:
        """Run a command of the environment and return what it prints."""
        result = subprocess.run(
            [self.env / "bin" / command[0], *command[1:]], capture_output=True, text=True, check=True, env={}
        )
        return result.stdout.strip()

    def python(self, code: str) -> str:
        """Run code in the environment."""
        return self.run("python", "-c", code)

    def left(self) -> list[str]:
        """List what lies in the folder of environments, but for the kernel locks."""
        return sorted(path.name for path in self.envs.root.iterdir() if path.suffix != ".lock")


@cache
def _running() -> Interpreter:
    return interpreter.ask(Path(sys.executable))


def child(root: Path, code: str = "shop.build()") -> subprocess.Popen[str]:
    """Start another process that works on the same folder, `shop`."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "scripts")]
    head = f"import sys; sys.path[:0] = {folders!r}\nfrom pathlib import Path\nfrom workshop import *\n"
    text = f"{head}shop = Workshop(Path({str(root)!r}))\n{code}\n"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
