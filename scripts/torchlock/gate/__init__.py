"""The gate: declared rules and the facts of binaries, held against a set before it becomes a lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from packaging.version import Version

from torchlock.gate.examination import NUMPY_2, examine
from torchlock.gate.neighbour import Search
from torchlock.locks.summary import Summary, ordered
from torchlock.profiles import compat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torchlock.facts.facts import Facts
    from torchlock.gate.examination import Finding
    from torchlock.indexes.view import View
    from torchlock.locks.lock import Artifact, Lock
    from torchlock.profiles.line import Waiver
    from torchlock.profiles.profile import Target
    from torchlock.profiles.rules import Rules

# Facts of a set are read so many at a time.
_READERS = 8


class Gate:
    """Refuse what would break; `source` gives the facts of an artifact, None where they cannot be read."""

    def __init__(self, rules: Rules, source: Callable[[Artifact], Facts | None]) -> None:
        self.rules = rules
        self._source = source

    def before(self, target: Target) -> None:
        """Refuse pins that the declared rules know to break."""
        compat.before(target, self.rules)

    def after(self, target: Target, chosen: Mapping[str, str]) -> None:
        """Refuse a chosen set, project -> version, that the declared rules know to break."""
        compat.after(target, chosen, self.rules)

    def examine(self, view: View, artifacts: Sequence[Artifact]) -> None:
        """Refuse a set whose bytes do not fit together: GateError with the nearest version that would pass."""
        target = view.target
        waived = {(item.project, item.sha256) for item in target.exceptions}
        findings = examine(target, artifacts, self._facts(artifacts))
        open_ = [item for item in findings if (item.artifact.project, item.artifact.sha256) not in waived]
        compat.refuse(target, [self._violation(view, item, artifacts) for item in open_])

    def summary(self, platform: str, artifacts: Sequence[Artifact]) -> Summary:
        """Return what a lock records of the facts of its artifacts."""
        facts = self._facts(artifacts)
        known = {project: item for project, item in facts.items() if item is not None}
        torch = known.get("torch")
        cuda = torch.cuda if torch else None
        driver = compat.minimum_driver(cuda, self.rules) if cuda and platform.startswith("linux") else None
        return Summary(
            numpy_1=_built_for("1", known),
            numpy_2=_built_for("2", known),
            architectures=ordered(torch.architectures if torch else ()),
            cuda=cuda,
            cudnn=torch.cudnn if torch else None,
            driver=driver.major if driver else None,
            driver_release=driver.release if driver else None,
            glibc=_newest(item.glibc for item in known.values()),
            libstdcxx=_newest(item.libstdcxx for item in known.values()),
            unread=tuple(sorted(facts.keys() - known.keys())),
        )

    def _facts(self, artifacts: Sequence[Artifact]) -> dict[str, Facts | None]:
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip((item.project for item in artifacts), pool.map(self._source, artifacts), strict=True))

    def _violation(self, view: View, finding: Finding, artifacts: Sequence[Artifact]) -> compat.Violation:
        ways, search = [], Search(view, self._source)
        locked = {item.project: item.version for item in artifacts}
        if finding.project:
            version = locked[finding.project]  # none is older than its own version and built for a newer NumPy
            near = search.nearest(finding.project, version, finding.passes, older=not finding.numpy)
            if near.version:
                ways.append(f"{finding.project}=={near.version}, the nearest that passes")
            elif near.unread:
                some = ", ".join(near.unread[:3])
                ways.append(f"another {finding.project} (the facts of {some} cannot be read here, so none is named)")
        if finding.numpy:
            older = [item for item in search.versions("numpy", locked["numpy"]) if item < NUMPY_2]
            ways += [f"numpy=={older[-1]}"] if older else []
        ways.append(f"an exception with a reason for {finding.artifact.sha256} in {view.target.source}")
        return compat.Violation(found=finding.found, expected=finding.expected, remedy=", or ".join(ways))


def waivers(target: Target, artifacts: Iterable[Artifact]) -> tuple[Waiver, ...]:
    """Return the exceptions of a profile that are about these artifacts."""
    files = {(item.project, item.sha256) for item in artifacts}
    return tuple(item for item in target.exceptions if (item.project, item.sha256) in files)


def remarks(lock: Lock) -> list[str]:
    """Say what of a lock was not proven: facts that are not read, and exceptions."""
    unread = [f"facts of {', '.join(lock.facts.unread)} not read"] if lock.facts.unread else []
    versions = {item.project: item.version for item in lock.artifacts}
    return unread + [
        f"exception for {item.project} {versions[item.project]} ({item.reason})" for item in lock.exceptions
    ]


def _built_for(generation: str, facts: Mapping[str, Facts]) -> tuple[str, ...]:
    """Return the projects, NumPy apart, with a module that was built for a generation of NumPy."""
    return tuple(sorted(name for name, item in facts.items() if generation in item.numpy and name != "numpy"))


def _newest(releases: Iterable[str | None]) -> str | None:
    return max((item for item in releases if item is not None), key=Version, default=None)
