"""The YAML that conda-lock writes, as plain values: one document without aliases, tags or keys that stand twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from torchlock.errors import CondaError
from torchlock.profiles.document import show

SIZE, DEPTH = 16 << 20, 8

# The parser of libyaml, where PyYAML was built with it, reads the same language twenty times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.resolver.Resolver()
_BOOL = {"true": True, "false": False}


@dataclass(kw_only=True, slots=True)
class _Open:
    """A list or mapping that is still being read; `key` is the key whose value comes next."""

    value: list[Any] | dict[str, Any]
    key: str | None = None


@dataclass(kw_only=True, slots=True)
class _Reader:
    """Take YAML events and build values from them, without recursion."""

    where: str
    root: Any = None
    stack: list[_Open] = field(default_factory=list)

    def take(self, event: yaml.Event) -> None:
        """Take one event, or refuse it."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self.error(line, "found a second document", "one document")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise self.error(line, f"found the anchor or alias {show(str(event.anchor))}", "the value itself")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            raise self.error(line, f"found the tag {show(event.tag)}", "a value without a tag")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()

    def error(self, line: int, found: str, expected: str) -> CondaError:
        """Return an error that names a line."""
        return CondaError(f"{self.where}: line {line}", found, expected)

    def _open(self, value: list[Any] | dict[str, Any], line: int) -> None:
        if len(self.stack) == DEPTH:
            raise self.error(line, f"more than {DEPTH} levels deep", "a file that conda-lock wrote")
        self._add(value, line)
        self.stack.append(_Open(value=value))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            if event.value in top.value:
                raise self.error(line, f"found the key {show(event.value)} twice", "each key once")
            top.key = event.value
            return
        value = _plain(event.value) if event.implicit[0] else event.value
        if value is None:
            raise self.error(line, f"found {show(event.value) or 'nothing'}, which YAML does not read as text", "text")
        self._add(value, line)

    def _add(self, value: Any, line: int) -> None:
        if not self.stack:
            self.root = value
            return
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is None:
            raise self.error(line, "found a list or mapping as a key", "a key that is text")
        else:
            top.value[top.key], top.key = value, None


def _plain(text: str) -> str | int | bool | None:
    """Return what conda-lock's own reader takes a plain scalar for; None for what it never writes there."""
    if text in _BOOL:
        return _BOOL[text]
    name = str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
    if name.endswith(":str"):
        return text
    return int(text) if name.endswith(":int") and text.isdecimal() and len(text) < 10 else None


def load(data: bytes, where: str) -> Any:
    """Return the value that a file of conda-lock holds; raise CondaError and nothing else."""
    if len(data) > SIZE:
        raise CondaError(where, f"larger than {SIZE >> 20} MiB", "a file that conda-lock wrote")
    reader = _Reader(where=where)
    try:
        text = data.decode()
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except UnicodeDecodeError as error:
        raise CondaError(where, f"byte {error.start} is not UTF-8", "text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}: line {mark.line + 1}" if mark else where
        raise CondaError(place, f"not YAML: {show(error.problem or error.context or '')}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise CondaError(where, f"not YAML: {show(str(error))}") from None
    return reader.root
