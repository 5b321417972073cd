"""Locking: from a snapshot to the bytes of a lock, the same on every machine and at every time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import snapshots
import wheels
from servers import HTML, JSON, Notes, serving
from snapshots import RUNNING, file
from torchlock import resolve as resolving
from torchlock.digest import Digest
from torchlock.errors import GateError, ResolveError, SnapshotError
from torchlock.facts.facts import Facts, Module
from torchlock.gate import Gate
from torchlock.indexes.record import Recorder
from torchlock.indexes.server import serve
from torchlock.indexes.snapshot import Snapshot
from torchlock.indexes.view import View
from torchlock.locks import lock as locks
from torchlock.locks.summary import Summary
from torchlock.network.remote import Remote
from torchlock.platforms import PLATFORMS, host
from torchlock.profiles import compat
from torchlock.profiles.line import Waiver
from torchlock.resolve import locking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchlock.locks.lock import Lock
    from torchlock.profiles.profile import Target

RULES = compat.load(Path(__file__).parents[1] / "environments" / "compat.yaml")
GATE = Gate(RULES, lambda _: None)
OTHER = next(name for name in PLATFORMS if name != host().name and name.startswith("linux"))
# Versions that no rule of the gate knows, so that these tests stay true when the rules grow.
TORCH, NUMPY = "9.0.0", "8.0.0"


def target(**changes: Any) -> Target:
    """Return a target of torch from an index of its own, and numpy."""
    wanted = {"indexes": {"torch": "private"}, **changes}
    return snapshots.target(f"torch=={TORCH}", f"numpy=={NUMPY}", **wanted)


def recorded(root: Path) -> Snapshot:
    """Record torch, which requires filelock, on its index, and the others on the default one."""
    snapshots.write(root, file(f"torch-{TORCH}-py3-none-any.whl", ["filelock"], size=None), index="private")
    return snapshots.write(
        root,
        file(f"torch-{TORCH}-1-py3-none-any.whl"),
        file(f"numpy-{NUMPY}-py3-none-any.whl", upload_time="2024-02-05T23:58:36Z"),
        file("filelock-3.0-py3-none-any.whl"),
        file("filelock-4.0-py3-none-any.whl", yanked=""),
    )


def made(
    snapshot: Snapshot, wanted: str | None = "uv", previous: Lock | None = None, gate: Gate = GATE, **changes: Any
) -> Lock:
    """Lock the target offline."""
    view = View(snapshot, target(**changes))
    with serve() as index:
        return locking.make(view, index.add(view), wanted, gate, previous)


def agreeing(monkeypatch: pytest.MonkeyPatch, **answers: Mapping[str, str]) -> None:
    """Put resolvers that answer these sets in the place of the real ones."""
    texts = {name.replace("_", "-"): "".join(f"{k}=={v}\n" for k, v in item.items()) for name, item in answers.items()}
    resolvers = {name: lambda *_, text=text: text for name, text in texts.items()}
    monkeypatch.setattr(resolving, "RESOLVERS", resolvers)


ALL = {"filelock": "3.0", "numpy": NUMPY, "torch": TORCH}


def test_a_lock_names_content_from_each_projects_own_index(tmp_path: Path) -> None:
    """Name, hash, size and time come from the snapshot, the alias from the profile; RESOLVER= alone is recorded."""
    snapshot = recorded(tmp_path)
    lock = made(snapshot)
    assert [(item.project, item.version, item.index) for item in lock.artifacts] == [
        ("filelock", "3.0", "pypi"),
        ("numpy", NUMPY, "pypi"),
        ("torch", TORCH, "private"),
    ]
    torch, numpy = lock.artifacts[2], lock.artifacts[1]
    assert torch.filename == f"torch-{TORCH}-py3-none-any.whl"
    assert torch.sha256 == Digest.of(torch.filename.encode())
    assert (torch.size, torch.upload_time) == (None, None)
    assert (numpy.size, numpy.upload_time) == (1000, "2024-02-05T23:58:36Z")
    assert lock.profile_digest == target().digest()
    assert lock.snapshot_digest == View(snapshot, target()).digest(ALL)
    assert (lock.profile, lock.platform, lock.python) == ("demo-cpu", host().name, RUNNING)
    assert lock.resolvers == ("uv",)


def test_on_this_machines_platform_both_resolvers_agree(tmp_path: Path) -> None:
    """The lock says that real uv and real pip-compile chose the same set."""
    lock = made(recorded(tmp_path), None)
    assert {item.project: item.version for item in lock.artifacts} == ALL
    assert lock.resolvers == ("pip-tools", "uv")


def test_a_lock_is_written_once_and_read_back(tmp_path: Path) -> None:
    """Lock and rendering lie in the profile's folder; writing the same again changes nothing."""
    lock = made(recorded(tmp_path / "index"))
    assert locking.write(lock, tmp_path)
    path = tmp_path / "lockfiles" / "demo-cpu" / host().name / "pylock.toml"
    assert locks.read(path, tmp_path) == lock
    assert f"torch=={TORCH} --hash=sha256:" in (path.parent / "requirements.txt").read_text()
    assert not locking.write(lock, tmp_path)
    (path.parent / "requirements.txt").unlink()
    assert locking.write(lock, tmp_path)


