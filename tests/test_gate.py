"""The gate: a set whose binaries do not fit together is refused, with the nearest version that would pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import locks
import snapshots
from test_examination import NEW, OLD
from torchlock.digest import Digest
from torchlock.errors import GateError
from torchlock.gate import Gate, remarks, waivers
from torchlock.indexes.view import View
from torchlock.locks.lock import Artifact
from torchlock.locks.summary import Summary
from torchlock.profiles import compat
from torchlock.profiles.line import Waiver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.facts.facts import Facts

RULES = compat.load(Path(__file__).parents[1] / "environments" / "compat.yaml")
# Nothing declared but the drivers: what is refused here, the facts refuse.
EMPTY = replace(RULES, pairings=(), builds=())
OFFERED = {"numpy": ("1.25.0", "1.26.4", "2.0.2", "2.1.3"), "torch": ("2.2.2", "2.3.0", "2.4.0"), "a": ("1.0", "2.0")}
FACTS: dict[tuple[str, str], Facts | None] = {
    ("torch", "2.2.2"): OLD,
    ("torch", "2.3.0"): OLD,
    ("torch", "2.4.0"): NEW,
    ("a", "1.0"): OLD,
    ("a", "2.0"): NEW,
    ("numpy", "1.26.4"): OLD,
    ("numpy", "2.0.2"): NEW,
}


class Case:
    """A snapshot, a set chosen from it, and the gate."""

    def __init__(self, root: Path, facts: Mapping[tuple[str, str], Facts | None], **changes: Any) -> None:
        files = [snapshots.file(f"{name}-{item}-py3-none-any.whl") for name in OFFERED for item in OFFERED[name]]
        self.target = snapshots.target(**changes)
        self.view = View(snapshots.write(root, *files), self.target)
        self.gate = Gate(EMPTY, lambda artifact: facts.get((artifact.project, artifact.version)))

    def artifacts(self, **versions: str) -> tuple[Artifact, ...]:
        """Return the wheels of a set."""
        return tuple(
            Artifact(
                project=project,
                version=version,
                filename=(file := self.view.pick(project, version)).name,
                sha256=file.sha256 or Digest.of(b""),
                size=file.size,
                upload_time=None,
                index="pypi",
            )
            for project, version in versions.items()
        )

    def refused(self, **versions: str) -> str:
        """Return the message with which a set is refused."""
        with pytest.raises(GateError) as caught:
            self.gate.examine(self.view, self.artifacts(**versions))
        return str(caught.value)


def sha256(project: str, version: str) -> Digest:
    """Return the digest of a wheel of the snapshot."""
    return Digest.of(f"{project}-{version}-py3-none-any.whl".encode())


@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"])
def test_torch_for_numpy_1_beside_numpy_2(tmp_path: Path, platform: str) -> None:
    """Without any declared rule, on every platform: package, file, what was found, and both ways out."""
    case = Case(tmp_path, FACTS, platform=platform)
    assert case.refused(numpy="2.0.2", torch="2.2.2") == (
        f"environments/demo.yaml: demo-cpu on {platform}: torch 2.2.2: a/_one.so was built for NumPy 1.x alone, "
        "beside numpy 2.0.2; expected a build for NumPy 2; try: torch==2.4.0, the nearest that passes, "
        f"or numpy==1.26.4, or an exception with a reason for {sha256('torch', '2.2.2')} in environments/demo.yaml"
    )
    case.gate.examine(case.view, case.artifacts(numpy="1.26.4", torch="2.2.2"))
    case.gate.examine(case.view, case.artifacts(numpy="2.0.2", torch="2.4.0"))


def test_all_that_breaks_is_said_at_once(tmp_path: Path) -> None:
    """Each package with its own way out."""
    said = Case(tmp_path, FACTS).refused(numpy="2.0.2", torch="2.2.2", a="1.0")
    assert "2 things are known to break: (1) torch 2.2.2: " in said
    assert "torch==2.4.0, the nearest" in said
    assert "; (2) a 1.0: a/_one.so" in said
    assert "a==2.0, the nearest" in said


def test_a_version_that_cannot_be_read_is_not_named(tmp_path: Path) -> None:
    """Nothing is guessed: the message says whose facts are missing."""
    said = Case(tmp_path, {("torch", "2.2.2"): OLD, ("torch", "2.4.0"): None}).refused(numpy="2.0.2", torch="2.2.2")
    assert (
        "try: another torch (the facts of 2.3.0, 2.4.0 cannot be read here, so none is named), or numpy==1.26.4" in said
    )
    assert "nearest" not in said


def test_where_no_version_passes_the_other_side_is_named(tmp_path: Path) -> None:
    """As for Intel Macs, where torch 2.2.2 is the last."""
    said = Case(tmp_path, {**FACTS, ("torch", "2.4.0"): OLD}).refused(numpy="2.0.2", torch="2.2.2")
    assert "expected a build for NumPy 2; try: numpy==1.26.4, or an exception" in said


def test_an_exception_lets_one_file_pass(tmp_path: Path) -> None:
    """It is for a sha256: another file of the same project is refused as before."""
    waiver = Waiver(project="a", sha256=sha256("a", "1.0"), reason="its one module is not imported")
    case = Case(tmp_path, FACTS, exceptions=(waiver,))
    artifacts = case.artifacts(numpy="2.0.2", torch="2.4.0", a="1.0")
    case.gate.examine(case.view, artifacts)
    assert waivers(case.target, artifacts) == (waiver,)
    assert waivers(case.target, artifacts[:2]) == ()
    other = Case(tmp_path, FACTS, exceptions=(replace(waiver, sha256=sha256("a", "9.0")),))
    assert "a 1.0: a/_one.so" in other.refused(numpy="2.0.2", torch="2.4.0", a="1.0")
    other = Case(tmp_path, FACTS, exceptions=(replace(waiver, project="b"),))
    assert "a 1.0: a/_one.so" in other.refused(numpy="2.0.2", torch="2.4.0", a="1.0")


def test_an_exception_does_not_lift_a_declared_rule(tmp_path: Path) -> None:
    """Rules have their own file, environments/compat.yaml."""
    waiver = Waiver(project="torch", sha256=sha256("torch", "2.2.2"), reason="why")
    case = Case(tmp_path, FACTS, exceptions=(waiver,))
    case.gate.after(case.target, {"numpy": "2.0.2", "torch": "2.2.2"})
    with pytest.raises(GateError, match="compiled against NumPy 1"):
        Gate(RULES, lambda _: None).after(case.target, {"numpy": "2.0.2", "torch": "2.2.2"})


def test_a_lock_records_the_facts_of_its_set(tmp_path: Path) -> None:
    """Generations by package (NumPy apart), torch's CUDA, the floors of all, and the driver that its CUDA needs."""
    torch = replace(NEW, cuda="12.1", cudnn="8", architectures=("sm_90", "sm_50", "sm_100"), glibc="2.5")
    other = replace(OLD, cuda="12", architectures=("sm_70",), glibc="2.17", libstdcxx="3.4.9")
    facts = {("torch", "2.4.0"): torch, ("a", "1.0"): other, ("numpy", "2.0.2"): replace(NEW, libstdcxx="3.4.19")}
    case = Case(tmp_path, facts, variant="cuda", cuda="12.1")
    artifacts = case.artifacts(numpy="2.0.2", torch="2.4.0", a="1.0")
    assert case.gate.summary("linux-64", artifacts) == Summary(
        numpy_1=("a",),
        numpy_2=("a", "torch"),
        architectures=("sm_50", "sm_90", "sm_100"),
        cuda="12.1",
        cudnn="8",
        driver="525.60.13",
        driver_release="530.30.02",
        glibc="2.17",
        libstdcxx="3.4.19",
    )
    assert case.gate.summary("win-64", artifacts).driver is None, "the table is about Linux"


def test_what_is_not_read_is_recorded_as_such(tmp_path: Path) -> None:
    """And stands in every later output, as an exception does."""
    case = Case(tmp_path, {("numpy", "2.0.2"): NEW})
    summary = case.gate.summary("linux-64", case.artifacts(numpy="2.0.2", torch="2.2.2", a="1.0"))
    assert summary == Summary(unread=("a", "torch"))
    waiver = Waiver(project="numpy", sha256=locks.NUMPY.sha256, reason="tested")
    assert remarks(locks.make(facts=Summary(unread=("numpy", "torch")), exceptions=(waiver,))) == [
        "facts of numpy, torch not read",
        "exception for numpy 1.26.4 (tested)",
    ]
    assert remarks(locks.make()) == []
