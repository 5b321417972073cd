"""The inputs of an image: each of them moves the digest, and the layers follow from them by fixed rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import locks
import studio
from torchlock.base import image as bases
from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.images import inputs
from torchlock.layers import tar
from torchlock.layers.order import Order
from torchlock.oci.descriptor import LAYER_GZIP, Descriptor

if TYPE_CHECKING:
    from pathlib import Path

ALPHA = replace(locks.NUMPY, project="alpha", version="1.0", filename="alpha-1.0-py3-none-any.whl", size=9)
LOCK = locks.make(artifacts=(locks.NUMPY, replace(locks.TORCH, size=200), ALPHA))
INPUTS = inputs.Inputs(
    lock=LOCK,
    variant="cpu",
    base=studio.BASE,
    order=Order(patterns=("torch", "numpy")),
    sources={"a.py": b"", "smoke.py": b"1"},
)
BELOW = (Descriptor(media_type=LAYER_GZIP, digest=Digest.of(b"below"), size=5), Digest.of(b"tar"))


@pytest.mark.parametrize(
    "change",
    [
        {"lock": replace(LOCK, snapshot_digest=Digest.of(b"another"))},
        {"variant": "cuda"},
        {"base": replace(studio.BASE, name="other")},
        {"base": replace(studio.BASE, digest=Digest.of(b"other"))},
        {"base": replace(studio.BASE, layers=(BELOW,))},
        {"base": replace(studio.BASE, config={})},
        {"base": replace(studio.BASE, python_path="/usr/local/bin/python3.11")},
        {"base": replace(studio.BASE, python_version="3.11.9")},
        {"order": Order(patterns=("numpy", "torch"))},
        {"sources": {"smoke.py": b"2"}},
        {"sources": {"smoke.py": b"1", "more.py": b""}},
        {"compiled": ("torch",)},
        {"origin": {"name": "docker.io/library/python"}},
    ],
)
def test_every_input_moves_the_digest(change: dict[str, Any]) -> None:
    """So that a stale image is told without building it."""
    assert replace(INPUTS, **change).digest() != INPUTS.digest()


@pytest.mark.parametrize(("module", "name"), [(inputs, "RECIPE"), (tar, "EPOCH")])
def test_the_rules_themselves_move_the_digest(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """A new recipe, or another time in the files, is another image."""
    before = INPUTS.digest()
    monkeypatch.setattr(module, name, getattr(module, name) + 1)
    assert INPUTS.digest() != before


def test_the_same_inputs_have_the_same_digest() -> None:
    """However the values were given."""
    again = replace(INPUTS, sources=dict(sorted(INPUTS.sources.items(), reverse=True)))
    assert again.digest() == INPUTS.digest()


def test_layers_are_large_wheels_by_rank_then_small_ones_together() -> None:
    """And each says which wheels it is made from, by name and digest."""
    parts = INPUTS.parts()
    assert [(item.name, [it.project for it in item.artifacts]) for item in parts] == [
        ("numpy", ["numpy"]),
        *[(item.name, [it.project for it in item.artifacts]) for item in parts[1:]],
    ]
    assert {it.project for item in parts[1:] for it in item.artifacts} == {"alpha", "torch"}
    assert parts[0].content == f"{locks.NUMPY.filename}@{locks.NUMPY.sha256}"


def test_a_layer_of_byte_code_comes_after_the_wheels() -> None:
    """It is made from the same wheel, and is another layer."""
    last = replace(INPUTS, compiled=("numpy",)).parts()[-1]
    assert (last.name, last.kind) == ("bytecode-numpy", "bytecode")
    assert last.content == f"bytecode-1-python-3.11.2 {locks.NUMPY.filename}@{locks.NUMPY.sha256}"


def test_there_are_never_more_than_a_hundred_layers() -> None:
    """The base's count, and the application's."""
    many = tuple(
        replace(locks.NUMPY, project=f"p{number:03}", filename=f"p{number:03}.whl", size=(1 << 20) + number)
        for number in range(150)
    )
    wanted = replace(INPUTS, lock=replace(LOCK, artifacts=many), base=replace(studio.BASE, layers=(BELOW,) * 7))
    parts = wanted.parts()
    assert len(parts) + 7 + 1 == 100
    assert sorted(it.project for item in parts for it in item.artifacts) == [f"p{number:03}" for number in range(150)]


METAL = "it has no image: no Metal in Linux containers"
WINDOWS = "it has no image for win-64: containers run Linux, and these wheels do not"


@pytest.mark.parametrize(
    ("variant", "platform", "found", "remedy"),
    [
        ("mps", "osx-arm64", METAL, "make image-torch2.2-cpu"),
        ("cpu", "win-64", WINDOWS, "make image-torch2.2-cpu PLATFORM=linux-64"),
    ],
)
def test_what_can_have_no_image_is_told_why(
    tmp_path: Path, variant: str, platform: str, found: str, remedy: str
) -> None:
    """Metal and Windows are not in Linux containers."""
    with pytest.raises(ImageError) as caught:
        inputs.of_target(tmp_path, studio.target(variant, platform), LOCK, studio.BASE)
    assert str(caught.value) == (
        f"torch2.2-{variant}: {found}; expected a variant for linux-64 or linux-aarch64; try: {remedy}"
    )


def test_a_base_of_another_python_is_refused() -> None:
    """Wheels with extension modules run on one minor version only."""
    base = replace(studio.BASE, python_version="3.12.1")
    with pytest.raises(ImageError) as caught:
        inputs.of_target(studio.ROOT, studio.target("cpu", "linux-64"), LOCK, base)
    assert str(caught.value) == (
        "torch2.2-cpu: its lock is for Python 3.11, and the base tiny has 3.12.1; expected a base with Python 3.11; "
        "try: BASE=<one of docker/base.yaml>"
    )


def test_a_checkout_gives_the_order_and_the_sources() -> None:
    """From docker/layers.yaml and scripts/."""
    base = bases.resolve(studio.ROOT, None, "linux-64")
    found = inputs.of_target(studio.ROOT, studio.target("cpu", "linux-64"), LOCK, base)
    assert "torch" in found.order.patterns
    assert "smoke.py" in found.sources
    assert found.variant == "cpu"
    assert found.origin == {}


def test_a_registrys_image_as_base_is_an_origin() -> None:
    """With the digest of the platform's manifest."""
    base = replace(studio.BASE, name="python")
    found = inputs.of_target(studio.ROOT, studio.target("cpu", "linux-64"), LOCK, base).origin
    assert found["name"].startswith("docker.io/library/python@sha256:")
    assert found["digest"].startswith("sha256:")
