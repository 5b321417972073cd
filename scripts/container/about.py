"""What an image is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def text(facts: Mapping[str, Any]) -> str:
    """Return the description of an image from its facts."""
    rows = [
        ("profile", facts["profile"]),
        ("platform", facts["platform"]),
        ("torch", facts["torch"]),
        ("numpy", facts["numpy"] or "none"),
        ("CUDA", _cuda(facts)),
        ("Python", facts["python"]),
        ("lock", facts["lock"]),
        ("base", f"{facts['base']['name']} {facts['base']['digest']}"),
        ("licences", facts["licences"]),
    ]
    names = [package["name"] for package in facts["packages"]]
    wide = max(map(len, names), default=0)
    high = max((len(package["version"]) for package in facts["packages"]), default=0)
    gpus = "--gpus all " if facts["cuda"] else ""
    lines = [
        "An image made by torchlock: a function of the lock below, and of nothing else.",
        "",
        *(f"  {name:<9} {value}" for name, value in rows),
        "",
        f"{len(names)} packages in /opt/torchlock/env:",
        *(f"  {item['name']:<{wide}}  {item['version']:<{high}}  {item['licence']}" for item in facts["packages"]),
        "",
        f"smoke it:  docker run --rm {gpus}IMAGE smoke" + (" --require-device cuda" if facts["cuda"] else ""),
        f"use it:    docker run --rm {gpus}IMAGE python -c 'import torch; print(torch.__version__)'",
    ]
    return "\n".join(lines)


def _cuda(facts: Mapping[str, Any]) -> str:
    if not facts["cuda"]:
        return "none: this build runs on the CPU"
    driver = f"; NVIDIA driver {facts['driver']} or newer" if facts["driver"] else ""
    return f"{facts['cuda']} for {', '.join(facts['architectures'])}{driver}"
