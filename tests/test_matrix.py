"""The matrix: cells predicted from facts, tried in real environments of small wheels, recorded and rendered."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import snapshots
import wheels
from servers import Notes
from torchlock import interpreter, matrix
from torchlock.digest import Digest
from torchlock.errors import EnvError, GateError, SmokeError, SnapshotError
from torchlock.facts.cache import Cache
from torchlock.facts.facts import Facts, Module
from torchlock.gate.source import Source
from torchlock.indexes.snapshot import Snapshot
from torchlock.matrix import cells, observation, prediction, rendering
from torchlock.matrix.cells import FAILS, NO_WHEEL, WORKS, Cell, Matrix, Observation, Wheel
from torchlock.matrix.record import Record
from torchlock.platforms import host
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from torchlock.locks.lock import Artifact

ROOT = Path(__file__).parents[1]
TAGS = {
    "linux-64": "manylinux1_x86_64",
    "linux-aarch64": "manylinux2014_aarch64",
    "osx-arm64": "macosx_11_0_arm64",
    "win-64": "win_amd64",
}
OLD = Module(path="torch/lib/libtorch_python.so", numpy="1", kind="elf")
NEW = Module(path="torch/lib/libtorch_python.so", numpy="2", kind="elf")
ABI = "import.torch: NumPy ABI mismatch: an extension was compiled against NumPy 1.x"
ONE, TWO = Digest("1" * 64), Digest("2" * 64)

# In the place of the smoke script: it looks at what is installed, and finds what torch 2.2 and NumPy 2 are known for.
SMOKE = """
import json, platform, sys
from importlib import metadata
found = {name: metadata.version(name) for name in ("torch", "numpy")}
bad = found["torch"] < "2.3" and found["numpy"] > "2"
checks = [{"id": "import.numpy", "status": "pass"}]
if bad:
    checks += [{"id": "import.torch", "status": "fail", "cause": "NumPy ABI mismatch: seen"}]
else:
    checks += [{"id": "import.bridge", "status": "pass"}, {"id": "conversion.from_numpy[float32]", "status": "pass"}]
checks += [{"id": "conversion.known", "status": "fail", "cause": "a defect", "known": "an issue"}]
report = {
    "checks": checks,
    "platform": {"system": sys.platform, "machine": platform.machine(), "libc": None},
    "versions": {"python": platform.python_version(), "distributions": found},
}
with open(sys.argv[sys.argv.index("--report") + 1], "w") as file:
    json.dump(report, file)
"""


def facts(artifact: Artifact) -> Facts:
    """Give what is known of torch's wheels."""
    old = artifact.version < "2.3" or ("win" in artifact.filename and artifact.version < "2.4.1")
    return Facts(modules=(OLD if old else NEW,))


def recorded(root: Path) -> Snapshot:
    """Record a wheel of every version for every platform."""
    tags = [f"cp311-cp311-{tag}" for tag in TAGS.values()]
    torch = sorted({version for versions in prediction.TORCH.values() for version in versions})
    names = [f"torch-{version}-{tag}.whl" for version in torch for tag in tags]
    names += [f"numpy-{version}-{tag}.whl" for version in prediction.NUMPY for tag in tags]
    return snapshots.write(root, *map(snapshots.file, names))


def cell(**changes: object) -> Cell:
    """Return a good cell that was run, with other values where they are given."""
    value = Cell(
        platform="linux-64",
        torch="2.4.1",
        numpy="2.1.3",
        torch_wheel=Wheel(filename="torch-2.4.1-cp311-cp311-manylinux1_x86_64.whl", sha256=ONE),
        numpy_wheel=Wheel(filename="numpy-2.1.3-cp311-cp311-manylinux1_x86_64.whl", sha256=TWO),
        read=(NEW,),
        observed=seen(WORKS),
    )
    return replace(value, **changes)  # type: ignore[arg-type]  # whatever a test names


def seen(status: str, why: str = "") -> Observation:
    """Return what a run of the good cell found."""
    return Observation(
        status=status, torch=ONE, numpy=TWO, machine="linux, x86_64", passed=396, failed=int(bool(why)), why=why
    )


