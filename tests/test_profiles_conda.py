"""The conda part of lines: what it says, and what is refused at its place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from torchlock.errors import ProfileError
from torchlock.profiles.document import parse
from torchlock.profiles.line import Line, read_line

if TYPE_CHECKING:
    from torchlock.profiles.conda import CondaProfile

BASE = """\
python: "3.11"
torch: "2.2.2"
numpy: "1.26.4"
conda:
  channels: [main, extra]
  virtual:
    linux-64: {__unix: "0", __linux: "5.10", __glibc: "2.28", __archspec: 1 x86_64}
    osx-arm64: {__unix: "0", __osx: "13.0"}
variants:
  cpu:
    platforms: [linux-64, win-64]
    conda:
      platforms:
        linux-64: {python: "3.12", torch: {channel: main, build: cpu_*}, also: [mkl 2023.*]}
  cuda:
    platforms: [linux-64]
    cuda: "12.1"
    conda:
      channels: [extra]
      platforms:
        linux-64: {torch: {channel: extra, build: cuda_*}, cuda: "11.8", virtual: {__cuda: "12.1", __glibc: "2.34"}}
  mps:
    platforms: [osx-arm64]
"""


def line(text: str, extending: str | None = None) -> Line:
    """Read the line `mine`, or one that extends it."""
    texts = {"mine": text, **({"own": extending} if extending else {})}
    nodes = {name: parse(item.encode(), f"environments/{name}.yaml") for name, item in texts.items()}
    return read_line("own" if extending else "mine", nodes, ("pypi",))


def profile(text: str, variant: str) -> CondaProfile:
    """Return the conda part of a variant as a profile's."""
    wanted = line(text).variants[variant].conda
    assert wanted is not None
    return wanted.named(f"mine-{variant}", variant, "environments/mine.yaml")


def test_read() -> None:
    """A variant has the line's pins and machines, but for what it says itself, and its own channels if it names any."""
    cpu, cuda = profile(BASE, "cpu"), profile(BASE, "cuda")
    assert (cpu.profile, cpu.channels, len(cpu.targets)) == ("mine-cpu", ("main", "extra"), 1)
    target = cpu.targets[0]
    assert target.specs == ("numpy 1.26.4", "python 3.12.*", "main::pytorch 2.2.2 cpu_*", "mkl 2023.*")
    assert target.virtual == {"__unix": "0", "__linux": "5.10", "__glibc": "2.28", "__archspec": "1 x86_64"}
    assert target.where == "environments/mine.yaml:14: variants.cpu.conda.platforms.linux-64"
    assert cuda.channels == ("extra",)
    assert (cuda.targets[0].python, cuda.targets[0].cuda) == ("3.11", "11.8")
    assert cuda.targets[0].virtual["__glibc"] == "2.34"
    assert cuda.targets[0].virtual["__cuda"] == "12.1"
    assert line(BASE).variants["mps"].conda is None


def test_digest() -> None:
    """The digest is of what decides about the lock: not of the place, and of every value."""
    cpu = profile(BASE, "cpu")
    assert profile("# moved\n\n" + BASE, "cpu").digest() == cpu.digest()
    target = cpu.targets[0]
    changes: list[dict[str, Any]] = [
        {"build": "x"},
        {"virtual": {}},
        {"numpy": "1.26.3"},
        {"platform": "linux-aarch64"},
        {"also": ()},
    ]
    others = [replace(cpu, targets=(replace(target, **change),)) for change in changes]
    assert len({cpu.digest(), *(item.digest() for item in others), replace(cpu, channels=("main",)).digest()}) == 7


def test_extended() -> None:
    """A line that extends another adds wheels, and has no conda environment."""
    own = line(BASE, "extends: mine\nalso: [pandas]\n")
    assert [item.conda for item in own.variants.values()] == [None, None, None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  virtual:",
            "  virtul:",
            ":6: conda.virtul: unknown key 'virtul'; expected one of channels, virtual; try: virtual",
        ),
        (
            '{__unix: "0", __osx',
            "{__osx",
            ":8: conda.virtual.osx-arm64: found no __unix; expected what a solver may know",
        ),
        (
            '__glibc: "2.28"',
            '__glib: "2.28"',
            ":7: conda.virtual.linux-64.__glib: unknown key '__glib'; expected one of",
        ),
        (
            "[main, extra]",
            "[]",
            ":5: conda.channels: found an empty list; expected one channel or more, in the order of",
        ),
        (
            "[main, extra]",
            "[main, main]",
            ":5: conda.channels[0]: found main twice; expected each channel once, in the",
        ),
        ("[main, extra]", "[https://x/y]", ":5: conda.channels[0]: found https://x/y; expected the name of a channel"),
        (
            "channel: main",
            "channel: man",
            ":14: variants.cpu.conda.platforms.linux-64.torch.channel: unknown channel 'man'",
        ),
        (
            "build: cpu_*",
            "build: cpu *",
            ":14: variants.cpu.conda.platforms.linux-64.torch.build: found cpu *; expected",
        ),
        (
            ", build: cpu_*",
            "",
            ":14: variants.cpu.conda.platforms.linux-64.torch: the key 'build' is missing; expected all",
        ),
        (
            'python: "3.12"',
            "python: 3.12",
            ":14: variants.cpu.conda.platforms.linux-64.python: found 3.12, which YAML reads",
        ),
        (
            "mkl 2023.*",
            "numpy 2.*",
            ":14: variants.cpu.conda.platforms.linux-64.also[0]: found numpy 2.*; expected specs",
        ),
        (
            "mkl 2023.*",
            "mkl 1 2 3",
            ":14: variants.cpu.conda.platforms.linux-64.also[0]: found mkl 1 2 3; expected a spec",
        ),
        (
            'cuda: "11.8", ',
            "",
            ":21: variants.cuda.conda.platforms.linux-64: the key 'cuda' is missing; expected all of",
        ),
        (
            '__cuda: "12.1", ',
            "",
            ":21: variants.cuda.conda.platforms.linux-64.virtual: found no __cuda; expected __cuda in",
        ),
        (
            "mps:\n    platforms: [osx-arm64]\n",
            "mps:\n    platforms: [osx-arm64]\n    conda: {platforms: {}}\n",
            ":24: variants",
        ),
        (
            "        linux-64: {python",
            "        win-64: {python",
            ":14: variants.cpu.conda.platforms.win-64: found no virtual",
        ),
        (
            "        linux-64: {python",
            "        osx-64: {python",
            ":14: variants.cpu.conda.platforms.osx-64: unknown key",
        ),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    """A conda part that does not say what it must is refused at its place."""
    assert BASE.count(old) == 1
    with pytest.raises(ProfileError) as caught:
        profile(BASE.replace(old, new), "cpu")
    assert str(caught.value).removeprefix("environments/mine.yaml").startswith(message)


def test_without_machines() -> None:
    """A variant's conda part needs the line's."""
    text = BASE.replace(BASE[BASE.index("conda:") : BASE.index("variants:")], "")
    with pytest.raises(ProfileError, match="found conda in a variant of a line without; expected conda: with channels"):
        line(text)


def test_cuda_in_cpu() -> None:
    """Only a cuda variant may tell the solver of a GPU."""
    text = BASE.replace("also: [mkl 2023.*]", 'virtual: {__cuda: "12.1"}')
    with pytest.raises(
        ProfileError, match=r"virtual: found __cuda in cpu; expected __cuda in cuda variants, and there"
    ):
        line(text)