@pytest.mark.parametrize(
    ("platform", "wanted", "resolvers"),
    [
        (host().name, None, ("uv", "pip-tools")),
        (host().name, "uv", ("uv",)),
        (host().name, "pip-tools", ("pip-tools",)),
        (OTHER, None, ("uv",)),
        (OTHER, "uv", ("uv",)),
    ],
)
def test_who_resolves(platform: str, wanted: str | None, resolvers: tuple[str, ...]) -> None:
    """Both on this machine's platform, uv elsewhere, or the one that was named."""
    assert locking.resolvers_for(target(platform=platform), wanted) == resolvers


def test_pip_tools_does_not_resolve_for_another_platform() -> None:
    """Pip evaluates markers for the running interpreter: asked for another platform, that is refused."""
    with pytest.raises(ResolveError) as caught:
        locking.resolvers_for(target(platform=OTHER), "pip-tools")
    assert str(caught.value) == (
        f"demo-cpu on {OTHER}: pip-tools resolves for this machine only, {host().name}; try: RESOLVER=uv"
    )


def test_an_unknown_resolver_is_refused() -> None:
    """The known ones are named."""
    with pytest.raises(ResolveError, match="RESOLVER: unknown resolver 'poetry'; expected pip-tools or uv"):
        locking.resolvers_for(target(), "poetry")


def test_resolvers_that_disagree_lock_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine's platform a lock needs both; RESOLVER= takes one and says so."""
    agreeing(monkeypatch, uv=ALL, pip_tools={**ALL, "filelock": "4.0"})
    with pytest.raises(ResolveError, match=r"disagree: filelock: 3.0 \(uv\), 4.0 \(pip-tools\)"):
        made(recorded(tmp_path), None)
    assert made(recorded(tmp_path), "uv").resolvers == ("uv",)


def test_an_earlier_cross_check_stands_for_the_same_inputs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Re-locked where only uv can answer, a set that both chose before keeps both names; a changed one does not."""
    agreeing(monkeypatch, uv=ALL)
    snapshot = recorded(tmp_path)
    alone = made(snapshot, None, platform=OTHER)
    assert alone.resolvers == ("uv",)
    both = replace(alone, resolvers=("pip-tools", "uv"))
    assert made(snapshot, None, both, platform=OTHER) == both
    assert made(snapshot, "uv", both, platform=OTHER).resolvers == ("uv",)
    for moved in (
        replace(both, profile_digest=Digest.of(b"other")),
        replace(both, snapshot_digest=Digest.of(b"other")),
        replace(both, artifacts=both.artifacts[1:]),
        replace(both, python="3.9"),
    ):
        assert made(snapshot, None, moved, platform=OTHER).resolvers == ("uv",)


def test_what_is_known_to_break_is_refused_before_resolving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.2.2 with numpy 2: no resolver is even asked."""
    monkeypatch.setattr(resolving, "RESOLVERS", {})
    pins = ("numpy==2.0.2", "torch==2.2.2")
    view = View(recorded(tmp_path), replace(target(platform="linux-aarch64", python="3.11"), requirements=pins))
    with pytest.raises(GateError, match="NumPy 1"):
        locking.make(view, "http://127.0.0.1:9/", "uv", GATE, None)


