"""The gate over conda environments: pins that are known to break, and builds that do not belong together."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from torchlock.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlock.conda.document import Package
    from torchlock.profiles.conda import CondaTarget
    from torchlock.profiles.rules import Rules

# conda's names of what `variants.*.absent` of the rules names for wheels: the parts of CUDA, and what stands for them.
CUDA_PACKAGES = (
    *("cuda-*", "cudatoolkit", "cudnn", "cutensor", "libcu*", "libnv*", "libnpp*", "nccl", "nvtx-c", "cupy*"),
    *("pytorch-cuda", "pytorch-gpu", "torchtriton", "magma-cuda*", "libmagma*", "cudss", "libcudnn*", "nvidia-*"),
)
# libcurl and such begin like CUDA's libraries, and are none.
_INNOCENT = ("libcurl", "libcups", "libcue")
# The builds of these packages are told by their build strings.
_BUILT = ("pytorch", "libtorch", "torchvision", "torchaudio", "pytorch-mutex")
_CUDA = re.compile(r"(?:^|_)(?:cuda|gpu)")
_CPU = re.compile(r"(?:^|_)cpu(?:_|$)")
_RELEASE = re.compile(r"(?:^|_)cuda_?([0-9]+)\.([0-9]+)(?:_|$)|(?:^|_)cuda_?([0-9]{2})([0-9])(?:_|$)")


def before(target: CondaTarget, rules: Rules) -> None:
    """Refuse pins that the declared rules know to break, before anything is solved."""
    _refuse(target, list(_pairings(target, {"torch": target.torch, "numpy": target.numpy}, rules)))


def after(target: CondaTarget, packages: Sequence[Package], rules: Rules) -> None:
    """Refuse a chosen set that mixes CPU and CUDA builds, or breaks a declared rule; raise GateError with all of it."""
    versions = {item.name: item.version for item in packages}
    chosen = {"torch": versions.get("pytorch", ""), "numpy": versions.get("numpy", "")}
    missing = [f"found no {name}; expected both torch and numpy" for name, item in chosen.items() if not item]
    found = [*missing, *_pairings(target, chosen, rules), *_builds(target, packages)]
    if target.variant != "cuda":
        found += _no_cuda(target, packages, rules)
    _refuse(target, found)


def kind(build: str) -> str:
    """Return what a build string says that a package was built for: "cuda", "cpu" or nothing."""
    if _CUDA.search(build):
        return "cuda"
    return "cpu" if _CPU.search(build) else ""


def release(build: str) -> str | None:
    """Return the CUDA release that a build string names, such as 12.0 for `cuda120_py312h0`."""
    match = _RELEASE.search(build)
    return ".".join(filter(None, match.groups())) if match else None


def _pairings(target: CondaTarget, chosen: Mapping[str, str], rules: Rules) -> Iterator[str]:
    versions = {name: _version(text) for name, text in {**chosen, "python": target.python}.items()}
    torch = versions["torch"]
    for rule in rules.pairings:
        applies = torch is not None and target.platform in rule.platforms
        if not applies or not rule.torch.contains(str(torch)) or not rule.python.contains(target.python):
            continue
        for project, specifier in rule.needs.items():
            version = versions.get(project)
            if version is not None and not specifier.contains(version, prereleases=True):
                ways = ", or ".join(rule.ways)
                yield f"found {project} {version} with torch {torch}: {rule.why}; expected {project}{specifier}" + (
                    f"; try: {ways}" if ways else ""
                )


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _builds(target: CondaTarget, packages: Sequence[Package]) -> Iterator[str]:
    """Hold the builds of torch and its companions against the variant and against each other."""
    wanted = "cuda" if target.variant == "cuda" else "cpu"
    for item in packages:
        if item.name == "cpuonly" and wanted == "cuda":
            yield "found cpuonly in a cuda set; expected CUDA builds alone"
        if item.name not in _BUILT:
            continue
        built = kind(item.build)
        if built not in {wanted, ""}:
            yield f"found {item.name} {item.version} {item.build}, a {built} build; expected {wanted} builds alone"
        elif item.name == "pytorch" and wanted == "cuda" and not built:
            yield f"found pytorch {item.version} {item.build}, which names no CUDA; expected a CUDA build"
        named = release(item.build)
        if built == "cuda" and named is not None and target.cuda not in {None, named}:
            yield f"found cuda {target.cuda}, but {item.name} {item.build} is a CUDA {named} build; expected {named}"


def _no_cuda(target: CondaTarget, packages: Sequence[Package], rules: Rules) -> Iterator[str]:
    rule = rules.kinds[target.variant]
    patterns = (*rule.absent, *CUDA_PACKAGES)
    caught = [
        f"{item.name} {item.version}"
        for item in packages
        if any(fnmatchcase(item.name, pattern) for pattern in patterns) and not item.name.startswith(_INNOCENT)
    ]
    if caught:
        yield f"found {', '.join(caught)}: {rule.why}; expected no CUDA in {target.variant}"


def _refuse(target: CondaTarget, found: Sequence[str]) -> None:
    if len(found) == 1:
        raise GateError(target.where, found[0])
    if found:
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(found, 1))
        raise GateError(target.where, f"{len(found)} things are known to break: {listed}")
