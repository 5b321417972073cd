"""Images in Docker and at a registry: loaded, smoked, pushed, pulled, built upon; Docker must be here."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e import images
from e2e.images import ARM, HTPASSWD, PASSWORD, Image, layers
from e2e.project import HOST, kill, not_run, start
from torchlock.digest import Digest
from torchlock.files import remove
from torchlock.registry.client import Client
from torchlock.registry.credentials import Credentials
from torchlock.registry.reference import Reference
from torchlock.registry.referrers import referrers

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.images import Engine, Registry
    from e2e.project import Clone, Runner

pytestmark = pytest.mark.e2e

GPU = Path("/dev/nvidiactl")
REPOSITORY = "me/torchlock"
TAG = "2.2.2-1.26.4-cuda"
# A small project of the lock, of which the snapshot knows older versions.
BUMPED = "filelock"
MAIN = "import torch\nprint('mine', torch.ones(2).sum().item(), torch.__version__)\n"


@pytest.fixture(scope="session")
def loaded(image22: Image, engine: Engine) -> Image:
    """Return the CUDA image, which Docker has."""
    engine.remove.append(image22.identity)
    done = image22.clone.make("load-cuda")
    assert f"torch2.2-cuda {HOST}: {image22.digest} is in Docker as torchlock/torch2.2-cuda:{TAG}" in done.output
    return image22


@pytest.fixture(scope="session")
def pushed(image22: Image, loaded: Image, registry: Registry) -> str:
    """Return the reference of the CUDA image, pushed by `make push-cuda` after it was smoked."""
    image22.clone.make("smoke-image-cuda")
    words = ["push-cuda", f"REGISTRY={registry.repository(REPOSITORY)}", "EVIDENCE=1"]
    done = image22.clone.make(*words, _as_user(registry))
    reference = f"{registry.repository(REPOSITORY)}@{image22.digest}"
    assert reference in done.output
    assert f"{len(layers(image22)) + 1} blobs sent, 0 there already, 0 mounted, tagged {TAG}" in done.output
    return reference


def _as_user(registry: Registry) -> str:
    """Return the variable that names the configuration of a user whom the registry knows."""
    return f"DOCKER_CONFIG={registry.config}"


def test_docker_has_it_by_its_digest(loaded: Image, engine: Engine) -> None:
    """The image's ID is the digest of the committed config; loading it again sends nothing."""
    assert engine.has(loaded.identity)
    again = loaded.clone.make("load-cuda")
    assert "there already)" in again.output
    assert again.seconds < 60


def test_it_says_what_it_is(loaded: Image, engine: Engine) -> None:
    """`docker run IMAGE` names versions, lock and licences; nothing of it is root's."""
    said = engine("run", "--rm", loaded.identity)
    for text in ("torch2.2-cuda", "2.2.2", "1.26.4", "3.11.2"):
        assert text in said
    facts = json.loads(engine("run", "--rm", loaded.identity, "about", "--json"))
    assert facts["lock"] == loaded.manifest["annotations"]["dev.torchlock.lock"]
    assert engine("run", "--rm", loaded.identity, "id", "-u").strip() == "1000"


def test_torch_is_imported_in_it(loaded: Image, engine: Engine) -> None:
    """As a user writes it: `python` is the environment's, without a network and without a place to write."""
    code = (
        "import numpy, torch; print(torch.__version__, numpy.__version__, torch.from_numpy(numpy.ones(3)).sum().item())"
    )
    run = ("run", "--rm", "--network", "none", "--read-only", loaded.identity, "python", "-c", code)
    assert engine(*run).split() == ["2.2.2+cu121", "1.26.4", "3.0"]


