"""Layers that are known: what was learnt by writing them once, found again by what they are made from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchlock import files
from torchlock.digest import Digest
from torchlock.layers.layer import Blob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "layers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A layer: its blob, and the licence of each project in it."""

    blob: Blob
    licences: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(kw_only=True, slots=True)
class Knowledge:
    """The known layers by their keys: those that are given, and those that are kept in a folder.

    What is kept is only a memory of this machine's own work: an entry that is damaged is none. `blank` knows nothing,
    and learns all the same.
    """

    given: Mapping[Digest, Known] = field(default_factory=dict)
    folder: Path | None = None
    blank: bool = False

    def get(self, key: Digest) -> Known | None:
        """Return what is known of a layer."""
        found = None if self.blank else self.given.get(key)
        if found is not None or self.folder is None or self.blank:
            return found
        try:
            return _read((self.folder / f"{key.hex}.json").read_bytes(), key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def learn(self, key: Digest, known: Known) -> None:
        """Keep what is known of a layer."""
        if self.folder is not None:
            files.write_atomic(self.folder / f"{key.hex}.json", _written(key, known))


def _written(key: Digest, known: Known) -> bytes:
    value: dict[str, Any] = {
        "key": str(key),
        "digest": str(known.blob.digest),
        "size": known.blob.size,
        "diff_id": str(known.blob.diff_id),
        "licences": dict(known.licences),
    }
    return json.dumps({**value, "check": str(Digest.of_json(value))}, sort_keys=True).encode() + b"\n"


def _read(data: bytes, key: Digest) -> Known | None:
    value = json.loads(data)
    check = value.pop("check")
    if check != str(Digest.of_json(value)) or value["key"] != str(key):
        return None
    blob = Blob(digest=Digest.parse(value["digest"]), size=int(value["size"]), diff_id=Digest.parse(value["diff_id"]))
    return Known(blob=blob, licences=dict(value["licences"]))
