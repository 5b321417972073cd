"""uv as a resolver: for any platform, over the loopback index alone."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from torchlock.platforms import PLATFORMS
from torchlock.resolve.child import answer

if TYPE_CHECKING:
    from torchlock.profiles.profile import Target

# Looked up while there is one thread: sysconfig, which it asks, is not safe for a first use by several.
UV = find_uv_bin()


def resolve(target: Target, url: str) -> str:
    """Return uv's answer as `name==version` lines; raise ResolveError with its own words."""
    with tempfile.TemporaryDirectory(prefix="torchlock-uv-") as name:
        folder = Path(name)
        command = [
            UV, "pip", "compile", "-",
            "--no-config", "--quiet", "--color", "never", "--cache-dir", str(folder / "cache"), "--default-index", url,
            "--python-platform", PLATFORMS[target.platform].uv, "--python-version", target.python,
            "--python", sys.executable, "--no-python-downloads",
            "--only-binary", ":all:", "--no-sources", "--no-header", "--no-annotate",
        ]  # fmt: skip
        return answer("uv", command, target, folder)
