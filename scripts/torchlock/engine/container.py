"""Containers: the smoke script runs in one of an image, which sees no network and leaves nothing behind."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest

from torchlock.engine.docker import refusal
from torchlock.engine.report import Report
from torchlock.errors import EngineError, SmokeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlock.engine.docker import Docker
    from torchlock.oci.descriptor import Platform
    from torchlock.reporter import Reporter

# The most that a report may have, and as much of what else was said as an error tells.
LIMIT = 4 << 20
_WORDS = 400
# What smoke writes to while the rest of the image is read-only; some checks run what they have written.
_TMPFS = {"/tmp": "rw,nosuid,nodev,exec,mode=1777"}  # noqa: S108 - the container's own
_PLATFORM_API = (1, 41)
_WRONG_MACHINE = "exec format error"
_NO_GPU = ("could not select device driver", "nvidia-container", "cdi device", "libnvidia", "unresolvable cdi")
_TOOLKIT = "install NVIDIA's container toolkit, then nvidia-ctk runtime configure --runtime=docker and restart Docker"
_EMULATORS = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One smoke run in a container: its report, its exit status, and whether the container had the GPUs."""

    report: Report
    status: int
    gpu: bool


def smoke(  # noqa: PLR0913 - what a run is made of
    daemon: Docker,
    image: str,
    platform: Platform,
    *,
    gpu: bool,
    require: str | None,
    reporter: Reporter,
) -> Run:
    """Run the smoke script of the image that has this ID, and return what it reported; no container is left.

    With `gpu` the container is given all GPUs; where Docker cannot do that, and `require` does not name the device, it
    runs without them and that is said. Raise EngineError where no container can run, SmokeError without a report.
    """
    words = ["smoke", "--json", *(["--require-device", require] if require else [])]
    if platform.architecture != daemon.facts.architecture:
        reporter.note(f"{platform.architecture} is emulated on {daemon.facts.architecture}: this takes minutes")
    try:
        return _run(daemon, image, platform, words, gpu=gpu)
    except EngineError as error:
        if not gpu or not any(sign in str(error).lower() for sign in _NO_GPU):
            raise
        if require == "cuda":
            raise EngineError(error.where, error.found, "a container with the GPU", _TOOLKIT) from error
        reporter.note(f"this container has no GPU: {error.found}; {_TOOLKIT}")
    return _run(daemon, image, platform, words, gpu=False)


def _run(daemon: Docker, image: str, platform: Platform, words: Sequence[str], *, gpu: bool) -> Run:
    with _created(daemon, image, platform, words, gpu=gpu) as container:
        output, errors = _outputs(daemon, container, platform)
        with daemon.asked("docker wait"):
            status = int(daemon.client.wait(container)["StatusCode"])
            killed = bool(daemon.client.inspect_container(container)["State"].get("OOMKilled"))
    said = " ".join(errors.decode(errors="replace").split())[-_WORDS:]
    if _WRONG_MACHINE in said:
        raise _foreign(daemon, platform)
    if killed:
        raise SmokeError(image, "the container ran out of memory", "a report", "give Docker more memory")
    if not output.strip():
        raise SmokeError(image, f"the smoke script ended with status {status} before it could report: {said}")
    return Run(report=Report.read(output, f"the smoke report of {image}"), status=status, gpu=gpu)


def _outputs(daemon: Docker, container: str, platform: Platform) -> tuple[bytes, bytes]:
    """Start a container and return what it wrote to standard output and to standard error, when it has ended."""
    found: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    with (
        daemon.asked("docker start"),
        closing(daemon.client.attach(container, stdout=True, stderr=True, stream=True, demux=True)) as stream,
    ):
        try:
            daemon.client.start(container)
        except APIError as error:
            text = str(error.explanation or error)
            raise (_foreign(daemon, platform) if _WRONG_MACHINE in text else refusal("docker start", text)) from error
        for parts in stream:
            for kept, block in zip(found, parts, strict=True):
                kept.extend(block or b"")
                if len(kept) > LIMIT:
                    raise SmokeError(container[:12], f"the container wrote more than {LIMIT} bytes", "a report")
    return bytes(found[0]), bytes(found[1])


@contextmanager
def _created(daemon: Docker, image: str, platform: Platform, words: Sequence[str], *, gpu: bool) -> Iterator[str]:
    """Give a container that does not run yet, and remove it with all that it has, whatever happens."""
    client = daemon.client
    version = tuple(int(part) for part in client.api_version.split("."))
    devices = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpu else None
    with daemon.asked("docker create"):
        host = client.create_host_config(
            read_only=True,
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs=_TMPFS,
            device_requests=devices,
        )
        made = client.create_container(
            image,
            list(words),
            host_config=host,
            platform=str(platform) if version >= _PLATFORM_API else None,
        )
    try:
        yield str(made["Id"])
    finally:
        with daemon.asked("docker rm"), suppress(NotFound):
            client.remove_container(made["Id"], v=True, force=True)


def _foreign(daemon: Docker, platform: Platform) -> EngineError:
    """Return the error for a machine that does not run the image's programs."""
    name = _EMULATORS.get(platform.architecture, platform.architecture)
    found = f"this daemon's machine ({daemon.facts.architecture}) does not run programs of {platform.architecture}"
    remedy = (
        f"apt-get install qemu-user-static binfmt-support && update-binfmts --enable {name}"
        f" (or docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture})"
    )
    return EngineError(daemon.where, found, "an emulator registered with binfmt_misc", remedy)
