"""Strict JSON: what is not one plain object is refused with its place."""

from __future__ import annotations

import pytest

from torchlock.errors import ImageError
from torchlock.oci.document import LIMIT, canonical, objects, parsed, take, texts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "a.json: is a list; expected a JSON object"),
        (b"{", "a.json: is not JSON (line 1, column 2); expected a JSON object"),
        (b"\xff{}", "a.json: byte 0 is not UTF-8; expected a JSON object"),
        (b'{"a":1,"a":1}', "a.json: the key 'a' twice in one object; expected once"),
        (b'{"a":NaN}', "a.json: NaN, which is not JSON; expected a JSON object"),
        (b'{"a":1e999}', "a.json: is not JSON that can be read; expected a JSON object"),
        (b'{"a":"\\ud800"}', "a.json: is not JSON that can be read; expected a JSON object"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "a.json: is nested deeper than 64 levels; expected a JSON object"),
        (
            b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            "a.json: is not JSON that can be read; expected a JSON object",
        ),
        (b" " * (LIMIT + 1), f"a.json: has {LIMIT + 1} bytes; expected at most {LIMIT}"),
    ],
)
def test_what_is_not_one_plain_object_is_refused(data: bytes, message: str) -> None:
    """Each with the file and what is wrong in it."""
    with pytest.raises(ImageError) as caught:
        parsed(data, "a.json")
    assert str(caught.value) == message


def test_a_value_of_another_type_is_refused_with_its_place() -> None:
    """A truth value is no number, nothing is no list, and each item is looked at."""
    value = parsed(b'{"size":true,"list":null,"items":[{},1],"map":{"a b":1}}', "x")
    for job, message in (
        (lambda: take(value, "size", int, "x: "), "x: size: a truth value; expected a whole number"),
        (lambda: take(value, "list", list, "x: "), "x: list: nothing; expected a list"),
        (lambda: take(value, "gone", str, "x: "), "x: gone: is missing; expected a text"),
        (lambda: objects(value, "items", "x: "), "x: items[1]: a whole number; expected an object"),
        (lambda: texts(value, "map", "x: "), "x: map.'a b': a whole number; expected a text"),
    ):
        with pytest.raises(ImageError) as caught:
            job()
        assert str(caught.value) == message


def test_a_default_stands_for_what_is_absent_or_null() -> None:
    """Where a key may be left out, null says the same."""
    value = parsed(b'{"b":null}', "x")
    assert take(value, "a", str, "x: ", "") == ""
    assert take(value, "b", list, "x: ", []) == []
    assert texts(value, "c", "x: ") == {}


def test_the_canonical_form_is_sorted_and_dense() -> None:
    """One value has one form: sorted keys, no spaces, UTF-8, no newline."""
    assert canonical({"b": [1, {"z": None, "a": "ü"}], "a": True}) == '{"a":true,"b":[1,{"a":"ü","z":null}]}'.encode()
