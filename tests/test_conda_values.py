"""The YAML of conda-lock: read as conda-lock reads it, where it writes it, and refused elsewhere."""

from __future__ import annotations

import pytest
import yaml

from torchlock.conda.values import load
from torchlock.errors import CondaError


def test_read() -> None:
    """What PyYAML dumps is read back, numbers and truth values as such and quoted ones as text."""
    value = {
        "version": 1,
        "a": ["1.10", "no", "x: y", "é" * 200],
        "b": {"c": False, "d": "1e5", "e": ""},
        "f": [],
        "g": {},
    }
    assert load(yaml.dump(value, sort_keys=False).encode(), "x.yml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x\n", "x.yml: line 1: found the anchor or alias x; expected the value itself"),
        ("a: !!python/object:os.system 1\n", "x.yml: line 1: found the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: 1\nb: 2\na: 3\n", "x.yml: line 3: found the key a twice; expected each key once"),
        ("a: 1\n---\nb: 2\n", "x.yml: line 2: found a second document; expected one document"),
        ("a: 1.10\n", "x.yml: line 1: found 1.10, which YAML does not read as text; expected text"),
        ("a:\n", "x.yml: line 1: found nothing, which YAML does not read as text; expected text"),
        ("a: yes\n", "x.yml: line 1: found yes, which YAML does not read as text; expected text"),
        ("? [a]\n: 1\n", "x.yml: line 1: found a list or mapping as a key; expected a key that is text"),
        ("[" * 9 + "]" * 9, "x.yml: line 1: more than 8 levels deep; expected a file that conda-lock wrote"),
        ("[" * 3000, "x.yml: line 1: more than 8 levels deep; expected a file that conda-lock wrote"),
        ("a: [1\n", "x.yml: line 2: not YAML: did not find expected ',' or ']'"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """What conda-lock never writes is refused with its line."""
    with pytest.raises(CondaError) as caught:
        load(text.encode(), "x.yml")
    assert str(caught.value).startswith(message)


def test_not_text() -> None:
    """Bytes that are no UTF-8, and files that are too large, are refused."""
    with pytest.raises(CondaError, match=r"^x\.yml: byte 3 is not UTF-8; expected text in UTF-8$"):
        load(b"a: \xff", "x.yml")
    with pytest.raises(CondaError, match=r"^x\.yml: larger than 16 MiB; "):
        load(b"a" * ((16 << 20) + 1), "x.yml")
