"""The summary of facts in a lock: what the bytes of its wheels ask of NumPy, the GPU, its driver and the C library."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from torchlock.digest import Digest
from torchlock.locks.pylock import refuse
from torchlock.profiles.line import Waiver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RELEASE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_ARCHITECTURE = re.compile(r"[a-z]+_[0-9]{2,3}[a-z]?")
_REASON = 300
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The facts of a lock's wheels together; `unread` names the projects whose facts are not known.

    `numpy_1` are projects with a module that was built for NumPy 1.x alone, `numpy_2` those with one that was built
    with the headers of NumPy 2. `architectures`, `cuda` and `cudnn` are those of torch; `glibc` and `libstdcxx` the
    newest that any wheel needs. `driver` is the oldest NVIDIA driver for Linux that runs this CUDA at all,
    `driver_release` the oldest that was made for it.
    """

    numpy_1: tuple[str, ...] = ()
    numpy_2: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None
    driver_release: str | None = None
    glibc: str | None = None
    libstdcxx: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def projects(self) -> dict[str, tuple[str, ...]]:
        """Return the lists of projects by their keys."""
        return {"numpy-1": self.numpy_1, "numpy-2": self.numpy_2, "unread": self.unread}

    def to_dict(self) -> dict[str, Any]:
        """Return the table `tool.torchlock.facts`, without what is not there."""
        values = {key: getattr(self, name) for key, name in _NAMES.items()}
        return {key: list(item) if isinstance(item, tuple) else item for key, item in values.items() if item}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], place: str) -> Summary:
        """Read the table strictly; raise LockError with the place."""
        for key, item in value.items():
            if key not in _NAMES:
                refuse(
                    f"{place}.{ascii(key)[1:-1][:100]}", "torchlock writes no such key", f"one of {', '.join(_NAMES)}"
                )
            if key not in _LISTS:
                _fits(f"{place}.{key}", item, _RELEASE.fullmatch, "a release such as 12.1")
                continue
            if not isinstance(item, list) or not item:
                refuse(f"{place}.{key}", repr(item)[:100], "a list of one or more")
            what = ("an architecture such as sm_80", _ARCHITECTURE.fullmatch) if key == "architectures" else _PROJECT
            for number, text in enumerate(item):
                _fits(f"{place}.{key}[{number}]", text, what[1], what[0])
            if item != _sorted(key, item):
                refuse(f"{place}.{key}", repr(item)[:100], "each once, sorted")
        values: dict[str, Any] = {_NAMES[key]: tuple(item) if key in _LISTS else item for key, item in value.items()}
        return cls(**values)


_NAMES = {item.name.replace("_", "-"): item.name for item in fields(Summary)}
_LISTS = frozenset(("numpy-1", "numpy-2", "architectures", "unread"))
_PROJECT = ("the name of a project", lambda text: canonicalize_name(text) == text)


def ordered(architectures: Iterable[str]) -> tuple[str, ...]:
    """Return architectures as a summary lists them: `sm_50` before `sm_100`, and each once."""
    return tuple(sorted(set(architectures), key=lambda name: (name.partition("_")[0], _number(name), name)))


def waivers(value: Any, place: str) -> tuple[Waiver, ...]:
    """Read the list `tool.torchlock.exceptions` strictly; raise LockError with the place."""
    keys = ("project", "sha256", "reason")
    found = []
    for number, item in enumerate(value):
        here = f"{place}[{number}]"
        if not isinstance(item, dict) or sorted(item) != sorted(keys) or not all(type(v) is str for v in item.values()):
            refuse(here, repr(item)[:100], f"a table of {', '.join(keys)}")
        _fits(f"{here}.project", item["project"], _PROJECT[1], _PROJECT[0])
        if not item["reason"].isprintable() or not 0 < len(item["reason"]) <= _REASON:
            refuse(f"{here}.reason", repr(item["reason"])[:100], f"one line of 1 to {_REASON} characters")
        try:
            sha256 = Digest(item["sha256"])
        except ValueError as error:
            refuse(f"{here}.sha256", str(error)[:120], "64 lower-case hexadecimal digits")
        found.append(Waiver(project=item["project"], sha256=sha256, reason=item["reason"]))
    if found != sorted(set(found)):
        refuse(place, "not in order, or one twice", "each once, sorted")
    return tuple(found)


def _fits(place: str, value: object, test: Any, expected: str) -> None:
    if not isinstance(value, str) or not test(value):
        refuse(place, repr(value)[:100], expected)


def _sorted(key: str, items: list[str]) -> list[str]:
    return list(ordered(items)) if key == "architectures" else sorted(set(items))


def _number(name: str) -> int:
    match = _NUMBER.search(name)
    return int(match[0]) if match else 0