def test_every_cell_is_predicted_from_the_bytes_of_its_torch_wheel(tmp_path: Path) -> None:
    """Built for NumPy 1.x alone: fails under 2.x, and nothing else does; on Windows that is so until torch 2.4.1."""
    found = prediction.predict(recorded(tmp_path), facts, Matrix())
    bad = {(item.platform, item.torch) for item in found.cells if item.predicted == FAILS}
    everywhere = {(platform, version) for platform in TAGS for version in ("2.1.2", "2.2.2")}
    assert bad == everywhere | {("win-64", version) for version in ("2.3.0", "2.3.1", "2.4.0")}
    assert {item.numpy for item in found.cells if item.predicted == FAILS} == {"2.0.2", "2.1.3", "2.2.6"}
    assert len(found.cells) == (6 * 3 + 8) * 4
    assert {item.predicted for item in found.cells} == {WORKS, FAILS}


def test_a_version_without_a_wheel_is_said_to_have_none(tmp_path: Path) -> None:
    """Neither works nor fails: there is nothing to install, and nothing to run."""
    snapshot = recorded(tmp_path)
    page = snapshot.page("pypi", "torch")
    assert page is not None
    kept = {name: file for name, file in page.files.items() if "2.6.0" not in name or "macosx" not in name}
    snapshot.write(replace(page, files=kept))
    found = prediction.predict(snapshot, facts, Matrix())
    without = [(item.platform, item.torch, item.torch_wheel) for item in found.cells if item.predicted == NO_WHEEL]
    assert without == [("osx-arm64", "2.6.0", None)] * 4
    assert "| torch 2.6.0 | no wheel / not run | no wheel / not run |" in rendering.markdown(found).decode()


@pytest.mark.parametrize(
    ("given", "why"),
    [(None, "its facts are not read; try: the same without OFFLINE=1"), (Facts(), "no module in it uses NumPy")],
)
def test_a_torch_that_cannot_be_read_is_refused(tmp_path: Path, given: Facts | None, why: str) -> None:
    """Nothing is predicted from nothing."""
    with pytest.raises(SnapshotError, match=r"^torch-2.*\.whl: ") as caught:
        prediction.predict(recorded(tmp_path), lambda _: given, Matrix())
    assert why in str(caught.value)


def test_what_is_known_of_a_run_holds_for_these_very_wheels_alone(tmp_path: Path) -> None:
    """Evidence is bound to both digests: where the index has another wheel, its run is no longer known."""
    snapshot = recorded(tmp_path)
    first = prediction.predict(snapshot, facts, Matrix()).cells[0]
    assert first.torch_wheel is not None
    assert first.numpy_wheel is not None
    run = replace(seen(WORKS), torch=first.torch_wheel.sha256, numpy=first.numpy_wheel.sha256)
    for known, kept in ((run, run), (replace(run, torch=ONE), None), (replace(run, numpy=ONE), None)):
        found = prediction.predict(snapshot, facts, Matrix(cells=(replace(first, observed=known),)))
        assert found.cells[0].observed == kept
        assert all(item.observed is None for item in found.cells[1:])


def test_a_run_that_ends_as_predicted_is_no_disagreement() -> None:
    """Good as predicted, bad as predicted, and never run."""
    bad = cell(numpy="2.0.2", torch="2.2.2", read=(OLD,), observed=seen(FAILS, ABI))
    cells.judge(Matrix(cells=(cell(), bad, cell(observed=None))))


@pytest.mark.parametrize(
    ("read", "status", "why", "message"),
    [
        (NEW, FAILS, ABI, f"predicted works ({{}} NumPy 2.x), observed fails on linux, x86_64 ({ABI})"),
        (OLD, WORKS, "", "predicted fails ({} NumPy 1.x), observed works on linux, x86_64 (no failure)"),
        (
            OLD,
            FAILS,
            "import.torch: other",
            "predicted fails ({} NumPy 1.x), observed fails on linux, x86_64 (import.torch: other)",
        ),
    ],
)
def test_a_disagreement_fails_with_both_sides(read: Module, status: str, why: str, message: str) -> None:
    """Also where the prediction came true for another reason: that is no proof of it."""
    found = Matrix(cells=(cell(), cell(torch="2.5.1", read=(read,), observed=seen(status, why))))
    with pytest.raises(GateError) as caught:
        cells.judge(found)
    assert str(caught.value) == (
        "lockfiles/matrix.json: 1 of 2 cells behave otherwise than their bytes say: "
        f"linux-64: torch 2.5.1 with numpy 2.1.3: {message.format(f'{OLD.path} is built for')}"
    )
    assert "1 OTHERWISE THAN PREDICTED" in rendering.table(found)
    assert "(!)" in rendering.markdown(found).decode()


