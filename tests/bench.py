"""`make bench`: torchlock against plain uv, pip-compile and pip, in one run on one machine; prints ratios.

Nothing here passes or fails: each figure is the median of some rounds, the tools taken in turn within a round.
The cold rows move 2.8 GB a tool and round over the network; `make bench COLD=0` leaves them out and says so.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from uv import find_uv_bin  # noqa: E402 - the path must be right first

from torchlock.facts.cache import Cache  # noqa: E402
from torchlock.gate.source import Source  # noqa: E402
from torchlock.indexes.record import Recorder  # noqa: E402
from torchlock.indexes.server import serve  # noqa: E402
from torchlock.locks.lock import FILE, folder  # noqa: E402
from torchlock.network.remote import Remote  # noqa: E402
from torchlock.platforms import PLATFORMS, host  # noqa: E402
from torchlock.process import clean_environment  # noqa: E402
from torchlock.reporter import Silent  # noqa: E402
from torchlock.storage.fetch import Fetcher  # noqa: E402
from torchlock.storage.store import Store  # noqa: E402
from torchlock.workspace import Settings, Workspace  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from torchlock.network.budget import Budget
    from torchlock.profiles.profile import Target

PROFILE = "torch2.2-cuda"
WARM_ROUNDS = int(os.environ.get("ROUNDS") or 3)
COLD_ROUNDS = int(os.environ.get("COLD") or 1)
BUILD = """
import sys; sys.path.insert(0, "scripts")
from pathlib import Path
from torchlock import interpreter
from torchlock.reporter import Silent
from torchlock.workspace import Settings, Workspace
work = Workspace(Path.cwd(), Settings(store=sys.argv[1], envs=sys.argv[2]), Silent())
target = work.catalogue.find(sys.argv[3]).targets[0]
work.environments.build(work.lock(target), interpreter.find(target.python, None, Silent()))
"""
# Both resolvers of wheels, without conda's.
LOCK = """
import sys; sys.path.insert(0, "scripts")
from argparse import Namespace
from pathlib import Path
from torchlock.commands import locks
from torchlock.reporter import Silent
from torchlock.workspace import Settings, Workspace
locks.make_wheels(Workspace(Path.cwd(), Settings(offline=True), Silent()), Namespace(profiles=[]))
"""


@dataclass
class Row:
    """The seconds of one command over the rounds, and its largest resident set in bytes."""

    name: str
    seconds: list[float] = field(default_factory=list)
    memory: int = 0

    def run(
        self, command: Sequence[str], text: str | None = None, *, environment: dict[str, str] | None = None
    ) -> None:
        """Run a command once more."""
        with tempfile.TemporaryFile("w+") as errors:
            start = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment or clean_environment(proxies=True),
                stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
            )
            if text is not None and process.stdin is not None:
                process.stdin.write(text)
                process.stdin.close()
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds.append(time.perf_counter() - start)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.memory = max(self.memory, usage.ru_maxrss * 1024)
            if process.returncode != 0:
                errors.seek(0)
                sys.exit(f"{self.name}: exit status {process.returncode}\n{errors.read()[-2000:]}")

    def time(self, work: Callable[[], object]) -> None:
        """Time a piece of this process's own work once more."""
        start = time.perf_counter()
        work()
        self.seconds.append(time.perf_counter() - start)

    @property
    def median(self) -> float:
        """Return the median of the rounds in seconds."""
        return statistics.median(self.seconds)


def show(title: str, rows: Sequence[Row], base: float, what: str) -> None:
    """Print rows with their ratio to a base time."""
    print(f"\n{title} (median of {len(rows[0].seconds)}; ratio to {what})")  # noqa: T201 - this script's result
    for row in rows:
        spread = f"{min(row.seconds):.2f}-{max(row.seconds):.2f}"
        line = (
            f"  {row.name:<46} {row.median:8.2f} s  {row.median / base:6.2f}x  {spread:>14}  {row.memory / 1e6:6.0f} MB"
        )
        print(line)  # noqa: T201 - this script's result


