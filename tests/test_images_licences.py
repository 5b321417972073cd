"""Licences come from METADATA as SPDX expressions; what is not said clearly is a LicenseRef, never a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.licenses import canonicalize_license_expression

import wheels
from torchlock.images import licences

if TYPE_CHECKING:
    from pathlib import Path

BSD = "Classifier: License :: OSI Approved :: BSD License"
MIT = "Classifier: License :: OSI Approved :: MIT License"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("License-Expression: mit or apache-2.0", "MIT OR Apache-2.0"),
        ("License-Expression: BSD-3-Clause\nLicense: MIT", "BSD-3-Clause"),
        ("License-Expression: no such\nLicense: MIT", "MIT"),
        ("License: BSD-3", "BSD-3-Clause"),
        ("License: NVIDIA Proprietary Software", "LicenseRef-NVIDIA-Proprietary"),
        ("License: LicenseRef-NVIDIA-Proprietary", "LicenseRef-NVIDIA-Proprietary"),
        (MIT, "MIT"),
        (f"{MIT}\n{BSD}", "LicenseRef-demo"),
        (BSD, "LicenseRef-BSD-License"),
        (f"License: BSD\n{BSD}", "LicenseRef-BSD"),
        ("License: Copyright (c) 2005-2023\n        All rights reserved.", "LicenseRef-demo"),
        ("License: Apache_2 (see LICENSE)", "LicenseRef-Apache-2-see-LICENSE"),
        ("License: ***", "LicenseRef-demo"),
        (f"License: {'long ' * 20}", "LicenseRef-demo"),
        ("", "LicenseRef-demo"),
    ],
)
def test_a_licence_is_what_metadata_says_and_nothing_else(lines: str, expected: str) -> None:
    """An expression counts first, then a field that is one, then one clear classifier; the rest is referred to."""
    head = f"Metadata-Version: 2.1\nName: demo\n{lines}".rstrip("\n")
    found = licences.of_metadata(f"{head}\n\nLicense: MIT is in the description\n".encode(), "demo")
    assert found == expected
    assert canonicalize_license_expression(found) == found


def test_licences_combine_to_one_valid_expression() -> None:
    """Each once, sorted, and what is itself a choice in brackets."""
    found = licences.combined(["MIT", "Apache-2.0 OR MIT", "MIT", "LicenseRef-demo"])
    assert found == "(Apache-2.0 OR MIT) AND LicenseRef-demo AND MIT"
    assert canonicalize_license_expression(found) == found
    assert licences.combined(["Apache-2.0 OR MIT"]) == "Apache-2.0 OR MIT"
    assert licences.combined([]) == ""


def test_a_wheels_licence_is_read_from_its_archive(tmp_path: Path) -> None:
    """The METADATA inside counts."""
    text = wheels.metadata("demo", "1.0") + "License-Expression: ISC\n"
    path = wheels.make(tmp_path, {"demo.py": "", "demo-1.0.dist-info/METADATA": text})
    assert licences.of_wheel(path, path.name, "demo") == "ISC"