def test_the_evidence_reads_back_as_it_was_written() -> None:
    """One line a cell, with everything that a cell is."""
    found = Matrix(
        cells=(cell(), cell(torch="2.2.2", read=(OLD,), observed=None), cell(numpy_wheel=None, read=(), observed=None))
    )
    data = found.to_json()
    assert Matrix.from_json(data, "matrix.json") == found
    assert len(data.splitlines()) == 5
    assert json.loads(data)["cells"][1]["observed"] == "not run: no Python for linux-64 has tried it"
    assert json.loads(data)["cells"][2]["observed"] == "not run: there is no wheel"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"predicted": "works"', '"predicted": "fails"'),
        ('"schema": 1', '"schema": 2'),
        ('"status": "works"', '"status": "good"'),
        ("1" * 64, "1" * 63),
        ('"cells"', '"cell"'),
    ],
)
def test_evidence_that_was_edited_is_refused(old: str, new: str) -> None:
    """A prediction that its facts do not give, another schema, an unknown status, a digest that is none, no cells."""
    data = Matrix(cells=(cell(),)).to_json().decode()
    assert old in data
    with pytest.raises(
        SnapshotError, match=r"^lockfiles/matrix\.json: .*; try: git checkout -- lockfiles/matrix\.json$"
    ):
        Matrix.from_json(data.replace(old, new, 1).encode(), "lockfiles/matrix.json")


def test_the_committed_document_is_the_one_that_its_evidence_gives() -> None:
    """`lockfiles/MATRIX.md` is generated: made again from `matrix.json` there is no difference."""
    found = Matrix.from_json((ROOT / "lockfiles" / "matrix.json").read_bytes(), "lockfiles/matrix.json")
    assert (ROOT / "lockfiles" / "MATRIX.md").read_bytes() == rendering.markdown(found)
    cells.judge(found)


def test_the_committed_predictions_are_those_of_the_committed_facts() -> None:
    """Predicted again, offline, from what is recorded, the matrix is the one that is committed."""
    index = ROOT / "lockfiles" / "index"
    committed = Matrix.from_json((ROOT / "lockfiles" / "matrix.json").read_bytes(), "lockfiles/matrix.json")
    source = Source(Cache(root=index / "facts"), Silent())
    assert prediction.predict(Snapshot(index), source, committed) == committed


def test_the_committed_evidence_covers_what_it_must() -> None:
    """Every pair on every platform is predicted, and every cell that can run on Linux was run."""
    found = Matrix.from_json((ROOT / "lockfiles" / "matrix.json").read_bytes(), "lockfiles/matrix.json")
    places = [(item.platform, item.torch, item.numpy) for item in found.cells]
    wanted = [
        (name, torch, numpy) for name, all_ in prediction.TORCH.items() for torch in all_ for numpy in prediction.NUMPY
    ]
    assert places == wanted
    run = {(item.platform, item.torch, item.numpy) for item in found.cells if item.observed}
    assert {place for place in wanted if place[0].startswith("linux")} == run


class Lab:
    """A laboratory of the running Python over small wheels; with it the two pairs of torch that are told apart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes = Notes()
        house = root / "wheelhouse"
        made = [
            wheels.make(house, name=name, version=version)
            for name, version in (("torch", "2.2.2"), ("torch", "2.4.1"), ("numpy", "1.26.4"), ("numpy", "2.1.3"))
        ]
        self.wheels = {tuple(path.name.split("-")[:2]): path for path in made}
        script = root / "smoke.py"
        script.write_text(SMOKE, encoding="utf-8")
        self.laboratory = observation.Laboratory(
            python=interpreter.ask(Path(sys.executable)),
            folder=root / "work",
            index=None,
            reporter=self.notes,
            wheelhouses=(house,),
            script=script,
        )

    def cell(self, torch: str, numpy: str) -> Cell:
        """Return the cell of a pair of these wheels, on this machine."""
        named = [
            Wheel(filename=path.name, sha256=Digest.of_file(path))
            for path in (self.wheels["torch", torch], self.wheels["numpy", numpy])
        ]
        read = (OLD if torch == "2.2.2" else NEW,)
        return cell(
            platform=host().name,
            torch=torch,
            numpy=numpy,
            torch_wheel=named[0],
            numpy_wheel=named[1],
            read=read,
            observed=None,
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Give a laboratory."""
    return Lab(tmp_path)


