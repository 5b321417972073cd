"""Patients for the doctor: virtual environments whose packages are installed from literal dicts, and cases of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wheels
from torchlock.doctor import distributions
from torchlock.doctor.examination import Doctor
from torchlock.doctor.findings import Case
from torchlock.doctor.machine import Device, Machine
from torchlock.doctor.patient import Patient, find
from torchlock.facts.facts import Facts, Module
from torchlock.profiles import profile, rules
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torchlock.doctor.distributions import Distribution

ROOT = Path(__file__).resolve().parents[1]
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
NO_GPU = Machine()
OLD = Facts(modules=(Module(path="torch/lib/libtorch_python.so", numpy="1", kind="elf"),))
NEW = Facts(modules=(Module(path="torch/lib/libtorch_python.so", numpy="2", kind="elf"),))
A100 = Device(name="A100", capability=(8, 0))
NUMPY = {
    "numpy/__init__.py": "__version__ = '{0}'\ndef arange(n): return []\n",
    "numpy/version.py": 'version = "{0}"\n',
}
TORCH = {
    "torch/__init__.py": "from torch.version import __version__\n",
    "torch/version.py": "__version__ = '{0}'\ncuda = {1!r}\n",
}


def venv(folder: Path) -> Path:
    """Make an empty virtual environment, without pip, and return its folder."""
    base = Path(sys.base_prefix) / "bin" / f"python{RUNNING}"
    site(folder).mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(base)
    settings = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {RUNNING}.0\n"
    (folder / "pyvenv.cfg").write_text(settings, encoding="utf-8")
    return folder


def site(env: Path) -> Path:
    """Return an environment's folder of packages."""
    return env / "lib" / f"python{RUNNING}" / "site-packages"


def install(
    env: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Iterable[str] = (),
    installer: str = "uv",
) -> Path:
    """Put a distribution into an environment as an installer would, with a true RECORD; return its `.dist-info`."""
    brought = dict(files if files is not None else {f"{name}.py": "value = 1\n"})
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    members = {path: data.encode() if isinstance(data, str) else data for path, data in brought.items()}
    members[f"{info}/METADATA"] = wheels.metadata(name, version, requires).encode()
    members[f"{info}/INSTALLER"] = f"{installer}\n".encode()
    record = "".join(f"{path},{wheels.row(data)}\n" for path, data in members.items()) + f"{info}/RECORD,,\n"
    for path, data in {**members, f"{info}/RECORD": record.encode()}.items():
        place = site(env) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return site(env) / info


def numpy(env: Path, version: str = "1.26.4") -> Path:
    """Install something that calls itself NumPy."""
    return install(env, "numpy", version, {path: text.format(version) for path, text in NUMPY.items()})


def torch(env: Path, version: str = "2.2.2", cuda: str | None = None, requires: Iterable[str] = ()) -> Path:
    """Install something that calls itself torch."""
    files = {path: text.format(version, cuda) for path, text in TORCH.items()}
    return install(env, "torch", version, files, requires=requires)


def doctor(root: Path = ROOT) -> Doctor:
    """Return the doctor with the project's own profiles and rules."""
    return Doctor(
        root=root,
        envs=root / "envs",
        catalogue=profile.load(ROOT / "environments"),
        rules=_rules(),
        reporter=Silent(),
    )


@cache
def _rules() -> rules.Rules:
    return rules.load(ROOT / "environments" / "compat.yaml")


def case(env: Path, facts: Mapping[str, Facts] | None = None, machine: Machine = NO_GPU, **changes: Any) -> Case:
    """Return the case of an environment, with these facts of its packages; other keys change the patient."""
    patient: Patient = replace(find(str(env)), **changes)
    installed: tuple[Distribution, ...] = distributions.read(patient.sites)
    return Case(
        patient=patient,
        installed=installed,
        packages=distributions.first(installed),
        facts=dict(facts or {}),
        machine=machine,
        rules=_rules(),
    )
