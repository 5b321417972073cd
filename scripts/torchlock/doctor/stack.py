"""The stack below torch: CUDA's libraries that it was built with, and the C library below all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from torchlock.doctor.findings import NOTE, Evidence, Finding, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.doctor.findings import Case

# What torch says of its own build.
VERSION_FILE = "torch/version.py"
_CUDA = re.compile(r"^cuda\s*(?::[^=]*)?=\s*['\"]([0-9.]+)['\"]", re.MULTILINE)
_NVIDIA = re.compile(r"nvidia-[a-z0-9-]+|cuda-(toolkit|bindings|pathfinder)")
_GENERATION = re.compile(r"nvidia-[a-z0-9-]+-cu(\d\d)")
EXPLAINED = ("shared-library", "undefined-symbol")


def build(case: Case) -> str | None:
    """Return the CUDA release that torch was built for, as exact as its files tell; None for another build."""
    item = case.packages.get("torch")
    if item is None:
        return None
    match = _CUDA.search(text(item.site / VERSION_FILE))
    facts = case.facts.get("torch")
    return match[1] if match else facts.cuda if facts else None


def libraries(case: Case) -> Iterator[Finding]:
    """Give a finding for the CUDA libraries that torch wants and that are absent, or of another release."""
    torch, facts = case.packages.get("torch"), case.facts.get("torch")
    if torch is None or not build(case):
        return
    absent, other = [], []
    for wanted in _requirements(case):
        version = case.version(canonicalize_name(wanted.name))
        if not version:
            absent.append(wanted)
        elif not wanted.specifier.contains(version, prereleases=True):
            other.append(wanted)
    unmet = [name for name in (facts.needed if facts else ()) if not _present(case, name)]
    if absent or unmet:
        yield _absent(case, absent, unmet)
    if other:
        yield _mixed(case, other)
    yield from _generations(case)


def _absent(case: Case, absent: list[Requirement], unmet: list[str]) -> Finding:
    torch = case.packages["torch"]
    names = [_plain(item) for item in absent]
    evidence = [Evidence(where=str(torch.metadata), mark=f"Requires-Dist: {_plain(item)}") for item in absent[:6]]
    linked = "links by its SONAME a library that is in no folder of this environment"
    evidence += [Evidence(where=str(torch.site / "torch" / "lib"), mark=f"{linked}: {name}") for name in unmet[:6]]
    again = () if absent else ("torch",)
    return Finding(
        id="cuda-libraries-missing",
        what=f"{torch.named} wants {', '.join(names or unmet)}: not installed",
        why="torch's libraries are linked to it: importing torch, or the first use of a GPU, fails",
        evidence=tuple(evidence),
        remedy=Remedy(install=tuple(names) or (f"torch=={torch.version}",), reinstall=again),
        explains=EXPLAINED,
        packages=("torch", *(canonicalize_name(item.name) for item in absent)),
    )


def _mixed(case: Case, other: list[Requirement]) -> Finding:
    torch = case.packages["torch"]
    found = [f"{item.name} {case.version(canonicalize_name(item.name))}" for item in other]
    evidence = []
    for item in other[:6]:
        package = case.packages[canonicalize_name(item.name)]
        evidence.append(Evidence(where=str(torch.metadata), mark=f"Requires-Dist: {_plain(item)}"))
        evidence.append(Evidence(where=str(package.metadata), mark=f"Version: {package.version}"))
    return Finding(
        id="cuda-libraries-mixed",
        what=f"{torch.named} wants {', '.join(map(_plain, other))}: found {', '.join(found)}",
        why="torch was built against those very releases; with others symbols are missing, or results are wrong",
        evidence=tuple(evidence),
        remedy=Remedy(install=tuple(map(_plain, other))),
        explains=EXPLAINED,
        packages=("torch", *(canonicalize_name(item.name) for item in other)),
    )


def _generations(case: Case) -> Iterator[Finding]:
    """Note libraries of another CUDA generation than torch's: they take space and may be loaded in its place."""
    wanted = (build(case) or "").partition(".")[0]
    strays = {
        name: item
        for name, item in case.packages.items()
        if (match := _GENERATION.fullmatch(name)) and match[1] != wanted
    }
    if strays:
        named = [item.named for item in strays.values()]
        yield Finding(
            id="cuda-generations",
            severity=NOTE,
            what=f"{', '.join(named[:4])}{' …' if len(named) > 4 else ''} beside a torch of CUDA {wanted}",
            why="they serve nothing that torch links, and are a rest of another build",
            evidence=tuple(Evidence(where=str(item.metadata), mark=item.named) for item in [*strays.values()][:4]),
        )


def glibc(case: Case) -> Iterator[Finding]:
    """Give a finding for what needs a newer C library than the system's."""
    here = case.patient.glibc
    if here is None:
        return
    for project, facts in case.facts.items():
        if facts.glibc and Version(facts.glibc) > Version(here):
            item = case.packages[project]
            yield Finding(
                id="glibc",
                what=f"{item.named} needs glibc {facts.glibc}, and this system has {here}",
                why="the dynamic loader refuses it (version GLIBC_… not found)",
                evidence=(Evidence(where=str(item.site / item.compiled[0]), mark=f"GLIBC_{facts.glibc}"),),
                remedy=Remedy(reinstall=(project,), install=(item.named.replace(" ", "=="),)),
                explains=("glibc",),
                packages=(project,),
            )


def _requirements(case: Case) -> Iterator[Requirement]:
    """Give what torch requires of CUDA's libraries on this platform, and triton."""
    for text in case.packages["torch"].requires:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        name = canonicalize_name(wanted.name)
        applies = wanted.marker is None or wanted.marker.evaluate(dict(case.patient.markers))
        if applies and (_NVIDIA.fullmatch(name) or name in {"triton", "pytorch-triton"}):
            yield wanted


def _present(case: Case, soname: str) -> bool:
    """Tell whether a library lies where torch finds it: in a package, in the prefix, or on the system's path."""
    if any(path.rpartition("/")[2] == soname for item in case.packages.values() for path in item.compiled):
        return True
    folders = [case.patient.prefix / "lib", *map(Path, ("/usr/lib", "/usr/lib64", "/usr/local/cuda/lib64"))]
    folders += [Path(f"/usr/lib/{case.patient.machine}-linux-gnu")]
    return any((folder / soname).exists() for folder in folders)


def _plain(wanted: Requirement) -> str:
    return f"{canonicalize_name(wanted.name)}{wanted.specifier}"


def text(path: Path) -> str:
    """Return a file's text, nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
