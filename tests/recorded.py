"""A small recorded channel, its profile and its rules: what conda's modules work on, without any package file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock.conda.channels import Channels, Record, Subdir
from torchlock.profiles import rules
from torchlock.profiles.conda import CondaProfile, CondaTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[1]
RULES = rules.load(ROOT / "environments" / "compat.yaml")
BASE = "https://conda.anaconda.org/{channel}/{subdir}/"
FULL, LOOSE = {"kind": "pixi.lock", "lockfiles": 2}, {"kind": "conda-lock", "lockfiles": 1}

TARGET = CondaTarget(
    profile="demo-cpu",
    variant="cpu",
    platform="linux-64",
    python="3.11",
    torch="2.4.1",
    numpy="2.1.3",
    channel="main",
    build="cpu_*",
    cuda=None,
    also=(),
    virtual={"__unix": "0", "__linux": "5.10", "__glibc": "2.28"},
    where="environments/demo.yaml:7: variants.cpu.conda.platforms.linux-64",
)
PROFILE = CondaProfile(
    profile="demo-cpu", variant="cpu", channels=("main",), targets=(TARGET,), source="environments/demo.yaml"
)


def record(text: str, *depends: str, evidence: Mapping[str, Any] = FULL, **more: Any) -> Record:
    """Return the record of `name version build`, with hashes made from that."""
    name, version, build = text.split()
    value = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": list(depends),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "md5": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        **more,
    }
    return Record.make(f"{name}-{version}-{build}.conda", value, evidence)


WORLD = (
    record("python 3.11.9 h1_0", "__glibc >=2.17"),
    record("python 3.12.1 h1_0", "__glibc >=2.17"),
    record("numpy 2.1.2 py311_0", "python 3.11.*"),
    record("numpy 2.1.3 py311_0", "python 3.11.*", "libblas"),
    record("numpy 2.1.3 py312_0", "python 3.12.*", "libblas"),
    record("libblas 3.9.0 1_mkl"),
    record("libblas 3.11.0 2_mkl"),
    record("pytorch 2.4.1 cpu_py311_0", "python 3.11.*", "numpy >=1.19,<3", "libtorch 2.4.1 cpu_0"),
    record("pytorch 2.4.1 cuda120_py312_0", "python 3.12.*", "numpy", "libtorch 2.4.1 cuda120_0", "__cuda"),
    record("libtorch 2.4.1 cpu_0"),
    record("libtorch 2.4.1 cuda120_0", "cudnn"),
    record("cudnn 9.1.0 h0_0"),
)


def subdir(records: Iterable[Record], channel: str = "main", name: str = "linux-64") -> Subdir:
    """Return a subdir of a channel that has these records."""
    base = BASE.format(channel=channel, subdir=name)
    return Subdir(channel=channel, subdir=name, base_url=base, records={item.filename: item for item in records})


def recorded(folder: Path, *subdirs: Subdir) -> Channels:
    """Return a snapshot with these subdirs; with the whole small world, if none is given."""
    channels = Channels(folder / "lockfiles" / "index" / "conda")
    for item in subdirs or (subdir(WORLD),):
        channels.write(item)
    return channels


def asking(**changes: Any) -> CondaProfile:
    """Return the profile with other values of its one target."""
    target = replace(TARGET, **changes)
    return replace(PROFILE, variant=target.variant, targets=(target,))


def run(code: str, *arguments: str) -> str:
    """Run code that needs rattler's own threads in a process that ends at once; return what it printed."""
    head = f"import os, sys; sys.path[:0] = [{str(ROOT / 'scripts')!r}, {str(ROOT / 'tests')!r}]\n"
    tail = "\nsys.stdout.flush(); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", head + code + tail, *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(executable: Path, *arguments: str, environment: Mapping[str, str]) -> tuple[Any, int]:
    """Call the adapter as conda-lock does; return its JSON (or its text, where it gives none) and its exit status."""
    done = subprocess.run(
        [str(executable), *arguments],
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return (json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout), done.returncode
