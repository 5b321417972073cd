"""The bases of this project: built from their locks bit for bit, and taken from a real registry."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

import bases
from e2e.arm64 import EMULATOR
from e2e.project import not_run
from torchlock.base import image
from torchlock.base.declaration import load
from torchlock.digest import Digest
from torchlock.errors import ImageError, NetworkError
from torchlock.layers.layer import file
from torchlock.layers.reading import entries
from torchlock.layers.tar import EPOCH
from torchlock.oci import layout
from torchlock.oci.descriptor import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    MANIFEST,
    PLATFORMS,
    Descriptor,
)
from torchlock.oci.manifest import Config, Index, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlock.base.image import BaseImage
    from torchlock.base.workshop import Workshop

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
_BUILD = """
import sys
sys.path[:0] = [{scripts!r}, {tests!r}]
from pathlib import Path
import bases
from torchlock.base import image
print(image.resolve(Path({root!r}), None, "linux-64", bases.workshop(Path({store!r}))).layers[0][0].digest)
"""


def need(*programs: str) -> None:
    """Mark the test as not run where a program is missing."""
    for name in programs:
        if shutil.which(name) is None:
            not_run(f"{name} is not installed")


def built(platform: str, workshop: Workshop) -> BaseImage:
    """Build the default base from its lock; not run where the mirror has moved on."""
    need("mmdebstrap", "apt-get", "dpkg-deb")
    if os.geteuid() != 0:
        not_run("building a base without the rights of root was never tried")
    try:
        return image.resolve(ROOT, None, platform, workshop)
    except NetworkError as error:
        not_run(f"no mirror of Debian: {error}")
    except ImageError as error:
        if "no longer has" in str(error):
            not_run(str(error))
        raise


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Give a workshop with a store of its own."""
    return bases.workshop(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def debian(workshop: Workshop) -> BaseImage:
    """Give the Debian base for linux-64, built here."""
    return built("linux-64", workshop)


def test_the_debian_base_is_what_its_lock_says(debian: BaseImage, workshop: Workshop) -> None:
    """Read strictly: no device, no host's name, one time, and a Python where the lock has it."""
    descriptor, diff_id = debian.layers[0]
    path = workshop.blobs.get(descriptor)
    assert path is not None
    found = {item.path: item for item in entries(path, descriptor.media_type, diff_id)}
    assert {item.mtime for item in found.values()} == {EPOCH}
    assert {item.kind for item in found.values()} == {"file", "folder", "link"}
    gone = {"etc/resolv.conf", "etc/hostname", "etc/hosts", "etc/machine-id", "var/cache/ldconfig/aux-cache"}
    assert gone.isdisjoint(found)
    left_out = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "var/lib/apt/", "var/log/", "dev/")
    assert not [name for name in found if name.startswith(left_out) and found[name].kind != "folder"]
    assert found[debian.python_path.lstrip("/")].mode == 0o755
    assert {"etc/ssl/certs/ca-certificates.crt", "usr/lib/x86_64-linux-gnu/libstdc++.so.6"} <= found.keys()


