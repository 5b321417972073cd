"""An aarch64 Debian in a folder, emulated in namespaces of its own: when its process ends, its mounts are gone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.project import environment, not_run
from torchlock.files import exclusive, remove
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "git", "make", "python3", "python3-venv")
OPTIONS = (
    "--mode=root",
    "--architectures=arm64",
    "--variant=minbase",
    '--aptopt=Acquire::Retries "5"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "locale", "man")),
)
EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
BUILD_SECONDS = 900
# Where the working folder appears inside.
WORK = "/mnt"

# $1: the root, $2: the working folder; the rest is the command. The root itself is read-only.
_ENTER = """
set -eu
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$work" "$root/mnt"
for file in resolv.conf hosts; do mount --bind "/etc/$file" "$root/etc/$file"; done
mount -o remount,ro,bind "$root"
exec chroot "$root" env -C /mnt "$@"
"""

_BUNDLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
_PASSED = ("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """An emulated machine; `root` is shared and never written to, `work` is its one writable folder."""

    root: Path
    work: Path

    def command(self, *words: str) -> list[str]:
        """Return the command that runs another inside; its death, or this process's, ends all inside and its mounts."""
        namespaces = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ]
        settings = [f"{name}={value}" for name, value in sorted(self._settings().items())]
        enter = ["sh", "-c", _ENTER, "enter", str(self.root), str(self.work)]
        return [*namespaces, *enter, "--ignore-environment", *settings, *words]

    def _settings(self) -> Mapping[str, str]:
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
        paths = {"HOME": f"{WORK}/home", "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        bundle = _bundle()
        if bundle is None:
            return {**kept, **paths}
        shutil.copyfile(bundle, home / "certificates.pem")
        return {**kept, **paths, **dict.fromkeys(_BUNDLES, f"{WORK}/home/certificates.pem")}


def prepare(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the root of an aarch64 Debian, built once and kept in a cache; mark the test not run where none can be."""
    if os.geteuid() != 0:
        not_run("an aarch64 root needs the rights of root")
    if not EMULATOR.exists() or "enabled" not in EMULATOR.read_text(encoding="utf-8").split():
        not_run("this machine does not emulate aarch64 (.ci/run shows how to enable it)")
    if shutil.which("mmdebstrap") is None:
        not_run("mmdebstrap is not installed")
    recipe = json.dumps([SUITE, PACKAGES, OPTIONS])
    root = cache / f"arm64-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with exclusive(cache / ".arm64.lock", Silent()):
        if not root.is_dir():
            say("building an aarch64 Debian, kept for later runs")
            staging = cache / ".arm64-staging"
            remove(staging)
            _build(staging)
            staging.rename(root)
    return root


def _build(target: Path) -> None:
    """Build from where this machine's own packages come from."""
    with tempfile.NamedTemporaryFile("w", suffix=".list") as sources:
        sources.write("".join(f"deb {line}\n" for line in _sources()))
        sources.flush()
        command = ["mmdebstrap", *OPTIONS, f"--include={','.join(PACKAGES)}", SUITE, str(target), sources.name]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, env=environment()
        )
    if done.returncode:
        remove(target)
        raise RuntimeError(f"mmdebstrap: exit status {done.returncode}\n{done.stderr[-3000:]}")
    for name in ("resolv.conf", "hosts"):
        (target / "etc" / name).touch()


def _sources() -> list[str]:
    """Return `address suite component` of this machine's Debian package sources."""
    wanted = "$(ORIGIN)|$(REPO_URI) $(CODENAME) $(COMPONENT)"
    command: Sequence[str] = ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    debian = [line.partition("|")[2] for line in listed if line.startswith("Debian|")]
    found = sorted({line for line in debian if line.split()[1].startswith(SUITE)})
    if not found:
        not_run(f"this machine has no package source of Debian {SUITE} (apt-get update?)")
    return found


def _bundle() -> Path | None:
    """Return the file of certificates that this machine's clients trust."""
    named = [os.environ[name] for name in _BUNDLES if name in os.environ]
    candidates = [*named, ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt"]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)
