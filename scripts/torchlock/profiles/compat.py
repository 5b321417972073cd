"""The declared part of the gate: rules with reason and source, held against what a profile says and what was chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from torchlock.errors import GateError
from torchlock.profiles.document import show
from torchlock.profiles.rules import PLAIN, Build, Driver, Rules, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.specifiers import SpecifierSet

    from torchlock.profiles.profile import Target

__all__ = ["Driver", "Rules", "Violation", "after", "before", "chosen", "declared", "load", "minimum_driver", "refuse"]

_GENERATION = re.compile(r"nvidia-[a-z0-9-]+-cu([0-9]{2})")
_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu[0-9]{2})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One rule that a set breaks, in the words of a message."""

    found: str
    expected: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.found}; expected {self.expected}" + (f"; try: {self.remedy}" if self.remedy else "")


def before(target: Target, rules: Rules) -> None:
    """Refuse, before anything is resolved, pins that are known to break; raise GateError with all of them."""
    refuse(target, declared(target, rules))


def after(target: Target, packages: Mapping[str, str], rules: Rules) -> None:
    """Refuse a chosen set, project -> version, that is known to break; raise GateError with all of it."""
    refuse(target, chosen(target, packages, rules))


def minimum_driver(cuda: str, rules: Rules) -> Driver:
    """Return the drivers that a CUDA release such as `12.1` needs; raise GateError where its major one is unknown."""
    major = cuda.partition(".")[0]
    if major not in rules.majors:
        raise GateError(f"{rules.source}: drivers", f"CUDA {show(cuda)} is not in it", ", ".join(rules.releases))
    return Driver(release=rules.releases.get(cuda), major=rules.majors[major])


def declared(target: Target, rules: Rules) -> tuple[Violation, ...]:
    """List what the pins of a target break."""
    pins: dict[str, Version] = {}
    for item in map(Requirement, target.requirements):
        exact = [one.version for one in item.specifier if one.operator == "==" and not one.version.endswith("*")]
        if exact and item.marker is None:
            pins[canonicalize_name(item.name)] = Version(exact[0])
    kind = rules.kinds[target.variant]
    found = []
    if target.platform not in kind.platforms:
        where = f"found {target.variant} on {target.platform}: {kind.why}"
        found.append(Violation(found=where, expected=f"one of {', '.join(kind.platforms)}"))
    return (*found, *_pairings(target, pins, rules), *_build(target, pins, rules))


def chosen(target: Target, packages: Mapping[str, str], rules: Rules) -> tuple[Violation, ...]:
    """List what a chosen set breaks."""
    versions: dict[str, Version] = {
        canonicalize_name(name): Version(version) for name, version in sorted(packages.items())
    }
    missing = tuple(
        Violation(found=f"found no {name} in the chosen set", expected="both torch and numpy")
        for name in ("torch", "numpy")
        if name not in versions
    )
    specific = _stack(target, versions, rules) if target.variant == "cuda" else _no_cuda(target, versions, rules)
    return (*missing, *_pairings(target, versions, rules), *_build(target, versions, rules), *specific)


def refuse(target: Target, violations: Sequence[Violation]) -> None:
    """Raise GateError with all violations, if there are any."""
    where = f"{target.source}: {target.profile} on {target.platform}"
    if len(violations) == 1:
        raise GateError(where, violations[0].found, violations[0].expected, violations[0].remedy)
    if violations:
        listed = "; ".join(f"({number}) {item}" for number, item in enumerate(violations, 1))
        raise GateError(where, f"{len(violations)} things are known to break: {listed}")


def _holds(specifier: SpecifierSet, version: Version | str) -> bool:
    return specifier.contains(version, prereleases=True)


def _public(version: Version | None) -> str | None:
    return version.public if version else None


