"""A Debian base: its locked packages brought here, and built by mmdebstrap, offline, bit for bit the same."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from torchlock import files
from torchlock.base.apt import ARCHITECTURES, Apt
from torchlock.base.child import complaints, work
from torchlock.base.packages import PULL, UPDATE, BaseLock, Layer, Package
from torchlock.base.rewriting import MERGED, Written, rewrite
from torchlock.errors import ImageError
from torchlock.layers.tar import EPOCH
from torchlock.locks.lock import Artifact
from torchlock.oci.descriptor import LAYER_GZIP, Descriptor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlock.base.declaration import DebianBase
    from torchlock.base.workshop import Workshop

# What an image inherits: Debian's own search path.
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}

_EXCLUDED = tuple(f"/usr/share/{folder}/*" for folder in ("doc", "info", "lintian", "locale", "man"))
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The links of the merged usr, as Debian's installer makes them.
_LINKS = {"amd64": MERGED, "arm64": ("bin", "lib", "sbin")}
_ROOM = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One build: of which base, where, with what."""

    base: DebianBase
    platform: str
    folder: Path
    workshop: Workshop

    @property
    def architecture(self) -> str:
        """The platform in Debian's words."""
        return ARCHITECTURES[self.platform]

    def apt(self) -> Apt:
        """Return apt in a folder of this build."""
        (self.folder / "apt").mkdir()
        return Apt(self.folder / "apt", self.base.suite, self.platform, self.workshop.mirror, self.workshop.reporter)


def update(base: DebianBase, platform: str, workshop: Workshop) -> BaseLock:
    """Choose the newest packages of a base, build it, and return its lock."""
    workshop.online(f"the newest packages for the base {base.name}")
    with workshop.alone(f"{base.name}-{platform}") as folder:
        job = _Job(base=base, platform=platform, folder=folder, workshop=workshop)
        apt = job.apt()
        packages = apt.choose(base.packages)
        _fetch(job, packages, apt)
        written = _built(job, packages)
    return _lock(base, platform, packages, written)


def build(base: DebianBase, lock: BaseLock, workshop: Workshop) -> None:
    """Build a locked base into the blobs; raise ImageError where that gives other bytes than its lock has."""
    with workshop.alone(f"{base.name}-{lock.platform}") as folder:
        if workshop.blobs.get(lock.layers[0].descriptor) is not None:
            return
        job = _Job(base=base, platform=lock.platform, folder=folder, workshop=workshop)
        _fetch(job, lock.packages, job.apt())
        _built(job, lock.packages, lock)


def _lock(base: DebianBase, platform: str, packages: Sequence[Package], written: Written) -> BaseLock:
    name = base.python.rpartition("/")[2]
    versions = [item.version for item in packages if item.name == f"{name}-minimal"]
    if not versions:
        raise ImageError(base.name, f"no package {name}-minimal", f"the one that brings {base.python}")
    return BaseLock(
        base=base.name,
        platform=platform,
        declared=base.digest(platform),
        layers=(layer(written),),
        python=base.python,
        version=versions[0].rpartition(":")[2].partition("-")[0],
        config=CONFIG,
        packages=tuple(replace(item, content=written.contents.get(item.name)) for item in packages),
        generated=written.generated,
    )


def layer(written: Written) -> Layer:
    """Return what was written as a lock names it."""
    blob = written.blob
    descriptor = Descriptor(media_type=LAYER_GZIP, digest=blob.digest, size=blob.size)
    return Layer(descriptor=descriptor, diff_id=blob.diff_id)


def _artifact(item: Package) -> Artifact:
    """Name a package as the store wants its objects named."""
    return Artifact(
        project=item.name,
        version=item.version,
        filename=item.filename,
        sha256=item.sha256,
        size=item.size,
        upload_time=None,
        index="debian",
    )


def _fetch(job: _Job, packages: Sequence[Package], apt: Apt) -> None:
    """Bring the packages that are not here yet into the store."""
    workshop, folder = job.workshop, job.folder
    missing = [item for item in packages if workshop.debs.get(_artifact(item)) is None]
    if not missing:
        return
    workshop.online(f"{missing[0].filename}{f' (and {len(missing) - 1} more packages)' if len(missing) > 1 else ''}")
    total = sum(item.size for item in missing)
    workshop.debs.room(2 * total + _ROOM)
    workshop.reporter.note(f"fetching {len(missing)} Debian packages ({total / 1e6:.0f} MB)")
    apt.download(missing, folder / "download")
    for item in missing:
        workshop.debs.add(_artifact(item), folder / "download" / item.filename)
    files.remove(folder / "download")


