"""Strict YAML with places: one document of texts, lists and mappings, nothing that runs, refers or guesses.

UTF-8, with or without a byte-order mark, lines ending in LF or CRLF, at most 1 MiB, 32 levels and 10,000 values.
Refused: anchors, aliases, tags, directives, a second document, a key twice, and every plain scalar that YAML 1.1 or 1.2
reads as something else than text (`3.10`, `no`, `012`, `2024-01-01`, `~`).
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import yaml

from torchlock.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

SIZE, DEPTH, VALUES, TEXT = 1 << 20, 32, 10_000, 1000

Value: TypeAlias = "str | tuple[Node, ...] | Mapping[str, Node]"

_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})(?=[ \r\n]|\Z)", re.MULTILINE)
_CREDENTIALS = re.compile(r"//\S*@")
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
# Numbers of YAML 1.2 and truth values of YAML 1.1 that PyYAML takes for text, though other readers do not.
_NUMBER = re.compile(r"0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SHORT_BOOL = {"y": "true", "Y": "true", "n": "false", "N": "false"}
_NOT_TEXT = {"null": "nothing", "merge": "a merge key", "value": "a default value"}
_KINDS = {"int": "number", "float": "number", "bool": "truth value", "timestamp": "date"}


def show(text: str, limit: int = 80) -> str:
    """Return a text fit for a message: one line, printable, not long, and without credentials."""
    text = _CREDENTIALS.sub("//***@", text)
    if len(text) > limit:
        text = f"{text[:limit]}…"
    return text if text.isprintable() else ascii(text)[1:-1]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like this one, or nothing."""
    return next(iter(difflib.get_close_matches(word[:200], list(known), n=1)), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A value and its place: `path` is such as `variants.cuda.platforms[1]`, `line` counts from 1."""

    source: str
    line: int
    path: str
    value: Value

    @property
    def where(self) -> str:
        """Return the place as messages give it: file, line, path."""
        return f"{self.source}:{self.line}: {self.path}" if self.path else self.source

    @property
    def kind(self) -> str:
        """Return what this is, in a message's words."""
        return {str: "text", tuple: "a list"}.get(type(self.value), "a mapping")

    def error(self, found: str, expected: str = "", remedy: str = "") -> ProfileError:
        """Return an error that names this place."""
        return ProfileError(self.where, found, expected, remedy)

    def text(self) -> str:
        """Return a text that is not empty, and no longer than 1,000 characters."""
        if not isinstance(self.value, str):
            raise self.error(f"found {self.kind}", "text")
        if not 0 < len(self.value) <= TEXT:
            raise self.error(f"found {len(self.value):,} characters of text", f"1 to {TEXT:,}")
        return self.value

    def items(self) -> tuple[Node, ...]:
        """Return the members of a list."""
        if not isinstance(self.value, tuple):
            raise self.error(f"found {self.kind}", "a list")
        return self.value

    def table(self, known: Collection[str] | None = None, required: Collection[str] = ()) -> Mapping[str, Node]:
        """Return the members of a mapping: only the known keys (any, where none are given), and all required ones."""
        if isinstance(self.value, (str, tuple)):
            raise self.error(f"found {self.kind}", "a mapping")
        if known is not None:
            for key, node in self.value.items():
                if key not in known:
                    raise node.error(f"unknown key {show(key)!r}", f"one of {', '.join(known)}", nearest(key, known))
        for key in required:
            if key not in self.value:
                raise self.error(f"the key {key!r} is missing", f"all of {', '.join(required)}")
        return self.value

    def choice(self, known: Iterable[str], what: str) -> str:
        """Return a text that is one of the known ones; `what` names them."""
        text, words = self.text(), list(known)
        if text not in words:
            raise self.error(f"unknown {what} {show(text)!r}", f"one of {', '.join(words)}", nearest(text, words))
        return text


@dataclass(kw_only=True, slots=True)
class _Open:
    """A list or mapping that is still being read."""

    line: int
    path: str
    items: list[Node] | None = None
    members: dict[str, Node] = field(default_factory=dict)
    key: str | None = None
    key_line: int = 0


class _Builder:
    """Take YAML events and build nodes from them, without recursion."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.count = 0

    def take(self, event: yaml.Event) -> None:
        """Take one event, or refuse it."""
        self.count += 1
        line = event.start_mark.line + 1 if event.start_mark else 0
        if self.count > 2 * VALUES:
            raise self.error(line, f"more than {VALUES:,} values", "a short file")
        if isinstance(event, yaml.DocumentStartEvent):
            if self.root is not None:
                raise self.error(line, "found a second document", "one document a file")
            if event.version or event.tags:
                raise self.error(line, "found a % directive", "a file without directives")
        elif isinstance(event, yaml.AliasEvent):
            raise self.error(line, f"found the alias *{show(str(event.anchor))}", "the value itself")
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            self._refuse_extras(event, line)
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            else:
                self._open(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()

    def error(self, line: int, found: str, expected: str = "", remedy: str = "") -> ProfileError:
        """Return an error at the place that comes next."""
        path, line = self._place(line)
        where = f"{self.source}:{line}: {path}" if path else f"{self.source}:{line}"
        return ProfileError(where, found, expected, remedy)

    def _refuse_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.anchor is not None:
            raise self.error(line, f"found the anchor &{show(str(event.anchor))}", "a value without an anchor")
        if event.tag is not None:
            raise self.error(
                line, f"found the tag {show(event.tag.replace('tag:yaml.org,2002:', '!!'))}", "a value without a tag"
            )

    def _place(self, line: int) -> tuple[str, int]:
        """Return the path of the value that comes next, and its line: that of its key, where it has one."""
        if not self.stack:
            return "", line
        parent = self.stack[-1]
        if parent.items is not None:
            return f"{parent.path}[{len(parent.items)}]", line
        if parent.key is None:
            return parent.path, line
        key = parent.key if _SIMPLE_KEY.fullmatch(parent.key) else json.dumps(show(parent.key), ensure_ascii=False)
        return f"{parent.path}.{key}" if parent.path else key, parent.key_line

    def _at_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].items is None and self.stack[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        value = event.value
        if event.style is None:
            self._refuse_plain(value, line)
        if not value.replace("\n", "").isprintable():
            raise self.error(line, f"found '{show(value)}', which holds a control character", "printable text")
        if self._at_key():
            self._key(value, line)
        else:
            path, line = self._place(line)
            self._add(Node(source=self.source, line=line, path=path, value=value))

    def _refuse_plain(self, value: str, line: int) -> None:
        if (meaning := _meaning(value)) is None:
            return
        what = "a key that is text" if self._at_key() else "a string"
        if meaning == "nothing":
            found = f"found {value}, which YAML reads as nothing" if value else "found nothing"
            raise self.error(line, found, what, "write a value, or [] for an empty list")
        quoted = json.dumps(show(value, 40), ensure_ascii=False)
        raise self.error(line, f"found {show(value, 40)}, which YAML reads as {meaning}", what, f"quote it: {quoted}")

    def _key(self, key: str, line: int) -> None:
        parent = self.stack[-1]
        parent.key, parent.key_line = key, line
        if first := parent.members.get(key):
            raise self.error(line, f"found this key twice, first on line {first.line}", "each key once")

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if self._at_key():
            raise self.error(line, "found a list or mapping as a key", "a key that is text")
        if len(self.stack) == DEPTH:
            raise ProfileError(f"{self.source}:{line}", f"more than {DEPTH} levels deep", "a flat file")
        path, line = self._place(line)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        self.stack.append(_Open(line=line, path=path, items=[] if is_list else None))

    def _close(self) -> None:
        done = self.stack.pop()
        value: Value = done.members if done.items is None else tuple(done.items)
        self._add(Node(source=self.source, line=done.line, path=done.path, value=value))

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
        elif (parent := self.stack[-1]).items is not None:
            parent.items.append(node)
        else:
            parent.members[str(parent.key)] = node
            parent.key = None


def _meaning(value: str) -> str | None:
    """Return what YAML takes a plain scalar for, in words; None for text."""
    if value in _SHORT_BOOL:
        return f"the truth value {_SHORT_BOOL[value]}"
    tag = str(yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (True, False)))  # type: ignore[no-untyped-call]
    name = tag.rpartition(":")[2]
    if name == "str":
        return "a number" if _NUMBER.fullmatch(value) else None
    if name in _NOT_TEXT:
        return _NOT_TEXT[name]
    try:
        made = yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, value[:99]))
    except (ValueError, OverflowError):  # a date such as 2024-13-45
        return f"a {_KINDS[name]}"
    said = str(made).lower() if name == "bool" else str(made)
    return f"the {_KINDS[name]} {show(said, 40)}" if len(value) < 99 else f"a {_KINDS[name]}"


def _decode(data: bytes, source: str) -> str:
    if len(data) > SIZE:
        raise ProfileError(source, "larger than 1 MiB", "a short file")
    if (at := data.find(b"\0")) >= 0:
        raise ProfileError(f"{source}:{data.count(10, 0, at) + 1}", "found a NUL byte", "text in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(10, 0, error.start) + 1
        raise ProfileError(f"{source}:{line}", f"byte {error.start} is not UTF-8", "text in UTF-8") from None
    if mark := _CONFLICT.search(text):
        line = text.count("\n", 0, mark.start()) + 1
        found = f"found the merge-conflict marker {mark[1]}"
        raise ProfileError(f"{source}:{line}", found, "a file without conflicts", "resolve the conflict by hand")
    return text


def parse(data: bytes, source: str) -> Node:
    """Read one YAML document; `source` is the file's name in messages; raise ProfileError and nothing else."""
    text = _decode(data, source)
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"found the character U+{ord(text[error.position]):04X}"
        raise ProfileError(f"{source}:{line}", found, "printable text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ProfileError(where, f"not YAML: {show(error.problem or error.context or '')}") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # escapes such as "\UFFFFFFFF", a version of 5,000 digits
        raise ProfileError(source, "not YAML: a number in it is out of range") from None
    if builder.root is None:
        raise ProfileError(source, "an empty file", "a mapping")
    return builder.root


def read(path: Path, source: str) -> Node:
    """Read one YAML file, of which no more than the permitted size is taken into memory."""
    try:
        if not path.is_file():
            raise ProfileError(source, "no such file" if not path.exists() else "not a file", "a YAML file")
        with path.open("rb") as file:
            data = file.read(SIZE + 1)
    except OSError as error:
        raise ProfileError(source, f"cannot be read: {error.strerror}") from None
    return parse(data, source)
