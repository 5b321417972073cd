"""Names of files inside a wheel: which may be used as paths under a folder, on any file system."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DRIVE = re.compile(r"[A-Za-z]:")


def conflicts(names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a set of member names."""
    seen: dict[str, str] = {}
    for name in names:
        if issue := unsafe(name):
            yield f"{name!r} {issue}"
        folded = fold(name.rstrip("/"))
        if folded in seen:
            other = seen[folded]
            yield f"{name!r} comes twice" if other == name else f"{name!r} and {other!r} differ only by case"
        seen.setdefault(folded, name)
    files = {folded for folded, name in seen.items() if not name.endswith("/")}
    for folded, name in seen.items():
        for above in _above(folded):
            if above in files:
                yield f"{name!r} lies beneath the file {seen[above]!r}"


def fold(name: str) -> str:
    """Return what a file system that ignores case and Unicode composition makes of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _above(name: str) -> Iterator[str]:
    at = name.find("/")
    while at > 0:
        yield name[:at]
        at = name.find("/", at + 1)


def unsafe(name: str) -> str:
    """Say why a member's name must not be used as a path under a folder; an empty text where it may."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "has a control character in its name"
    if "\\" in name:
        return "has a backslash in its name"
    if name.startswith("/") or _DRIVE.match(name):
        return "is an absolute name"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "leaves its folder, or has an empty part"
    return ""
