"""The order and grouping of layers: what two locks share comes first, and a bump of one wheel changes one layer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from torchlock.digest import Digest
from torchlock.errors import ImageError, ProfileError
from torchlock.layers.order import BINS, FILE, LARGE, Group, Order, groups
from torchlock.locks import lock
from torchlock.locks.lock import Artifact, Lock

ROOT = Path(__file__).parents[1]
A_PATTERN = "expected a project's name in lower case with '-', in which '*' stands for any letters"
ONCE = "expected each pattern once"
ORDER = Order(patterns=("base-*", "torch"))


def artifact(project: str, size: int | None = LARGE, version: str = "1.0") -> Artifact:
    """Return an artifact whose bytes are told by its version."""
    return Artifact(
        project=project,
        version=version,
        filename=f"{project}-{version}-py3-none-any.whl",
        sha256=Digest.of(f"{project} {version}".encode()),
        size=size,
        upload_time=None,
        index="pypi",
    )


def names(found: list[Group]) -> list[str]:
    """Return the names of groups."""
    return [group.name for group in found]


def locked(profile: str) -> Lock:
    """Return a lock of this repository."""
    return lock.read(ROOT / "lockfiles" / profile / "linux-64" / "pylock.toml", ROOT)


def load(tmp_path: Path, text: str) -> Order:
    """Read an order from a file of this text."""
    path = tmp_path / "layers.yaml"
    path.write_text(text)
    return Order.load(path, "layers.yaml")


def test_order() -> None:
    """Large wheels go by rank and name, whatever the order they come in; shared layers are last."""
    projects = ["zlib", "torch", "base-b", "small", "alpha", "base-a"]
    given = [artifact(name, 1 if name == "small" else LARGE) for name in projects]
    expected = ["base-a", "base-b", "torch", "alpha", "zlib", "small-1"]
    assert names(groups(given, ORDER, 50)) == names(groups(given[::-1], ORDER, 50)) == expected


def test_limit_between_small_and_large() -> None:
    """A wheel of 256 KiB has its own layer, one of a byte less has not."""
    found = groups([artifact("a", LARGE), artifact("b", LARGE - 1)], ORDER, 50)
    assert [[item.project for item in group.artifacts] for group in found] == [["a"], ["b"]]
    assert names(found)[0] == "a"
    assert names(found)[1].startswith("small-")


def test_size_unknown() -> None:
    """A wheel whose lock gives no size has its own layer, and is the last to lose it."""
    many = [artifact(f"p{number}", LARGE + number) for number in range(80)]
    found = groups([*many, artifact("torch", None)], ORDER, 9)
    assert names(found) == ["torch", *(f"small-{number}" for number in range(BINS))]


def test_two_lines_share_their_beginning() -> None:
    """The CUDA lines' layers begin alike: with all of the toolkit, 99 % of the bytes that they have in common."""
    order = Order.load(ROOT / FILE)
    first, second = (groups(locked(name).artifacts, order, 97) for name in ("torch2.2-cuda", "torch2.4-cuda"))
    common = next(at for at, (one, two) in enumerate(zip(first, second, strict=True)) if one != two)
    toolkit = ("cublas", "cuda-cupti", "cuda-nvrtc", "cuda-runtime", "cufft", "curand", "cusolver", "cusparse")
    assert names(first)[:common] == [f"nvidia-{name}-cu12" for name in (*toolkit, "nvjitlink")]
    shared = {item for group in first for item in group.artifacts} & {item for g in second for item in g.artifacts}
    prefix = sum(item.size or 0 for group in first[:common] for item in group.artifacts)
    assert prefix > 0.99 * sum(item.size or 0 for item in shared)
    assert names(first) == names(second)


def test_canonical_across_profiles() -> None:
    """Layers that two profiles have in common stand in one order in both."""
    order = Order.load(ROOT / FILE)
    for one, two in (("torch2.2-cuda", "torch2.4-cuda"), ("torch2.2-cpu", "torch2.2-cuda")):
        first, second = names(groups(locked(one).artifacts, order, 97)), names(groups(locked(two).artifacts, order, 97))
        both = set(first) & set(second)
        assert [name for name in first if name in both] == [name for name in second if name in both]


