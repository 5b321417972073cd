"""A Debian root written as a layer: what goes into it, and what does not."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

import bases
from torchlock.base.rewriting import Written, rewrite
from torchlock.errors import ImageError
from torchlock.layers.reading import Read, diff_id, entries
from torchlock.layers.tar import EPOCH
from torchlock.oci.descriptor import LAYER_GZIP

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {"netbase": "6.4", "libc6": "2.36"}


def written(folder: Path, root: bases.Root, name: str = "layer") -> tuple[dict[str, Read], Written]:
    """Rewrite a root; return the entries of the layer by path, and the account."""
    source = root.save(folder / f"{name}.tar", time=1_700_000_000.5, owner="me")
    with (folder / name).open("wb") as sink:
        made = rewrite(source, sink)
    assert diff_id(folder / name, LAYER_GZIP) == made.blob.diff_id
    return {item.path: item for item in entries(folder / name, LAYER_GZIP)}, made


def test_times_and_names_are_gone_and_owners_are_numbers(tmp_path: Path) -> None:
    """A file of the group shadow with its setgid bit stays what it is."""
    root = bases.root(NAMES)
    root.file("usr/bin/chkpwd", b"x", 0o2755, gid=42)
    root.file("usr/bin/of-a-user", b"x", 0o600, uid=1_000_000)
    found, _ = written(tmp_path, root)
    assert {item.mtime for item in found.values()} == {EPOCH}
    assert (found["usr/bin/chkpwd"].gid, found["usr/bin/chkpwd"].mode) == (42, 0o2755)
    assert found["usr/bin/of-a-user"].uid == 1_000_000
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "layer").read_bytes()), mode="r:gz") as opened:
        assert {(item.uname, item.gname) for item in opened} == {("", "")}
        assert [item.name for item in opened] == sorted(item.name for item in opened)


def test_the_order_of_a_root_and_its_clock_do_not_matter(tmp_path: Path) -> None:
    """Two builds give the same bytes."""
    first, second = bases.root(NAMES), bases.root(NAMES)
    second.members.reverse()
    _, one = written(tmp_path, first, "one")
    second.save(tmp_path / "two.tar", time=5, owner="other")
    with (tmp_path / "two").open("wb") as sink:
        assert rewrite(tmp_path / "two.tar", sink) == one
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_a_build_leaves_behind_is_left_out(tmp_path: Path) -> None:
    """Devices, the host's names, apt's files, logs, locks and former states; the folders themselves stay."""
    root = bases.root(NAMES)
    left = [
        "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "etc/passwd-", "etc/apt/sources.list",
        "etc/apt/apt.conf.d/99mmdebstrap", "var/log/dpkg.log", "var/log/apt/term.log", "var/lib/apt/extended_states",
        "var/cache/apt/archives/lock", "var/cache/ldconfig/aux-cache", "var/cache/debconf/config.dat-old",
        "var/lib/dpkg/status-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "run/x", "tmp/y",
    ]  # fmt: skip
    kept = ["etc/apt/apt.conf.d/70debconf", "etc/lock", "var/log", "run/lock", "var/cache/debconf/config.dat", "dev"]
    for name in ("etc/apt", "etc/apt/apt.conf.d", "var/log", "var/log/apt", "var/cache", "tmp", "run/lock"):
        root.folder(name)
    for name in ("var/cache/apt", "var/cache/apt/archives", "var/cache/ldconfig", "var/cache/debconf", "var/lib/apt"):
        root.folder(name)
    for name in (*left, "etc/apt/apt.conf.d/70debconf", "etc/lock", "var/cache/debconf/config.dat"):
        root.file(name, b"made by the machine")
    root.other("dev/null", tarfile.CHRTYPE)
    found, _ = written(tmp_path, root)
    assert [name for name in left if name in found] == []
    assert [name for name in kept if name not in found] == []
    assert "dev/null" not in found


def test_a_hard_link_becomes_a_symbolic_one(tmp_path: Path) -> None:
    """It leads to the same file from where it stands."""
    root = bases.root(NAMES)
    root.other("usr/bin/perl5", tarfile.LNKTYPE, "./usr/bin/netbase")
    root.folder("usr/sbin")
    root.other("usr/sbin/perl", tarfile.LNKTYPE, "./usr/bin/netbase")
    found, _ = written(tmp_path, root)
    assert (found["usr/bin/perl5"].kind, found["usr/bin/perl5"].target) == ("link", "netbase")
    assert found["usr/sbin/perl"].target == "../bin/netbase"


def test_byte_code_is_unchecked_or_gone(tmp_path: Path) -> None:
    """What is checked by hash is not any more; what hangs on a file's time would be stale at once."""
    root = bases.root(NAMES)
    for name, flags in (("checked", 3), ("timed", 0), ("unchecked", 1)):
        root.file(f"usr/bin/{name}.pyc", b"\xa7\r\r\n" + flags.to_bytes(4, "little") + b"12345678code")
    found, _ = written(tmp_path, root)
    assert "usr/bin/timed.pyc" not in found
    assert found["usr/bin/checked.pyc"].sha256 == found["usr/bin/unchecked.pyc"].sha256


def test_the_account_tells_packages_and_what_they_own(tmp_path: Path) -> None:
    """A program that is not what its package ships is named; only that package's digest moves."""
    _, one = written(tmp_path, bases.root(NAMES), "one")
    assert one.packages == {("netbase", "6.4", "amd64"), ("libc6", "2.36", "amd64")}
    assert one.contents.keys() == {"netbase", "libc6"}
    assert one.altered == {}
    _, two = written(tmp_path, bases.root(NAMES, text=b"other"), "two")
    assert two.altered == {"netbase": ["bin/netbase"]}
    assert [name for name in one.contents if one.contents[name] != two.contents[name]] == ["netbase"]
    assert one.generated == two.generated


def test_a_special_file_is_refused(tmp_path: Path) -> None:
    """A pipe outside /dev belongs into no layer."""
    root = bases.root(NAMES)
    root.other("etc/pipe", tarfile.FIFOTYPE)
    with pytest.raises(ImageError) as caught:
        written(tmp_path, root)
    assert str(caught.value) == "the base: etc/pipe: a special file (type b'6'); expected files, folders and links"


def test_extended_attributes_are_refused(tmp_path: Path) -> None:
    """They would be lost in silence."""
    source = bases.root(NAMES).save(tmp_path / "root.tar", pax={"SCHILY.xattr.security.capability": "x"})
    with pytest.raises(ImageError) as caught, (tmp_path / "layer").open("wb") as sink:
        rewrite(source, sink)
    expected = "the base: bin: it has SCHILY.xattr.security.capability; expected no extended attributes"
    assert str(caught.value) == expected


def test_a_package_that_dpkg_did_not_finish(tmp_path: Path) -> None:
    """Every package is installed, or there is no base."""
    root = bases.root(NAMES)
    index = next(at for at, (item, _) in enumerate(root.members) if item.name.endswith("/status"))
    item, data = root.members[index]
    data = data.replace(b"install ok installed", b"install ok unpacked", 1)
    item.size = len(data)
    root.members[index] = (item, data)
    with pytest.raises(ImageError) as caught:
        written(tmp_path, root)
    assert str(caught.value) == "the base: netbase is 'install ok unpacked'; expected every package installed"
