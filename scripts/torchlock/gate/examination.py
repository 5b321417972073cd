"""The rules over facts: what in the bytes of a set of wheels would not work together, wheel by wheel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from torchlock.platforms import GLIBC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torchlock.facts.facts import Facts
    from torchlock.locks.lock import Artifact
    from torchlock.profiles.profile import Target

NUMPY_2 = Version("2")
# A library's name and generation: libcudnn.so.8, libcudart-d0da41ae.so.12.
_LIBRARY = re.compile(r"(?P<stem>[A-Za-z0-9_+-]+?)(-[0-9a-f]{8})?\.so(\.[0-9]+)*")
# What the driver brings, never a wheel.
_DRIVER = ("libcuda.", "libnvidia-", "nvcuda.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One wheel that would not work in its set; `passes` tells whether other facts would, in its place.

    `project` is whose other version would mend it: that of the wheel itself, or of one that should bring a library.
    """

    artifact: Artifact
    project: str
    found: str
    expected: str
    passes: Callable[[Facts], bool]
    numpy: bool = False


def examine(target: Target, artifacts: Sequence[Artifact], facts: Mapping[str, Facts | None]) -> tuple[Finding, ...]:
    """List what does not fit together in a set; `facts` maps its projects, None where they are not read."""
    numpy = next((Version(item.version) for item in artifacts if item.project == "numpy"), None)
    found: list[Finding] = []
    for artifact in artifacts:
        known = facts.get(artifact.project)
        if known is not None:
            found += _alone(target, artifact, known, numpy)
    if target.platform.startswith("linux"):
        found += _links(artifacts, facts)
    return tuple(found)


def _alone(target: Target, artifact: Artifact, facts: Facts, numpy: Version | None) -> Iterator[Finding]:
    """Yield what is wrong with one wheel whatever the others are, but for NumPy's version."""
    rules = (_generation(numpy, artifact.project), _glibc(target.platform), _cuda(target, artifact.project))
    name = f"{artifact.project} {artifact.version}"
    for rule in rules:
        if complaint := rule(facts):
            yield Finding(
                artifact=artifact,
                project=artifact.project,
                found=f"{name}: {complaint[0]}",
                expected=complaint[1],
                passes=lambda other: not any(rule(other) for rule in rules),
                numpy=rule is rules[0],
            )


# A rule gives what it found in facts and what it expected, or nothing.
def _generation(numpy: Version | None, project: str) -> Callable[[Facts], tuple[str, str] | None]:
    """Refuse modules that were built for NumPy 1.x alone beside NumPy 2; NumPy's own are its own."""

    def rule(facts: Facts) -> tuple[str, str] | None:
        old = [module.path for module in facts.modules if module.numpy == "1"]
        if numpy is None or numpy.release < NUMPY_2.release or project == "numpy" or not old:
            return None
        more = f" (and {len(old) - 1} more files)" if len(old) > 1 else ""
        return f"{old[0]}{more} was built for NumPy 1.x alone, beside numpy {numpy}", "a build for NumPy 2"

    return rule


def _glibc(platform: str) -> Callable[[Facts], tuple[str, str] | None]:
    """Refuse what needs a newer C library than the platform promises."""
    most = ".".join(map(str, GLIBC))

    def rule(facts: Facts) -> tuple[str, str] | None:
        if facts.glibc is None or Version(facts.glibc) <= Version(most):
            return None
        return f"its modules need glibc {facts.glibc}", f"{most} at most, which {platform} promises"

    return rule


def _cuda(target: Target, project: str) -> Callable[[Facts], tuple[str, str] | None]:
    """Refuse CUDA in a set without it, none in the torch of a set with it, and another release than its own."""

    def rule(facts: Facts) -> tuple[str, str] | None:
        marks = [*facts.needed, *facts.bundled, *facts.architectures, *([f"CUDA {facts.cuda}"] if facts.cuda else [])]
        if target.variant != "cuda":
            expected = f"nothing of CUDA in a {target.variant} environment"
            return (f"it holds or links {', '.join(marks[:3])}", expected) if marks else None
        wanted, found = str(target.cuda), facts.cuda
        if project == "torch" and found is None:
            return "no CUDA in it", f"a build for CUDA {wanted}"
        if found is not None and not _agree(found, wanted if project == "torch" else wanted.partition(".")[0]):
            return f"it was built for CUDA {found}", f"CUDA {wanted}"
        return None

    return rule


def _agree(found: str, wanted: str) -> bool:
    """Tell whether two releases are the same as far as both say."""
    return all(one == other for one, other in zip(found.split("."), wanted.split("."), strict=False))


def _links(artifacts: Sequence[Artifact], facts: Mapping[str, Facts | None]) -> Iterator[Finding]:
    """Yield the CUDA libraries that a wheel links and that no wheel of the set brings.

    Where the facts of a wheel that may bring libraries are not read, nothing can be said.
    """
    if any(facts.get(item.project) is None and item.project.startswith("nvidia-") for item in artifacts):
        return
    brought = {name: item.project for item in artifacts if (known := facts.get(item.project)) for name in known.bundled}
    for artifact in artifacts:
        known = facts.get(artifact.project)
        for name in known.needed if known else ():
            if name in brought or name.startswith(_DRIVER):
                continue
            others = {other: project for other, project in brought.items() if stem(other) == stem(name)}
            beside = ", ".join(f"{project} brings {other}" for other, project in sorted(others.items()))
            yield Finding(
                artifact=artifact,
                project=next(iter(sorted(others.values())), ""),
                found=f"{artifact.project} {artifact.version} links {name}, which no package here brings",
                expected=f"a package that does ({beside})" if beside else "a package that does",
                passes=_brings(name),
            )


def _brings(name: str) -> Callable[[Facts], bool]:
    return lambda facts: name in facts.bundled


def stem(library: str) -> str:
    """Return a library's name without its generation: `libcudnn` of `libcudnn.so.8`."""
    match = _LIBRARY.fullmatch(library)
    return match["stem"] if match else library
