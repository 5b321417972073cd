"""conda packages: fetched once, resumed, verified, taken from a mirror, and refused where they are other bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import servers
from channels import Package, pack, publish
from condas import Shop
from torchlock.conda.packages import Mirrors
from torchlock.digest import Digest
from torchlock.errors import CondaError, NetworkError, StoreError
from torchlock.locks.lock import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Site

TOOL = Package(name="tool", files={"share/tool": "x" * 5000})
DATA = pack(TOOL)
PATH = f"/demo/linux-64/{TOOL.filename}"


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve a channel with one package."""
    with servers.serving() as found:
        publish(found, [TOOL])
        yield found


def artifact(*, size: int | None = len(DATA)) -> Artifact:
    """Return the package as a lock names it."""
    return Artifact(
        project="tool",
        version="1.0",
        filename=TOOL.filename,
        sha256=Digest.of(DATA),
        size=size,
        upload_time=None,
        index="demo",
    )


def fetch(shop: Shop, site: Site, *, size: int | None = len(DATA)) -> Path:
    """Fetch the package, and return its file."""
    wanted = artifact(size=size)
    return shop.fetcher.fetch([(wanted, f"{site.url}{PATH}")])[wanted]


def refused(shop: Shop, site: Site, *, size: int | None = len(DATA)) -> str:
    """Return the message with which the package is refused, which leaves nothing in the store."""
    with pytest.raises((NetworkError, CondaError, StoreError)) as caught:
        fetch(shop, site, size=size)
    assert not list(shop.store.root.glob("conda/*/*"))
    return str(caught.value).replace(site.url, "http://site")


def test_fetched_once(tmp_path: Path, site: Site) -> None:
    """A package lies in the store under its sha256, read-only, and is not asked for again."""
    shop = Shop(tmp_path)
    path = fetch(shop, site)
    assert path.read_bytes() == DATA
    assert path == tmp_path / "store" / "conda" / Digest.of(DATA).hex[:2] / Digest.of(DATA).hex
    assert path.stat().st_mode & 0o777 == 0o444
    fetch(shop, site)
    assert site.asked(PATH) == 1
    assert shop.reporter.states[-1] == (TOOL.filename, len(DATA), len(DATA))


def test_size_unknown(tmp_path: Path, site: Site) -> None:
    """conda-lock records no sizes: the sha256 alone is enough."""
    assert fetch(Shop(tmp_path), site, size=None).read_bytes() == DATA


def test_wrong_bytes(tmp_path: Path, site: Site) -> None:
    """Other bytes of the same size are refused, with both digests."""
    other = DATA[:-1] + bytes([DATA[-1] ^ 1])
    site.files[PATH] = other
    assert refused(Shop(tmp_path), site, size=None) == (
        f"http://site{PATH}: {Digest.of(other)}; expected {Digest.of(DATA)} as locked; "
        "try: MIRROR=<channel>=<address of a mirror that has it>"
    )


def test_wrong_size(tmp_path: Path, site: Site) -> None:
    """A file of another size is refused before it is read, one that never ends at the size plus one."""
    site.files[PATH] = DATA + b"more"
    assert refused(Shop(tmp_path), site).startswith(
        f"http://site{PATH}: {len(DATA) + 4} bytes; expected {len(DATA)} as locked"
    )
    site.script(PATH, servers.endless, forever=True)
    assert refused(Shop(tmp_path), site).startswith(
        f"http://site{PATH}: more than {len(DATA)} bytes; expected {len(DATA)} as locked"
    )


def test_truncated(tmp_path: Path, site: Site) -> None:
    """A body that is cut off is resumed where it broke; one that stays short is refused."""
    site.script(PATH, servers.cut(300))
    fetch(Shop(tmp_path), site)
    assert [seen.headers.get("range") for seen in site.seen] == [None, "bytes=300-"]
    site.files[PATH] = DATA[:-7]
    assert f"{len(DATA) - 7} bytes; expected {len(DATA)} as locked" in refused(Shop(tmp_path / "new"), site)


def test_resumed_by_another_process(tmp_path: Path, site: Site) -> None:
    """What was received before an interruption is kept, and the next run asks for the rest alone."""
    site.script(PATH, servers.cut(300), servers.status(404))
    assert "404" in refused(Shop(tmp_path), site)
    fetch(Shop(tmp_path), site)
    assert site.seen[-1].headers["range"] == "bytes=300-"


def test_resumed_wrong(tmp_path: Path, site: Site) -> None:
    """A partial file that is not the beginning of the package costs one more download, and no error."""
    shop = Shop(tmp_path)
    partial = tmp_path / "store" / "partial" / Digest.of(DATA).hex
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"not the package")
    fetch(shop, site)
    assert shop.reporter.notes == [f"{site.url}{PATH}: what was resumed is wrong; started again"]


def test_damaged_store(tmp_path: Path, site: Site) -> None:
    """A package that was altered in the store is found before use, set aside, and fetched again."""
    shop = Shop(tmp_path)
    path = fetch(shop, site)
    path.chmod(0o644)
    path.write_bytes(b"evil")
    assert fetch(shop, site).read_bytes() == DATA
    assert site.asked(PATH) == 2
    assert re.search(r"store: conda/.* is damaged: sha256:.*; set aside as bad/", shop.reporter.notes[0])


def test_offline(tmp_path: Path, site: Site) -> None:
    """Offline, what is in the store is enough, and what is not is named."""
    shop = Shop(tmp_path, offline=True)
    assert refused(shop, site) == (
        f"{TOOL.filename}: not in the store, and no channel may be asked; try: the same without OFFLINE=1"
    )
    fetch(Shop(tmp_path), site)
    assert fetch(shop, site).read_bytes() == DATA
    assert site.asked(PATH) == 1


def test_mirror(tmp_path: Path, site: Site) -> None:
    """A mirror stands in for a channel, whole path components of it, and what it serves must be the same bytes."""
    site.files[f"/copy/linux-64/{TOOL.filename}"] = DATA
    shop = Shop(tmp_path, mirrors={f"{site.url}/demo": f"{site.url}/copy/"})
    assert fetch(shop, site).read_bytes() == DATA
    assert [seen.path for seen in site.seen] == [f"/copy/linux-64/{TOOL.filename}"]
    mirrors = Mirrors(addresses={"https://a/b": "https://m", "https://a/b/c/": "https://n/x"})
    assert mirrors.of("https://a/b/c/noarch/f") == "https://n/x/noarch/f"
    assert mirrors.of("https://a/b/noarch/f") == "https://m/noarch/f"
    assert mirrors.of("https://a/bb/noarch/f") == "https://a/bb/noarch/f"


def test_credentials(tmp_path: Path, site: Site) -> None:
    """Credentials of a mirror are in no message."""
    shop = Shop(tmp_path, mirrors={f"{site.url}/demo": site.url.replace("://", "://user:secret@") + "/none"})
    assert "secret" not in refused(shop, site)
