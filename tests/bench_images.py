"""The image part of `make bench`: torchlock against `cp`, `docker build` and `docker push`, in one run; prints ratios.

Nothing here passes or fails. It wants Docker, docker-registry, and the wheels of the default CUDA line, which it
fetches into the store where they are not there; it takes up to 20 GB of disk. `COLD=0` leaves it out and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pip

from bench import COLD_ROUNDS, PROFILE, ROOT, WARM_ROUNDS, Row, show
from e2e import images
from e2e.project import environment
from torchlock.digest import Digest
from torchlock.locks import lock as locks
from torchlock.locks.lock import FILE, folder
from torchlock.reporter import Silent
from torchlock.storage.fetch import Fetcher
from torchlock.workspace import Settings, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlock.locks.lock import Artifact

TOOL = [sys.executable, "scripts/torchlock", "--quiet"]
PLATFORM = "linux-64"
LAYOUT = f"{PROFILE}-{PLATFORM}"
IMPORT = "import torch; print(torch.__version__)"
BUMPED = "filelock"
# What torchlock does, too: a file that is there after a power cut.
DURABLE = 'cp --reflink=never --recursive "$1" "$2"; find "$2" -type f -exec sync {} +'
THEIRS = """
FROM {base}
USER root
COPY pip /tmp/pip
COPY requirements.txt /tmp/
RUN python3 /tmp/pip install --break-system-packages --root-user-action ignore --no-cache-dir --no-deps \
    --no-index --find-links {house} -r /tmp/requirements.txt
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the benchmark works: a clone of the project, a store of hard links, an empty folder for each try."""

    root: Path
    clone: Path
    store: Path
    wheels: Path
    base: str

    def blank(self) -> None:
        """Leave nothing in the store but wheels and the base."""
        for path in (self.store / "blobs" / "sha256").iterdir():
            if path.name != self.base:
                path.unlink()
        for path in (self.clone / "images", self.store / "layers", self.root / "copy"):
            shutil.rmtree(path, ignore_errors=True)

    def tool(self, *words: str) -> list[str]:
        """Return a command of torchlock in the clone."""
        return [*TOOL[:1], str(self.clone / TOOL[1]), *TOOL[2:], *words]

    @property
    def environment(self) -> dict[str, str]:
        """The variables of that command."""
        return environment({"TORCHLOCK_STORE": str(self.store), "TORCHLOCK_OFFLINE": "1"})


@contextmanager
def place() -> Iterator[Place]:
    """Prepare all that the tries share, on the disk of the store; remove it afterwards."""
    workspace = Workspace(ROOT, Settings(), Silent())
    target = workspace.catalogue.find(PROFILE).targets[0]
    artifacts = workspace.lock(target).artifacts
    Fetcher(workspace.store, workspace.remote, workspace.roots, workspace.wheelhouses).fetch(artifacts)
    with tempfile.TemporaryDirectory(dir=workspace.store.root.parent, prefix="torchlock-bench-") as name:
        root = Path(name).resolve()
        (layer,) = json.loads((ROOT / f"docker/base/{PLATFORM}.json").read_bytes())["layers"]
        made = Place(
            root=root,
            clone=root / "clone",
            store=root / "store",
            wheels=root / "wheels",
            base=layer["digest"].removeprefix("sha256:"),
        )
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(made.clone)], check=True)
        _link(workspace, artifacts, made)
        subprocess.run(made.tool("image", PROFILE), env={**made.environment, "TORCHLOCK_OFFLINE": ""}, check=True)
        yield made


def _link(workspace: Workspace, artifacts: Sequence[Artifact], made: Place) -> None:
    """Link the wheels into the store by digest, and into a folder by name; and the base, if it is here."""
    made.wheels.mkdir()
    (made.store / "blobs" / "sha256").mkdir(parents=True)
    for item in artifacts:
        source = workspace.store.path(item.sha256)
        target = made.store / source.relative_to(workspace.store.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
        os.link(source, made.wheels / item.filename)
    with suppress(FileNotFoundError):
        known = workspace.store.root / "blobs" / "sha256" / made.base
        os.link(known, made.store / "blobs" / "sha256" / made.base)


def bench_builds(made: Place) -> None:
    """Make the image: first, with known layer facts, again; against copying its wheels."""
    copied, durable = Row("cp of the wheels"), Row("cp of the wheels, each on the disk (sync)")
    first = Row("make image, nothing known (AGAIN=1)")
    known, again = Row("make image, layer facts known"), Row("make image again, layers there (verified)")
    for _ in range(WARM_ROUNDS):
        made.blank()
        copied.run(["cp", "--reflink=never", "--recursive", str(made.wheels), str(made.root / "copy")])
        made.blank()
        target = str(made.root / "copy")
        durable.run(["sh", "-ec", DURABLE, "copy", str(made.wheels), target])
        made.blank()
        first.run(made.tool("image", PROFILE, "--again"), environment=made.environment)
        made.blank()
        known.run(made.tool("image", PROFILE), environment=made.environment)
        again.run(made.tool("image", PROFILE), environment=made.environment)
    show(f"The image of {PROFILE}", [copied, durable, first, known, again], copied.median, "cp of its wheels")


def bench_delivery(made: Place, registry: images.Registry) -> None:
    """Make and push; pull and import: torchlock's image against one by `docker build`."""
    docker = ["docker", "--config", str(registry.config)]
    ours, theirs = registry.repository("ours"), f"{registry.repository('theirs')}:1"
    login = {"DOCKER_CONFIG": str(registry.config)}
    made.blank()
    rows = [Row("torchlock: make image, nothing known"), Row("torchlock: make push")]
    rows[0].run(made.tool("image", PROFILE, "--again"), environment=made.environment)
    rows[1].run(made.tool("push", PROFILE, "--registry", ours), environment={**made.environment, **login})
    own = registry.size
    digest = Digest.of_file(made.clone / "lockfiles" / PROFILE / PLATFORM / "image" / "manifest.json")
    with _base(made) as base, _served(made.wheels) as house:
        context = _context(made, base, house)
        rows += [Row("docker build, pip from a local wheelhouse"), Row("docker push")]
        build = ["build", "--quiet", "--network", "host", "--no-cache", "--tag", theirs, str(context)]
        rows[2].run([*docker, *build], environment=environment({"DOCKER_BUILDKIT": "0"}))
        rows[3].run([*docker, "push", "--quiet", theirs])
        subprocess.run([*docker, "rmi", "--force", theirs], check=True, capture_output=True)
    mine = rows[0].median + rows[1].median
    show(f"{PROFILE} at a registry", rows, mine, "image + push of torchlock")
    docked = rows[2].median + rows[3].median
    print(f"  together: {mine:.1f} s against {docked:.1f} s: {docked / mine:.1f} times faster")  # noqa: T201
    print(f"  at the registry: {own / 1e6:,.0f} MB against {(registry.size - own) / 1e6:,.0f} MB")  # noqa: T201
    _first_import(docker, {"torchlock's image": f"{ours}@{digest}", "the Docker-built image": theirs})


