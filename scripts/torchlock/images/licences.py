"""Licences of packages as SPDX expressions, taken from what the wheels' METADATA says and from nothing else."""

from __future__ import annotations

import re
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from torchlock.wheels import wheel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from email.message import Message
    from pathlib import Path

# The older field `License` is free text: these texts, whole, mean one licence and no other.
_TEXTS = {
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "the mit license": "MIT",
}
# The classifiers that name one licence; "BSD License" and its like name several (PEP 639, "Rejected ideas").
_CLASSIFIERS = {
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
}
_LONGEST = 60
_OPERATOR = re.compile(r" (AND|OR) ")


def of_wheel(path: Path, filename: str, project: str) -> str:
    """Return the licence of a wheel."""
    with path.open("rb") as file:
        return of_metadata(wheel.metadata(file, filename), project)


def of_metadata(data: bytes, project: str) -> str:
    """Return the licence that METADATA states; `LicenseRef-…` for one that has no identifier, or states none clearly.

    `License-Expression` counts first (PEP 639), then a `License` that is one, then a classifier that names one. A
    LicenseRef bears the words that stand there, or the project's name where a whole text or nothing does.
    """
    message = HeaderParser().parsestr(data.decode("utf-8", "replace"))
    for text in (message.get("License-Expression"), message.get("License")):
        if text and (known := _known(" ".join(text.split()))):
            return known
    classifiers = [item for item in message.get_all("Classifier", []) if item.startswith("License :: ")]
    if len(classifiers) == 1 and classifiers[0] in _CLASSIFIERS:
        return _CLASSIFIERS[classifiers[0]]
    return _reference(message, classifiers, project)


def combined(expressions: Iterable[str]) -> str:
    """Return the expression of works under each of these, all together; empty for none."""
    found = sorted(set(expressions))
    text = " AND ".join(item if len(found) == 1 or not _OPERATOR.search(item) else f"({item})" for item in found)
    return str(canonicalize_license_expression(text)) if text else ""


def _known(text: str) -> str:
    if len(text) > 10 * _LONGEST:
        return ""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return _TEXTS.get(text.lower(), "")


def _reference(message: Message, classifiers: list[str], project: str) -> str:
    stated = message.get("License", "").strip()
    words = "" if "\n" in stated or len(stated) > _LONGEST else stated
    if not stated and len(classifiers) == 1:
        words = classifiers[0].rpartition(" :: ")[2]
    # The grammar of SPDX: letters, digits, dots and hyphens.
    return f"LicenseRef-{re.sub(r'[^A-Za-z0-9.]+', '-', words).strip('-.') or project}"
