"""What a command works on: the project's folder, the settings of this run, and the parts made from them once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock import check
from torchlock.base.workshop import Workshop
from torchlock.doctor.examination import Doctor
from torchlock.environment.env import Environments
from torchlock.errors import EnvError, ProfileError
from torchlock.facts.cache import Cache
from torchlock.gate import Gate
from torchlock.gate.source import Source
from torchlock.indexes import simple
from torchlock.indexes.record import Recorder
from torchlock.indexes.snapshot import FACTS, Snapshot
from torchlock.indexes.view import View
from torchlock.locks import lock
from torchlock.matrix.observation import Laboratory
from torchlock.matrix.prediction import INDEX
from torchlock.network.remote import Remote
from torchlock.oci.blobs import Blobs
from torchlock.platforms import PLATFORMS
from torchlock.profiles import profile, rules
from torchlock.storage.fetch import Fetcher
from torchlock.storage.store import Store
from torchlock.storage.trees import Trees
from torchlock.wheels import wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlock.digest import Digest
    from torchlock.interpreter import Interpreter
    from torchlock.locks.lock import Artifact, Lock
    from torchlock.profiles.profile import Target
    from torchlock.reporter import Reporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one run; each is also a variable of the Makefile, by its upper-case name."""

    offline: bool = False
    resolver: str | None = None
    platform: str | None = None
    mirror: str | None = None
    wheelhouse: str | None = None
    store: str | None = None
    envs: str | None = None
    python: str | None = None
    debian: str | None = None


