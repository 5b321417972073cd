"""Debian's packages through apt: what is asked, what is understood, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import bases
from servers import Notes
from torchlock.base.apt import Apt
from torchlock.errors import ImageError, NetworkError

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.base.packages import Package


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bases.Archive:
    """Give a small archive and the programs that read it."""
    return bases.archive(tmp_path, monkeypatch)


def apt(folder: Path, mirror: str | None = None) -> Apt:
    """Make an apt in a folder of its own."""
    (folder / "apt").mkdir()
    return Apt(folder / "apt", "bookworm", "linux-64", mirror, Notes())


def names(packages: list[Package]) -> list[str]:
    """Return names and versions."""
    return [f"{item.name} {item.version}" for item in packages]


def test_packages_are_chosen(archive: bases.Archive, tmp_path: Path) -> None:
    """The essential ones and the named ones are asked for; the answer has size and sha256, epochs are understood."""
    extra = bases.package("zlib1g", "1:1.2")
    archive.offer([extra, bases.package("netbase", "6.4")])
    found = apt(tmp_path).choose(["python3", "netbase"])
    assert names(found) == ["netbase 6.4", "zlib1g 1:1.2"]
    assert found[1] == extra
    assert archive.asked[-1].endswith("install --assume-yes --print-uris ?essential python3 netbase")


def test_settings_are_private(archive: bases.Archive, tmp_path: Path) -> None:
    """Lists, caches and sources lie in the folder; what the machine does after updates is cleared."""
    apt(tmp_path).choose(["python3"])
    text = (tmp_path / "apt" / "apt.conf").read_text()
    for line in (
        f'Dir::State "{tmp_path}/apt/state";',
        f'Dir::Etc::sourcelist "{tmp_path}/apt/sources.list";',
        "#clear APT::Update;",
        'APT::Architecture "amd64";',
    ):
        assert line in text
    assert "AllowUnauthenticated" not in text
    assert (tmp_path / "apt" / "sources.list").read_text() == "deb http://mirror.test bookworm main\n"


def test_the_machine_s_sources_of_the_release_are_taken(archive: bases.Archive, tmp_path: Path) -> None:
    """With the keys that they are signed by; other releases and other vendors are not asked."""
    (archive.folder / "targets").write_text(
        "Debian|bookworm-security|/usr/share/keyrings/d.gpg|http://mirror.test/s bookworm-security main\n"
        "Debian|trixie||http://mirror.test trixie main\n"
        "Google|bookworm||http://other.test bookworm main\n"
    )
    apt(tmp_path).choose(["python3"])
    expected = "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/s bookworm-security main\n"
    assert (tmp_path / "apt" / "sources.list").read_text() == expected


def test_a_mirror_that_is_named(archive: bases.Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address serves the release and its updates; a second one is that of security updates."""
    monkeypatch.setattr("torchlock.base.apt.ARCHIVE_KEYS", "/nowhere")
    apt(tmp_path, "http://a.test/debian http://a.test/security").choose(["python3"])
    assert (tmp_path / "apt" / "sources.list").read_text().splitlines() == [
        "deb http://a.test/debian bookworm main",
        "deb http://a.test/debian bookworm-updates main",
        "deb http://a.test/security bookworm-security main",
    ]


def test_a_mirror_that_is_no_address(archive: bases.Archive, tmp_path: Path) -> None:
    """No option of apt's is smuggled in."""
    with pytest.raises(ImageError) as caught:
        apt(tmp_path, "[trusted=yes]").choose(["python3"])
    assert str(caught.value) == (
        "DEBIAN: '[trusted=yes]'; expected one address, or two: the mirror's, and its security updates'"
    )


def test_a_mirror_that_does_not_answer(archive: bases.Archive, tmp_path: Path) -> None:
    """Apt's words are passed on, without the password."""
    (archive.folder / "broken").touch()
    with pytest.raises(NetworkError) as caught:
        apt(tmp_path).choose(["python3"])
    assert str(caught.value) == (
        "apt-get update: Failed to fetch http://mirror.test/x 404 Not Found; "
        "expected packages of Debian; try: DEBIAN=<the address of a Debian mirror>"
    )


def test_an_answer_that_is_not_understood(archive: bases.Archive, tmp_path: Path) -> None:
    """Without a sha256 there is no lock."""
    (archive.folder / "listed").write_text("'http://m.test/a_1_all.deb' a_1_all.deb 7 MD5Sum:00\n")
    with pytest.raises(ImageError) as caught:
        apt(tmp_path).choose(["python3"])
    assert str(caught.value) == (
        """apt: it says "'http://m.test/a_1_all.deb' a_1_all.deb 7 MD5Sum:00"; """
        "expected a package with its size and SHA256"
    )


def test_exactly_the_locked_packages_are_brought(archive: bases.Archive, tmp_path: Path) -> None:
    """Each by its name and version."""
    wanted = [bases.package("netbase", "6.4")]
    apt(tmp_path).download(wanted, tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["netbase_6.4_amd64.deb"]
    assert archive.asked[-1].endswith("download netbase=6.4")


def test_a_version_that_the_mirror_no_longer_has(archive: bases.Archive, tmp_path: Path) -> None:
    """Package, version, and two ways on."""
    wanted = [bases.package("netbase", "6.4"), bases.package("libc6", "2.35-1")]
    with pytest.raises(ImageError) as caught:
        apt(tmp_path).download(wanted, tmp_path / "here")
    assert str(caught.value) == (
        "the mirror of Debian: no longer has libc6 2.35-1 (amd64); expected every locked package; "
        "try: make pull-<profile> REGISTRY=<where an image on this base was pushed>, or make base UPDATE=1 "
        "for newer packages"
    )


def test_other_bytes_under_a_locked_version(archive: bases.Archive, tmp_path: Path) -> None:
    """Both hashes are shown."""
    wanted = bases.package("netbase", "6.4")
    changed = bytearray(bases.deb("netbase", "6.4"))
    changed[-2] ^= 1
    (archive.folder / wanted.filename).write_bytes(changed)
    with pytest.raises(ImageError) as caught:
        apt(tmp_path).download([wanted], tmp_path / "here")
    message = str(caught.value)
    assert message.startswith("the mirror's netbase_6.4_amd64.deb: sha256:")
    assert message.endswith(
        f"; expected {wanted.size} bytes and {wanted.sha256}, as locked; try: DEBIAN=<another mirror>"
    )