def test_what_is_known_to_break_is_refused_after_resolving(tmp_path: Path) -> None:
    """A CPU set in which a resolver put a CUDA library is no lock."""
    root = tmp_path
    snapshots.write(root, file(f"torch-{TORCH}-py3-none-any.whl", ["nvidia-nccl-cu12"]), index="private")
    snapshot = snapshots.write(
        root, file(f"numpy-{NUMPY}-py3-none-any.whl"), file("nvidia_nccl_cu12-1.0-py3-none-any.whl")
    )
    with pytest.raises(GateError, match="nvidia-nccl-cu12"):
        made(snapshot)


def test_facts_decide_and_are_recorded(tmp_path: Path) -> None:
    """A set whose binaries do not fit is no lock; one that fits, or is let pass on purpose, says what they are."""
    old = Facts(modules=(Module(path="x/_x.so", numpy="1", kind="elf"),))
    gate = Gate(RULES, lambda artifact: old if artifact.project == "filelock" else None)
    snapshot = recorded(tmp_path)
    with pytest.raises(GateError, match=r"filelock 3\.0: x/_x\.so was built for NumPy 1\.x alone, beside numpy 8"):
        made(snapshot, gate=gate)
    waiver = Waiver(project="filelock", sha256=Digest.of(b"filelock-3.0-py3-none-any.whl"), reason="tested")
    lock = made(snapshot, gate=gate, exceptions=(waiver, replace(waiver, project="other")))
    assert lock.exceptions == (waiver,)
    assert lock.facts == Summary(numpy_1=("filelock",), unread=("numpy", "torch"))


def test_a_wheel_for_another_platform_is_refused_when_locking(tmp_path: Path) -> None:
    """A pin whose only wheels are for other machines is refused with the reason."""
    snapshots.write(tmp_path, file(f"torch-{TORCH}-cp310-cp310-win_amd64.whl"), index="private")
    with pytest.raises(ResolveError, match=f"torch=={TORCH}: no wheel for Python {RUNNING} on {host().name}, only"):
        made(snapshots.write(tmp_path, file(f"numpy-{NUMPY}-py3-none-any.whl")))


def test_offline_what_the_snapshot_lacks_is_named(tmp_path: Path) -> None:
    """A wheel without a recorded hash is not locked; nothing is asked of the network."""
    snapshot = recorded(tmp_path)
    snapshots.write(tmp_path, file("filelock-3.0-py3-none-any.whl", sha256=None))
    with pytest.raises(SnapshotError) as caught:
        made(type(snapshot)(tmp_path))
    assert str(caught.value) == (
        "lockfiles/index/pypi/filelock.json: the sha256 of filelock-3.0-py3-none-any.whl is not recorded; "
        "try: the same without OFFLINE=1"
    )


LOCK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
os.umask(int(sys.argv[3], 8))
import test_locking
from torchlock.resolve import locking
from torchlock.indexes.server import serve
from torchlock.indexes.record import Recorder
from torchlock.network.remote import Remote
from torchlock.reporter import Silent
from torchlock.indexes.snapshot import Snapshot
from torchlock.indexes.view import View
root = Path(sys.argv[1])
snapshot = Snapshot(root / "lockfiles" / "index")
roots = {"pypi": sys.argv[2] + "/simple/", "private": sys.argv[2] + "/private/"}
target = test_locking.target(platform="linux-aarch64", python="3.11")
view = View(snapshot, target, Recorder(snapshot, Remote(), roots, Silent()))
with serve() as index:
    locking.write(locking.make(view, index.add(view), "uv", test_locking.GATE, None), root)
