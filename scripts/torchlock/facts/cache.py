"""Facts that were read before, one file for each artifact, by its sha256: a part of the snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlock.errors import SnapshotError
from torchlock.facts.facts import Facts
from torchlock.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from torchlock.digest import Digest

# Raised when other facts are read from the same bytes: what an older torchlock wrote is then read anew.
SCHEMA = 1
_LIMIT = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """The facts under a folder (`lockfiles/index/facts`), written whole or not at all."""

    root: Path

    def path(self, digest: Digest) -> Path:
        """Return where the facts of an artifact lie."""
        return self.root / f"{digest.hex}.json"

    def get(self, digest: Digest) -> Facts | None:
        """Return the facts of an artifact; None where they are not here, SnapshotError where they cannot be read."""
        path = self.path(digest)
        where = f"{path.parent.name}/{path.name}"
        try:
            if path.stat().st_size > _LIMIT:
                raise SnapshotError(where, f"more than {_LIMIT} bytes", "facts", f"rm {path.name}, and again")
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise SnapshotError(where, f"not JSON ({error})", "facts", f"rm {path.name}, and again") from error
        if isinstance(value, dict) and isinstance(value.get("schema"), int) and value["schema"] < SCHEMA:
            return None
        try:
            if not isinstance(value, dict) or value.keys() != {"facts", "schema"} or value["schema"] != SCHEMA:
                raise ValueError(f"not an object of `schema` {SCHEMA} and `facts`")
            return Facts.from_dict(value["facts"])
        except ValueError as error:
            raise SnapshotError(where, str(error), "facts", f"rm {path.name}, and again") from error

    def put(self, digest: Digest, facts: Facts) -> bool:
        """Keep the facts of an artifact; return False where they are here already."""
        value = {"facts": facts.to_dict(), "schema": SCHEMA}
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        return write_atomic(self.path(digest), f"{text}\n".encode())
