"""pip-tools as a resolver: pip's own, for the host's platform only, over the loopback index alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import piptools

from torchlock import interpreter
from torchlock.reporter import Silent
from torchlock.resolve.child import answer

if TYPE_CHECKING:
    from torchlock.profiles.profile import Target


def resolve(target: Target, url: str) -> str:
    """Return pip-compile's answer as `name==version` lines; raise ResolveError with its own words.

    pip evaluates markers for the interpreter that runs it, so one of the target's Python runs the pip and pip-tools
    that torchlock is installed with (both are pure Python). Hashes are not asked for: pip-compile takes them from
    whatever a server answers, a 404 page included.
    """
    python = interpreter.find(target.python, None, Silent())
    with tempfile.TemporaryDirectory(prefix="torchlock-pip-") as name:
        folder = Path(name)
        command = [
            str(python.path), "-m", "piptools", "compile", "-",
            "--no-config", "--quiet", "--output-file", "-", "--cache-dir", str(folder / "cache"),
            "--index-url", url, "--resolver", "backtracking", "--allow-unsafe", "--strip-extras", "--no-header",
            "--no-annotate", "--no-emit-index-url", "--no-emit-options", "--no-reuse-hashes", "--rebuild",
            "--pip-args", "--only-binary=:all: --disable-pip-version-check --no-input",
        ]  # fmt: skip
        extra = {"PYTHONPATH": _libraries(), "HOME": name, "XDG_CONFIG_HOME": name}
        return answer("pip-compile", command, target, folder, extra)


def _libraries() -> str:
    """Return the folder that holds the pip-tools which torchlock is installed with."""
    return str(Path(piptools.__file__).resolve().parents[1])
