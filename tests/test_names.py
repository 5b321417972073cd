"""Names inside a wheel: which are refused as paths, and which cannot stand together."""

from __future__ import annotations

import pytest

from torchlock.wheels.names import conflicts, fold, unsafe


@pytest.mark.parametrize(
    ("name", "issue"),
    [
        ("a/b.py", ""),
        ("a/", ""),
        ("a..b/..c", ""),
        ("ä/ß.py", ""),
        ("a\nb", "has a control character in its name"),
        ("a\0b", "has a control character in its name"),
        ("a\x7f", "has a control character in its name"),
        ("a\x85", "has a control character in its name"),
        ("a\\b", "has a backslash in its name"),
        ("/etc/passwd", "is an absolute name"),
        ("C:evil", "is an absolute name"),
        ("../evil.py", "leaves its folder, or has an empty part"),
        ("a/../../evil.py", "leaves its folder, or has an empty part"),
        ("a/./b", "leaves its folder, or has an empty part"),
        ("a//b", "leaves its folder, or has an empty part"),
        ("..", "leaves its folder, or has an empty part"),
        ("", "leaves its folder, or has an empty part"),
    ],
)
def test_unsafe(name: str, issue: str) -> None:
    """A name that is no plain relative path is refused with the reason."""
    assert unsafe(name) == issue


def test_conflicts() -> None:
    """Names that one file system could not keep apart are told, each with the other."""
    names = ["a.py", "a.py", "A.py", "b", "b/c/d", "é", "e\u0301", "f", "F/g"]
    assert list(conflicts(names)) == [
        "'a.py' comes twice",
        "'A.py' and 'a.py' differ only by case",
        "'e\u0301' and 'é' differ only by case",
        "'b/c/d' lies beneath the file 'b'",
        "'F/g' lies beneath the file 'f'",
    ]


def test_folder_beside_its_files() -> None:
    """A folder's own entry does not conflict with what is in it."""
    assert list(conflicts(["a/", "a/b", "a/c/", "a/c/d"])) == []


def test_fold() -> None:
    """Names are folded by case in full, not only where letters map one to one."""
    assert fold("STRASSE") == fold("straße")