def test_a_smoke_run_is_evidence(loaded: Image, engine: Engine) -> None:
    """`make smoke-image-cuda` prints the table and leaves a statement about the image's digest, and no container."""
    before = engine.containers()
    done = loaded.clone.make("smoke-image-cuda")
    assert "\nsmoke passed: " in done.output
    assert engine.containers() == before
    place = loaded.layout.with_name(f"evidence-{loaded.layout.name}.json")
    text = place.read_text(encoding="utf-8")
    statement = json.loads(text)
    assert statement["subject"] == [{"name": loaded.layout.name, "digest": {"sha256": loaded.digest.hex}}]
    predicate = statement["predicate"]
    assert predicate["failedTests"] == []
    assert len(predicate["passedTests"]) > 500
    # Checks of other devices never run here, so that not everything can be passed.
    assert predicate["result"] == "WARNED"
    assert any(name.startswith("device.mps.") for name in predicate["warnedTests"])
    assert any(name.startswith("device.cuda.") for name in predicate["passedTests"]) == GPU.exists()
    assert str(loaded.clone.folder) not in text
    assert os.uname().nodename not in text


def test_a_required_gpu_is_not_run_on_trust(loaded: Image) -> None:
    """REQUIRE=cuda fails where Docker cannot give the container one."""
    done = loaded.clone.make("smoke-image-cuda", "REQUIRE=cuda", status=None)
    assert (done.status == 0) == GPU.exists()
    assert "Traceback" not in done.output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_container(
    loaded: Image, engine: Engine, number: signal.Signals, status: int
) -> None:
    """Ctrl-C and SIGTERM while the checks run: the container goes before the command does."""
    before = engine.containers()
    script = [loaded.clone.tools / "python", "scripts/torchlock", "smoke-image", "torch2.2-cuda"]
    store = {"TORCHLOCK_STORE": str(loaded.clone.variables["STORE"])}
    process = start(script, folder=loaded.clone.folder, extra=store)
    try:
        until = time.monotonic() + 60
        while not engine.containers() - before:
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(1)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        kill(process)
    assert process.returncode == status, output
    assert engine.containers() == before


def test_an_aarch64_image_runs_under_emulation(arm: Image, engine: Engine) -> None:
    """The CPU image for aarch64, loaded and smoked on this machine."""
    engine.remove.append(arm.identity)
    done = arm.clone.make("smoke-image-cpu", f"PLATFORM={ARM}", seconds=1200)
    assert "arm64 is emulated on amd64" in done.output
    assert "linux aarch64" in done.output
    assert "\nsmoke passed: " in done.output


def test_a_registry_wants_its_user(image22: Image, registry: Registry, work: Path) -> None:
    """Without credentials it is refused, with the command that gets them; the password is nowhere."""
    words = ["push-cuda", f"REGISTRY={registry.repository(REPOSITORY)}"]
    done = image22.clone.make(*words, f"DOCKER_CONFIG={work}", status=None)
    assert done.status == 2
    assert f"try: docker login {registry.host}" in done.output
    assert PASSWORD not in done.output
    assert HTPASSWD.partition(":")[2] not in done.output


def test_a_second_push_sends_nothing(pushed: str, image22: Image, registry: Registry) -> None:
    """What the registry has, it is not sent again."""
    before = registry.counter.received
    done = image22.clone.make("push-cuda", f"REGISTRY={registry.repository(REPOSITORY)}", _as_user(registry))
    assert "0.000 MB sent; 0 blobs sent" in done.output
    assert registry.counter.received - before < 100_000


def test_the_other_line_sends_what_it_does_not_share(
    pushed: str, image22: Image, image24: Image, registry: Registry
) -> None:
    """The layers that both CUDA lines have in common are there already, in the same repository or mounted from it."""
    own = {digest: size for digest, size in layers(image24).items() if digest not in layers(image22)}
    for name in (REPOSITORY, "me/other"):
        before = registry.counter.received
        words = ["push-torch2.4-cuda", f"REGISTRY={registry.repository(name)}", f"MOUNT={REPOSITORY}"]
        done = image24.clone.make(*words, _as_user(registry))
        sent = registry.counter.received - before
        shared = len(layers(image24)) - len(own)
        if name == REPOSITORY:
            assert sum(own.values()) < sent < sum(own.values()) * 1.01 + 100_000
            assert f"{shared} there already" in done.output
        else:
            assert sent < 100_000
            assert f"{len(layers(image24)) + 1} mounted" in done.output


