"""The facts of an artifact as a value."""

from __future__ import annotations

from typing import Any

import pytest

from torchlock.facts.facts import Facts, Module

FULL = Facts(
    modules=(
        Module(path="b.so", numpy="1", kind="elf", late=True),
        Module(path="a.so", numpy="2", kind="elf"),
    ),
    architectures=("sm_90", "sm_80"),
    cuda="12.1",
    cudnn="8",
    glibc="2.17",
    libstdcxx="3.4.19",
    needed=("libcudnn.so.8", "libcudart.so.12"),
    bundled=("libcusparseLt.so.0",),
)


def test_facts_come_back_from_their_json() -> None:
    """Sorted, late only where it is true, and nothing that is empty."""
    value = FULL.to_dict()
    assert value["modules"] == [
        {"kind": "elf", "numpy": "2", "path": "a.so"},
        {"kind": "elf", "late": True, "numpy": "1", "path": "b.so"},
    ]
    assert value["architectures"] == ["sm_80", "sm_90"]
    assert value["needed"] == ["libcudart.so.12", "libcudnn.so.8"]
    assert Facts.from_dict(value) == FULL
    assert Facts().to_dict() == {}
    assert Facts.from_dict({}) == Facts()


def test_generations_are_those_of_all_modules() -> None:
    """A wheel may hold modules of both."""
    assert FULL.numpy == {"1", "2"}
    assert Facts().numpy == frozenset()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "a list, not an object"),
        ({"colour": "red"}, "'colour': an unknown key"),
        ({"cuda": 12.1}, "cuda: not a string"),
        ({"cuda": "new"}, "cuda: 'new', not a release such as 12.1"),
        ({"needed": "libc.so.6"}, "needed: not a list of strings"),
        ({"needed": ["b", "a"]}, "not sorted, or something twice, or an empty value"),
        ({"needed": []}, "not sorted, or something twice, or an empty value"),
        ({"architectures": ["sm_x"]}, "architectures: 'sm_x', not one such as sm_80 or compute_90"),
        ({"modules": {}}, "modules: not a list"),
        ({"modules": [{"path": "a"}]}, "modules[0]: not an object of kind, numpy and path"),
        ({"modules": [{"kind": "elf", "numpy": 1, "path": "a"}]}, "modules[0]: a value that is no string"),
        ({"modules": [{"kind": "elf", "numpy": "3", "path": "a"}]}, "a: NumPy generation '3', not one of 1, 2"),
        ({"modules": [{"kind": "exe", "numpy": "1", "path": "a"}]}, "a: 'exe', not one of elf, macho, pe"),
        (
            {"modules": [{"kind": "elf", "late": False, "numpy": "1", "path": "a"}]},
            "modules[0]: a value that is no string",
        ),
    ],
)
def test_anything_else_is_refused(change: Any, message: str) -> None:
    """With the place of what is wrong."""
    value = {**FULL.to_dict(), **change} if isinstance(change, dict) else change
    with pytest.raises(ValueError, match=r".") as caught:
        Facts.from_dict(value)
    assert str(caught.value) == message