def _first_import(docker: Sequence[str], references: dict[str, str]) -> None:
    """Pull each image into a Docker that has nothing of it, and import torch for the first time; there and back."""
    rows = {name: (Row(f"docker pull {name}"), Row(f"first import torch in {name}")) for name in references}
    for name in (*references, *reversed(references)):
        pull, first = rows[name]
        pull.run([*docker, "pull", "--quiet", references[name]])
        first.run([*docker, "run", "--rm", "--network", "none", references[name], "python3", "-c", IMPORT])
        subprocess.run([*docker, "rmi", "--force", references[name]], check=True, capture_output=True)
    sums = [pull.median + first.median for pull, first in rows.values()]
    show("From docker pull to import torch", sum(rows.values(), ()), sums[1], "both of the Docker-built image")
    print(f"  together: {sums[0]:.1f} s against {sums[1]:.1f} s: {sums[0] / sums[1]:.2f}x")  # noqa: T201


@contextmanager
def _base(made: Place) -> Iterator[str]:
    """Give Docker the base, under a name; remove that afterwards."""
    name, layer = "torchlock-bench-base", made.store / "blobs" / "sha256" / made.base
    with layer.open("rb") as file:
        subprocess.run(["docker", "import", "-", name], stdin=file, check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["docker", "rmi", "--force", name], check=True, capture_output=True)


@contextmanager
def _served(wheels: Path) -> Iterator[str]:
    """Serve the wheels on loopback, as a page of links."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(wheels))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _context(made: Place, base: str, house: str) -> Path:
    """Return the folder that `docker build` gets: a Dockerfile, this environment's pip, and the lock's requirements."""
    context = made.root / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(THEIRS.format(base=base, house=house), encoding="utf-8")
    shutil.copytree(Path(pip.__file__).parent, context / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    lock = folder(made.clone, PROFILE, PLATFORM) / FILE
    shutil.copyfile(lock.with_name("requirements.txt"), context / "requirements.txt")
    return context


def bench_bump(made: Place, registry: images.Registry) -> None:
    """Count what a new version of one small package sends to a registry that has the image."""
    page = made.clone / "lockfiles/index/pypi" / f"{BUMPED}.json"
    for item in locks.read(folder(made.clone, PROFILE, PLATFORM) / FILE, made.clone).artifacts:
        if item.project == BUMPED:
            images.forget(page, item.filename)
    online = {**made.environment, "TORCHLOCK_OFFLINE": "", "DOCKER_CONFIG": str(registry.config)}
    row = Row("lock, make image and push after a small bump")
    row.run(made.tool("lock", PROFILE), environment=online)
    row.run(made.tool("image", PROFILE), environment=online)
    before = registry.counter.received
    row.run(made.tool("push", PROFILE, "--registry", registry.repository("ours")), environment=online)
    sent = registry.counter.received - before
    print(f"\nAnother {BUMPED} in {PROFILE}: {sent:,} bytes sent to the registry, manifest and all")  # noqa: T201
    lock_s, image_s, push_s = row.seconds
    print(f"  lock {lock_s:.1f} s, image {image_s:.1f} s, push {push_s:.1f} s")  # noqa: T201


def main() -> None:
    """Run the image part."""
    if not COLD_ROUNDS:
        print("\nImages: not run (COLD=0)")  # noqa: T201 - this script's result
        return
    missing = [name for name in ("docker", "docker-registry") if shutil.which(name) is None]
    if missing:
        print(f"\nImages: not run ({', '.join(missing)} not installed)")  # noqa: T201
        return
    with place() as made:
        bench_builds(made)
        with images.registry(made.root / "registry") as registry:
            bench_delivery(made, registry)
            bench_bump(made, registry)


if __name__ == "__main__":
    main()
