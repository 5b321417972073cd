"""Images as users make and take them: the committed digest anywhere, and what other tools say of the layouts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastjsonschema
import pytest

from e2e.images import ARM, Image, elsewhere, layers
from e2e.project import HOST, environment
from torchlock.digest import Digest
from torchlock.files import remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.images import Registry
    from e2e.project import Clone, Runner

pytestmark = pytest.mark.e2e

# By which a layer is called: see `difference` of images.
LAYER = "dev.torchlock.layer"
SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
STRANGE = {
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "tr_TR.UTF-8",
    "HOME": "/nonexistent",
    "PYTHONHASHSEED": "7",
    "LOGNAME": "somebody",
}


@pytest.mark.parametrize("name", ["image22", "image24", "arm"])
def test_a_fresh_clone_makes_the_committed_image(name: str, request: pytest.FixtureRequest) -> None:
    """The digest is that of the committed manifest, and making it changed nothing that is committed."""
    image: Image = request.getfixturevalue(name)
    assert f"{image.profile} {image.platform}: {image.digest} (the committed one)" in image.result.output
    assert image.clone.git("status", "--porcelain") == ""
    assert image.blob(str(image.digest)).read_bytes() == (image.committed / "manifest.json").read_bytes()


def test_the_two_lines_share_what_they_have_in_common(image22: Image, image24: Image) -> None:
    """The base and CUDA's libraries are the same layers at the same places, so that engines extract them once."""
    one, other = list(layers(image22).items()), list(layers(image24).items())
    prefix = [pair[0] for pair in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
    assert sum(size for _, size in prefix) > 900e6
    shared = layers(image22).keys() & layers(image24).keys()
    assert {digest for digest, _ in prefix} <= shared
    for digest in shared:
        assert image22.blob(digest).stat().st_ino == image24.blob(digest).stat().st_ino


def _far(image: Image, new_clone: Callable[[str], Clone], name: str, *, base: bool = True) -> tuple[Clone, Path]:
    """Return a clone elsewhere, and its store, which has the wheels and, unless it is to be made, the base."""
    clone = new_clone(name)
    store, own = clone.folder.with_name(f"{clone.folder.name}-store"), Path(image.clone.variables["STORE"])
    (store / "blobs" / "sha256").mkdir(parents=True)
    subprocess.run(["cp", "--archive", "--link", own / "wheels", store / "wheels"], check=True)
    if base:
        lock = json.loads((clone.folder / f"docker/base/{image.platform}.json").read_bytes())
        for layer in lock["layers"]:
            named = layer["digest"].removeprefix("sha256:")
            os.link(own / "blobs" / "sha256" / named, store / "blobs" / "sha256" / named)
    return clone, store


def test_another_machine_makes_the_same_image(
    image22: Image, new_clone: Callable[[str], Clone], runner: Runner
) -> None:
    """Another folder, user, host, umask, time zone, locale and number of cores, and nothing known of any layer."""
    clone, store = _far(image22, new_clone, "far/away/a project")
    script = [str(image22.clone.tools / "python"), "scripts/torchlock", "image", image22.profile, "--again"]
    variables = STRANGE | {"TORCHLOCK_STORE": str(store), "TORCHLOCK_OFFLINE": "1"}
    done = runner.run(elsewhere(script, variables), folder=clone.folder, shown="elsewhere: torchlock image --again")
    assert f"{image22.digest} (the committed one)" in done.output
    assert f"{len(layers(image22)) - 1} written" in done.output  # all but the base
    made = Image(clone=clone, profile=image22.profile, result=done)
    for digest in layers(image22):
        assert Digest.of_file(made.blob(digest)) == Digest.parse(digest)
    remove(store)
    remove(clone.folder)


def test_another_machine_makes_the_same_base(image22: Image, new_clone: Callable[[str], Clone], runner: Runner) -> None:
    """`make base` in an empty store under other settings gives the bytes that are locked, or is refused."""
    clone = new_clone("far/base")
    script = [str(image22.clone.tools / "python"), "scripts/torchlock", "base", "--platform", HOST]
    settings = [f"{name}={text}" for name, text in {**STRANGE, "HOME": str(clone.folder)}.items()]
    inside = ["sh", "-c", 'umask 0077 && exec "$@"', "elsewhere", "env", *settings, f"TORCHLOCK_STORE={clone.folder}/s"]
    runner.run([*inside, *script], folder=clone.folder, shown="elsewhere: torchlock base")
    (layer,) = json.loads((clone.folder / f"docker/base/{HOST}.json").read_bytes())["layers"]
    assert Digest.of_file(clone.folder / "s/blobs/sha256" / layer["digest"][7:]) == Digest.parse(layer["digest"])
    assert clone.git("status", "--porcelain", "docker", "lockfiles") == ""
    remove(clone.folder)


def test_a_timestamp_is_caught(image22: Image, pristine: Clone) -> None:
    """A clock read in the code that writes layers: the committed digest is not met, and the layer is named."""
    source = pristine.folder / "scripts/torchlock/layers/tar.py"
    text = source.read_text(encoding="utf-8")
    slipped = text.replace(", EPOCH)\n    head =", ', int(__import__("time").time()))\n    head =')
    assert slipped != text
    source.write_text(slipped, encoding="utf-8")
    done = pristine.make("image-cuda", status=None)
    assert done.status == 2, done.tail()
    assert f"expected {image22.digest}" in done.output
    assert "application" in done.output
    assert "Traceback" not in done.output
    source.write_text(text, encoding="utf-8")
    assert "(the committed one)" in pristine.make("image-cuda").output


def test_a_damaged_layer_is_made_anew(arm: Image) -> None:
    """One bit flipped in a blob of the store: found before use, set aside, and the image is the committed one."""
    (digest,) = [item["digest"] for item in arm.manifest["layers"] if item["annotations"].get(LAYER) == "torch"]
    blob = Path(arm.clone.variables["STORE"]) / "blobs" / "sha256" / digest.removeprefix("sha256:")
    _flip(blob)
    done = arm.clone.make("image-cpu", f"PLATFORM={ARM}")
    assert f"{blob.name} is damaged" in done.output
    assert f"{arm.digest} (the committed one)" in done.output
    assert Digest.of_file(arm.blob(digest)) == Digest.parse(digest)


def test_a_damaged_wheel_is_found(arm: Image) -> None:
    """One bit flipped in a wheel of the store: it makes no layer, and is fetched again."""
    artifact = min(arm.clone.artifacts(arm.profile, ARM), key=lambda item: item.size or 0)
    store = Path(arm.clone.variables["STORE"])
    wheel = store / "wheels" / artifact.sha256.hex[:2] / artifact.sha256.hex
    _flip(wheel)
    done = arm.clone.make("image-cpu", f"PLATFORM={ARM}", "AGAIN=1")
    assert f"{wheel.name} is damaged" in done.output
    assert f"{arm.digest} (the committed one)" in done.output
    assert Digest.of_file(wheel) == artifact.sha256


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file, behind the store's back."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    path.chmod(0o444)


@pytest.mark.parametrize("name", ["image22", "arm"])
def test_the_image_specifications_schemas_hold(name: str, request: pytest.FixtureRequest) -> None:
    """Layout, index, manifest and config are what the published JSON schemas say."""
    image: Image = request.getfixturevalue(name)
    manifest = image.manifest
    index = json.loads((image.layout / "index.json").read_bytes())
    pairs = {
        "image-layout-schema.json": json.loads((image.layout / "oci-layout").read_bytes()),
        "image-index-schema.json": index,
        "image-manifest-schema.json": manifest,
        "config-schema.json": json.loads(image.blob(manifest["config"]["digest"]).read_bytes()),
    }
    for schema, value in pairs.items():
        _schema(schema)(value)
    broken = {**manifest, "layers": [{**manifest["layers"][0], "digest": "1"}]}
    with pytest.raises(fastjsonschema.JsonSchemaException):
        _schema("image-manifest-schema.json")(broken)


def _schema(name: str) -> Callable[[Any], Any]:
    """Return what checks a value against a schema of the specification."""

    def load(address: str) -> Any:
        text = (SCHEMAS / address.rpartition("/")[2]).read_text(encoding="utf-8")
        # fastjsonschema takes each `$` of a pattern for the end, those between brackets, too.
        return json.loads(re.sub(r"\[[^]\s\"]*\]", lambda match: match[0].replace("$", r"\\x24"), text))

    found: Callable[[Any], Any] = fastjsonschema.compile(load(name), handlers={"https": load})
    return found


@pytest.mark.parametrize("name", ["image22", "arm"])
def test_skopeo_reads_it(name: str, request: pytest.FixtureRequest) -> None:
    """`skopeo inspect` gives the committed digest, the layers and the labels."""
    image: Image = request.getfixturevalue(name)
    source = f"oci:{image.layout}"
    arch = ["--override-arch", "arm64", "--override-variant", "v8"] if image.platform == ARM else []
    found = json.loads(_said(["skopeo", *arch, "inspect", source]))
    assert found["Digest"] == str(image.digest)
    assert found["Layers"] == list(layers(image))
    assert found["Labels"]["dev.torchlock.profile"] == image.profile
    assert (
        _said(["skopeo", *arch, "inspect", "--raw", source]).encode()
        == (image.committed / "manifest.json").read_bytes()
    )


def test_skopeo_copies_it_to_a_registry(arm: Image, registry: Registry) -> None:
    """`skopeo copy --preserve-digests` takes every blob as it is; the registry has it by the committed digest."""
    target = registry.repository("skopeo")
    config = {"REGISTRY_AUTH_FILE": str(registry.config / "config.json")}
    copy = ["skopeo", "--override-arch", "arm64", "--override-variant", "v8", "copy", "--quiet", "--preserve-digests"]
    _said([*copy, "--dest-tls-verify=false", f"oci:{arm.layout}", f"docker://{target}:copy"], **config)
    raw = _said(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{target}@{arm.digest}"], **config)
    assert Digest.of(raw.encode()) == arm.digest


def test_umoci_unpacks_it(arm: Image, work: Path) -> None:
    """`umoci unpack` gives the tree that the layers describe: the environment, its Python, the entry point."""
    bundle = work / "bundle"
    (tag,) = json.loads((arm.layout / "index.json").read_bytes())["manifests"]
    name = tag["annotations"]["org.opencontainers.image.ref.name"]
    _said(["umoci", "unpack", "--rootless", "--image", f"{arm.layout}:{name}", str(bundle)])
    root = bundle / "rootfs"
    assert (root / "opt/torchlock/env/lib/python3.11/site-packages/torch/__init__.py").is_file()
    assert (root / "opt/torchlock/env/bin/python").is_symlink()
    assert (root / "opt/torchlock/bin/smoke.py").is_file()
    config = json.loads((bundle / "config.json").read_bytes())
    assert (config["process"]["user"]["uid"], config["process"]["user"]["gid"]) == (1000, 1000)
    remove(bundle)


def _said(command: list[str], **extra: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment(extra))
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
    return done.stdout


def test_macs_have_no_image(prepared: Clone) -> None:
    """`make image-mps` says why."""
    done = prepared.make("image-mps", status=None)
    assert done.status == 2
    assert "no Metal in Linux containers" in done.output
    assert "Traceback" not in done.output


def test_images_are_checked(image22: Image, arm: Image) -> None:
    """`make check` holds committed images against their locks without a wheel, and finds one that was edited."""
    image22.clone.make("check")
    place = arm.committed / "config.json"
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace("1000:1000", "0:0"), encoding="utf-8")
    try:
        done = arm.clone.make("check", status=None)
    finally:
        place.write_text(text, encoding="utf-8")
    assert done.status == 2
    assert "image/manifest.json: config.digest" in done.output


def test_layouts_are_links(image22: Image, work: Path) -> None:
    """A layout takes no room beside the store, and goes without harm to it."""
    image22.clone.make("image-cuda")
    store = Path(image22.clone.variables["STORE"]) / "blobs" / "sha256"
    for digest in layers(image22):
        assert image22.blob(digest).samefile(store / digest.removeprefix("sha256:"))
    assert shutil.disk_usage(work).free > 0
