"""The facts and exceptions of a lock: written in one way, read strictly, true of its artifacts."""

from __future__ import annotations

from typing import Any

import pytest

import locks
from torchlock.digest import Digest
from torchlock.errors import LockError
from torchlock.locks.lock import Lock
from torchlock.locks.summary import Summary, ordered, waivers
from torchlock.profiles.line import Waiver

PLACE = "pylock.toml: tool.torchlock.facts"
FULL = Summary(
    numpy_1=("numexpr", "torch"),
    numpy_2=("pandas",),
    architectures=("compute_90", "sm_50", "sm_90", "sm_100"),
    cuda="12.1",
    cudnn="8",
    driver="525.60.13",
    driver_release="530.30.02",
    glibc="2.17",
    libstdcxx="3.4.19",
    unread=("numba",),
)
WAIVER = Waiver(project="numpy", sha256=locks.NUMPY.sha256, reason="it's \"tested\" on a.b.c.d.e, don't worry")


def test_every_value_comes_back() -> None:
    """What is written is read; what is not there is not written."""
    assert Summary.from_dict(FULL.to_dict(), PLACE) == FULL
    assert Summary().to_dict() == {}
    assert Summary.from_dict({}, PLACE) == Summary()
    assert FULL.to_dict()["driver-release"] == "530.30.02"


def test_architectures_stand_in_the_order_of_their_numbers() -> None:
    """Each once, and sm_100 after sm_90."""
    assert ordered(["sm_100", "sm_90a", "sm_90", "compute_90", "sm_50", "sm_90"]) == (
        *("compute_90", "sm_50", "sm_90", "sm_90a", "sm_100"),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"nmpy-1": ["torch"]}, ".nmpy-1: torchlock writes no such key; expected one of numpy-1, numpy-2, "),
        ({"glibc": 2}, ".glibc: 2; expected a release such as 12.1"),
        ({"glibc": "2.17 "}, ".glibc: '2.17 '; expected a release such as 12.1"),
        ({"unread": "torch"}, ".unread: 'torch'; expected a list of one or more"),
        ({"unread": []}, ".unread: []; expected a list of one or more"),
        ({"unread": ["Torch"]}, ".unread[0]: 'Torch'; expected the name of a project"),
        ({"numpy-1": ["b", "a"]}, ".numpy-1: ['b', 'a']; expected each once, sorted"),
        ({"numpy-2": ["a", "a"]}, ".numpy-2: ['a', 'a']; expected each once, sorted"),
        ({"architectures": ["sm_100", "sm_90"]}, ".architectures: ['sm_100', 'sm_90']; expected each once, sorted"),
        ({"architectures": ["8.0"]}, ".architectures[0]: '8.0'; expected an architecture such as sm_80"),
        ({"architectures": [80]}, ".architectures[0]: 80; expected an architecture such as sm_80"),
    ],
)
def test_malformed_facts_are_refused(value: dict[str, Any], message: str) -> None:
    """Another key, type, order or spelling than torchlock writes is named with its place."""
    with pytest.raises(LockError) as caught:
        Summary.from_dict(value, PLACE)
    assert str(caught.value).startswith(f"{PLACE}{message}")


def row(**changes: Any) -> dict[str, Any]:
    """Return an exception as a lock writes it, with other values where they are given."""
    return {"project": "pandas", "sha256": "0" * 64, "reason": "why", **changes}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["pandas"], "[0]: 'pandas'; expected a table of project, sha256, reason"),
        ([row(until="never")], "[0]: {'project': 'pandas'"),
        ([row(reason=1)], "[0]: {'project': 'pandas'"),
        ([row(project="Pandas")], "[0].project: 'Pandas'; expected the name of a project"),
        (
            [row(sha256="0")],
            "[0].sha256: not a sha256 of 64 lower-case hexadecimal digits: '0'; expected 64 lower-case",
        ),
        ([row(reason="")], "[0].reason: ''; expected one line of 1 to 300 characters"),
        ([row(reason="a\nb")], "[0].reason: 'a\\nb'; expected one line of 1 to 300 characters"),
        ([row(), row(project="numpy")], ": not in order, or one twice; expected each once, sorted"),
        ([row(), row()], ": not in order, or one twice; expected each once, sorted"),
    ],
)
def test_malformed_exceptions_are_refused(value: list[Any], message: str) -> None:
    """Every one is a project, a sha256 and a reason, in order."""
    with pytest.raises(LockError) as caught:
        waivers(value, "exceptions")
    assert str(caught.value).startswith(f"exceptions{message}")


def test_a_lock_keeps_them_whatever_the_reason_says() -> None:
    """Quotes and dots of a reason are no other TOML than a lock's."""
    lock = locks.make(exceptions=(WAIVER,), facts=Summary(glibc="2.17", numpy_1=("torch",), architectures=("sm_50",)))
    assert Lock.from_toml(lock.to_toml(), "x") == lock


def test_they_are_part_of_a_locks_digest() -> None:
    """A fact or a reason that is edited is found."""
    text = locks.make(exceptions=(WAIVER,)).to_toml().decode()
    for old, new in (('glibc = "2.17"', 'glibc = "2.18"'), ("tested", "tasted")):
        assert old in text
        assert "tool.torchlock.digest: edited by hand" in locks.refused(text.replace(old, new))


def test_they_are_about_the_packages_of_the_lock() -> None:
    """Facts of a package, or an exception for a file, that the lock does not have is refused when it is written."""
    with pytest.raises(LockError, match=r"tool\.torchlock\.facts\.numpy-1: pandas is not in this lock; expected"):
        locks.make(facts=Summary(numpy_1=("pandas",))).to_toml()
    other = Waiver(project="numpy", sha256=Digest.of(b"other"), reason="why")
    with pytest.raises(LockError, match=r"exceptions\[0\]: numpy with sha256:[0-9a-f]{64} is not in this lock"):
        locks.make(exceptions=(other,)).to_toml()