def test_the_evidence_is_attached(pushed: str, image22: Image, registry: Registry) -> None:
    """The registry lists the statement as a referrer of the image."""
    repository = Reference.parse(registry.repository(REPOSITORY))
    client = Client(repository, keychain=lambda _: Credentials(username="alice", password=PASSWORD))
    try:
        (found,) = referrers(client, image22.digest, "application/vnd.in-toto+json")
    finally:
        client.close()
    assert found.annotations["dev.torchlock.result"] == "WARNED"
    assert found.annotations["in-toto.io/predicate-type"] == "https://in-toto.io/attestation/test-result/v0.1"


def test_a_pulled_image_smokes(pushed: str, image22: Image, engine: Engine, registry: Registry, work: Path) -> None:
    """Pulled by its committed digest into an empty store, verified; pulled by Docker from there, it runs."""
    store, folder = work / "pulled-store", work / "pulled"
    words = [f"REGISTRY={registry.repository(REPOSITORY)}", f"STORE={store}", f"IMAGES={folder}"]
    done = image22.clone.make("pull-cuda", *words, _as_user(registry))
    assert f"{pushed}, the committed digest" in done.output
    assert "0 blobs here already" in done.output
    found = folder / image22.layout.name / "blobs" / "sha256"
    for digest in layers(image22):
        assert Digest.of_file(found / digest[7:]) == Digest.parse(digest)

    engine.clean()
    engine("--config", str(registry.config), "pull", "--quiet", pushed)
    engine.remove.append(image22.identity)
    assert engine.has(image22.identity)
    smoked = image22.clone.make("smoke-image-cuda", f"STORE={store}", f"IMAGES={folder}")
    assert "there already)" in smoked.output
    assert "\nsmoke passed: " in smoked.output
    remove(store)
    remove(folder)


def test_a_tag_is_never_trusted(pushed: str, image22: Image, arm: Image, registry: Registry, runner: Runner) -> None:
    """A tag that was moved to another image is named, and the committed digest is pulled all the same."""
    target, config = registry.repository(REPOSITORY), str(registry.config / "config.json")
    copy = ["skopeo", "--override-arch", "arm64", "--override-variant", "v8", "copy", "--quiet", "--preserve-digests"]
    words = ["--dest-tls-verify=false", "--authfile", config, f"oci:{arm.layout}", f"docker://{target}:{TAG}"]
    runner.run([*copy, *words], folder=image22.clone.folder)
    done = image22.clone.make("pull-cuda", f"REGISTRY={target}", _as_user(registry))
    assert f"{target}:{TAG} is {arm.digest}: tags move, and this image was pulled by its digest" in done.output
    assert f"{pushed}, the committed digest" in done.output


def test_an_image_that_is_not_there_is_refused(image22: Image, registry: Registry, work: Path) -> None:
    """A repository that lacks the committed digest gives no other image in its place."""
    words = [f"REGISTRY={registry.repository('me/empty')}", f"STORE={work}/none-store", f"IMAGES={work}/none"]
    done = image22.clone.make("pull-cuda", *words, _as_user(registry), status=None)
    assert done.status == 2
    assert str(image22.digest) in done.output
    assert not (work / "none").exists()


def test_a_small_bump_moves_less_than_a_megabyte(  # noqa: PLR0917 - the fixtures it needs
    pushed: str, image22: Image, pristine: Clone, registry: Registry, work: Path, say: Callable[[str], None]
) -> None:
    """Another version of one small package: its bin and the last layer are new, and nothing else travels."""
    aside = f"IMAGES={work}/bumped"  # the layout of the committed image stays
    page = pristine.folder / "lockfiles/index/pypi" / f"{BUMPED}.json"
    (locked,) = [item for item in pristine.artifacts("torch2.2-cuda", HOST) if item.project == BUMPED]
    images.forget(page, locked.filename)
    before = layers(image22)
    pristine.make("lock-cuda", f"PLATFORM={HOST}")
    pristine.make("image-cuda", aside)
    (bumped,) = [item for item in pristine.artifacts("torch2.2-cuda", HOST) if item.project == BUMPED]
    assert bumped.version != locked.version
    changed = layers(image22).keys() - before.keys()
    assert len(changed) == 2

    received, kept = registry.counter.received, registry.size
    done = pristine.make("push-cuda", aside, f"REGISTRY={registry.repository(REPOSITORY)}", _as_user(registry))
    assert "3 blobs sent" in done.output  # the two layers and the config
    sent = registry.counter.received - received
    say(f"{BUMPED} {locked.version} -> {bumped.version}: {sent} bytes travelled, {registry.size - kept} were new")
    assert registry.size - kept < 1_000_000
    assert sent < 1_000_000 + 2 * (image22.committed / "manifest.json").stat().st_size


