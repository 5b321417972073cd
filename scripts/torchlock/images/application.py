"""The last layer of an image: its Python links, its entry point, the smoke script, its lock and what it is, as JSON."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any

from torchlock.errors import ImageError
from torchlock.images import licences
from torchlock.layers import layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlock.layers.layer import Piece
    from torchlock.locks.lock import Lock

PLACE = "opt/torchlock"
ENVIRONMENT = f"{PLACE}/env"
HOME = "home/user"
PYTHON = f"/{ENVIRONMENT}/bin/python"
ENTRY = f"/{PLACE}/bin/container/__main__.py"
SCHEMA = 1
# The sticky bit lets any user write there and remove only what is its own: containers run under any number.
_ANYONES = 0o1777
# What runs inside, by its path under scripts/; it lies under bin/ there in the same shape.
_SHIPPED = (
    "smoke.py",
    "checks/*.py",
    "container/*.py",
    "torchlock/__init__.py",
    "torchlock/errors.py",
    "torchlock/process.py",
    "torchlock/preflight.py",
    "torchlock/doctor/__init__.py",
    "torchlock/doctor/machine.py",
)


def sources(root: Path) -> dict[str, bytes]:
    """Return the files that run inside an image by their paths under `scripts/`; raise ImageError where one is gone."""
    scripts, found = root / "scripts", {}
    for pattern in _SHIPPED:
        paths = sorted(scripts.glob(pattern))
        if not paths:
            raise ImageError(f"scripts/{pattern}", "is missing", "what every image holds", "git checkout scripts")
        found.update({path.relative_to(scripts).as_posix(): path.read_bytes() for path in paths})
    return found


def facts(
    lock: Lock, variant: str, python: str, base: Mapping[str, str], licence_of: Mapping[str, str]
) -> dict[str, Any]:
    """Return what an image says of itself; `python` is the base's whole version, `base` its name and digest."""
    versions = {artifact.project: artifact.version for artifact in lock.artifacts}
    return {
        "schema": SCHEMA,
        "profile": lock.profile,
        "variant": variant,
        "platform": lock.platform,
        "torch": versions.get("torch"),
        "numpy": versions.get("numpy"),
        "cuda": lock.facts.cuda,
        "cudnn": lock.facts.cudnn,
        "architectures": list(lock.facts.architectures),
        "driver": lock.facts.driver,
        "driver_release": lock.facts.driver_release,
        "python": python,
        "lock": str(lock.digest()),
        "base": dict(base),
        "licences": licences.combined(licence_of.values()),
        "packages": [
            {"name": project, "version": version, "licence": licence_of[project]}
            for project, version in versions.items()
        ],
    }


def pieces(
    *, files: Mapping[str, bytes], lock: bytes, facts: Mapping[str, Any], python_path: str, python: str
) -> list[Piece]:
    """Return the layer: `files` as `sources` gives them, `lock` the file's bytes, `python_path` the base's Python."""
    settings = {"home": posixpath.dirname(python_path), "include-system-site-packages": "false", "version": python}
    minor = ".".join(python.split(".")[:2])
    found = [
        layer.folder(HOME, _ANYONES),
        layer.file(f"{ENVIRONMENT}/pyvenv.cfg", "".join(f"{key} = {it}\n" for key, it in settings.items()).encode()),
        layer.link(f"{ENVIRONMENT}/bin/python", python_path),
        layer.link(f"{ENVIRONMENT}/bin/python3", "python"),
        layer.link(f"{ENVIRONMENT}/bin/python{minor}", "python"),
        layer.file(f"{PLACE}/pylock.toml", lock),
        layer.file(f"{PLACE}/image.json", json.dumps(facts, sort_keys=True, indent=1).encode() + b"\n"),
        *(layer.file(f"{PLACE}/bin/{path}", data) for path, data in files.items()),
    ]
    return layer.arranged(found)
