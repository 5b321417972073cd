"""uv as a resolver: for any platform, over the loopback index alone."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

from uv import find_uv_bin

from torchlock.errors import ResolveError
from torchlock.platforms import PLATFORMS
from torchlock.process import clean_environment, run

if TYPE_CHECKING:
    from torchlock.profile import Target


def resolve(target: Target, url: str) -> str:
    """Return uv's answer as `name==version` lines; raise ResolveError with its own words."""
    with tempfile.TemporaryDirectory(prefix="torchlock-uv-") as folder:
        command = [
            find_uv_bin(), "pip", "compile", "-",
            "--no-config", "--quiet", "--cache-dir", folder, "--default-index", url,
            "--python-platform", PLATFORMS[target.platform].uv, "--python-version", target.python, "--python", sys.executable,
            "--only-binary", ":all:", "--no-sources", "--no-header", "--no-annotate", "--no-python-downloads",
        ]  # fmt: skip
        done = run(command, environment=clean_environment(), text="\n".join([*target.requirements, ""]))
    if done.returncode != 0:
        where = f"{target.source}: {target.profile} on {target.platform}"
        raise ResolveError(where, f"uv: {done.stderr.strip()}", remedy="make update, or other pins")
    return done.stdout