def bench_locks(workspace: Workspace) -> None:
    """Lock every target from the snapshot: torchlock with and without the cross-check, plain uv, pip-compile."""
    targets = workspace.targets([])
    tool = [sys.executable, "scripts/torchlock", "--quiet", "lock", "--offline"]
    both = [sys.executable, "-c", LOCK]
    ours, alone = Row("torchlock lock, two resolvers"), Row("torchlock lock RESOLVER=uv")
    plain, compiled = Row("plain uv pip compile, one after another"), Row("plain pip-compile, linux-64 targets alone")
    kept = {path: path.read_bytes() for path in (ROOT / "lockfiles").glob("*/*/*.*")}
    with serve() as index, tempfile.TemporaryDirectory() as cache:
        urls = {target: index.add(workspace.view(target)) for target in targets}
        try:
            for _ in range(WARM_ROUNDS):
                ours.run(both)
                alone.run([*tool, "--resolver", "uv"])
                _sum(plain, [partial(_uv, target=target, url=urls[target], cache=cache) for target in targets])
                native = [target for target in targets if target.platform == host().name]
                _sum(compiled, [partial(_pip_compile, target=item, url=urls[item], cache=cache) for item in native])
        finally:
            for path, data in kept.items():
                path.write_bytes(data)
    show(f"Re-lock of {len(targets)} targets, offline", [ours, alone, plain, compiled], plain.median, "plain uv")


def bench_conda(workspace: Workspace) -> None:
    """Lock all conda environments by conda-lock: through torchlock's adapter, and through a conda of this machine."""
    tool = [sys.executable, "scripts/torchlock", "--quiet", "lock", "--offline", "--resolver", "conda-lock"]
    found = [path for name in ("conda", "mamba", "micromamba") if (path := shutil.which(name))]
    rows = [Row("conda-lock through the adapter"), *(Row(f"conda-lock through {Path(path).name}") for path in found)]
    kept = {path: path.read_bytes() for path in (ROOT / "lockfiles").glob("*/conda*") if path.is_file()}
    try:
        for _ in range(WARM_ROUNDS):
            rows[0].run(tool)
            for row, program in zip(rows[1:], found, strict=True):
                row.run([*tool, "--conda", program])
    finally:
        for place, data in kept.items():
            place.write_bytes(data)
    count = sum(len(item.conda.targets) for item in workspace.catalogue.profiles.values() if item.conda)
    show(f"{count} conda environments locked again, offline", rows, rows[0].median, "the adapter")
    if not found:
        print("  through conda, mamba, micromamba: not run, none is on this machine")  # noqa: T201 - this script's result


def _sum(row: Row, runs: Sequence[Callable[[Row], None]]) -> None:
    parts = Row(row.name)
    for run in runs:
        run(parts)
    row.seconds.append(sum(parts.seconds))
    row.memory = max(row.memory, parts.memory)


def _uv(row: Row, target: Target, url: str, cache: str) -> None:
    platform = PLATFORMS[target.platform].uv
    command = [
        find_uv_bin(),
        "pip",
        "compile",
        "-",
        "--quiet",
        "--no-config",
        "--cache-dir",
        cache,
        "--default-index",
        url,
    ]
    command += ["--python-platform", platform, "--python-version", target.python, "--only-binary", ":all:"]
    row.run(command, "\n".join(target.requirements))


def _pip_compile(row: Row, target: Target, url: str, cache: str) -> None:
    source = Path(cache, "requirements.in")
    source.write_text("\n".join(target.requirements), encoding="utf-8")
    command = [sys.executable, "-m", "piptools", "compile", str(source), "--quiet", "--no-config", "--output-file", "-"]
    command += ["--index-url", url, "--cache-dir", f"{cache}/pip", "--pip-args", "--only-binary=:all:"]
    row.run(command)