"""


def test_the_same_index_gives_the_same_bytes_whatever_the_machine(tmp_path: Path) -> None:
    """Order of files on the pages, locale, zone, umask, HOME, hash seed, folder: one snapshot, one lock."""
    public = {"numpy": NUMPY, "filelock": "3.0", "filelock-two": "1.0", "Extra_Thing": "2.0"}
    made_files = [wheels.make(tmp_path / "made", name=name, version=version) for name, version in public.items()]
    made_files += [wheels.make(tmp_path / "made", name="numpy", version="7.0.0")]
    requires = ["filelock", "filelock-two", "extra-thing ; python_version > '3'"]
    torch = wheels.make(tmp_path / "made", name="torch", version=TORCH, requires=requires)
    base = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    ways: list[tuple[str, bool, str, dict[str, str]]] = [
        ("a", False, "022", {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1"}),
        ("b/c d", True, "077", {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "HOME": "/nonexistent"}),
    ]
    written = []
    for name, backwards, umask, changes in ways:
        files = {path.name: path.read_bytes() for path in (made_files[::-1] if backwards else made_files)}
        with serving() as site:
            site.index(files, kind=JSON)
            site.index({torch.name: torch.read_bytes()}, root="/private/", kind=JSON)
            subprocess.run(
                [sys.executable, "-c", LOCK, str(tmp_path / name), site.url, umask, str(Path(__file__).parent)],
                env={**base, **changes, "PYTHONPATH": str(Path(locking.__file__).parents[2])},
                check=True,
                timeout=120,
            )
        root = tmp_path / name
        written.append(
            {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        )
    assert written[0] == written[1]
    assert sorted(written[0]) == [
        "lockfiles/demo-cpu/linux-aarch64/pylock.toml",
        "lockfiles/demo-cpu/linux-aarch64/requirements.txt",
        "lockfiles/index/private/torch.json",
        "lockfiles/index/pypi/extra-thing.json",
        "lockfiles/index/pypi/filelock-two.json",
        "lockfiles/index/pypi/filelock.json",
        "lockfiles/index/pypi/numpy.json",
    ]
    assert not any(b"127.0.0.1" in data or str(tmp_path).encode() in data for data in written[0].values())
    assert all((tmp_path / "b/c d" / name).stat().st_mode & 0o777 == 0o644 for name in written[0])


def test_recording_and_locking_leave_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that wants a password gives a lock that does not hold it, nor the address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    parts = [wheels.make(tmp_path / "made", name=name, version=version) for name, version in ALL.items()]
    with serving() as site, serve() as index:
        url = site.index({path.name: path.read_bytes() for path in parts}, kind=HTML)
        roots = dict.fromkeys(("pypi", "private"), url.replace("http://", "http://someone:s3cret@"))
        snapshot, notes = Snapshot(tmp_path / "lockfiles" / "index"), Notes()
        view = View(snapshot, target(), Recorder(snapshot, Remote(notes), roots, notes))
        locking.write(locking.make(view, index.add(view), "uv", GATE, None), tmp_path)
        assert {seen.headers.get("authorization", "")[:6] for seen in site.seen} == {"Basic "}
    written = [path.read_text() for path in (tmp_path / "lockfiles").rglob("*") if path.is_file()]
    assert len(written) == 4
    for text in [*written, *notes.notes]:
        assert not any(word in text for word in ("s3cret", "someone", "c29tZW9uZTpzM2NyZXQ"))
    assert not any("127.0.0.1" in text for text in written)
