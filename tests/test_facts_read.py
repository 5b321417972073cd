"""Reading facts: of wheels, by range, and of installed files."""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import binaries
import servers
import wheels
from torchlock.errors import WheelError
from torchlock.facts.facts import Facts, Module
from torchlock.facts.read import LARGEST, SMALL, of_folder, of_wheel
from torchlock.network.remote import Limits, Remote

ARCHITECTURES = b"\0sm_80 sm_90 compute_90\0"
TORCH = {
    "torch/__init__.py": b"",
    "torch/version.py": b"debug = False\ncuda: Optional[str] = '12.1'\nhip: Optional[str] = None\n",
    "torch/_C.cpython-311-x86_64-linux-gnu.so": binaries.elf(
        needed=["libtorch_python.so"], versions={"libc.so.6": ["GLIBC_2.2.5"]}
    ),
    "torch/lib/libtorch_python.so": binaries.elf(
        binaries.PLAIN_1 + ARCHITECTURES,
        needed=["libcudart.so.12", "libcudnn.so.8", "libcusparseLt-f8b4a9fb.so.0", "libm.so.6"],
        versions={"libc.so.6": ["GLIBC_2.9", "GLIBC_2.17"], "libstdc++.so.6": ["GLIBCXX_3.4.19", "CXXABI_1.3"]},
    ),
    "torch/lib/libcusparseLt-f8b4a9fb.so.0": binaries.elf(),
    "torch/lib/stubs/libnccl.so.2": binaries.elf(),
}
TORCH_FACTS = Facts(
    modules=(Module(path="torch/lib/libtorch_python.so", numpy="1", kind="elf"),),
    architectures=("compute_90", "sm_80", "sm_90"),
    cuda="12.1",
    cudnn="8",
    glibc="2.17",
    libstdcxx="3.4.19",
    needed=("libcudart.so.12", "libcudnn.so.8"),
    bundled=("libcusparseLt.so.0",),
)


def of(folder: Path, files: dict[str, bytes], name: str = "demo", version: str = "1.0") -> Facts:
    """Return the facts of a wheel of these files."""
    path = wheels.make(folder, files, name=name, version=version)
    with path.open("rb") as file:
        return of_wheel(file, path.name)


def test_the_facts_of_a_torch_build(tmp_path: Path) -> None:
    """Its NumPy, architectures, CUDA, cuDNN, C libraries; a grafted library is brought, one in stubs/ is not."""
    assert of(tmp_path, TORCH, "torch") == TORCH_FACTS


