"""The rules over facts: what does not fit together, wheel by wheel, and what would in its place."""

from __future__ import annotations

from typing import Any

import pytest

import snapshots
from torchlock.digest import Digest
from torchlock.facts.facts import Facts, Module
from torchlock.gate.examination import examine, stem
from torchlock.locks.lock import Artifact

OLD = Facts(modules=(Module(path="a/_one.so", numpy="1", kind="elf"), Module(path="a/_two.so", numpy="2", kind="elf")))
NEW = Facts(modules=(Module(path="a/_one.so", numpy="2", kind="elf"),))


def artifact(project: str, version: str) -> Artifact:
    """Return a wheel of a project."""
    name = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
    return Artifact(
        project=project,
        version=version,
        filename=name,
        sha256=Digest.of(name.encode()),
        size=1,
        upload_time=None,
        index="pypi",
    )


def found(
    facts: dict[str, Facts | None], numpy: str = "2.1.3", platform: str = "linux-64", **changes: Any
) -> list[tuple[str, str]]:
    """Return what is found of a set and what was expected; each project is at version 1.0."""
    artifacts = [artifact(name, numpy if name == "numpy" else "1.0") for name in {"numpy": None, **facts}]
    target = snapshots.target(platform=platform, **changes)
    return [(item.found, item.expected) for item in examine(target, artifacts, facts)]


@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"])
def test_a_module_for_numpy_1_does_not_stand_beside_numpy_2(platform: str) -> None:
    """The package and the file inside its wheel are named, whatever the platform."""
    assert found({"a": OLD}, platform=platform) == [
        ("a 1.0: a/_one.so was built for NumPy 1.x alone, beside numpy 2.1.3", "a build for NumPy 2")
    ]
    assert found({"a": OLD}, "2.0.0rc1", platform) != [], "a release candidate of NumPy 2 is NumPy 2"
    assert found({"a": OLD}, "1.26.4", platform) == []
    assert found({"a": NEW}, "2.1.3", platform) == []
    assert found({"a": NEW}, "1.26.4", platform) == [], "its minimum is in its requirements, which resolvers read"


def test_of_many_files_one_is_named() -> None:
    """A message is one line."""
    facts = Facts(modules=tuple(Module(path=f"p/{name}.pyd", numpy="1", kind="pe") for name in "cab"))
    assert found({"a": facts})[0][0] == (
        "a 1.0: p/a.pyd (and 2 more files) was built for NumPy 1.x alone, beside numpy 2.1.3"
    )


def test_numpys_own_modules_are_its_own() -> None:
    """NumPy is built with itself."""
    assert found({"numpy": OLD}) == []


def test_without_numpy_nothing_is_old() -> None:
    """A set in which NumPy is not installed has no generation of it."""
    assert examine(snapshots.target(platform="linux-64"), [artifact("a", "1.0")], {"a": OLD}) == ()


def test_a_newer_glibc_than_the_platform_promises() -> None:
    """Versions are compared as numbers."""
    assert found({"a": Facts(glibc="2.34")}) == [
        ("a 1.0: its modules need glibc 2.34", "2.28 at most, which linux-64 promises")
    ]
    assert found({"a": Facts(glibc="2.28")}) == []
    assert found({"a": Facts(glibc="2.3.4")}) == []


@pytest.mark.parametrize("variant", ["cpu", "mps"])
@pytest.mark.parametrize(
    ("facts", "marks"),
    [
        (Facts(cuda="12.1"), "CUDA 12.1"),
        (Facts(needed=("libcudart.so.12",)), "libcudart.so.12"),
        (
            Facts(bundled=("libcublas.so.12", "libcudart.so.12", "libcudnn.so.8", "x")),
            "libcublas.so.12, libcudart.so.12, ",
        ),
        (Facts(architectures=("sm_90",), cuda="12.4"), "sm_90, CUDA 12.4"),
    ],
)
def test_nothing_of_cuda_without_cuda(variant: str, facts: Facts, marks: str) -> None:
    """Libraries, architectures and a release betray a CUDA build, whatever its name."""
    ((said, expected),) = found({"torch": facts}, "1.26.4", "osx-arm64", variant=variant)
    assert said.startswith(f"torch 1.0: it holds or links {marks}")
    assert expected == f"nothing of CUDA in a {variant} environment"


