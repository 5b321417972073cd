"""Devices: which architectures a build covers, what the driver says, and builds told apart."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from checks import build, cuda, driver
from checks.result import Failed, NotRun
from checks.suite import Lab

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("architectures", "capability", "entry"),
    [
        (("sm_50", "sm_80", "sm_86", "sm_90"), (8, 6), "sm_86"),
        (("sm_50", "sm_80", "sm_90"), (8, 9), "sm_80"),
        (("sm_86",), (8, 0), ""),
        (("sm_80", "sm_90"), (10, 0), ""),
        (("sm_80", "compute_90"), (10, 0), "compute_90"),
        (("compute_80", "sm_80"), (8, 6), "sm_80"),
        (("sm_90a",), (9, 0), "sm_90a"),
        (("sm_100a",), (10, 3), ""),
        (("sm_100f",), (10, 3), "sm_100f"),
        (("sm_100", "sm_120"), (12, 0), "sm_120"),
        (("compute_90",), (8, 0), ""),
        (("gfx90a",), (9, 0), ""),
        ((), (8, 0), ""),
    ],
)
def test_a_device_is_covered_by_its_major_or_by_ptx(
    architectures: tuple[str, ...], capability: tuple[int, int], entry: str
) -> None:
    """A binary covers later minors of its major, one with `a` itself alone, PTX everything later."""
    assert cuda.covers(architectures, capability) == entry


class FakeDriver:
    """A libcuda that answers what it is told."""

    def __init__(self, status: int = 0, version: int = 12040, devices: int = 1) -> None:
        self.status, self.version, self.devices = status, version, devices

    def cuInit(self, _flags: int) -> int:  # noqa: N802 - CUDA's own name
        """Start."""
        return self.status

    def cuDriverGetVersion(self, place: Any) -> int:  # noqa: N802 - as above
        """Write the version."""
        ctypes.cast(place, ctypes.POINTER(ctypes.c_int))[0] = self.version
        return 0

    def cuDeviceGetCount(self, place: Any) -> int:  # noqa: N802 - as above
        """Write the number of devices."""
        ctypes.cast(place, ctypes.POINTER(ctypes.c_int))[0] = self.devices
        return 0


@pytest.mark.parametrize(
    ("library", "found"),
    [
        (FakeDriver(), driver.Driver(present=True, cuda=(12, 4), devices=1)),
        (FakeDriver(devices=0), driver.Driver(present=True, cuda=(12, 4), reason="no CUDA device is visible")),
        (
            FakeDriver(status=100, version=0),
            driver.Driver(present=True, reason="no CUDA device is visible (CUDA_ERROR_NO_DEVICE)"),
        ),
        (
            FakeDriver(status=803),
            driver.Driver(
                present=True,
                cuda=(12, 4),
                reason="driver library and kernel module differ (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)",
                broken=True,
            ),
        ),
        (FakeDriver(status=7), driver.Driver(present=True, cuda=(12, 4), reason="CUDA error 7", broken=True)),
    ],
)
def test_the_driver_says_what_it_is(library: FakeDriver, found: driver.Driver) -> None:
    """Release, number of devices and what hinders them come from the driver itself."""
    assert driver.query(library) == found


def fake_torch(*, release: str | None = "12.1", devices: int = 0) -> Any:
    """Return as much of torch as the questions before a device check need."""
    return SimpleNamespace(
        __version__="2.2.2",
        version=SimpleNamespace(cuda=release, hip=None),
        cuda=SimpleNamespace(is_available=lambda: devices > 0, device_count=lambda: devices),
        backends=SimpleNamespace(),
    )


def lab_of(fake: Any, variant: str | None = None, **distributions: str) -> Lab:
    """Return a lab around a fake torch."""
    return Lab(torch=fake, np=None, variant=variant, distributions=distributions)


@pytest.mark.parametrize(
    ("torch", "state", "kind", "message"),
    [
        (
            fake_torch(release=None),
            driver.Driver(present=True, devices=1),
            NotRun,
            "torch 2.2.2 was not built for CUDA",
        ),
        (fake_torch(), driver.Driver(present=False, reason="no driver"), NotRun, "no driver"),
        (
            fake_torch(),
            driver.Driver(present=True, cuda=(11, 4), devices=2),
            Failed,
            "the driver sees 2 device(s) and speaks CUDA 11.4, but torch finds none",
        ),
        (
            fake_torch(),
            driver.Driver(present=True, reason="an odd error", broken=True),
            Failed,
            "the NVIDIA driver does not start: an odd error",
        ),
    ],
)
def test_a_device_that_is_there_and_unusable_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, torch: Any, state: driver.Driver, kind: type[Exception], message: str
) -> None:
    """No device is not run; a device that torch cannot use, or a broken driver, is a failure."""
    monkeypatch.setattr(driver, "query", lambda: state)
    with pytest.raises(kind) as caught:
        cuda.ready(lab_of(torch))
    assert str(caught.value) == message


def test_a_driver_of_an_older_major_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver must speak the build's CUDA major; a later minor of the build is no matter."""
    lab = lab_of(fake_torch(release="12.6", devices=1))
    monkeypatch.setattr(driver, "query", lambda: driver.Driver(present=True, cuda=(12, 1), devices=1))
    assert cuda.driver_check(lab) == "build CUDA 12.6, driver CUDA 12.1"
    monkeypatch.setattr(driver, "query", lambda: driver.Driver(present=True, cuda=(11, 8), devices=1))
    with pytest.raises(Failed, match=r"^the driver speaks CUDA 11\.8, the build needs 12\.x$"):
        cuda.driver_check(lab)


@pytest.mark.parametrize(
    ("variant", "release", "message"),
    [
        ("cpu", "12.1", "torch 2.2.2 was built for CUDA 12.1, and the variant is cpu"),
        ("cuda", None, "torch 2.2.2 was built for CPU, and the variant is cuda"),
        ("mps", None, "torch 2.2.2 was built for CPU, and the variant is mps"),
    ],
)
def test_a_build_for_something_else_is_a_failure(variant: str, release: str | None, message: str) -> None:
    """The build must be what the variant says."""
    with pytest.raises(Failed) as caught:
        build.build(lab_of(fake_torch(release=release), variant))
    assert str(caught.value) == message


def test_a_cpu_environment_holds_nothing_of_cuda(tmp_path: Path) -> None:
    """Distributions, local versions and libraries of CUDA are each found out."""
    torch = fake_torch(release=None)
    torch.__file__ = str(tmp_path / "__init__.py")
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "libtorch_cpu.so").touch()
    assert build.cpu_libraries(lab_of(torch, "cpu")) == "none among 1 files of torch/lib"
    (folder / "libcudart-1b5b8f5e.so.12").touch()
    with pytest.raises(Failed, match=r"^torch/lib holds libcudart-1b5b8f5e\.so\.12$"):
        build.cpu_libraries(lab_of(torch, "cpu"))
    with pytest.raises(Failed, match=r"^1 distributions of CUDA are installed: nvidia-nccl-cu12$"):
        build.cpu_packages(lab_of(torch, "cpu", **{"nvidia-nccl-cu12": "2"}))
    with pytest.raises(Failed, match=r"^torch's version is 2\.2\.2\+cu121$"):
        build.cpu_local(lab_of(torch, "cpu", torch="2.2.2+cu121"))
    with pytest.raises(NotRun, match=r"^no --variant cpu was given$"):
        build.cpu_packages(lab_of(torch))
