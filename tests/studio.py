"""A studio for images: small wheels, their lock, a base of one small layer, and the blobs that images go to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import locks
import wheels
import workshop
from servers import Notes
from torchlock.digest import Digest
from torchlock.images import application, build
from torchlock.images.inputs import Inputs
from torchlock.images.known import Knowledge
from torchlock.layers import layer
from torchlock.layers.order import Order
from torchlock.locks.summary import Summary
from torchlock.oci.blobs import Blobs, Content
from torchlock.oci.descriptor import DOCKER_LAYER_GZIP, Descriptor
from torchlock.profiles.profile import Target
from torchlock.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torchlock.images.build import Built
    from torchlock.layers.bytecode import Compiler
    from torchlock.locks.lock import Artifact, Lock

ROOT = Path(__file__).parents[1]
CUDA = Summary(
    architectures=("sm_80", "compute_90"), cuda="12.1", cudnn="8", driver="525.60.13", driver_release="530.30.02"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyBase:
    """A base, as images need it."""

    name: str
    digest: Digest
    layers: tuple[tuple[Descriptor, Digest], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    python_path: str = "/usr/bin/python3.11"
    python_version: str = "3.11.2"


BASE = TinyBase(
    name="tiny",
    config={"Env": ["PATH=/usr/bin:/bin", "FROM_BASE=yes"], "Cmd": ["bash"], "Labels": {"maker": "tests"}},
    digest=Digest.of(b"the lock of the base"),
)


def target(variant: str, platform: str) -> Target:
    """Return a target of torch 2.2."""
    return Target(
        profile=f"torch2.2-{variant}",
        line="torch2.2",
        variant=variant,
        platform=platform,
        python="3.11",
        requirements=(),
        indexes={},
        default_index="pypi",
        cuda=None,
        source="environments/torch2.2.yaml",
        exceptions=(),
    )


class Studio:
    """A folder with everything that an image is made from; `notes` is what was said meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheelhouse"
        self.notes = Notes()
        self.blobs = Blobs(folder / "store" / "blobs", self.notes)
        self.store = Store(folder / "store", self.notes)
        self.fetcher = workshop.Counting(self.store, self.wheels, self.notes)
        self.base = BASE
        self.lock = locks.make()

    def wheel(self, name: str, files: Mapping[str, bytes | str] | None = None, **more: Any) -> Artifact:
        """Make a wheel and return its artifact."""
        return wheels.artifact(wheels.make(self.wheels, files, name=name, **more))

    def with_base(self) -> None:
        """Give the base a layer that lies in the blobs, under Docker's media type."""
        with self.blobs.writing() as sink:
            made = layer.write(layer.arranged([layer.file("etc/base", b"tiny\n")]), sink)
            found = sink.commit(Content(digest=made.digest, size=made.size))
        below = Descriptor(media_type=DOCKER_LAYER_GZIP, digest=found.digest, size=found.size)
        self.base = replace(BASE, layers=((below, made.diff_id),))

    def locked(self, *artifacts: Artifact, **changes: Any) -> Lock:
        """Lock artifacts, as CUDA's unless facts are given."""
        self.lock = locks.make(
            **{"profile": "torch2.2-cuda", "artifacts": artifacts, "facts": CUDA, **changes},
        )
        return self.lock

    def inputs(self, **changes: Any) -> Inputs:
        """Return the inputs of the locked image, with the files of this checkout that run inside."""
        values = {
            "lock": self.lock,
            "variant": "cuda",
            "base": self.base,
            "order": Order(patterns=("torch", "numpy")),
            "sources": application.sources(ROOT),
        }
        return Inputs(**{**values, **changes})

    @property
    def memory(self) -> Knowledge:
        """What this machine remembers of layers."""
        return Knowledge(folder=self.folder / "store" / "layers")

    def build(
        self,
        inputs: Inputs | None = None,
        knowledge: Knowledge | None = None,
        compiler: Callable[[], Compiler] | None = None,
    ) -> Built:
        """Build the image of the locked artifacts."""
        return build.build(
            inputs or self.inputs(),
            knowledge=knowledge or self.memory,
            blobs=self.blobs,
            fetcher=self.fetcher,
            compiler=compiler or self.compiler,
            reporter=self.notes,
        )

    def compiler(self) -> Compiler:
        """Return the base's own Python, which this base does not have."""
        raise AssertionError("no layer here needs byte code")


def furnished(folder: Path) -> Studio:
    """Return a studio with a base and the lock of three wheels, one of which is large."""
    studio = Studio(folder)
    studio.with_base()
    noise = b"".join(Digest.of(b"%d" % number).hex.encode() for number in range(12_000))
    torch = studio.wheel(
        "torch",
        {
            "torch/__init__.py": "version = '2.2.2'\n",
            "torch/lib/noise.bin": noise,
            "torch-2.2.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.2.2\nLicense: BSD-3\n",
        },
        version="2.2.2",
    )
    numpy = studio.wheel(
        "numpy",
        {
            "numpy/__init__.py": "version = '1.26.4'\n",
            "numpy-1.26.4.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n",
        },
        version="1.26.4",
    )
    studio.locked(torch, numpy, studio.wheel("alpha"))
    return studio
