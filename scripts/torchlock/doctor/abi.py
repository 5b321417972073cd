"""NumPy's ABI: modules that were built for one generation of NumPy, and the generation that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from torchlock.doctor.findings import Evidence, Finding, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.doctor.findings import Case

# The last NumPy 1.x, and the first Python that it has no wheels for.
LAST_OLD, FIRST_WITHOUT = "1.26.4", (3, 13)
EXPLAINED = ("numpy-abi", "numpy-dtype-size-1-on-2", "numpy-size-changed", "numpy-not-available", "warning")
MARK = "holds numpy.core._multiarray_umath and no numpy._core._multiarray_umath: built for NumPy 1.x alone"
EARLY = (
    "NumPy 2 changed the binary interface: such a module fails at import, or at the first conversion"
    " (_ARRAY_API not found, Numpy is not available)"
)
LATE = "NumPy 2 changed the binary interface: such a module imports, and misreads what it asks of a dtype, its size too"
SHOWN = 2


def examine(case: Case) -> Iterator[Finding]:
    """Give a finding for each package that holds a module built for NumPy 1.x alone, where NumPy 2 is installed."""
    numpy = case.packages.get("numpy")
    if numpy is None or not numpy.version or _major(numpy.version) < 2:
        return
    for project in old(case):
        modules = [module for module in case.facts[project].modules if module.numpy == "1"]
        item = case.packages[project]
        evidence = [
            Evidence(
                where=str(item.site / module.path),
                mark=MARK,
            )
            for module in modules[:SHOWN]
        ]
        evidence.append(Evidence(where=str(numpy.site / (numpy.info or "numpy")), mark=f"numpy {numpy.version}"))
        count = f" ({len(modules)} modules)" if len(modules) > 1 else ""
        yield Finding(
            id="numpy-abi",
            what=f"{item.named} was built for NumPy 1.x, and numpy {numpy.version} is installed{count}",
            why=LATE if all(module.late for module in modules) else EARLY,
            evidence=tuple(evidence),
            remedy=mend(case),
            explains=EXPLAINED,
            packages=(project, "numpy"),
        )


def old(case: Case) -> tuple[str, ...]:
    """Return the packages with a module that takes NumPy 1.x alone, torch first."""
    found = [project for project, facts in case.facts.items() if "1" in facts.numpy and project != "numpy"]
    return tuple(sorted(found, key=lambda project: (project != "torch", project)))


def mend(case: Case) -> Remedy:
    """Return NumPy 1.x, which every module takes; where it cannot be, newer builds of those that are too old."""
    refusal = why_not_old(case)
    if not refusal:
        newer = ", ".join("torch>=2.4.1" if project == "torch" else project for project in old(case))
        return Remedy(
            install=("numpy<2",), advice=f"keep NumPy 2, and install releases that were built for it: {newer}"
        )
    torch = ("torch>=2.4.1",) if "torch" in old(case) else ()
    others = tuple(project for project in old(case) if project != "torch")
    pin = f"numpy=={case.version('numpy')}"
    return Remedy(install=(*torch, pin), upgrade=others)


def why_not_old(case: Case) -> str:
    """Return what keeps NumPy 1.x from being installed, or nothing."""
    if tuple(int(part) for part in case.patient.minor.split(".")) >= FIRST_WITHOUT:
        return f"NumPy 1.x has no wheels for Python {case.patient.minor}"
    for item in case.packages.values():
        for text in item.requires:
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            if canonicalize_name(wanted.name) != "numpy" or (
                wanted.marker and not wanted.marker.evaluate(dict(case.patient.markers))
            ):
                continue
            if not wanted.specifier.contains(LAST_OLD, prereleases=True) and item.project not in old(case):
                return f"{item.named} requires {text}"
    return ""


def missing(case: Case) -> Iterator[Finding]:
    """Give a finding where there is no NumPy at all."""
    if "numpy" in case.packages:
        return
    older = old(case)
    users = [project for project, facts in case.facts.items() if facts.modules]
    where = ", ".join(str(site) for site in case.patient.sites)
    yield Finding(
        id="numpy-missing",
        what="NumPy is not installed",
        why="torch works without it only in part: Tensor.numpy() and torch.from_numpy() fail"
        if "torch" in users
        else "what was compiled against it cannot be imported",
        evidence=(Evidence(where=where or str(case.patient.prefix), mark="holds no numpy"),),
        remedy=Remedy(install=("numpy<2",) if older and not why_not_old(case) else ("numpy",)),
        explains=("numpy-missing", "numpy-not-available", "numpy-source-folder"),
        packages=("numpy",),
    )


def _major(version: str) -> int:
    try:
        return Version(version).major
    except InvalidVersion:
        return 0
