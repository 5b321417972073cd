"""Platforms by conda's names, mapped to wheel tags, markers and uv's names: the only place that does."""

from __future__ import annotations

import platform as _platform
import sys
from dataclasses import dataclass
from functools import cache

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from torchlock.errors import EnvError

# The glibc that a Linux wheel may ask for at most: manylinux_2_28, met by Debian 10, RHEL 8 and all later ones.
GLIBC = (2, 28)
# The oldest macOS that the profiles promise, (major, minor).
MACOS = (13, 0)
# The Pythons that torchlock runs on and locks for.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """One platform; `name` is conda's, `uv` the value of its `--python-platform`."""

    name: str
    uv: str
    marker: str

    def tags(self, python: str) -> tuple[Tag, ...]:
        """Return the wheel tags that this platform takes for a Python such as `3.11`, best first."""
        return _tags(self.name, python)


PLATFORMS = {
    item.name: item
    for item in (
        Platform(
            name="linux-64",
            uv="x86_64-manylinux_2_28",
            marker="sys_platform == 'linux' and platform_machine == 'x86_64'",
        ),
        Platform(
            name="linux-aarch64",
            uv="aarch64-manylinux_2_28",
            marker="sys_platform == 'linux' and platform_machine == 'aarch64'",
        ),
        Platform(
            name="osx-64",
            uv="x86_64-apple-darwin",
            marker="sys_platform == 'darwin' and platform_machine == 'x86_64'",
        ),
        Platform(
            name="osx-arm64",
            uv="aarch64-apple-darwin",
            marker="sys_platform == 'darwin' and platform_machine == 'arm64'",
        ),
        Platform(
            name="win-64",
            uv="x86_64-pc-windows-msvc",
            marker="sys_platform == 'win32' and platform_machine == 'AMD64'",
        ),
    )
}

_BY_MACHINE = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
    ("win32", "AMD64"): "win-64",
}


def of_machine(system: str, machine: str) -> Platform:
    """Return the platform of a `sys.platform` and a `platform.machine()`."""
    name = _BY_MACHINE.get((system, machine))
    if name is None:
        raise EnvError("this machine", f"{system} on {machine}", f"one of {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def host() -> Platform:
    """Return the platform of the running interpreter."""
    return of_machine(sys.platform, _platform.machine())


def _platform_tags(name: str) -> list[str]:
    if name == "win-64":
        return ["win_amd64"]
    if name.startswith("osx"):
        return list(mac_platforms(MACOS, "arm64" if name == "osx-arm64" else "x86_64"))
    machine = "x86_64" if name == "linux-64" else "aarch64"
    major, newest = GLIBC
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    oldest = 5 if machine == "x86_64" else 17
    tags = []
    for minor in range(newest, oldest - 1, -1):
        tags.append(f"manylinux_{major}_{minor}_{machine}")
        if minor in legacy:
            tags.append(f"{legacy[minor]}_{machine}")
    return [*tags, f"linux_{machine}"]


@cache
def _tags(name: str, python: str) -> tuple[Tag, ...]:
    major, minor = (int(part) for part in python.split("."))
    platforms = _platform_tags(name)
    return (
        *cpython_tags((major, minor), abis=[f"cp{major}{minor}"], platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    )
