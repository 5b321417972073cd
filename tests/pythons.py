"""The running interpreter as the layers of a base: its program, its standard library, its loader and its libraries."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from functools import cache
from pathlib import Path

import pytest

from torchlock.oci.descriptor import LAYER, LAYER_GZIP

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = ".".join(str(part) for part in sys.version_info[:3])
PYTHON = f"/usr/bin/python{MINOR}"
# What of the standard library a start takes, and a little more.
_PACKAGES = {"collections", "encodings", "importlib", "json", "re"}


@cache
def libraries(program: str) -> tuple[str, ...]:
    """Return the paths that the dynamic loader takes for a program, its own among them."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return tuple(sorted({path for path in re.findall(r"(/\S+) \(0x", listed) if Path(path).is_file()}))


def layers(folder: Path) -> list[tuple[Path, str]]:
    """Write two layers: a root without a standard library, then that upon it; or mark the test as not run."""
    program = os.path.realpath(sys.executable)
    if sys.platform != "linux" or not libraries(program):
        pytest.skip("not run: this Python is no dynamic program of Linux")
    first, second = folder / "first.tar", folder / "second.tar"
    with tarfile.open(first, "w") as opened:
        _link(opened, "lib64", "usr/lib64")
        _link(opened, "lib", "usr/lib")
        opened.add(program, f"usr/bin/python{MINOR}")
        for path in libraries(program):
            name = Path(path).name
            where = "usr/lib64" if name.startswith("ld-") else "usr/lib/x86_64-linux-gnu"
            opened.add(os.path.realpath(path), f"{where}/{name}.real")
            _link(opened, f"{where}/{name}", f"{name}.real")
            if name.startswith("ld-"):
                _link(opened, f"usr/lib/{name}", f"/usr/lib64/{name}")
    with tarfile.open(second, "w") as opened:
        opened.add(sysconfig.get_path("stdlib"), f"usr/lib/python{MINOR}", filter=_wanted)
    second.write_bytes(gzip.compress(second.read_bytes(), 1))
    return [(first, LAYER), (second, LAYER_GZIP)]


def _wanted(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = item.name.split("/")[3:]
    return item if not parts or parts[0] in _PACKAGES or (parts[0].endswith(".py") and item.size < 1 << 17) else None


def _link(opened: tarfile.TarFile, name: str, target: str) -> None:
    item = tarfile.TarInfo(name)
    item.type, item.linkname = tarfile.SYMTYPE, target
    opened.addfile(item)
