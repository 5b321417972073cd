"""Locks of conda-lock: the committed ones are read, and every part of one that is not what it must be is refused."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from torchlock.conda import document, metadata
from torchlock.conda.document import CondaLock
from torchlock.digest import Digest
from torchlock.errors import CondaError, StaleError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PROFILE = "torch2.4-cpu"
WHERE = f"lockfiles/{PROFILE}/conda-lock.yml"


@cache
def data() -> bytes:
    """Return the bytes of a committed lock for two platforms."""
    return document.path(ROOT, PROFILE).read_bytes()


@cache
def small() -> dict:  # type: ignore[type-arg]
    """Return the lock as values, with few packages that need no others."""
    value = yaml.safe_load(data())
    value["package"] = [item for item in value["package"] if item["name"] in {"_openmp_mutex", "llvm-openmp", "python"}]
    for item in value["package"]:
        item["dependencies"] = {}
    return value  # type: ignore[no-any-return]


def changed(change: Callable[[dict], None]) -> bytes:  # type: ignore[type-arg]
    """Return that lock with a value changed and its digest made right again, as a careful hand would do it."""
    value = deepcopy(small())
    change(value)
    own = value["metadata"].get("custom_metadata")
    if own and own.get("torchlock-digest"):
        own["torchlock-digest"] = str(metadata.digest(value))
    return yaml.dump(value, sort_keys=False, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)).encode()


def refusal(found: bytes) -> str:
    """Return the message that refuses a lock."""
    with pytest.raises(CondaError) as caught:
        CondaLock.from_yaml(found, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: ")
    return str(caught.value).removeprefix(f"{WHERE}: ")


@pytest.mark.parametrize("path", sorted(ROOT.glob("lockfiles/*/conda-lock.yml")), ids=lambda path: path.parent.name)
def test_committed(path: Path) -> None:
    """Each committed lock is sound, and every package has a sha256 and lies where its address says."""
    lock = document.read(path, ROOT)
    assert lock.profile == path.parent.name
    assert lock.solver == "rattler"
    for platform in lock.platforms:
        packages = lock.packages(platform)
        assert {"python", "pytorch", "numpy"} <= {item.name for item in packages}
        assert all(item.url == f"{item.channel}/{item.subdir}/{item.filename}" for item in packages)
        assert all(item.subdir in {platform, "noarch"} and item.constrained for item in packages)
    assert not lock.packages("win-64")


def test_package() -> None:
    """A package is known by all that its entry and its address say."""
    lock = CondaLock.from_yaml(data(), WHERE)
    torch = next(item for item in lock.packages("linux-64") if item.name == "pytorch")
    assert (torch.version, torch.build, torch.channel) == (
        "2.4.1",
        "cpu_mkl_py311h4c611e5_102",
        "https://conda.anaconda.org/conda-forge",
    )
    assert torch.filename == "pytorch-2.4.1-cpu_mkl_py311h4c611e5_102.conda"
    assert torch.depends["libtorch"] == "2.4.1.*"
    assert lock.channels == ("conda-forge",)
    assert lock.platforms == ("linux-64", "linux-aarch64")


def test_missing(tmp_path: Path) -> None:
    """A lock that is not there is stale, and says what makes it."""
    with pytest.raises(StaleError) as caught:
        document.read(document.path(tmp_path, "torch9-cpu"), tmp_path)
    assert (
        str(caught.value)
        == "lockfiles/torch9-cpu/conda-lock.yml: there is no conda lock yet; try: make lock-torch9-cpu"
    )


def test_edited() -> None:
    """A version, a hash or an address that was changed by hand is found, whatever it is."""
    text = data().decode()
    name = "pytorch-2.4.1-cpu_mkl_py311h4c611e5_102"
    sha256 = re.search(rf"{name}.conda\n  hash:\n    md5: .*\n    sha256: (\w+)", text)
    assert sha256
    for old, new in ((sha256[1], "f" * 64), ("llvm-openmp: '>=9.0.1'", "llvm-openmp: '>=9.0.2'")):
        assert old in text
        found = refusal(text.replace(old, new, 1).encode())
        assert found.startswith("metadata.custom_metadata.torchlock-digest: edited by hand: sha256:")
        assert found.endswith(f"; try: make lock-{PROFILE}")


def _set(path: str, value: object) -> Callable[[dict], None]:  # type: ignore[type-arg]
    *keys, last = path.split("/")

    def change(found: dict) -> None:  # type: ignore[type-arg]
        for key in keys:
            found = found[int(key) if key.isdecimal() else key]
        if value is None:
            del found[last]
        else:
            found[int(last) if last.isdecimal() else last] = value

    return change


OWN = "metadata/custom_metadata/torchlock-"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "version: found '2'; expected 1"),
        ("extra", "x", ": the key 'extra' is unknown; expected exactly version, metadata, package"),
        ("metadata/sources", None, "metadata: the key 'sources' is missing; expected exactly content_hash, channels,"),
        (
            "metadata/sources",
            ["../x.yml"],
            "metadata.sources: found \"['../x.yml']\"; expected [conda/environment.yml]",
        ),
        ("metadata/platforms", ["linux-64", "beos"], "metadata.platforms: found 'beos'; expected one of linux-64, "),
        ("metadata/platforms", ["linux-64", "linux-64"], "metadata.platforms: found \"['linux-64', 'linux-64']\""),
        ("metadata/channels", [{"url": "https://x/$T", "used_env_vars": ["T"]}], "metadata.channels[0]: found "),
        ("metadata/content_hash", {"linux-64": "a"}, "metadata.content_hash: found 'linux-64'; expected one for each"),
        ("metadata/custom_metadata", None, "metadata: the key 'custom_metadata' is missing"),
        (f"{OWN}schema", "9", "metadata.custom_metadata.torchlock-schema: found '9'; expected '1', which this"),
        (f"{OWN}profile-digest", "sha256:12", "metadata.custom_metadata.torchlock-profile-digest: found 'sha256:12'; "),
        (f"{OWN}without-constrains", "linux-64/x", "package: torchlock-without-constrains: found 'linux-64/x'"),
        ("package", [], "package: no packages: that is not an environment; expected at least one"),
        ("package/0/hash/sha256", None, "package[0].hash: the key 'sha256' is missing; expected exactly md5, sha256"),
        ("package/0/hash/sha256", "A" * 64, "package[0].hash.sha256: found 'sha256:AAAA"),
        ("package/0/hash/md5", "0", "package[0].hash.md5: found '0'; expected 32 lower-case hexadecimal digits"),
        ("package/0/manager", "pip", "package[0].manager: found 'pip'; expected conda"),
        ("package/0/optional", True, "package[0].optional: found 'True'; expected false"),
        ("package/0/category", "dev", "package[0].category: found 'dev'; expected main"),
        ("package/0/name", "../x", "package[0].name: found '../x'; expected a name of a conda package"),
        (
            "package/0/version",
            "9",
            "package[0].url: found '_openmp_mutex-4.5-7_kmp_llvm.conda'; expected _openmp_mutex-9",
        ),
        ("package/0/platform", "osx-64", "package[0].url: found 'https://conda.anaconda.org/conda-forge/linux-64/"),
        ("package/0/url", "file:///x/linux-64/_openmp_mutex-4.5-7_kmp_llvm.conda", "package[0].url: found 'file:"),
        ("package/0/url", "https://a:b@c/linux-64/_openmp_mutex-4.5-0.conda", "package[0].url: found 'https://***@c"),
        ("package/0/url", "https://c/../linux-64/_openmp_mutex-4.5-0.conda", "package[0].url: found 'https://c/.."),
        (
            "package/0/dependencies/nothing",
            "1",
            "package: _openmp_mutex on linux-64 depends on nothing, which is not in",
        ),
        (
            "package/1/platform",
            "linux-64",
            "package[1].url: found 'https://conda.anaconda.org/conda-forge/linux-aarch64/",
        ),
    ],
)
def test_refused(path: str, value: object, message: str) -> None:
    """A lock that breaks a rule is refused at its place, also where its digest is right."""
    assert refusal(changed(_set(path, value))).startswith(message.removeprefix(": "))


def test_order() -> None:
    """Packages stand once each, sorted."""
    found = refusal(changed(lambda value: value["package"].insert(0, deepcopy(value["package"][0]))))
    assert (
        found
        == "package[1]: found '_openmp_mutex on linux-64'; expected each package once, sorted by name and platform"
    )


def test_without_python() -> None:
    """A set without Python is no environment."""

    def drop(value: dict) -> None:  # type: ignore[type-arg]
        value["package"] = [item for item in value["package"] if item["name"] != "python"]

    assert refusal(changed(drop)) == "package: no python on linux-64; expected an environment with Python"


def test_completed() -> None:
    """What torchlock adds is written as conda-lock writes its own, and a file of another writer is refused."""
    plain = re.sub(rb"  custom_metadata:\n(    .*\n)*", b"", data())
    lock = CondaLock.from_yaml(data(), WHERE)
    own = {
        "profile": lock.profile,
        "profile-digest": str(lock.profile_digest),
        "snapshot-digest": str(lock.snapshot_digest),
        "solver": lock.solver,
        "without-constrains": "",
    }
    assert metadata.complete(plain, own, WHERE) == data()
    assert metadata.complete(data(), own, WHERE) == data()
    with pytest.raises(CondaError, match="is not written as conda-lock 4 writes it"):
        metadata.complete(plain.replace(b"  optional: false\n", b"  optional:  false\n", 1), own, WHERE)
    moved = CondaLock.from_yaml(metadata.complete(plain, {**own, "snapshot-digest": str(Digest.of(b""))}, WHERE), WHERE)
    assert moved.digest != lock.digest


def test_entries() -> None:
    """What conda-lock chose is read before it is complete; a package without its sha256 is refused."""
    first = metadata.entries(data(), WHERE)[0]
    assert first[:2] == ("linux-64", "_openmp_mutex")
    bare = data().decode().replace("    sha256: ", "    sha1: ", 1).encode()
    with pytest.raises(CondaError, match=r"a package lacks 'sha256'; expected address and sha256 of every package$"):
        metadata.entries(bare, WHERE)
