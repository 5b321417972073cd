"""The application layer holds what an image needs to start, to say what it is and to smoke itself, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import locks
from torchlock.errors import ImageError
from torchlock.images import application

if TYPE_CHECKING:
    from torchlock.layers.layer import Piece

ROOT = Path(__file__).parents[1]
LICENCES = {"numpy": "LicenseRef-numpy", "torch": "BSD-3-Clause"}
BASE = {"name": "bookworm", "digest": "sha256:abc"}


def made() -> dict[str, Piece]:
    """Return the layer of a small lock, by path."""
    lock = locks.make()
    said = application.facts(lock, "cpu", "3.11.2", BASE, LICENCES)
    found = application.pieces(
        files={"smoke.py": b"smoke", "checks/a.py": b"a"},
        lock=lock.to_toml(),
        facts=said,
        python_path="/usr/bin/python3.11",
        python="3.11.2",
    )
    return {item.entry.path: item for item in found}


def test_the_layer_holds_these_paths_and_no_others() -> None:
    """The environment's settings and links, the programs, the lock, the facts, and the home folder."""
    assert {path: item.entry.kind for path, item in made().items()} == {
        "home": "folder",
        "home/user": "folder",
        "opt": "folder",
        "opt/torchlock": "folder",
        "opt/torchlock/bin": "folder",
        "opt/torchlock/bin/checks": "folder",
        "opt/torchlock/bin/checks/a.py": "file",
        "opt/torchlock/bin/smoke.py": "file",
        "opt/torchlock/env": "folder",
        "opt/torchlock/env/bin": "folder",
        "opt/torchlock/env/bin/python": "link",
        "opt/torchlock/env/bin/python3": "link",
        "opt/torchlock/env/bin/python3.11": "link",
        "opt/torchlock/env/pyvenv.cfg": "file",
        "opt/torchlock/image.json": "file",
        "opt/torchlock/pylock.toml": "file",
    }


def test_any_user_may_write_at_home_and_nowhere_else() -> None:
    """Containers run under any number; the home folder is sticky, all else is root's alone."""
    modes = {path: item.entry.mode for path, item in made().items() if item.entry.kind != "link"}
    assert modes.pop("home/user") == 0o1777
    assert set(modes.values()) == {0o755, 0o644}


def test_the_environment_is_the_bases_python() -> None:
    """A virtual environment by its pyvenv.cfg, with links to the base's interpreter and without its packages."""
    found = made()
    assert found["opt/torchlock/env/pyvenv.cfg"].content == (
        b"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"
    )
    targets = {path.rpartition("/")[2]: item.entry.target for path, item in found.items() if item.entry.target}
    assert targets == {"python": "/usr/bin/python3.11", "python3": "python", "python3.11": "python"}


def test_the_lock_in_the_image_is_the_file_itself() -> None:
    """Byte for byte, so that the smoke report names the same digest."""
    assert made()["opt/torchlock/pylock.toml"].content == locks.make().to_toml()


def test_the_facts_say_what_the_image_is() -> None:
    """Versions, digests, packages and licences; no clock, no machine."""
    content = made()["opt/torchlock/image.json"].content
    assert isinstance(content, bytes)
    assert json.loads(content) == {
        "schema": 1,
        "profile": "torch2.2-cpu",
        "variant": "cpu",
        "platform": "linux-64",
        "torch": "2.2.2+cpu",
        "numpy": "1.26.4",
        "cuda": None,
        "cudnn": None,
        "architectures": [],
        "driver": None,
        "driver_release": None,
        "python": "3.11.2",
        "lock": str(locks.make().digest()),
        "base": BASE,
        "licences": "BSD-3-Clause AND LicenseRef-numpy",
        "packages": [
            {"name": "numpy", "version": "1.26.4", "licence": "LicenseRef-numpy"},
            {"name": "torch", "version": "2.2.2+cpu", "licence": "BSD-3-Clause"},
        ],
    }


def test_everything_that_runs_inside_is_shipped(tmp_path: Path) -> None:
    """What is shipped imports in a bare interpreter, from its own folder alone: no module is forgotten."""
    for path, data in application.sources(ROOT).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import smoke, container.gpu, container.about, torchlock.preflight, torchlock.doctor.machine\n"
        "from checks import child\n"
        "own = {name: module.__file__ for name, module in sys.modules.items()\n"
        "       if name.partition('.')[0] in {'smoke', 'checks', 'container', 'torchlock'}}\n"
        "assert all(path.startswith(sys.argv[1]) for path in own.values()), own\n"
    )
    subprocess.run([sys.executable, "-IS", "-c", code, str(tmp_path)], check=True)


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    """An image without its smoke script is refused before anything is built."""
    shutil.copytree(ROOT / "scripts" / "checks", tmp_path / "scripts" / "checks")
    with pytest.raises(ImageError) as caught:
        application.sources(tmp_path)
    assert str(caught.value) == (
        "scripts/smoke.py: is missing; expected what every image holds; try: git checkout scripts"
    )