@pytest.mark.parametrize("project", ["filelock", "markupsafe", "typing-extensions", "nvidia-nvtx-cu12"])
def test_a_bump_changes_one_layer(project: str) -> None:
    """A new version of a small wheel changes the one layer that it lies in, and moves none."""
    order, artifacts = Order.load(ROOT / FILE), locked("torch2.2-cuda").artifacts
    bumped = [
        replace(item, version="99", sha256=Digest("9" * 64)) if item.project == project else item for item in artifacts
    ]
    before, after = groups(artifacts, order, 97), groups(bumped, order, 97)
    assert names(before) == names(after)
    assert [one.name.startswith("small-") for one, two in zip(before, after, strict=True) if one != two] == [True]


@pytest.mark.parametrize("room", [8, 20, 97])
def test_many_wheels(room: int) -> None:
    """300 wheels fit the room given, each once; the largest keep their own layers."""
    artifacts = [artifact(f"p{number}", 1000 << (number % 20)) for number in range(300)]
    found = groups(artifacts, ORDER, room)
    assert len(found) == room
    assert sorted(item.project for group in found for item in group.artifacts) == sorted(a.project for a in artifacts)
    own = [item.size or 0 for group in found[:-BINS] for item in group.artifacts]
    shared = [item.size or 0 for group in found[-BINS:] for item in group.artifacts]
    assert len(own) == room - BINS
    assert min(own, default=math.inf) >= max(shared)


def test_no_room() -> None:
    """A base that leaves no room is refused."""
    with pytest.raises(ImageError) as error:
        groups([artifact(f"p{number}") for number in range(300)], ORDER, 7)
    assert str(error.value) == (
        "the layers of the wheels: 8 of shared ones at least, and there is room for 7; expected a base of fewer layers"
    )


def test_nothing() -> None:
    """No wheels, no layers."""
    assert groups([], ORDER, 0) == []


def test_first_match_ranks(tmp_path: Path) -> None:
    """The first pattern that fits decides; what none fits comes last."""
    order = load(tmp_path, "order:\n  - nvidia-cuda-*\n  - nvidia-*\n  - torch\n")
    projects = ("nvidia-cuda-runtime", "nvidia-nccl", "torch", "torchvision")
    assert [order.rank(project) for project in projects] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("order:\n  - Torch\n", f"layers.yaml:2: order[0]: found the pattern 'Torch'; {A_PATTERN}"),
        ("order:\n  - a_b\n", f"layers.yaml:2: order[0]: found the pattern 'a_b'; {A_PATTERN}"),
        (
            "order:\n  - nvidia-*\n  - nvidia-cuda-*\n",
            f"layers.yaml:3: order[1]: 'nvidia-cuda-*' is never reached: 'nvidia-*' comes before it; {ONCE}",
        ),
        ("order: torch\n", "layers.yaml:1: order: found text; expected a list"),
        (
            "orders:\n  - torch\n",
            "layers.yaml:1: orders: unknown key 'orders'; expected one of order, bytecode; try: order",
        ),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    """The file says what it must, once."""
    with pytest.raises(ProfileError) as error:
        load(tmp_path, text)
    assert str(error.value) == message


def test_bytecode(tmp_path: Path) -> None:
    """The file may name the projects that get a layer of byte code, by patterns as strict as those of the order."""
    found = load(tmp_path, "order:\n  - torch\nbytecode:\n  - torch\n  - num*\n")
    assert [found.compiles(name) for name in ("torch", "numpy", "sympy")] == [True, True, False]
    assert not load(tmp_path, "order:\n  - torch\n").compiles("torch")
    with pytest.raises(ProfileError, match=r"layers\.yaml:4: bytecode\[0\]: found the pattern 'Torch'"):
        load(tmp_path, "order:\n  - torch\nbytecode:\n  - Torch\n")