class Workspace:
    """One project folder under one set of settings."""

    def __init__(self, root: Path, settings: Settings, reporter: Reporter) -> None:
        self.root = root
        self.settings = settings
        self.reporter = reporter

    @cached_property
    def catalogue(self) -> profile.Catalogue:
        """The profiles under `environments/`."""
        return profile.load(self.root / "environments")

    @cached_property
    def rules(self) -> rules.Rules:
        """The declared part of the gate."""
        return rules.load(self.root / "environments" / "compat.yaml")

    @cached_property
    def facts(self) -> Cache:
        """The recorded facts of artifacts."""
        return Cache(root=self.root / "lockfiles" / "index" / FACTS)

    @cached_property
    def gate(self) -> Gate:
        """The gate, which reads the facts that it lacks: from the store and, unless offline, from the indexes."""
        return Gate(self.rules, self.source)

    @cached_property
    def source(self) -> Source:
        """Where facts come from: the recorded ones, the store and, unless offline, the indexes."""
        recorder = None if self.settings.offline else self.recorder
        return Source(self.facts, self.reporter, self.store, recorder)

    def laboratory(self, python: Interpreter) -> Laboratory:
        """Return where the cells of the matrix are tried with a Python."""
        return Laboratory(
            python=python,
            folder=self.envs / f".matrix-{python.platform.name}",
            index=None if self.settings.offline else self.roots[INDEX],
            reporter=self.reporter,
            wheelhouses=self.wheelhouses,
        )

    @cached_property
    def recorded_gate(self) -> Gate:
        """The gate over what is recorded, which reads nothing else."""
        return Gate(self.rules, Source(self.facts, self.reporter))

    @cached_property
    def snapshot(self) -> Snapshot:
        """The recorded indexes."""
        return Snapshot(self.root / "lockfiles" / "index")

    @cached_property
    def remote(self) -> Remote:
        """The network."""
        return Remote(self.reporter)

    @cached_property
    def recorder(self) -> Recorder:
        """The way from the indexes into the snapshot."""
        return Recorder(self.snapshot, self.remote, self.roots, self.reporter)

    @cached_property
    def store(self) -> Store:
        """The verified wheels."""
        wanted = self.settings.store
        return Store(Path(wanted).expanduser().resolve() if wanted else None, self.reporter)

    @cached_property
    def blobs(self) -> Blobs:
        """The verified layers, configs and manifests of images, beside the wheels."""
        return Blobs(self.store.root / "blobs", self.reporter)

    @cached_property
    def workshop(self) -> Workshop:
        """Where the bases of images are made."""
        return Workshop(
            store=self.store.root,
            blobs=self.blobs,
            reporter=self.reporter,
            mirror=self.settings.debian,
            offline=self.settings.offline,
        )

    @cached_property
    def trees(self) -> Trees:
        """The unpacked wheels, beside the packed ones."""
        return Trees(self.store.root, self.reporter)

    @cached_property
    def envs(self) -> Path:
        """The folder of the environments."""
        return Path(self.settings.envs).expanduser().resolve() if self.settings.envs else self.root / "envs"

    @cached_property
    def fetcher(self) -> Fetcher:
        """The way from a lock's artifacts into the store."""
        roots = {} if self.settings.offline else self.roots
        return Fetcher(self.store, self.remote, roots, self.wheelhouses, self.reporter)

    @cached_property
    def wheelhouses(self) -> list[Path]:
        """The folders of wheels that come before the indexes."""
        folders = [Path(item).expanduser() for item in (self.settings.wheelhouse or "").split(os.pathsep) if item]
        for folder in folders:
            if not folder.is_dir():
                raise EnvError("WHEELHOUSE", f"{folder} is not a folder", "a folder of wheels")
        return folders

    def inspect(self, artifact: Artifact, path: Path) -> None:
        """Read a wheel strictly, every byte of it, unless its tree is the proof that this was done."""
        if self.trees.get(artifact) is None:
            wheel.check(path, self.reporter, artifact.filename)

    @cached_property
    def environments(self) -> Environments:
        """The environments, and the way to build them."""
        return Environments(root=self.envs, trees=self.trees, fetcher=self.fetcher, reporter=self.reporter)

    @cached_property
    def doctor(self) -> Doctor:
        """The doctor, who examines any environment."""
        return Doctor(
            root=self.root, envs=self.envs, catalogue=self.catalogue, rules=self.rules, reporter=self.reporter
        )

    @cached_property
    def roots(self) -> Mapping[str, str]:
        """The URL of each index's simple root, mirrors considered."""
        return simple.roots(self.catalogue.indexes, _mirrors(self.settings.mirror, self.catalogue.indexes))

    def targets(self, names: Sequence[str]) -> list[Target]:
        """Return the targets of some profiles (of all without a name), on one platform where the settings name it."""
        profiles = [self.catalogue.find(name) for name in names] or list(self.catalogue.profiles.values())
        wanted = self.settings.platform
        if wanted is not None and wanted not in PLATFORMS:
            raise ProfileError("PLATFORM", f"unknown platform {wanted!r}", f"one of {', '.join(PLATFORMS)}")
        found = [target for item in profiles for target in item.targets if wanted in {None, target.platform}]
        if not found:
            has = ", ".join(target.platform for item in profiles for target in item.targets)
            raise ProfileError(", ".join(item.source for item in profiles), f"no {wanted} there", f"one of {has}")
        return found

    def target(self, name: str, platform: str, why: str) -> Target:
        """Return a profile's target on a platform; raise EnvError that says which platforms it has instead."""
        found = self.catalogue.find(name)
        for target in found.targets:
            if target.platform == platform:
                return target
        has = ", ".join(target.platform for target in found.targets)
        raise EnvError(f"{found.source}: {found.name}", f"is not for {platform}, {why}", f"a machine of {has}")

    def view(self, target: Target) -> View:
        """Return what a target may choose from, recorded on demand unless offline."""
        return View(self.snapshot, target, None if self.settings.offline else self.recorder)

    def snapshot_digest(self, target: Target) -> Callable[[Lock], Digest]:
        """Return what gives the digest of that which a target could choose from now for the packages of a lock."""
        view = View(self.snapshot, target)
        return lambda found: view.digest(item.project for item in found.artifacts)

    def recorded(self, index: str, project: str, filename: str) -> tuple[Digest | None, int | None] | None:
        """Return the hash and size of a file as the snapshot has them, None where it has no such file."""
        page = self.snapshot.page(index, project)
        file = page.files.get(filename) if page else None
        return (file.sha256, file.size) if file else None

    def check(self, target: Target) -> Lock:
        """Return the lock of a target that is sound, fresh, and passes the gate; read nothing but what is recorded."""
        gate = self.recorded_gate
        gate.before(target)
        found = check.check(
            target,
            self.root,
            self.snapshot_digest(target),
            self.recorded,
            lambda lock: gate.summary(lock.platform, lock.artifacts),
        )
        gate.after(target, {item.project: item.version for item in found.artifacts})
        gate.examine(View(self.snapshot, target), found.artifacts)
        return found

    def lock_path(self, target: Target) -> Path:
        """Return where the lock of a target lies."""
        return lock.folder(self.root, target.profile, target.platform) / lock.FILE

    def lock(self, target: Target) -> Lock:
        """Read the lock of a target."""
        return lock.read(self.lock_path(target), self.root)


def _mirrors(text: str | None, indexes: Mapping[str, str | None]) -> dict[str, str]:
    """Read MIRROR: one URL for the default index, or `alias=URL` words."""
    mirrors = {}
    for word in (text or "").split():
        alias, separator, url = word.partition("=")
        if not separator or "/" in alias:
            alias, url = "pypi", word
        if alias not in indexes:
            raise ProfileError("MIRROR", f"unknown index {alias!r}", f"one of {', '.join(sorted(indexes))}")
        mirrors[alias] = url
    return mirrors