def _pairings(target: Target, versions: Mapping[str, Version], rules: Rules) -> Iterator[Violation]:
    torch = _public(versions.get("torch"))
    if torch is None:
        return
    actual = {**versions, "python": Version(target.python)}
    for rule in rules.pairings:
        applies = target.platform in rule.platforms and _holds(rule.python, target.python) and _holds(rule.torch, torch)
        for project, specifier in rule.needs.items() if applies else ():
            version = _public(actual.get(project))
            if version is None or _holds(specifier, version):
                continue
            company = f"for {target.platform}" if project == "torch" else f"with torch {torch}"
            yield Violation(
                found=f"found {project} {version} {company}: {rule.why}",
                expected=f"{project}{specifier}",
                remedy=", or ".join(rule.ways),
            )


def _matching(target: Target, torch: Version, rules: Rules) -> Build | None:
    """Return the rule for this very build of torch."""
    build = torch.local or PLAIN
    for rule in rules.builds:
        if build in rule.builds and target.platform in rule.platforms and _holds(rule.torch, torch.public):
            return rule
    return None


def _build(target: Target, versions: Mapping[str, Version], rules: Rules) -> Iterator[Violation]:
    """Hold the build of torch against the variant."""
    torch = versions.get("torch")
    if torch is None:
        return
    rule = _matching(target, torch, rules)
    name = f"torch {torch} for {target.platform}"
    if target.variant != "cuda":
        if rule is not None:
            expected = f"a build without CUDA, such as {torch.public}+cpu"
            remedy = f'builds: {{{target.platform}: {{torch: "{torch.public}+cpu", index: pytorch-cpu}}}}'
            yield Violation(found=f"found {name}, which is a CUDA {rule.cuda} build", expected=expected, remedy=remedy)
        elif torch.local and not torch.local.startswith("cpu"):
            yield Violation(found=f"found {name}", expected=f"a build without +{torch.local}")
    elif rule is not None and rule.cuda != target.cuda:
        found = f"found cuda {target.cuda}, but {name} is a CUDA {rule.cuda} build"
        yield Violation(found=found, expected=f'cuda: "{rule.cuda}"')
    elif rule is None:
        here = [item for item in rules.builds if _holds(item.torch, torch.public)]
        known = sorted({build for item in here if target.platform in item.platforms for build in item.builds})
        if here:
            expected = f"one of the builds {', '.join(known)}" if known else "a platform that has one"
            yield Violation(found=f"found {name}, which is not known to be a CUDA build", expected=expected)


def _no_cuda(target: Target, versions: Mapping[str, Version], rules: Rules) -> Iterator[Violation]:
    kind = rules.kinds[target.variant]
    caught = [name for name in versions if any(fnmatchcase(name, pattern) for pattern in kind.absent)]
    if caught:
        yield Violation(found=f"found {', '.join(caught)}: {kind.why}", expected=f"none of {', '.join(kind.absent)}")
    for name, version in versions.items():
        if name != "torch" and version.local and version.local.startswith("cu"):
            yield Violation(found=f"found {name} {version}, which is a CUDA build", expected="a build without CUDA")


def _stack(target: Target, versions: Mapping[str, Version], rules: Rules) -> Iterator[Violation]:
    """Hold the CUDA libraries of a set against the build of torch and the release that the profile names."""
    torch, cuda = versions.get("torch"), str(target.cuda)
    rule = _matching(target, torch, rules) if torch else None
    for name, specifier in rule.stack.items() if rule else ():
        if name not in versions or not _holds(specifier, versions[name]):
            found = f"found {name} {versions[name]}" if name in versions else f"found no {name}"
            expected = f"{name}{specifier} beside torch {torch}"
            yield Violation(found=f"{found}: {rule.why if rule else ''}", expected=expected)
    runtimes = [name for name in versions if _RUNTIME.fullmatch(name)]
    if rule is None and not runtimes and target.platform.startswith("linux"):
        yield Violation(found="found no nvidia-cuda-runtime", expected=f"that of CUDA {cuda}")
    for name in runtimes:
        if not str(versions[name]).startswith(f"{cuda}.") and not (rule and name in rule.stack):
            yield Violation(found=f"found {name} {versions[name]}", expected=f"that of CUDA {cuda}")
    for name in versions:
        if (match := _GENERATION.fullmatch(name)) and match[1] != cuda.partition(".")[0]:
            yield Violation(found=f"found {name} beside CUDA {cuda}", expected="libraries of one CUDA generation")
