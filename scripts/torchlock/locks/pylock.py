"""The text of a lock file, read strictly: plain TOML, PEP 751, and no key that torchlock does not write."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from packaging.pylock import Pylock, PylockValidationError

from torchlock.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

try:
    _toml: Any = import_module("tomllib")
except ModuleNotFoundError:  # Python 3.10
    _toml = import_module("tomli")

SCHEMA = 2
WHEELS = "wheels"
LIMIT = 4 << 20
# A real line is a file name and little more; the parser takes quadratic time for a long dotted key.
LINE_LIMIT = 1000
DOTS_LIMIT = 2

_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})( .*)?$", re.MULTILINE)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_TOP = ("lock-version", "environments", "requires-python", "created-by", "packages", "tool")
_PACKAGE = ("name", "version", "wheels", "tool")
_WHEEL = ("upload-time", "path", "size", "hashes")
_OWN: Mapping[str, type] = {"schema": int, "resolvers": list, "facts": dict, "exceptions": list} | dict.fromkeys(
    ("profile", "platform", "python", "profile-digest", "snapshot-digest", "digest"), str
)


def document(data: bytes, where: str) -> Mapping[str, Any]:
    """Return a lock file's document, every key of it known and of its type; raise LockError with the place."""
    value = _parsed(_text(data, where), where)
    _schema(value, where)
    try:
        Pylock.from_dict(value)
    except PylockValidationError as error:
        refuse(f"{where}: {error.context}" if error.context else where, error.message)
    place = f"{where}: "
    _keys(value, _TOP, place)
    _own(value, _OWN, place)
    for number, package in enumerate(value["packages"]):
        place = f"{where}: packages[{number}]."
        _keys(package, _PACKAGE, place)
        _own(package, {"index": str}, place)
        if "version" not in package:
            refuse(f"{place}version", "is missing")
        if len(package["wheels"]) != 1:
            refuse(f"{place}wheels", f"{len(package['wheels'])} wheels", "exactly one")
        _wheel(package["wheels"][0], f"{place}wheels[0].")
    return value


def refuse(where: str, found: str, expected: str = "", remedy: str = "make lock") -> NoReturn:
    """Raise the LockError whose remedy, unless another is named, is to write the locks anew."""
    raise LockError(where, found, expected, remedy)


def _text(data: bytes, where: str) -> str:
    undo = f"git checkout -- {where}"
    if len(data) > LIMIT:
        refuse(where, f"has more than {LIMIT} bytes", "a lock of some thousand bytes", undo)
    if data.startswith(_MARKS):
        refuse(where, "begins with a byte-order mark", "plain UTF-8", undo)
    if b"\r" in data:
        setting = "keep `lockfiles/** -text` in .gitattributes (or git config core.autocrlf false), then"
        refuse(where, "has CRLF line ends", "LF alone", f"{setting} {undo}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        refuse(where, f"byte {error.start} is not UTF-8", "plain UTF-8", undo)
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        refuse(f"{where}: line {line}", f"a merge conflict is left: {conflict[0][:40]}")
    return text


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LINE_LIMIT or (not line.startswith("#") and _strange(line)):
            refuse(f"{where}: line {number}", "is not a line that torchlock writes")
    try:
        value: Mapping[str, Any] = _toml.loads(text)
    except RecursionError:
        refuse(where, "is nested too deep")
    except ValueError as error:
        refuse(where, f"is not TOML: {error}")
    return value


def _strange(line: str) -> bool:
    """Tell whether a line has quotes of another kind than a lock's, or too many dots outside of them."""
    outside = _STRING.sub("", line)
    return "'" in outside or '"""' in line or outside.count(".") > DOTS_LIMIT


def _schema(value: Any, where: str) -> None:
    for key in ("tool", "torchlock", "schema"):
        value = value.get(key) if isinstance(value, dict) else None
    if type(value) is int and value != SCHEMA:
        newer = " was written by a newer torchlock" if value > SCHEMA else ""
        refuse(
            f"{where}: tool.torchlock.schema",
            f"schema {value}{newer}",
            str(SCHEMA),
            "git pull" if newer else "make lock",
        )


def _keys(table: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    for key in sorted(table.keys() - set(known)):
        near = get_close_matches(key, list(known), 1)
        expected = repr(near[0]) if near else f"one of {', '.join(known)}"
        refuse(f"{place}{ascii(key)[1:-1][:100]}", "torchlock writes no such key", expected)


def _own(table: Mapping[str, Any], types: Mapping[str, type], place: str) -> None:
    """Look at each key of a table's `tool.torchlock` and at its type."""
    tool = table.get("tool", {})
    _keys(tool, ("torchlock",), f"{place}tool.")
    own, place = tool.get("torchlock"), f"{place}tool.torchlock"
    if not isinstance(own, dict):
        refuse(place, "is missing" if own is None else "is not a table", "a table")
    _keys(own, types, f"{place}.")
    for key, kind in types.items():
        if key not in own:
            refuse(f"{place}.{key}", "is missing")
        items = own[key] if key == "resolvers" else ()
        if type(own[key]) is not kind or not all(type(item) is str for item in items):
            expected = "strings" if key == "resolvers" else f"type {kind.__name__}"
            refuse(f"{place}.{key}", repr(own[key])[:100], expected)


def _wheel(wheel: Mapping[str, Any], place: str) -> None:
    _keys(wheel, _WHEEL, place)
    path, hashes = wheel["path"], wheel["hashes"]
    folder, _, filename = path.partition("/")
    if folder != WHEELS or not filename or "/" in filename or "\\" in filename:
        refuse(f"{place}path", repr(path), f"{WHEELS}/<file name>")
    if set(hashes) != {"sha256"}:
        refuse(f"{place}hashes", ", ".join(sorted(hashes)), "sha256 and no other")
