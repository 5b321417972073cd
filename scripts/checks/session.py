"""One smoke run: the import probes, then the checks in a child that may crash, be replaced, and go on."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checks import defects, importing, locked
from checks.catalogue import IMPORT, OPTIONAL, group_of, ids_of
from checks.process import Child, Silence
from checks.result import FAIL, NOT_RUN, PASS, Result, demanded, totals

if TYPE_CHECKING:
    from checks.locked import LockedSet

SCHEMA = 1
CRASHES = 4  # after so many the rest is not run
TOGETHER = "import.together"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What was asked for; no group means all of them."""

    groups: tuple[str, ...] = ()
    variant: str | None = None
    require_device: str | None = None
    lock: LockedSet | None = None
    patience: float = 300.0


@dataclass(kw_only=True, slots=True)
class Session:
    """What a run has found so far."""

    options: Options
    distributions: dict[str, str] = field(default_factory=locked.installed)
    modules: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] | None = None
    found: dict[str, Result] = field(default_factory=dict)

    def add(self, *results: Result) -> None:
        """Take results in."""
        self.found.update({result.id: result for result in results})

    @property
    def results(self) -> list[Result]:
        """Return the results in the order of the catalogue, the required device's "not run" as failures."""
        kind = self.options.require_device
        torch, here = self.modules.get("torch"), (sys.platform, platform.machine())
        ordered = [defects.recognise(self.found[name], torch, *here) for name in ids_of(()) if name in self.found]
        return [demanded(result, kind, OPTIONAL) for result in ordered] if kind else ordered

    @property
    def passed(self) -> bool:
        """Return whether nothing failed but for known defects of this build."""
        return not any(result.status == FAIL and not result.known for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of the run."""
        results = self.results
        return {
            "schema": SCHEMA,
            "status": PASS if self.passed else FAIL,
            "totals": totals(results),
            "versions": {
                "python": platform.python_version(),
                "numpy": self.modules.get("numpy"),
                "torch": self.modules.get("torch"),
                "distributions": self.distributions,
            },
            "platform": {
                "system": sys.platform,
                "machine": platform.machine(),
                "implementation": platform.python_implementation(),
                "libc": "-".join(platform.libc_ver()).strip("-") or None,
            },
            "device": self.device,
            "lock": self.options.lock.digest if self.options.lock else None,
            "requested": {
                "groups": list(self.options.groups),
                "variant": self.options.variant,
                "require_device": self.options.require_device,
            },
            "checks": [result.to_dict() for result in results],
        }


def run(options: Options) -> Session:
    """Run what was asked for; nothing that the environment does raises here."""
    session = Session(options=options)
    wanted = ids_of(options.groups)
    rest = [identity for identity in wanted if identity not in IMPORT]
    if TOGETHER in wanted:
        results, modules = importing.probe(options.patience)
        session.modules.update(modules)
        session.add(*results, *importing.against_lock(options.lock, session.distributions, modules))
        bad = [result for result in results if result.status == FAIL]
        if bad:
            _give_up(session, [TOGETHER, *rest], _because(bad[0]))
            return session
    _work(session, rest)
    return session


def _because(failure: Result) -> str:
    return f"{failure.id} failed: {failure.cause.partition(':')[0] or failure.detail}"


def _give_up(session: Session, identities: list[str], reason: str) -> None:
    session.add(*(Result(id=identity, status=NOT_RUN, detail=reason) for identity in identities))


def _work(session: Session, identities: list[str]) -> None:
    """Run checks in children, a new one after each crash, until all have an answer."""
    left = identities
    for _ in range(CRASHES):
        culprit = _one_child(session, left)
        if culprit is None:
            return
        session.add(culprit)
        left = [identity for identity in left if identity not in session.found]
        if culprit.id == TOGETHER:
            _give_up(session, left, _because(culprit))
            return
        if not left:
            return
    _give_up(session, left, f"checks ended the process {CRASHES} times")


def _one_child(session: Session, identities: list[str]) -> Result | None:
    """Run checks in one child; return the failure of the check that ended it, or nothing if it came through."""
    options = session.options
    request = {"do": "work", "ids": identities, "variant": options.variant, "distributions": session.distributions}
    doing, done = TOGETHER, False
    with Child(request) as child:
        try:
            for message in child.messages(options.patience):
                if message["event"] == "begin":
                    doing = message["id"]
                elif message["event"] == "result":
                    session.add(Result(**{key: value for key, value in message.items() if key != "event"}))
                elif message["event"] == "device":
                    session.device = message["device"]
                elif message["event"] == "step":
                    if not message["ok"]:
                        child.end()
                        return importing.failed_step(TOGETHER, message, child.words())
                    _imported(session, message)
                done = message["event"] == "done"
        except Silence as text:
            return importing.silent(doing, str(text), f"running {doing}")
        if done:
            return None
        return importing.dead(doing, child.end(), child.words(), f"in {doing}")


def _imported(session: Session, message: dict[str, Any]) -> None:
    """Note that the worker has imported both, numpy first."""
    session.modules.update(numpy=message["version"], torch=message["torch"]["version"])
    if not session.options.groups or group_of(TOGETHER) in session.options.groups:
        session.add(Result(id=TOGETHER, status=PASS, detail="numpy first, then torch"))