@pytest.mark.parametrize(
    ("project", "cuda", "expected"),
    [
        ("torch", None, [("torch 1.0: no CUDA in it", "a build for CUDA 12.1")]),
        ("torch", "12.4", [("torch 1.0: it was built for CUDA 12.4", "CUDA 12.1")]),
        ("torch", "12", []),
        ("torch", "12.1", []),
        ("other", None, []),
        ("other", "12.4", []),
        ("other", "11.8", [("other 1.0: it was built for CUDA 11.8", "CUDA 12.1")]),
    ],
)
def test_one_cuda_in_a_cuda_set(project: str, cuda: str | None, expected: list[tuple[str, str]]) -> None:
    """Torch is of the release that the profile names, as far as its bytes tell; the others are of its generation."""
    assert found({project: Facts(cuda=cuda)}, variant="cuda", cuda="12.1") == expected


def linked(needed: tuple[str, ...], **brought: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what is found of torch, which links libraries, beside packages that bring some."""
    others = {name.replace("_", "-"): Facts(bundled=names) for name, names in brought.items()}
    torch = Facts(cuda="12.1", needed=needed)
    return found({"torch": torch, **others}, variant="cuda", cuda="12.1")


def test_what_torch_links_is_brought() -> None:
    """Every SONAME is that of a locked package; what the driver brings is not asked for."""
    assert linked(("libcudart.so.12", "libcuda.so.1", "libnvidia-ml.so.1"), nvidia_a=("libcudart.so.12",)) == []
    assert linked(("libcudnn.so.8",), nvidia_cudnn_cu12=("libcudnn.so.9",)) == [
        (
            "torch 1.0 links libcudnn.so.8, which no package here brings",
            "a package that does (nvidia-cudnn-cu12 brings libcudnn.so.9)",
        )
    ]
    assert linked(("libnccl.so.2",)) == [
        ("torch 1.0 links libnccl.so.2, which no package here brings", "a package that does")
    ]


def test_unread_facts_are_not_good_facts_and_not_bad_ones() -> None:
    """What is not known refuses nothing, and nothing is said of libraries that an unread package may bring."""
    assert found({"a": None}) == []
    torch = Facts(cuda="12.1", needed=("libcudnn.so.8",))
    assert found({"torch": torch, "nvidia-cudnn-cu12": None}, variant="cuda", cuda="12.1") == []


def test_a_finding_knows_what_would_pass() -> None:
    """Another version passes if nothing that stands alone is wrong with it."""
    target = snapshots.target(platform="linux-64")
    (finding,) = examine(target, [artifact("a", "1.0"), artifact("numpy", "2.1.3")], {"a": OLD})
    assert (finding.project, finding.numpy) == ("a", True)
    assert finding.passes(NEW)
    assert not finding.passes(OLD)
    assert not finding.passes(Facts(glibc="2.39"))


def test_a_finding_about_a_library_is_about_who_should_bring_it() -> None:
    """Of torch and cuDNN, it is cuDNN's version that is looked for."""
    facts = {"torch": Facts(cuda="12.1", needed=("libcudnn.so.8",)), "cudnn": Facts(bundled=("libcudnn.so.9",))}
    target = snapshots.target(platform="linux-64", variant="cuda", cuda="12.1")
    (finding,) = examine(target, [artifact(name, "1.0") for name in facts], facts)
    assert (finding.artifact.project, finding.project, finding.numpy) == ("torch", "cudnn", False)
    assert finding.passes(Facts(bundled=("libcudnn.so.8",)))
    assert not finding.passes(Facts(bundled=("libcudnn.so.9",)))


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("libcudnn.so.8", "libcudnn"),
        ("libcudart-d0da41ae.so.12.1.105", "libcudart"),
        ("libcudnn_ops_infer.so", "libcudnn_ops_infer"),
        ("cudart64_12.dll", "cudart64_12.dll"),
    ],
)
def test_stem(library: str, name: str) -> None:
    """A library's name is what its generations share."""
    assert stem(library) == name