def _built(job: _Job, packages: Sequence[Package], lock: BaseLock | None = None) -> Written:
    """Build packages into a blob, which with `lock` must be the locked one; return what was written."""
    workshop, repository = job.workshop, job.folder / "packages"
    repository.mkdir()
    for item in packages:
        files.link_or_copy(workshop.debs.path(item.sha256), repository / item.filename)
    (repository / "Packages").write_text("".join(_stanza(item, repository) for item in packages), encoding="utf-8")
    root = job.folder / "root.tar"
    _bootstrap(job, repository, root)
    workshop.reporter.note("writing the layer")
    with workshop.blobs.writing() as sink:
        written = rewrite(root, sink)
        _complete(job.base, packages, written)
        if lock is not None and lock.layers != (layer(written),):
            raise _deviation(lock, written)
        sink.commit(layer(written).descriptor)
    return written


def _stanza(item: Package, repository: Path) -> str:
    """Return a package's paragraph of the index: its own control file, and where and what its file is."""
    control: list[str] = []
    environment = {"PATH": os.environ.get("PATH", SEARCH), "LC_ALL": "C.UTF-8"}
    command = ["dpkg-deb", "--field", item.filename]
    status, lines = work(command, environment=environment, folder=repository, heard=control.append)
    if status:
        raise ImageError(item.filename, complaints(lines), "a Debian package")
    file = [f"Filename: ./{item.filename}", f"Size: {item.size}", f"SHA256: {item.sha256.hex}"]
    return "\n".join([*control, *file, "", ""])


def _bootstrap(job: _Job, repository: Path, target: Path) -> None:
    """Run mmdebstrap over the packages in `repository` alone; its mounts are in a namespace that ends with it."""
    folder, architecture = job.folder, job.architecture
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    environment = {
        "PATH": SEARCH,
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "PERL_HASH_SEED": "0",
    }
    links = " ".join(_LINKS[architecture])
    command = [
        "mmdebstrap",
        "--mode=unshare",
        "--format=tar",
        "--variant=essential",
        f"--architectures={architecture}",
        f"--include={','.join(job.base.packages)}",
        f'--setup-hook=for name in {links}; do mkdir -p "$1/usr/$name" && ln -s "usr/$name" "$1/$name"; done',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED),
        '--aptopt=Acquire::Languages "none"',
        "",  # any release: the packages here are those of one
        str(target),
        f"deb [trusted=yes] copy://{quote(str(repository))} ./",  # each was verified by the digest in the lock
    ]

    def heard(line: str) -> None:
        if line.startswith("I: ") and line.endswith("..."):
            job.workshop.reporter.note(f"mmdebstrap ({architecture}): {line[3:-3]}")

    status, lines = work(command, environment=environment, folder=folder, heard=heard, contained=True)
    if status or not target.is_file():
        what = f"a machine where {architecture} programs run (by qemu-user-static, if it has another processor)"
        raise ImageError("mmdebstrap", complaints(lines), what, PULL)


def _complete(base: DebianBase, packages: Sequence[Package], written: Written) -> None:
    """Refuse a root in which other packages are installed than asked for."""
    if written.packages != (wanted := {item.identity for item in packages}):
        differing = ", ".join(" ".join(item) for item in sorted(written.packages ^ wanted))
        raise ImageError(f"the base {base.name}", f"mmdebstrap left out, or added, {differing}", "the locked packages")


def _deviation(lock: BaseLock, written: Written) -> ImageError:
    """Return the error of a layer that is not the locked one: which packages, which files."""
    said = []
    for item in sorted(lock.packages):
        if written.contents.get(item.name) != item.content:
            names = written.altered.get(item.name, ())
            said.append(f"the package {item.name}" + (f" ({', '.join(names[:5])})" if names else ""))
    folders = sorted(written.generated.keys() | lock.generated.keys())
    other = [name for name in folders if written.generated.get(name) != lock.generated.get(name)]
    if other:
        said.append(f"what is made while packages are installed, in {', '.join(other)}")
    found = f"{written.blob.digest}, which differs in {'; '.join(said) or 'the form of the layer alone'}"
    where = f"the base {lock.base} for {lock.platform}"
    return ImageError(where, found, f"{lock.layers[0].descriptor.digest} as locked", f"{PULL}, or {UPDATE}")
