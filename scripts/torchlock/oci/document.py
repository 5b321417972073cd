"""Strict JSON with places: objects without a key twice, and values of the type that a specification names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from torchlock.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The bytes of a manifest, an index or a config at most; registries need take no larger manifest (distribution spec).
LIMIT = 4 << 20
DEPTH = 64

_WANTED = "a JSON object"
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "a truth value"}


def canonical(value: Any) -> bytes:
    """Return a JSON value's only form here: sorted keys, no spaces, UTF-8, no newline."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def refuse(where: str, found: str, expected: str = "", remedy: str = "") -> NoReturn:
    """Raise the ImageError of a document that is not what it must be."""
    raise ImageError(where, found, expected, remedy)


def parsed(data: bytes, where: str) -> Mapping[str, Any]:
    """Return a document that is one JSON object; raise ImageError for anything else."""
    if len(data) > LIMIT:
        refuse(where, f"has {len(data)} bytes", f"at most {LIMIT}")
    try:
        value = _loaded(data.decode(), where)
        _shallow(value, where)
        canonical(value)
    except UnicodeDecodeError as error:
        refuse(where, f"byte {error.start} is not UTF-8", _WANTED)
    except json.JSONDecodeError as error:
        refuse(where, f"is not JSON (line {error.lineno}, column {error.colno})", _WANTED)
    except (RecursionError, ValueError):  # too deep; half a character; more digits than Python takes; an endless number
        refuse(where, "is not JSON that can be read", _WANTED)
    if not isinstance(value, dict):
        refuse(where, f"is {kind(value)}", _WANTED)
    return value


def _loaded(text: str, where: str) -> Any:
    """Read JSON without a key twice and without the numbers that are none."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                refuse(where, f"the key {shown(key)} twice in one object", "once")
            found[key] = value
        return found

    def constant(name: str) -> NoReturn:
        refuse(where, f"{name}, which is not JSON", _WANTED)

    return json.loads(text, object_pairs_hook=unique, parse_constant=constant)


def kind(value: Any) -> str:
    """Name a JSON value's type."""
    return _KINDS.get(type(value), "nothing" if value is None else "a number")


def shown(value: Any) -> str:
    """Return a value fit for a message: printable, not long, a text in quotes."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return ascii(text) if isinstance(value, str) else text


def take(value: Mapping[str, Any], key: str, expected: type, place: str, default: Any = ...) -> Any:
    """Return a key's value where it has the type; `place` ends in what stands before the key, default None is null."""
    found = value.get(key, ...)
    if found is ... or (found is None and default is not ...):
        if default is ...:
            refuse(f"{place}{key}", "is missing", _KINDS[expected])
        return default
    if type(found) is not expected:
        refuse(f"{place}{key}", kind(found), _KINDS[expected])
    return found


def objects(value: Mapping[str, Any], key: str, place: str, default: Any = ...) -> list[Mapping[str, Any]]:
    """Return a key's list of objects."""
    found: list[Any] = take(value, key, list, place, default)
    for number, item in enumerate(found):
        if type(item) is not dict:
            refuse(f"{place}{key}[{number}]", kind(item), _KINDS[dict])
    return found


def texts(value: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    """Return a key's mapping of texts to texts; empty where it is absent or null."""
    found: dict[str, Any] = take(value, key, dict, place, {})
    for name, text in found.items():
        if type(text) is not str:
            refuse(f"{place}{key}.{shown(name)}", kind(text), _KINDS[str])
    return dict(found)


def _shallow(value: Any, where: str) -> None:
    """Refuse what is nested deeper than anything real."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    refuse(where, f"is nested deeper than {DEPTH} levels", _WANTED)