def test_installed_files_say_the_same(tmp_path: Path) -> None:
    """Named relatively or absolutely; one that is gone is passed over."""
    with zipfile.ZipFile(wheels.make(tmp_path, TORCH, name="torch")) as file:
        file.extractall(tmp_path / "site")
    names = [path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*")]
    assert of_folder(tmp_path / "site", [*names, Path("torch/gone.so")]) == TORCH_FACTS
    assert of_folder(tmp_path / "site", [tmp_path / "site" / name for name in names]) == TORCH_FACTS


def test_what_large_installed_libraries_link_is_read(tmp_path: Path) -> None:
    """In a wheel they cost too much to inflate; on a file system they cost a page."""
    files = {"torch/lib/libtorch_cuda.so": binaries.elf(os.urandom(SMALL), needed=["libnccl.so.2"])}
    assert of(tmp_path, files, "torch").needed == ()
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch/lib/libtorch_cuda.so").write_bytes(files["torch/lib/libtorch_cuda.so"])
    (tmp_path / "torch/lib/libempty.so").write_bytes(b"")
    found = of_folder(tmp_path, [Path("torch/lib/libtorch_cuda.so"), Path("torch/lib/libempty.so")])
    assert found == Facts(needed=("libnccl.so.2",))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("torch/lib/torch_python.dll", binaries.PE, "pe"),
        ("torch/lib/libtorch_python.dylib", binaries.MACHO, "macho"),
        ("demo/_x.cp311-win_amd64.pyd", binaries.PE, "pe"),
        ("demo/_x.abi3.so", binaries.MACHO, "macho"),
        ("demo/lib.cpython-311-x86_64-linux-gnu.so", binaries.elf(), "elf"),
        ("demo/libx.abi3.so", binaries.elf(), "elf"),
        ("demo/libarrow_python.so.1500", binaries.elf(), "elf"),
        ("demo-1.0.data/platlib/_x.so", binaries.elf(), "elf"),
    ],
)
def test_modules_of_every_platform_are_read(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    """However large, by their names."""
    files = {name: data + binaries.PLAIN_2 + os.urandom(SMALL)}
    assert of(tmp_path, files).modules == (Module(path=name, numpy="2", kind=kind),)


def test_texts_and_scripts_are_no_modules(tmp_path: Path) -> None:
    """The words alone make no module: a text, a linker's script, a source."""
    words = binaries.PLAIN_1
    assert of(tmp_path, {"a.py": words, "b.so": b"INPUT(c.so)" + words, "so": words, "c.so.txt": words}) == Facts()


@pytest.mark.parametrize(
    ("neighbour", "sized", "expected"),
    [
        (binaries.PLAIN_1, binaries.SIZED_OPEN, "1"),
        (binaries.PLAIN_2, binaries.SIZED_OPEN, "2"),
        (binaries.PYBIND11_1, binaries.SIZED_OPEN, "2"),
        (b"", binaries.SIZED_OPEN, "2"),
        (binaries.PLAIN_2, binaries.SIZED_1, "1"),
        (binaries.PLAIN_1, binaries.SIZED_2, "2"),
    ],
)
def test_a_sized_module_was_built_with_its_neighbours(
    tmp_path: Path, neighbour: bytes, sized: bytes, expected: str
) -> None:
    """Where it says nothing of its own, a plain module beside it decides."""
    facts = of(tmp_path, {"demo/a.so": binaries.elf(neighbour), "demo/b.so": binaries.elf(sized)})
    assert {module.path: module.numpy for module in facts.modules}["demo/b.so"] == expected


def test_a_module_that_asks_late_is_told_from_one_that_asks_at_its_import(tmp_path: Path) -> None:
    """A wheel may hold both, each of its own generation."""
    facts = of(tmp_path, {"demo/a.so": binaries.elf(binaries.PYBIND11_1), "demo/b.so": binaries.elf(binaries.PLAIN_2)})
    assert facts.modules == (
        Module(path="demo/a.so", numpy="1", kind="elf", late=True),
        Module(path="demo/b.so", numpy="2", kind="elf"),
    )


@pytest.mark.parametrize(
    ("wheel", "files", "cuda", "cudnn"),
    [
        ("nvidia-cuda-runtime-cu12 12.1.105", ["lib/libcudart.so.12"], "12.1", None),
        ("nvidia-cuda-runtime 13.0.48", ["lib/libcudart.so.13"], "13.0", None),
        ("nvidia-cudnn-cu12 8.9.2.26", ["lib/libcudnn.so.8", "lib/libcudnn_ops_infer.so.8"], None, "8"),
        ("demo 1.0", ["bin/cudart64_110.dll", "bin/cudnn64_8.dll"], "11", "8"),
        ("demo 1.0", ["lib/libnvrtc-d9328a50.so.11.2"], "11", None),
        ("demo 1.0", ["lib/libcublas.so.12", "lib/libcufft.so.11"], "12", None),
        ("demo 1.0", ["lib/libcudartist.so.12", "lib/libcuda.so.1"], None, None),
    ],
)
def test_releases_are_told_by_the_names_of_libraries(
    tmp_path: Path, wheel: str, files: list[str], cuda: str | None, cudnn: str | None
) -> None:
    """The runtime's own wheel is exact to the minor release, a SONAME to the major one."""
    facts = of(tmp_path, {f"nvidia/{file}": binaries.elf() for file in files}, *wheel.split())
    assert (facts.cuda, facts.cudnn) == (cuda, cudnn)


def test_a_wheel_without_cuda_says_so(tmp_path: Path) -> None:
    """A CPU build of torch states None."""
    facts = of(tmp_path, {"torch/version.py": b"cuda: Optional[str] = None\nhip = '5.7'\n"}, "torch")
    assert facts == Facts()


def test_by_range_only_the_members_that_matter_move(tmp_path: Path) -> None:
    """A library of 6 MB beside a module: the directory and the module move, in blocks, and no more."""
    module = binaries.elf(binaries.PLAIN_2 + os.urandom(200_000))
    files = {
        "demo/libbig.so": binaries.elf(os.urandom(6 << 20)),
        "demo/a.so": module,
        "demo/data.bin": os.urandom(1 << 20),
    }
    path = wheels.make(tmp_path, files)
    block = 16 << 10
    with servers.serving({"/demo.whl": path.read_bytes()}) as site:
        remote = Remote(limits=Limits(block=block))
        with remote.range_reader(f"{site.url}/demo.whl") as file:
            facts = of_wheel(file, path.name)
        remote.close()
        assert facts.modules == (Module(path="demo/a.so", numpy="2", kind="elf"),)
        assert 200_000 < site.sent < 200_000 + 8 * block
        assert len(site.seen) <= 6


def test_no_zip_is_refused() -> None:
    """As a WheelError that names the file."""
    with pytest.raises(WheelError, match=r"^demo\.whl: its central directory cannot be read"):
        of_wheel(io.BytesIO(b"no zip"), "demo.whl")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """Before a byte of it is inflated."""
    path = wheels.make(tmp_path, {"a.so": bytes(65 << 20)})
    with (
        path.open("rb") as file,
        pytest.raises(WheelError, match=r"'a\.so' claim to hold 68157440; expected at most 50:1"),
    ):
        of_wheel(file, path.name)
    assert LARGEST == 1 << 30


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    """One flipped bit is found by its CRC or by its deflate stream."""
    path = wheels.flip(wheels.make(tmp_path, {"a.so": binaries.elf(os.urandom(4000))}), "a.so")
    with path.open("rb") as file, pytest.raises(WheelError, match=r"'a\.so'"):
        of_wheel(file, path.name)


def test_a_method_that_no_wheel_has_is_refused(tmp_path: Path) -> None:
    """As an installer would."""
    path = wheels.make(tmp_path, {"a.so": binaries.elf()}, method=zipfile.ZIP_BZIP2)
    with path.open("rb") as file, pytest.raises(WheelError, match="neither stored nor deflated"):
        of_wheel(file, path.name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(end=st.integers(0, 4000), changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5))
def test_no_damage_gives_another_exception(tmp_path: Path, end: int, changes: list[tuple[int, int]]) -> None:
    """A wheel with bytes changed or gone is read, or refused as a WheelError."""
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    if not path.exists():
        wheels.make(tmp_path, TORCH)
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    keep = len(data) - end if end % 7 == 0 else len(data)
    with suppress(WheelError):
        of_wheel(io.BytesIO(bytes(data[: max(0, keep)])), path.name)
