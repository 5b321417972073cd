"""Child processes that see nothing of the user's pip, uv, Python or conda settings."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What could change a resolver's answer or an interpreter's imports, by the first letters of the variable.
_FOREIGN = (
    "PIP_",
    "UV_",
    "PYTHON",
    "CONDA_",
    "VIRTUAL_ENV",
    "MAMBA_",
    "LD_PRELOAD",
    "NETRC",
    "REQUESTS_",
    "VIRTUALENV_",
    "FORCE_COLOR",
    "CLICOLOR",
    "RUST_",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def clean_environment(extra: Mapping[str, str] | None = None, *, proxies: bool = False) -> dict[str, str]:
    """Return the environment without tool settings (and without proxies unless asked), plus `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_FOREIGN) and (proxies or name.lower() not in _PROXIES)
    }
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PYTHONHASHSEED": "0", **(extra or {})}


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    text: str | None = None,
    seconds: float = 600,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in UTF-8, without a shell, in `folder`; the caller judges its exit status."""
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
    )
