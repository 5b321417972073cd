"""The declared bases: what `docker/base.yaml` may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchlock.base.declaration import DebianBase, RegistryBase, load
from torchlock.errors import ImageError, ProfileError

ROOT = Path(__file__).parents[1]
HEX = "ab" * 32
DEBIAN = "suite: bookworm\n    packages: [python3, netbase]\n    python: /usr/bin/python3.11"
REGISTRY = f"""image: docker.io/library/python@sha256:{HEX}
    manifests: {{linux-64: "sha256:{HEX}"}}
    python: /usr/local/bin/python3.11
    version: "3.11.16\""""


def declared(folder: Path, body: str, name: str = "one", default: str = "one") -> Path:
    """Write a declaration of one base and return its project."""
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "base.yaml").write_text(f"default: {default}\nbases:\n  {name}:\n    {body}\n")
    return folder


def refused(folder: Path, body: str, **options: str) -> str:
    """Return the message that refuses a declaration."""
    with pytest.raises(ProfileError) as caught:
        load(declared(folder, body, **options))
    return str(caught.value)


def test_the_declaration_of_this_project() -> None:
    """The default is a Debian for both platforms; the other one is a registry's image by the digests of the facts."""
    found = load(ROOT)
    debian, python = found.find(), found.find("python")
    assert isinstance(debian, DebianBase)
    assert isinstance(python, RegistryBase)
    assert (debian.name, debian.suite, debian.platforms) == ("debian", "bookworm", ("linux-64", "linux-aarch64"))
    assert python.platforms == ("linux-64", "linux-aarch64")
    assert str(python.image).startswith("docker.io/library/python@sha256:0bee7276f83e")
    assert str(python.manifests["linux-64"]).startswith("sha256:2fc9207f64226")


def test_the_default_base_has_the_short_path(tmp_path: Path) -> None:
    """Locks of other bases lie in folders of their names."""
    found = load(declared(tmp_path, DEBIAN))
    assert found.lock_path("one", "linux-64") == "docker/base/linux-64.json"
    assert found.lock_path("other", "linux-64") == "docker/base/other/linux-64.json"


def test_the_digest_of_a_declaration_moves_with_what_decides_a_byte(tmp_path: Path) -> None:
    """Packages in another order are the same; another one is not."""
    first = load(declared(tmp_path, DEBIAN)).find().digest("linux-64")
    assert (
        load(declared(tmp_path, DEBIAN.replace("python3, netbase", "netbase, python3"))).find().digest("linux-64")
        == first
    )
    assert load(declared(tmp_path, DEBIAN.replace("netbase", "tzdata"))).find().digest("linux-64") != first
    assert load(declared(tmp_path, DEBIAN)).find().digest("linux-aarch64") != first


def test_an_unknown_base(tmp_path: Path) -> None:
    """The message names those that are declared."""
    with pytest.raises(ImageError) as caught:
        load(declared(tmp_path, DEBIAN)).find("two")
    assert str(caught.value) == "BASE: unknown base 'two'; expected one of one (docker/base.yaml)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            DEBIAN.replace("bookworm", "book worm"),
            (
                "docker/base.yaml:4: bases.one.suite: found 'book worm'; "
                "expected the name of a Debian release, such as bookworm"
            ),
        ),
        (
            DEBIAN.replace("netbase", "--netbase"),
            "docker/base.yaml:5: bases.one.packages[1]: found '--netbase'; expected the name of a Debian package",
        ),
        (
            DEBIAN.replace("netbase", "python3"),
            "docker/base.yaml:5: bases.one.packages: a package twice; expected each package once",
        ),
        (
            DEBIAN.replace("/usr/bin", "/usr/../bin"),
            "docker/base.yaml:6: bases.one.python: found /usr/../bin/python3.11; expected a path without . and ..",
        ),
        (
            REGISTRY.replace("@sha256", ":3.11@sha256"),
            (
                f"docker/base.yaml:4: bases.one.image: found docker.io/library/python:3.11@sha256:{HEX[:43]}…; "
                "expected an image by its digest alone: repository@sha256:…"
            ),
        ),
        (
            REGISTRY.replace(f'linux-64: "sha256:{HEX}"', "linux-64: latest"),
            (
                "docker/base.yaml:5: bases.one.manifests.linux-64: not a sha256 digest: 'latest'; "
                "expected sha256: and 64 lower-case hexadecimal digits"
            ),
        ),
        (
            REGISTRY.replace(f'linux-64: "sha256:{HEX}"', ""),
            "docker/base.yaml:5: bases.one.manifests: found no platform; expected one of linux-64, linux-aarch64",
        ),
        (
            REGISTRY.replace("3.11.16", "3.12.1"),
            (
                "docker/base.yaml:6: bases.one.python: found /usr/local/bin/python3.11; "
                "expected the path of python3.12, as the version"
            ),
        ),
        (
            REGISTRY.replace('"3.11.16"', "3.11"),
            (
                "docker/base.yaml:7: bases.one.version: found 3.11, which YAML reads as the number 3.11; "
                'expected a string; try: quote it: "3.11"'
            ),
        ),
        (
            f"{DEBIAN}\n    apt: yes please",
            "docker/base.yaml:7: bases.one.apt: unknown key 'apt'; expected one of suite, packages, python",
        ),
    ],
)
def test_a_declaration_that_says_it_badly(tmp_path: Path, body: str, message: str) -> None:
    """The place, what was found, what was expected."""
    assert refused(tmp_path, body) == message


def test_a_base_is_not_called_as_a_platform(tmp_path: Path) -> None:
    """Its folder of locks would be another's file."""
    assert refused(tmp_path, DEBIAN, name="linux-64").startswith("docker/base.yaml:3: bases.linux-64: the name 'linux")


def test_the_default_must_be_declared(tmp_path: Path) -> None:
    """The nearest name is offered."""
    message = refused(tmp_path, DEBIAN, default="oen")
    assert message == "docker/base.yaml:1: default: unknown base 'oen'; expected one of one; try: one"
