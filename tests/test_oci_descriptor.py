"""Descriptors: read strictly, written as the image specification has them."""

from __future__ import annotations

from typing import Any

import pytest

from torchlock.digest import Digest
from torchlock.errors import ImageError
from torchlock.oci.descriptor import CONFIG, PLATFORMS, Descriptor, Platform

HEX = "ab" * 32
PLAIN: dict[str, Any] = {"mediaType": CONFIG, "digest": f"sha256:{HEX}", "size": 7}


def test_a_descriptor_reads_and_writes_its_json() -> None:
    """All that it may hold comes back as it was."""
    full = {
        **PLAIN,
        "annotations": {"a": "b"},
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        "artifactType": "application/vnd.x.y",
    }
    found = Descriptor.from_dict(full, "x")
    assert found.to_dict() == full
    assert found.platform == PLATFORMS["linux-aarch64"]
    assert found.digest == Digest(HEX)
    assert Descriptor.from_dict(PLAIN, "x").to_dict() == PLAIN


def test_what_a_reader_may_ignore_is_ignored() -> None:
    """Embedded data and addresses elsewhere are never used; an empty artifact type is none."""
    extra = {"urls": ["https://elsewhere.example/"], "data": "e30=", "artifactType": "", "x": 1}
    assert Descriptor.from_dict({**PLAIN, **extra}, "x") == Descriptor.from_dict(PLAIN, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mediaType": "no type"}, "x.mediaType: 'no type'; expected a media type, as type/name"),
        ({"mediaType": 3}, "x.mediaType: a whole number; expected a text"),
        ({"digest": "sha256:AB"}, "x.digest: 'sha256:AB'; expected sha256: and 64 lower-case hexadecimal digits"),
        (
            {"digest": "sha512:" + "a" * 90},
            f"x.digest: 'sha512:{'a' * 70}...'; expected sha256: and 64 lower-case hexadecimal digits",
        ),
        ({"size": -1}, "x.size: -1; expected a size in bytes"),
        ({"size": 1 << 63}, "x.size: 9223372036854775808; expected a size in bytes"),
        ({"size": 7.0}, "x.size: a number; expected a whole number"),
        ({"size": True}, "x.size: a truth value; expected a whole number"),
        ({"platform": {"os": "linux"}}, "x.platform.architecture: is missing; expected a text"),
        ({"annotations": {"a": 1}}, "x.annotations.'a': a whole number; expected a text"),
    ],
)
def test_a_false_descriptor_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    """The message names the key, what it holds, and what it must hold."""
    with pytest.raises(ImageError) as caught:
        Descriptor.from_dict({**PLAIN, **change}, "x")
    assert str(caught.value) == message


def test_descriptors_can_be_kept_in_sets() -> None:
    """Equal ones are one, whatever mapping holds their annotations."""
    one, other = (Descriptor.from_dict({**PLAIN, "annotations": {"a": "b"}}, "x") for _ in range(2))
    assert len({one, other}) == 1


def test_a_platform_is_written_as_docker_writes_it() -> None:
    """`os/architecture`, and the variant where there is one."""
    assert str(PLATFORMS["linux-64"]) == "linux/amd64"
    assert str(PLATFORMS["linux-aarch64"]) == "linux/arm64/v8"
    assert Platform(os="linux", architecture="amd64").to_dict() == {"os": "linux", "architecture": "amd64"}