def bench_environments(workspace: Workspace) -> None:
    """Build the CUDA environment: torchlock, uv and pip; cold over the network, warm from what each keeps."""
    target = workspace.catalogue.find(PROFILE).targets[0]
    lock = folder(ROOT, target.profile, target.platform) / FILE
    requirements = lock.with_name("requirements.txt")
    with tempfile.TemporaryDirectory(dir=workspace.store.root.parent, prefix="torchlock-bench-") as name:
        here = Path(name)
        cold = [
            Row("torchlock env (fetch, verify, unpack, link)"),
            Row("plain uv pip install"),
            Row("plain pip install"),
        ]
        warm = [
            Row("torchlock env (verify, link)"),
            Row("plain uv pip sync"),
            Row("openssl sha256 of every file, two at once"),
        ]
        for _ in range(COLD_ROUNDS):
            for part in ("store", "envs", "uv"):
                shutil.rmtree(here / part, ignore_errors=True)
            cold[0].run([sys.executable, "-c", BUILD, str(here / "store"), str(here / "envs"), PROFILE])
            cold[1].run(_install(here, "uv", requirements))
            cold[2].run(_install(here, "pip", requirements))
            shutil.rmtree(here / "pip")
        for _ in range(WARM_ROUNDS):
            shutil.rmtree(here / "envs", ignore_errors=True)
            warm[0].run([sys.executable, "-c", BUILD, str(here / "store"), str(here / "envs"), PROFILE])
            warm[1].run(_install(here, "uv", requirements))
            found = f"find {here}/envs/{PROFILE} -type f -print0"
            files = f"{found} | xargs -0 -n 200 -P 2 openssl dgst -sha256 > {os.devnull}"
            warm[2].run(["bash", "-c", files])
        if COLD_ROUNDS:
            show(f"Cold environment of {PROFILE}, over the network", cold, cold[1].median, "plain uv")
        base = warm[1].median + warm[2].median
        show(f"Warm environment of {PROFILE}", warm, base, "plain uv plus verification")


class _Counted(Remote):
    """A network that counts the bytes of the ranges that it reads."""

    moved = 0

    @contextmanager
    def range(self, url: str, wanted: str, budget: Budget) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
        """Ask for one range, counting."""
        with super().range(url, wanted, budget) as (response, blocks):
            yield response, self._count(blocks)

    def _count(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.moved += len(block)
            yield block


def bench_facts(workspace: Workspace) -> None:
    """Read the facts of the largest wheel by range and from the cache, against fetching it."""
    lock = workspace.lock(workspace.catalogue.find(PROFILE).targets[0])
    wheel = max(lock.artifacts, key=lambda item: item.size or 0)
    ranged, cached, whole = Row("facts by HTTP range"), Row("facts from the cache"), Row("fetching the wheel")
    moved = 0
    for _ in range(WARM_ROUNDS):
        with tempfile.TemporaryDirectory(dir=workspace.store.root.parent, prefix="torchlock-bench-") as name:
            remote, cache = _Counted(), Cache(root=Path(name, "facts"))
            recorder = Recorder(workspace.snapshot, remote, workspace.roots, Silent())
            ranged.time(partial(Source(cache, Silent(), None, recorder), wheel))
            cached.time(partial(cache.get, wheel.sha256))
            moved = remote.moved
            fetcher = Fetcher(Store(Path(name)), Remote(), workspace.roots)
            whole.time(partial(fetcher.fetch, [wheel]))
    title = f"Facts of {wheel.filename}: {moved / 1e6:.1f} MB of {(wheel.size or 0) / 1e6:.0f} MB moved"
    show(title, [ranged, cached, whole], whole.median, "fetching it")


def _install(here: Path, tool: str, requirements: Path) -> list[str]:
    """Return a command that makes a fresh environment and installs into it, as a user of that tool would."""
    env, uv = here / tool / "env", find_uv_bin()
    quoted = f"-r {requirements} --require-hashes --quiet"
    if tool == "uv":
        made = f"{uv} venv --quiet --clear --no-config -p 3.11 {env} && cd {here}"
        run = f"{uv} pip sync --no-config --cache-dir {here}/uv/cache -p {env} --require-hashes --quiet {requirements}"
        return ["bash", "-ec", f"{made} && {run}"]
    return ["bash", "-ec", f"python3.11 -m venv {env} && {env}/bin/pip install --no-cache-dir --no-deps {quoted}"]


def main() -> None:
    """Run all benchmarks."""
    workspace = Workspace(ROOT, Settings(offline=True), Silent())
    bench_locks(workspace)
    bench_conda(workspace)
    if not COLD_ROUNDS:
        print("\nFacts and environments: not run (COLD=0)")  # noqa: T201 - this script's result
        return
    bench_environments(workspace)
    # The last: it grows this process, and the largest resident set of a child begins with that of its parent.
    bench_facts(workspace)


if __name__ == "__main__":
    main()
