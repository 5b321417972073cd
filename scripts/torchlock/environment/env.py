"""Environments: build that of a lock in staging, swap it in whole, and tell whether it is still that of the lock."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uv

from torchlock import files, process
from torchlock.digest import Digest
from torchlock.environment import installation, manifest
from torchlock.environment.manifest import Manifest, name_of
from torchlock.environment.placement import Claim, Layout, Plan, carry_out
from torchlock.errors import EnvError, TorchlockError
from torchlock.interpreter import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torchlock.interpreter import Interpreter
    from torchlock.locks.lock import Artifact, Lock
    from torchlock.reporter import Reporter
    from torchlock.storage.fetch import Fetcher
    from torchlock.storage.trees import Trees

VERIFIERS = 2
VENV_SECONDS = 120.0
# What a tree takes, in sizes of its wheel: the CUDA 12.1 closure is 2.8 GB, and 4.8 GB unpacked.
UNPACKED = 1.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Environments:
    """The environments of a checkout, `envs/<profile>`, and where the contents of their wheels come from."""

    root: Path
    trees: Trees
    fetcher: Fetcher
    reporter: Reporter

    def build(self, lock: Lock, interpreter: Interpreter) -> Path:
        """Return the lock's environment, built anew unless every file of it is already what it must be.

        The old environment stays as it is until the new one is complete; a second process waits and finds it done.
        """
        _check_platform(lock, interpreter)
        final = self.root / lock.profile
        with refusals(final, EnvError), files.exclusive(self.root / f".{lock.profile}.lock", self.reporter):
            staging, old = (self.root / f".{kind}-{lock.profile}" for kind in ("staging", "old"))
            recover(final, staging, old)
            if os.path.lexists(final):
                differences = self.differences(lock, interpreter)
                if not differences:
                    self.reporter.note(f"{name_of(final)} is already that of its lock")
                    return final
                self.reporter.note(f"{name_of(final)} is built anew: {summary(differences)}")
            try:
                self._stage(lock, interpreter, staging, final)
                swap(staging, final, old)
            except BaseException:
                recover(final, staging, old)
                raise
            files.remove(old)
        return final

    def current(self, lock: Lock) -> bool:
        """Tell whether the environment is that of the lock, every byte of it."""
        return not self.differences(lock)

    def differences(self, lock: Lock, interpreter: Interpreter | None = None) -> list[str]:
        """List what keeps the environment from being that of the lock (and made by that interpreter)."""
        env = self.root / lock.profile
        try:
            known = manifest.read(env)
        except EnvError as error:
            return [f"{manifest.FILE}: {error.found}"]
        if known.lock != str(lock.digest()):
            return ["it was built from another lock"]
        try:
            python = ask(env / known.layout.python)
        except EnvError as error:
            return [f"{known.layout.python}: {error.found}"]
        wanted = interpreter.version if interpreter else known.python
        if python.version != wanted:
            return [f"its Python is {python.version}, not {wanted}"]
        return manifest.verify(env, known, self.reporter)

    def _stage(self, lock: Lock, interpreter: Interpreter, staging: Path, final: Path) -> None:
        trees = self._trees(lock)
        _make_virtual(interpreter, staging, final)
        layout = Layout.of(interpreter.version, lock.platform)
        plan = Plan()
        base = {}
        for path in sorted(_base(staging)):
            name = path.relative_to(staging).as_posix()
            plan.claim(Claim(path=name, owner="the virtual environment", hash=""))
            if not path.is_symlink():
                base[name] = str(Digest.of_file(path))
        for artifact in lock.artifacts:
            source = installation.TreeSource(trees[artifact.project], artifact.project, artifact.version)
            installation.plan_wheel(plan, source, layout, final)
        if self.trees.root.stat().st_dev != staging.stat().st_dev:
            check_space(staging, plan.size)
        linked = carry_out(plan, staging)
        made = Manifest(
            profile=lock.profile,
            platform=lock.platform,
            python=interpreter.version,
            lock=str(lock.digest()),
            place=manifest.place_of(final),
            base=base,
            records={name: str(digest) for name, digest in sorted(plan.records.items())},
        )
        made.write(staging)
        issues = [] if linked else manifest.verify(staging, made, self.reporter, final)
        if issues:
            found = f"the copied files are damaged: {summary(issues)}"
            raise EnvError(name_of(final), found, "a disk that keeps bytes")

    def _trees(self, lock: Lock) -> dict[str, Path]:
        """Return the tree of each project: those that are there are verified, the others fetched and unpacked."""
        found = self._sound(lock.artifacts)
        missing = [artifact for artifact in lock.artifacts if artifact.project not in found]

        def arrived(artifact: Artifact, wheel: Path) -> None:
            found[artifact.project] = self.trees.ensure(artifact, wheel)

        if missing:
            self.trees.root.mkdir(parents=True, exist_ok=True)
            check_space(self.trees.root, sum(self._space(artifact) for artifact in missing))
            self.fetcher.fetch(missing, arrived)
        return found

    def _space(self, artifact: Artifact) -> int:
        """Return about how many bytes it takes to fetch and unpack a wheel; 0 where its size is not known."""
        size = artifact.size or 0
        return int(UNPACKED * size) + max(0, size - self.fetcher.store.received(artifact))

    def _sound(self, artifacts: Sequence[Artifact]) -> dict[str, Path]:
        there = {artifact: tree for artifact in artifacts if (tree := self.trees.get(artifact)) is not None}
        queue = sorted(there, key=lambda artifact: -(artifact.size or 0))
        with ThreadPoolExecutor(VERIFIERS) as pool:
            try:
                results = [*pool.map(self.trees.verify, queue)]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for artifact, issues in zip(queue, results, strict=True):
            if issues:
                self.reporter.note(f"{artifact.filename}: its files in the store are damaged: {summary(issues)}")
                self.trees.discard(artifact)
                del there[artifact]
        return {artifact.project: tree for artifact, tree in there.items()}


def verify(env: Path, reporter: Reporter) -> list[str]:
    """List what of an environment is not as it was built; raise EnvError where torchlock did not build it."""
    return manifest.verify(env, manifest.read(env), reporter)


def summary(issues: Sequence[str]) -> str:
    """Return the first issue and how many more there are."""
    return issues[0] + (f" (and {len(issues) - 1} more)" if len(issues) > 1 else "")


def recover(final: Path, staging: Path, old: Path) -> None:
    """Undo what was cut off: staging goes, and an environment that was moved aside comes back."""
    files.remove(staging)
    if os.path.lexists(old) and not os.path.lexists(final):
        old.rename(final)
    files.remove(old)


def swap(staging: Path, final: Path, old: Path) -> None:
    """Put staging in the place of an environment, durably; an environment that is there is moved aside to `old`."""
    if os.path.lexists(final):
        final.rename(old)
    staging.rename(final)
    files.fsync_folder(final.parent)


def check_space(
    folder: Path, needed: int, refusal: type[TorchlockError] = EnvError, place: str = "TORCHLOCK_STORE"
) -> None:
    """Raise `refusal` where fewer bytes than needed are free in a folder; `place` is what to name in its stead."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise refusal(folder, f"{free:,} bytes are free", f"{needed:,} bytes", f"make room, or name another {place}")