def test_cells_are_tried_in_environments_of_their_own(lab: Lab) -> None:
    """Each gets its very wheels, verified by digest; what is found is kept at once, beside what was predicted."""
    kept: list[Cell] = []
    wanted = Matrix(
        cells=(lab.cell("2.4.1", "2.1.3"), lab.cell("2.2.2", "2.1.3"), cell(platform="win-64", observed=None))
    )
    found = observation.observe(wanted, lab.laboratory, kept.append, again=False)
    good, bad, other = found.cells
    assert [good, bad] == kept
    assert good.observed is not None
    assert bad.observed is not None
    assert (good.observed.status, good.observed.passed, good.observed.failed) == (WORKS, 3, 1)
    assert good.observed.why == "known defect of this build: a defect (an issue)"
    assert (bad.observed.status, bad.observed.why) == (FAILS, "import.torch: NumPy ABI mismatch: seen")
    assert bad.torch_wheel is not None
    assert bad.observed.torch == bad.torch_wheel.sha256
    assert "emulated" not in good.observed.machine
    assert other.observed is None
    cells.judge(found)
    assert not lab.laboratory.folder.exists()
    assert lab.notes.notes == [
        f"1 of 2: torch 2.4.1 with numpy 2.1.3 on {host().name}, predicted: works",
        f"2 of 2: torch 2.2.2 with numpy 2.1.3 on {host().name}, predicted: fails",
    ]


def test_an_import_without_a_conversion_is_not_enough(lab: Lab) -> None:
    """A run in which nothing failed and nothing was converted shows nothing good."""
    script = SMOKE.replace(
        '"id": "conversion.from_numpy[float32]", "status": "pass"', '"id": "conversion.x", "status": "not run"'
    )
    assert script != SMOKE
    lab.laboratory.script.write_text(script, encoding="utf-8")
    found = lab.laboratory.try_(lab.cell("2.4.1", "2.1.3"))
    assert (found.status, found.why) == (FAILS, "nothing was converted")


def test_a_wheel_with_other_bytes_is_not_tried(lab: Lab) -> None:
    """The evidence of one wheel is never that of another."""
    wanted = lab.cell("2.4.1", "2.1.3")
    with pytest.raises(EnvError, match=r"uv pip: .*Hash mismatch"):
        lab.laboratory.try_(replace(wanted, torch_wheel=Wheel(filename="torch.whl", sha256=ONE)))


def test_a_script_that_breaks_is_no_evidence(lab: Lab) -> None:
    """Without a report nothing is recorded, neither good nor bad."""
    lab.laboratory.script.write_text("import sys; sys.exit('it broke')", encoding="utf-8")
    with pytest.raises(SmokeError, match=r"torch 2\.4\.1 with numpy 2\.1\.3 on .*: .* status 1: it broke"):
        lab.laboratory.try_(lab.cell("2.4.1", "2.1.3"))


def test_a_known_cell_is_tried_again_only_on_request(lab: Lab) -> None:
    """What is recorded is not repeated."""
    known = replace(lab.cell("2.4.1", "2.1.3"), observed=seen(WORKS))
    tried: list[Cell] = []
    assert observation.observe(Matrix(cells=(known,)), lab.laboratory, tried.append, again=False).cells == (known,)
    assert tried == []
    observation.observe(Matrix(cells=(known,)), lab.laboratory, tried.append, again=True)
    assert [item.observed.passed for item in tried if item.observed] == [3]


def test_what_was_tried_is_recorded_before_the_next_is(tmp_path: Path) -> None:
    """Both files are written for every cell, beside the cells that another process added."""
    snapshot = recorded(tmp_path / "index")
    record = Record(tmp_path, Silent())
    found = matrix.make(record, snapshot, facts)
    assert record.read() == found
    one, two = (
        replace(item, observed=replace(seen(WORKS), torch=item.torch_wheel.sha256, numpy=item.numpy_wheel.sha256))
        for item in found.cells[:2]
        if item.torch_wheel and item.numpy_wheel
    )
    record.add(one)
    Record(tmp_path, Silent()).add(two)
    assert record.read() == found.with_cell(one).with_cell(two)
    assert (tmp_path / "lockfiles" / "MATRIX.md").read_bytes() == rendering.markdown(record.read())
    assert matrix.make(record, snapshot, facts) == record.read()


def test_the_table_shows_prediction_and_observation_side_by_side() -> None:
    """A block a platform, and the counts."""
    bad = cell(numpy="1.26.4", observed=None)
    assert rendering.table(Matrix(cells=(bad, cell()))) == (
        "linux-64, Python 3.11\n"
        "             numpy 1.26.4     numpy 2.1.3\n"
        "torch 2.4.1  works / not run  works / works\n"
        "\n"
        "2 cells predicted; 1 run, all as predicted; 1 not run."
    )
