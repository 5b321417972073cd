"""A channel on loopback, a lock of what it serves, and the environments made from it: the real parts, nothing else."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import channels
from channels import PREFIX, Link, Package, publish, python
from servers import Notes, serving
from torchlock.conda.document import CondaLock
from torchlock.conda.document import Package as Locked
from torchlock.conda.installation import CondaEnvironments
from torchlock.conda.packages import Mirrors, PackageFetcher, PackageStore
from torchlock.digest import Digest
from torchlock.network.budget import Limits
from torchlock.network.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from servers import Site

TOOL = Package(
    name="tool",
    version="2.0",
    noarch="python",
    depends=("python",),
    files={
        "site-packages/tool/__init__.py": "import sys\ndef main():\n    print('hello from', sys.prefix)\n",
        "site-packages/tool/template.py": "this is no Python at all\n",
        "python-scripts/script": f"#!{PREFIX}/bin/python\nprint('script in {PREFIX}')\n",
    },
    entry_points=("hello = tool:main",),
)
LIBRARY = Package(
    name="library",
    version="1.5",
    build="h1_3",
    ending=".tar.bz2",
    files={
        "lib/library.so.1": b"\x7fELF\0" + PREFIX.encode() + b"/share\0the end",
        "lib/library.so": Link(target="library.so.1"),
        "bin/where": f"#!/bin/sh\necho {PREFIX}\n",
    },
)
DATA = Package(name="data", noarch="generic", files={"etc/data.conf": "a = 1\n"})
ALL = (python(), TOOL, LIBRARY, DATA)

MODULE = Package(
    name="tool",
    noarch="python",
    depends=("python",),
    files={"site-packages/tool/__init__.py": "value = 1\n"},
    entry_points=("hello = tool:main",),
)
CONF = Package(name="data", build="h0_0", files={"etc/data.conf": "a = 1\n", "lib/data.so": Link(target="data.so.1")})
FEW = (python(), MODULE, CONF)

PROFILE = "demo-cpu"
PLATFORM = "linux-64"
URL = "https://conda.anaconda.org/demo"
FAST = Limits(tries=3, budget=5.0, pause=0.01, longest_pause=0.02)


def locked(url: str, packages: Iterable[Package], **changes: Any) -> CondaLock:
    """Return the lock of packages that a channel serves."""
    items = []
    for package in packages:
        record = channels.record(package, channels.pack(package))
        item = Locked(
            name=package.name,
            version=package.version,
            build=package.build,
            platform=PLATFORM,
            subdir=package.place,
            channel=url,
            filename=package.filename,
            url=f"{url}/{package.place}/{package.filename}",
            sha256=Digest(record["sha256"]),
            md5=record["md5"],
            depends={text.partition(" ")[0]: text.partition(" ")[2] for text in package.depends},
            constrained=True,
        )
        items.append(item)
    items.sort(key=lambda item: item.name)
    lock = CondaLock(
        profile=PROFILE,
        platforms=(PLATFORM,),
        channels=("demo",),
        content_hash={PLATFORM: "0" * 64},
        profile_digest=Digest.of(b"profile"),
        snapshot_digest=Digest.of(b"snapshot"),
        solver="rattler 0.28.0",
        all_packages=tuple(items),
        digest=Digest.of(repr([(item.url, item.sha256) for item in items]).encode()),
    )
    return replace(lock, **changes)


class Shop:
    """Everything below one folder; made again over the same folder it goes on where it was, as another process does."""

    def __init__(self, root: Path, *, offline: bool = False, mirrors: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.reporter = Notes()
        self.store = PackageStore(root / "store", self.reporter)
        remote = None if offline else Remote(self.reporter, FAST)
        self.fetcher = PackageFetcher(self.store, remote, Mirrors(addresses=mirrors or {}), self.reporter)
        self.envs = CondaEnvironments(root=root / "envs", fetcher=self.fetcher, reporter=self.reporter)

    @property
    def env(self) -> Path:
        """Where the environment stands."""
        return self.envs.path(PROFILE)

    def build(self, lock: CondaLock) -> Path:
        """Build the environment of a lock."""
        return self.envs.build(lock, PLATFORM)

    def run(self, *command: str) -> str:
        """Run a command of the environment, and return what it prints."""
        path = self.env / "bin" / command[0]
        return subprocess.run([path, *command[1:]], capture_output=True, text=True, check=True, env={}).stdout.strip()

    def left(self) -> list[str]:
        """List what lies in the folder of environments, but for the kernel locks."""
        return sorted(
            path.name for path in self.envs.root.iterdir() if not path.name.startswith((".lock-", ".linking-"))
        )


def build(shop: Shop, site: Site, *packages: Package) -> Path:
    """Publish packages, and build the environment of all of them."""
    return shop.build(locked(publish(site, packages), packages))


@contextmanager
def standing(root: Path, packages: Sequence[Package]) -> Iterator[Shop]:
    """Serve packages as the channel at URL, and give a shop whose environment of all of them stands."""
    with serving() as site:
        shop = Shop(root, mirrors={URL: publish(site, packages)})
        shop.build(locked(URL, packages))
        yield shop


def child(root: Path, code: str) -> subprocess.Popen[str]:
    """Start another process that works on the same folder, `shop`."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "scripts")]
    head = f"import sys; sys.path[:0] = {folders!r}\nfrom pathlib import Path\nfrom condas import *\n"
    text = f"{head}shop = Shop(Path({str(root)!r}))\n{code}\n"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