def test_all_platforms_have_one_reference(arm: Image, registry: Registry, runner: Runner) -> None:
    """`make push-cpu` pushes the committed index, too: one digest and one tag, each platform its own image."""
    target = registry.repository("me/cpu")
    done = arm.clone.make("push-cpu", f"REGISTRY={target}", _as_user(registry))
    index = arm.clone.folder / "lockfiles" / arm.profile / "image-index.json"
    assert f"{target}@{Digest.of_file(index)}" in done.output
    raw = ["skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", registry.config / "config.json"]
    (tag,) = re.findall(r"tagged (\S+-cpu)$", done.output, re.MULTILINE)
    assert runner.run([*raw, f"docker://{target}:{tag}"], folder=arm.clone.folder).output.encode() == index.read_bytes()


def test_the_example_dockerfile_builds_on_a_digest(
    pushed: str, loaded: Image, engine: Engine, registry: Registry, work: Path
) -> None:
    """`docker build` with the pushed image's digest: the user's own code runs in it, and smoke still does."""
    folder = work / "mine"
    folder.mkdir()
    shutil.copyfile(loaded.clone.folder / "docker" / "Dockerfile.example", folder / "Dockerfile.example")
    (folder / "main.py").write_text(MAIN, encoding="utf-8")
    built = ["build", "--quiet", "--file", str(folder / "Dockerfile.example"), "--build-arg", f"IMAGE={pushed}"]
    output = engine("--config", str(registry.config), *built, str(folder), DOCKER_BUILDKIT="0")
    identity = output.split()[-1]
    engine.remove.append(identity)
    assert engine("run", "--rm", "--network", "none", identity).split() == ["mine", "2.0", "2.2.2+cu121"]
    assert "import.together" in engine("run", "--rm", identity, "smoke", "--list")
    assert engine("run", "--rm", identity, "id", "-u").strip() == "1000"


def test_compose_takes_the_file(loaded: Image, runner: Runner) -> None:
    """`docker compose config` accepts it with an image by digest, reserves the GPU, and demands the variable."""
    compose = _compose(runner, loaded.clone.folder)
    file = loaded.clone.folder / "docker" / "compose.yaml"
    named = f"registry.example/torchlock@{loaded.digest}"
    done = runner.run(
        [*compose, "--file", file, "--profile", "cuda", "config"], folder=file.parent, extra={"TORCHLOCK_IMAGE": named}
    )
    assert f"image: {named}" in done.output
    assert "- gpu" in done.output
    refused = runner.run([*compose, "--file", file, "config"], folder=file.parent, status=None)
    assert refused.status != 0
    assert "name an image by its digest" in refused.output


def _compose(runner: Runner, folder: Path) -> list[str]:
    """Return the command of Docker Compose; mark the test not run where there is none."""
    known = [command for command in (["docker", "compose"], ["docker-compose"]) if shutil.which(command[0])]
    found = [item for item in known if runner.run([*item, "version"], folder=folder, status=None).status == 0]
    if not found:
        not_run("Docker Compose is not installed")
    return found[0]


def test_damage_on_the_way_is_refused(pushed: str, image22: Image, registry: Registry, work: Path) -> None:
    """A bit flipped in the registry's own file of a layer: nothing is published, and the digest is named."""
    digest = min(layers(image22).items(), key=lambda item: item[1])[0]
    name = digest.removeprefix("sha256:")
    blob = registry.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
    good = blob.read_bytes()
    blob.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    words = [f"REGISTRY={registry.repository(REPOSITORY)}", f"STORE={work}/damaged", f"IMAGES={work}/none"]
    try:
        done = image22.clone.make("pull-cuda", *words, _as_user(registry), status=None)
    finally:
        blob.write_bytes(good)
    assert done.status == 2
    assert digest in done.output
    assert not Path(work, "none").exists()
    remove(work / "damaged")