def test_the_same_elsewhere(debian: BaseImage, workshop: Workshop, tmp_path: Path) -> None:
    """Another folder, umask, time zone, locale, home, host name and number of cores: the same digest."""
    need("unshare", "taskset")
    store = tmp_path / "another place"
    shutil.copytree(workshop.store / "debs", store / "debs")
    program = _BUILD.format(scripts=str(ROOT / "scripts"), tests=str(ROOT / "tests"), root=str(ROOT), store=str(store))
    extra = {"TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", "HOME": "/nonexistent", "PERL_HASH_SEED": "9"}
    elsewhere = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh"]
    done = subprocess.run(
        [*elsewhere, "taskset", "-c", "0", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        umask=0o077,
        env={**os.environ, **extra},
    )
    assert done.stdout == f"{debian.layers[0][0].digest}\n"


def test_its_python_makes_byte_code(debian: BaseImage, workshop: Workshop) -> None:
    """For images of both platforms, without a root and without a container."""
    other = image.resolve(ROOT, None, "linux-aarch64")
    with image.compiler(ROOT, other, workshop) as compiler:
        pieces = compiler.pieces([file("opt/torchlock/env/lib/python3.11/site-packages/a.py", b"x = 1")])
    assert pieces[-1].entry.path.endswith("site-packages/__pycache__/a.cpython-311.pyc")


def test_emulated_the_base_of_the_other_platform(workshop: Workshop) -> None:
    """Built where each of its programs is emulated, it is the locked one."""
    if not EMULATOR.exists() or "enabled" not in EMULATOR.read_text(encoding="utf-8").split():
        not_run("this machine does not emulate aarch64 (.ci/run shows how to enable it)")
    found = built("linux-aarch64", workshop)
    assert workshop.blobs.get(found.layers[0][0]) is not None


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Serve a real docker-registry on loopback; give its host."""
    need("docker-registry", "skopeo")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{sock.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: {host}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
        try:
            for _ in range(100):
                try:
                    requests.get(f"http://{host}/v2/", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield host
        finally:
            process.terminate()
            process.wait(10)


def test_a_base_from_a_registry(debian: BaseImage, workshop: Workshop, registry: str, tmp_path: Path) -> None:
    """An image with Docker's media types, pushed by skopeo, is locked, taken layer by layer, and its Python runs."""
    (descriptor, diff_id), blobs = debian.layers[0], workshop.blobs
    environment = {"Env": [f"PYTHON_VERSION={debian.python_version}"]}
    config = blobs.add_bytes(
        Config(os="linux", architecture="amd64", diff_ids=(diff_id,), config=environment).to_json()
    ).descriptor(CONFIG)
    manifest = blobs.add_bytes(Manifest(config=config, layers=(descriptor,)).to_json()).descriptor(MANIFEST)
    layout.write(tmp_path / "layout", [manifest], blobs)
    target = f"docker://{registry}/library/python:3.11"
    copy = ["skopeo", "copy", "--insecure-policy", "--format=v2s2", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{tmp_path / 'layout'}", target], check=True, capture_output=True)
    answer = requests.get(
        f"http://{registry}/v2/library/python/manifests/3.11", headers={"Accept": DOCKER_MANIFEST}, timeout=30
    )
    pushed = Descriptor(
        media_type=DOCKER_MANIFEST,
        digest=Digest.of(answer.content),
        size=len(answer.content),
        platform=PLATFORMS["linux-64"],
    )
    index = Index(manifests=(pushed,), media_type=DOCKER_INDEX).to_json()
    put = requests.put(
        f"http://{registry}/v2/library/python/manifests/all",
        data=index,
        headers={"Content-Type": DOCKER_INDEX},
        timeout=30,
    )
    assert put.status_code == 201, put.text
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "base.yaml").write_text(
        "default: taken\nbases:\n  taken:\n"
        f"    image: {registry}/library/python@{Digest.of(index)}\n"
        f'    manifests: {{linux-64: "{pushed.digest}"}}\n'
        f'    python: {debian.python_path}\n    version: "{debian.python_version}"\n'
    )
    fresh = bases.workshop(tmp_path / "store")
    found, _ = image.update(tmp_path, None, "linux-64", fresh)
    assert [item.media_type for item, _ in found.layers] == [DOCKER_LAYER_GZIP]
    assert [tar for _, tar in found.layers] == [diff_id]
    another = bases.workshop(tmp_path / "another")
    assert image.resolve(tmp_path, None, "linux-64", another) == found
    with image.compiler(tmp_path, found, another) as compiler:
        assert compiler.pieces([file("opt/torchlock/env/lib/python3.11/site-packages/a.py", b"x = 1")])


def test_the_declared_image_is_one_of_a_registry() -> None:
    """Its reference is whole: a registry, a repository, a digest for each platform."""
    base = load(ROOT).find("python")
    assert set(base.platforms) == set(PLATFORMS)
