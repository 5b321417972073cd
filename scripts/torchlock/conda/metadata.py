"""What torchlock adds to a `conda-lock.yml`: whose lock it is, what it comes from, and the digest of its content."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from torchlock.conda import values
from torchlock.digest import Digest
from torchlock.errors import CondaError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1

# The keys under `metadata.custom_metadata`, which conda-lock keeps when it reads and writes its own file.
KEYS = (
    "torchlock-schema",
    "torchlock-profile",
    "torchlock-profile-digest",
    "torchlock-snapshot-digest",
    "torchlock-solver",
    "torchlock-without-constrains",
    "torchlock-digest",
)
# What stands for the digest while it is computed.
UNKNOWN = str(Digest("0" * 64))

_OWN = re.compile(r"^  custom_metadata:\n(?:    .*\n)*", re.MULTILINE)


def complete(data: bytes, own: Mapping[str, str], where: str) -> bytes:
    """Return a file of conda-lock with torchlock's own metadata, written as conda-lock itself would write it."""
    text = data.decode()
    body = re.search(r"^(?!#)", text, re.MULTILINE)
    head = text[: body.start()] if body else ""
    value = values.load(data, where)
    value["metadata"].pop("custom_metadata", None)
    if head + yaml.dump(value, sort_keys=False) != _OWN.sub("", text):
        raise CondaError(where, "is not written as conda-lock 4 writes it", "the file of a known conda-lock")
    value["metadata"]["custom_metadata"] = {
        "torchlock-schema": str(SCHEMA),
        **{f"torchlock-{key}": item for key, item in own.items()},
        "torchlock-digest": UNKNOWN,
    }
    value["metadata"]["custom_metadata"]["torchlock-digest"] = str(digest(value))
    return (head + yaml.dump(value, sort_keys=False)).encode()


def entries(data: bytes, where: str) -> list[tuple[str, str, str, str]]:
    """Return platform, name, address and sha256 of each package in a file of conda-lock; raise CondaError without."""
    value = values.load(data, where)
    try:
        return [(item["platform"], item["name"], item["url"], item["hash"]["sha256"]) for item in value["package"]]
    except (KeyError, TypeError) as error:
        raise CondaError(where, f"a package lacks {error}", "address and sha256 of every package") from None


def digest(value: Any) -> Digest:
    """Return the digest of every value of a file but that of the digest itself."""
    own = {**value["metadata"]["custom_metadata"], "torchlock-digest": UNKNOWN}
    return Digest.of_json({**value, "metadata": {**value["metadata"], "custom_metadata": own}})
