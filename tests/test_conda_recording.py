"""Recording channels: imported from facts with their evidence, or fetched with rattler from a channel on loopback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from channels import Package, publish
from recorded import FULL, LOOSE, PROFILE, WORLD, record, subdir
from servers import serving, status
from torchlock.conda.channels import Channels, Record
from torchlock.conda.recording import import_channels, refresh
from torchlock.errors import CondaError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BASE = "https://conda.anaconda.org/main/linux-64/"


def facts(folder: Path, records: Iterable[Record], **provenance: Any) -> Path:
    """Return a folder of facts: a channel's list of packages, and how each of them is known."""
    found = list(records)
    place = folder / "facts" / "main" / "linux-64"
    place.mkdir(parents=True, exist_ok=True)
    (place / "repodata.json").write_bytes(subdir(found).repodata(lambda _: True))
    known = {f"{BASE}{item.filename}": dict(item.evidence) for item in found}
    (folder / "facts" / "provenance.json").write_text(json.dumps({**known, **provenance}))
    return folder / "facts"


def records(channels: Channels, name: str = "linux-64") -> dict[str, Record]:
    """Return what is stored, read anew."""
    found = Channels(channels.root).subdir("main", name)
    assert found is not None
    return dict(found.records)


def test_imported(tmp_path: Path) -> None:
    """What profiles reach is stored with its evidence, and the same bytes twice."""
    lone = record("scipy 1.14.0 py311_0")
    old = record("libblas 3.8.0 0_mkl", evidence=LOOSE)
    channels = Channels(tmp_path / "index")
    folder = facts(tmp_path, [*WORLD, lone, old])
    assert import_channels(folder, [PROFILE], channels) == {"main/linux-64": 12}
    stored = records(channels)
    assert "python-3.12.1-h1_0.conda" not in stored
    assert stored[old.filename].evidence == LOOSE
    assert stored[WORLD[3].filename] == WORLD[3]
    assert stored[WORLD[3].filename].value == WORLD[3].value
    assert stored[WORLD[3].filename].evidence == FULL
    before = channels.path("main", "linux-64").read_bytes()
    assert import_channels(folder, [PROFILE], Channels(tmp_path / "again")) == {"main/linux-64": 12}
    assert (tmp_path / "again" / "main" / "linux-64.json").read_bytes() == before


def test_without_evidence(tmp_path: Path) -> None:
    """A record of which nobody says how it is known is refused, and nothing is stored."""
    folder = facts(tmp_path, WORLD)
    known = json.loads((folder / "provenance.json").read_bytes())
    del known[f"{BASE}{WORLD[3].filename}"]
    (folder / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(CondaError) as caught:
        import_channels(folder, [PROFILE], Channels(tmp_path / "index"))
    assert str(caught.value) == (
        f"{folder}/provenance.json: says nothing of numpy-2.1.3-py311_0.conda; expected evidence of each record"
    )
    assert not (tmp_path / "index").exists()


def test_contradicted(tmp_path: Path) -> None:
    """Other bytes under a recorded name are refused, both hashes shown, and nothing is stored."""
    channels = recorded.recorded(tmp_path)
    before = channels.path("main", "linux-64").read_bytes()
    other = Record.make(WORLD[3].filename, {**WORLD[3].value, "sha256": "a" * 64}, FULL)
    with pytest.raises(CondaError) as caught:
        import_channels(facts(tmp_path, [*WORLD[:3], other, *WORLD[4:]]), [PROFILE], channels)
    assert str(caught.value) == (
        f"main/linux-64: numpy-2.1.3-py311_0.conda: has sha256:{'a' * 64} now; expected {WORLD[3].sha256}, as recorded"
    )
    assert channels.path("main", "linux-64").read_bytes() == before


def test_own_word(tmp_path: Path) -> None:
    """What a channel itself said is not replaced by what others say of it."""
    said = Record.make(WORLD[3].filename, {**WORLD[3].value, "constrains": ["x <1"]}, {})
    channels = recorded.recorded(tmp_path, subdir([said]))
    import_channels(facts(tmp_path, WORLD), [PROFILE], channels)
    assert records(channels)[said.filename].value["constrains"] == ["x <1"]
    assert records(channels)[said.filename].evidence == {}


@pytest.mark.parametrize("text", ["", "[", "{}"])
def test_no_facts(tmp_path: Path, text: str) -> None:
    """A folder whose lists are no lists of packages is refused."""
    folder = facts(tmp_path, WORLD)
    (folder / "provenance.json").write_text(text or "no")
    with pytest.raises(CondaError, match=r"provenance\.json: "):
        import_channels(folder, [PROFILE], Channels(tmp_path / "index"))


PACKAGES = (
    Package(name="python", version="3.11.9", depends=("__glibc >=2.17",)),
    Package(name="python", version="3.12.1"),
    Package(name="numpy", version="2.1.3", depends=("python 3.11.*", "tzdata"), constrains=("x <1",)),
    Package(name="pytorch", version="2.4.1", build="cpu_0", depends=("python", "numpy")),
    Package(name="tzdata", version="2026a", noarch="generic"),
    Package(name="lonely", version="1.0"),
)


def test_refreshed(tmp_path: Path) -> None:
    """Over the network, what the channel itself says is recorded, and takes the place of what was imported."""
    with serving() as site:
        publish(site, PACKAGES, "main")
        channels = Channels(tmp_path / "index")
        found = refresh(f"{site.url}/", [PROFILE], channels)
        assert found == {"main/linux-64": 3, "main/noarch": 1}
        stored = records(channels)
        assert sorted(item.name for item in stored.values()) == ["numpy", "python", "pytorch"]
        numpy = stored["numpy-2.1.3-0.conda"]
        assert (numpy.value["constrains"], numpy.evidence, numpy.constrained) == (["x <1"], {}, True)
        address = f"{site.url}/main/linux-64/"
        again = Channels(channels.root).subdir("main", "linux-64")
        assert again is not None
        assert again.base_url == address
        assert records(channels, "noarch")["tzdata-2026a-0.conda"].value["noarch"] == "generic"
        changed = (*PACKAGES[:2], Package(name="numpy", version="2.1.3", files={"x": "other bytes"}), *PACKAGES[3:])
        publish(site, changed, "main")
        with pytest.raises(
            CondaError, match=r"^main/linux-64: numpy-2\.1\.3-0\.conda: has sha256:\w+ now; expected sha256:"
        ):
            refresh(site.url, [PROFILE], Channels(channels.root))


def test_unreachable(tmp_path: Path) -> None:
    """A channel that does not answer is an error that names it, and nothing is stored."""
    with serving() as site:
        publish(site, PACKAGES, "main")
        for name in ("repodata.json", "repodata.json.zst", "repodata.json.bz2"):
            site.script(f"/main/linux-64/{name}", status(500), forever=True)
        with pytest.raises(NetworkError) as caught:
            refresh(site.url, [PROFILE], Channels(tmp_path / "index"))
        assert str(caught.value).startswith(f"{site.url}/main/linux-64: does not give its packages: ")
    assert not (tmp_path / "index").exists()
