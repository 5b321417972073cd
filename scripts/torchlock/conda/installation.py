"""Installation: the environment of a conda lock, linked in staging, examined, and swapped in whole."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock import files, process
from torchlock.conda import prefix
from torchlock.conda.linking import Item, Order
from torchlock.conda.prefix import META, Manifest
from torchlock.environment.env import check_space, recover, refusals, summary, swap
from torchlock.environment.manifest import name_of, place_of
from torchlock.errors import CondaError
from torchlock.locks.lock import Artifact
from torchlock.platforms import host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.conda.document import CondaLock, Package
    from torchlock.conda.packages import PackageFetcher
    from torchlock.reporter import Reporter

COMPILE_SECONDS = 600.0
# What a package takes when it is unpacked, in sizes of its archive: CUDA 12.1 of torch is 2.7 GB, and then 4.8 GB.
UNPACKED = 3
_SCRIPTS = Path(__file__).resolve().parents[2]
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from torchlock.conda import linking; "
    "linking.serve(linking.Order.from_json(open(sys.argv[3], encoding='utf-8').read()), int(sys.argv[2]))"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaEnvironments:
    """The conda environments of a checkout, `envs/conda-<profile>`; `sizes` are those of packages, by their URL."""

    root: Path
    fetcher: PackageFetcher
    reporter: Reporter
    skip_scripts: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)

    def path(self, profile: str) -> Path:
        """Return where the environment of a profile stands."""
        return self.root / f"conda-{profile}"

    def build(self, lock: CondaLock, platform: str) -> Path:
        """Return the lock's environment, built anew unless every file of it is already what it must be.

        The old environment stays as it is until the new one is complete; a second process waits and finds it done.
        """
        if importlib.util.find_spec("rattler") is None:
            remedy = "pip install -r requirements-conda.txt"
            raise CondaError("py-rattler", "is not installed here", "what links conda packages", remedy)
        final = self.path(lock.profile)
        packages = _for_host(lock, platform)
        with refusals(final, CondaError), files.exclusive(self._beside(final, "lock"), self.reporter):
            staging, old = self._beside(final, "staging"), self._beside(final, "old")
            with files.exclusive(self._beside(final, "linking"), self.reporter):
                self._recover(final, staging, old)
            if os.path.lexists(final):
                differences = self.differences(lock)
                if not differences:
                    self.reporter.note(f"{name_of(final)} is already that of its lock")
                    return final
                self.reporter.note(f"{name_of(final)} is built anew: {summary(differences)}")
            try:
                self._stage(lock, packages, platform, final)
                swap(staging, final, old)
            finally:
                self._recover(final, staging, old)
        return final

    def differences(self, lock: CondaLock) -> list[str]:
        """List what keeps the environment from being that of the lock."""
        env = self.path(lock.profile)
        try:
            known = prefix.read_manifest(env)
            if known.lock != str(lock.digest):
                return ["it was built from another lock"]
            return prefix.verify(env, known, self.reporter)
        except CondaError as error:
            return [f"{Path(error.where).name}: {error.found}"]

    def _stage(self, lock: CondaLock, packages: tuple[Package, ...], platform: str, final: Path) -> None:
        """Make the environment in staging, and hold every file of it to what its package says."""
        staging = self._beside(final, "staging")
        self._link(packages, platform, staging, final)
        made = Manifest(
            profile=lock.profile,
            platform=platform,
            lock=str(lock.digest),
            place=place_of(final),
            records=prefix.settle(staging, packages),
        )
        made.write(staging)
        issues = prefix.verify(staging, made, self.reporter, final)
        if issues:
            expected = "files that are what info/paths.json of their package says"
            raise CondaError(name_of(final), f"what was installed is not true: {summary(issues)}", expected)
        _compile(staging, final)

    def _link(self, packages: tuple[Package, ...], platform: str, staging: Path, final: Path) -> None:
        """Fetch what is missing, and let rattler unpack and link all of it."""
        artifacts = {item: self._artifact(item) for item in packages}
        found = self.fetcher.fetch((artifact, item.url) for item, artifact in artifacts.items())
        sizes = {item: found[artifact].stat().st_size for item, artifact in artifacts.items()}
        check_space(final.parent, UNPACKED * sum(sizes.values()), CondaError, "folder with ENVS=")
        work = self._beside(final, "work")
        (work / "packages").mkdir(parents=True)
        items = []
        for item, artifact in artifacts.items():
            named = work / "packages" / item.filename
            named.symlink_to(found[artifact])
            items.append(_item(item, named, sizes[item]))
        order = Order(
            items=tuple(items),
            platform=platform,
            cache=os.fspath(work / "cache"),
            staging=os.fspath(staging),
            final=os.fspath(final),
            guard=os.fspath(self._beside(final, "linking")),
            skip_scripts=self.skip_scripts,
        )
        _run(order, work, self.reporter)
        files.remove(work)

    def _artifact(self, item: Package) -> Artifact:
        """Return a package as the store knows it."""
        return Artifact(
            project=item.name,
            version=item.version,
            filename=item.filename,
            sha256=item.sha256,
            size=self.sizes.get(item.url),
            upload_time=None,
            index=item.channel,
        )

    def _beside(self, final: Path, kind: str) -> Path:
        return self.root / f".{kind}-{final.name}"

    def _recover(self, final: Path, staging: Path, old: Path) -> None:
        recover(final, staging, old)
        files.remove(self._beside(final, "work"))


def _for_host(lock: CondaLock, platform: str) -> tuple[Package, ...]:
    here = host().name
    packages = lock.packages(platform)
    if platform != here or not packages:
        found = f"its lock is for {', '.join(lock.platforms)}, and this machine is {here}"
        expected = f"a lock for {here}: packages run only where they were built for"
        raise CondaError(f"the conda environment of {lock.profile}", found, expected, "choose another variant")
    return packages


def _item(package: Package, named: Path, size: int) -> Item:
    return Item(
        path=os.fspath(named),
        name=package.name,
        version=package.version,
        build=package.build,
        subdir=package.subdir,
        channel=package.channel,
        sha256=package.sha256.hex,
        md5=package.md5,
        size=size,
    )


def _run(order: Order, work: Path, reporter: Reporter) -> None:
    """Let a child process link; what counts is what it reports, and it does not outlive this call."""
    (work / "order.json").write_text(json.dumps(asdict(order)), encoding="utf-8")
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as complaints, os.fdopen(reading, encoding="utf-8") as answers:
        try:
            command = [sys.executable, "-I", "-c", _CHILD, os.fspath(_SCRIPTS), str(writing), f"{work}/order.json"]
            child = subprocess.Popen(
                command,
                env=process.clean_environment({"PYTHONHASHSEED": "0"}),
                stdin=subprocess.PIPE,
                stdout=complaints,
                stderr=complaints,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            done = any(_heard(json.loads(line), reporter) for line in answers)
        finally:
            child.kill()
            child.communicate()
        if not done:
            complaints.seek(0)
            said = [line for line in complaints.read().decode(errors="replace").splitlines() if line.strip()]
            found = f"rattler ended before it was done, saying {' '.join(said[:4])[:400]!r}"
            raise CondaError(Path(order.final).name, found, "an installed environment", "the same command again")


def _heard(message: Mapping[str, Any], reporter: Reporter) -> bool:
    """Take one line of the child; return whether it was the last."""
    if "progress" in message:
        reporter.progress(*message["progress"])
    if "note" in message:
        reporter.note(message["note"])
    if "error" in message:
        raise CondaError(*message["error"])
    return "done" in message


def _compile(staging: Path, final: Path) -> None:
    """Compile the modules of `noarch: python` packages, as conda does; one that this Python cannot read is let be."""
    sources = [
        os.fspath(staging / entry.path)
        for item in prefix.read(staging)
        if json.loads((staging / META / item.record).read_bytes()).get("noarch") == "python"
        for entry in item.entries
        if entry.path.endswith(".py") and "/site-packages/" in entry.path
    ]
    if not sources:
        return
    flags = ["-I", "-B", "-m", "compileall", "-qq", "-s", os.fspath(staging), "-p", os.fspath(final), "-i", "-"]
    command = [os.fspath(staging / "bin" / "python"), *flags]
    environment = process.clean_environment()
    result = process.run(command, environment=environment, text="\n".join(sources), seconds=COMPILE_SECONDS)
    if result.returncode not in {0, 1} or "No module named" in result.stderr:
        said = " ".join(result.stderr.split())[:300]
        raise CondaError(name_of(final), f"its Python does not run, saying {said!r}", "a Python for this machine")