@contextmanager
def refusals(final: Path, refusal: type[TorchlockError]) -> Iterator[None]:
    """Turn what the system refuses into one line: raise `refusal` for an OSError."""
    try:
        yield
    except OSError as error:
        found = f"{error.strerror or error}: {error.filename or name_of(final)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            found += f" ({shutil.disk_usage(final.parent).free:,} bytes are free)"
        raise refusal(name_of(final), found) from error


def _check_platform(lock: Lock, interpreter: Interpreter) -> None:
    where = f"the environment of {lock.profile}"
    if interpreter.platform.name != lock.platform:
        found = f"its lock is for {lock.platform}, and {interpreter.path} runs on {interpreter.platform.name}"
        expected = f"a Python of {lock.platform}: wheels run only where they were built for"
        raise EnvError(where, found, expected, f"build it on a machine of {lock.platform}, or choose another variant")
    if interpreter.minor != lock.python:
        found = f"its lock is for Python {lock.python}, and {interpreter.path} is {interpreter.version}"
        raise EnvError(where, found, f"Python {lock.python}", f"PYTHON=python{lock.python}")


def _make_virtual(interpreter: Interpreter, staging: Path, final: Path) -> None:
    """Make an empty virtual environment whose `activate` scripts lead to `final`.

    Those of uv's `--relocatable` do not do: csh has none, and a plain `sh` cannot tell where it reads from.
    """
    flags = ("--no-project", "--no-config", "--no-python-downloads", "--offline", "--no-cache", "-q")
    command = [uv.find_uv_bin(), "venv", *flags, "--python", os.fspath(interpreter.path), os.fspath(staging)]
    result = process.run(command, environment=process.clean_environment(), seconds=VENV_SECONDS)
    if result.returncode:
        said = (result.stderr.strip() or "nothing").splitlines()
        raise EnvError(interpreter.path, f"uv venv failed, saying {' '.join(said)[:300]!r}")
    for path in staging.glob("*/activate*"):
        path.write_bytes(path.read_bytes().replace(os.fsencode(staging.name), os.fsencode(final.name)))


def _base(staging: Path) -> Iterator[Path]:
    """Give the files and links of an empty virtual environment."""
    for folder, folders, names in os.walk(staging):
        for name in (*names, *folders):
            path = staging / folder / name
            if name in names or path.is_symlink():
                yield path
