"""What differs between two images: member by member of their configs, layer by layer, and file by file."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from torchlock.layers import reading
from torchlock.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torchlock.images.image import Image
    from torchlock.oci.blobs import Blobs
    from torchlock.oci.descriptor import Descriptor

NAME = "dev.torchlock.layer"
# So many files are named for each layer, the others counted.
_NAMED = 20
_LONGEST = 60


def between(old: Image, new: Image, blobs: Blobs | None = None) -> list[str]:
    """Return lines that say how the new image differs; files of a layer only where both its blobs are here."""
    manifests = [Manifest.from_json(item.manifest, f"the manifest {item.digest}") for item in (old, new)]
    found = list(_layers(manifests[0].layers, manifests[1].layers, blobs))
    found += [f"config {line}" for line in _values(json.loads(old.config), json.loads(new.config))]
    mine = dict(manifests[0].annotations), dict(manifests[1].annotations)
    return found + [f"manifest annotations{line}" for line in _values(*mine)]


def summary(lines: Sequence[str]) -> str:
    """Return the first of some lines, and how many more there are."""
    return (lines[0] if lines else "nothing that can be named") + (f" (and {len(lines) - 1} more)" if lines[1:] else "")


def _layers(old: Sequence[Descriptor], new: Sequence[Descriptor], blobs: Blobs | None) -> Iterator[str]:
    before, after = _named(old), _named(new)
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield f"layer {name} is gone ({before[name].size} bytes)"
        elif name not in before:
            yield f"layer {name} is new ({after[name].size} bytes)"
        elif before[name] != after[name]:
            yield from _layer(name, before[name], after[name], blobs)
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        yield "the layers are in another order"


def _named(layers: Sequence[Descriptor]) -> dict[str, Descriptor]:
    """Return layers by the names that they bear, or else by their numbers."""
    found: dict[str, Descriptor] = {}
    for number, item in enumerate(layers):
        name = item.annotations.get(NAME, "")
        found[name if name and name not in found else f"{name} {number}".strip()] = item
    return found


def _layer(name: str, old: Descriptor, new: Descriptor, blobs: Blobs | None) -> Iterator[str]:
    if (old.digest, old.size, old.media_type) == (new.digest, new.size, new.media_type):
        yield from (f"layer {name}{line}" for line in _values(old.to_dict(), new.to_dict()))
        return
    yield f"layer {name}: {old.digest} ({old.size} bytes) -> {new.digest} ({new.size} bytes)"
    paths = [blobs.get(item) if blobs else None for item in (old, new)]
    if paths[0] is None or paths[1] is None:
        yield f"layer {name}: files not compared, since only one of the two is here"
        return
    lines = list(files(paths[0], old.media_type, paths[1], new.media_type))
    for line in lines[:_NAMED]:
        yield f"layer {name}: {line}"
    if len(lines) > _NAMED:
        yield f"layer {name}: and {len(lines) - _NAMED} files more"
    if not lines:
        yield f"layer {name}: the same files, packed otherwise"


def files(old: Path, old_type: str, new: Path, new_type: str) -> Iterator[str]:
    """Yield how the files of two layers differ, in the order of their paths."""
    before = {item.path: item for item in reading.entries(old, old_type)}
    after = {item.path: item for item in reading.entries(new, new_type)}
    for path in sorted({*before, *after}):
        one, other = before.get(path), after.get(path)
        if one is None or other is None:
            yield f"{path} is {'new' if one is None else 'gone'}"
            continue
        for field in ("kind", "mode", "uid", "gid", "mtime", "target", "size", "sha256"):
            was, now = getattr(one, field), getattr(other, field)
            if was != now:
                shown = (f"{was:o}", f"{now:o}") if field == "mode" else (was, now)
                yield f"{path}: {field} {shown[0]} -> {shown[1]}"
    if list(before) != list(after) and sorted(before) == sorted(after):
        yield "its files are in another order"


def _values(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yield where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _values(old.get(key), new.get(key), f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for number, (one, other) in enumerate(zip_longest(old, new)):
            yield from _values(one, other, f"{place}[{number}]")
    elif old != new:
        yield f"{place}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
