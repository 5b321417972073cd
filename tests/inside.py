"""An image's last layer unpacked into a folder, where its entry point can be run without an engine."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import locks
from torchlock.images import application
from torchlock.locks.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    Done = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[1]
CUDA = Summary(
    architectures=("compute_90", "sm_80"), cuda="12.1", cudnn="8", driver="525.60.13", driver_release="530.30.02"
)
BASE = {"name": "bookworm", "digest": "sha256:0123"}
LICENCES = {"numpy": "BSD-3-Clause", "torch": "MIT"}


def facts(variant: str = "cuda") -> dict[str, Any]:
    """Return the facts of a small image."""
    summary = CUDA if variant == "cuda" else Summary()
    torch = replace(locks.TORCH, version="2.2.2", filename="torch-2.2.2-cp311-cp311-linux_x86_64.whl")
    lock = locks.make(profile=f"torch2.2-{variant}", facts=summary, artifacts=(locks.NUMPY, torch))
    return application.facts(lock, variant, "3.11.2", BASE, LICENCES)


def unpack(folder: Path, variant: str = "cuda") -> Path:
    """Unpack the application layer of a small image; its Python is the one that runs here."""
    pieces = application.pieces(
        files=application.sources(ROOT),
        lock=locks.make().to_toml(),
        facts=facts(variant),
        python_path=sys.executable,
        python="3.11.2",
    )
    for piece in pieces:
        path = folder / piece.entry.path
        if piece.entry.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
        elif piece.entry.kind == "link":
            path.symlink_to(piece.entry.target)
        else:
            assert isinstance(piece.content, bytes)
            path.write_bytes(piece.content)
    return folder


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
    """Run the entry point as an engine does."""
    command = [sys.executable, "-IS", f"{folder}{application.ENTRY}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **(environment or {})}
    )
