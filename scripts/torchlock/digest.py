"""Digests as a parsed type: SHA-256 of bytes, of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """One SHA-256 digest; `hex` is 64 lower-case hexadecimal digits."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex):
            raise ValueError(f"not a sha256 of 64 lower-case hexadecimal digits: {self.hex!r}")

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<hex>`; raise ValueError for anything else."""
        algorithm, _, value = text.partition(":")
        if algorithm != "sha256":
            raise ValueError(f"not a sha256 digest: {text!r}")
        return cls(value)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Return the digest of a file's bytes, read in blocks of 1 MiB."""
        state = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            block = bytearray(1 << 20)
            view = memoryview(block)
            while count := file.readinto(block):
                state.update(view[:count])
        return cls(state.hexdigest())

    @classmethod
    def of_json(cls, value: Any) -> Digest:
        """Return the digest of a JSON value in its canonical form (sorted keys, no spaces, UTF-8)."""
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return cls.of(text.encode())
