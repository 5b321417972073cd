"""Lines: pins, variants, requirements of one's own, and extending another line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torchlock.digest import Digest
from torchlock.errors import ProfileError
from torchlock.profiles.document import parse
from torchlock.profiles.line import Line, Waiver, read_line, requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

ALIASES = ("pypi", "pytorch-cpu", "own")
BASE = """\
python: "3.11"
torch: "2.2.2"
numpy: "1.26.4"
variants:
  cpu:
    platforms: [linux-64, win-64]
    builds:
      linux-64: {torch: "2.2.2+cpu", index: pytorch-cpu}
  cuda:
    platforms: [linux-64]
    cuda: "12.1"
"""


def line(text: str, others: Mapping[str, str] | None = None) -> Line:
    """Read the line `mine`; `others` are further files, by the names of their lines."""
    texts = {"base": BASE, **(others or {}), "mine": text}
    nodes = {name: parse(item.encode(), f"environments/{name}.yaml") for name, item in texts.items()}
    return read_line("mine", nodes, ALIASES)


def refused(text: str, others: Mapping[str, str] | None = None) -> str:
    """Return the message with which the line `mine` is refused."""
    with pytest.raises(ProfileError) as caught:
        line(text, others)
    return str(caught.value).removeprefix("environments/mine.yaml")


def wanted(found: Line, variant: str = "cpu") -> tuple[str, ...]:
    """Return the requirements of a variant."""
    return requirements(found.torch, found.numpy, (*found.also, *found.variants[variant].also))


def test_own_line() -> None:
    """A line has its pins, and each variant its platforms, builds and CUDA release."""
    found = line(BASE)
    assert (found.python, found.torch, found.numpy, found.also) == ("3.11", "2.2.2", "1.26.4", ())
    assert found.variants["cpu"].builds == {"linux-64": ("2.2.2+cpu", "pytorch-cpu")}
    assert found.variants["cpu"].cuda is None
    assert found.variants["cuda"].cuda == "12.1"
    assert found.variants["cuda"].platforms == ("linux-64",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'python: "3.11"',
            "python: 3.10",
            ':1: python: found 3.10, which YAML reads as the number 3.1; expected a string; try: quote it: "3.10"',
        ),
        ('python: "3.11"', 'python: "3.11.4"', ":1: python: found 3.11.4; expected a Python such as 3.11"),
        ('python: "3.11"', 'python: "2.7"', ":1: python: found 2.7; expected a Python such as 3.11"),
        ('python: "3.11"\n', "", ": the key 'python' is missing; expected all of python, torch, numpy, variants"),
        ('torch: "2.2.2"', 'torch: ">=2.2"', ":2: torch: found >=2.2; expected an exact version such as 2.2.2"),
        ('torch: "2.2.2"', 'torch: "2.2.*"', ":2: torch: found 2.2.*; expected an exact version such as 2.2.2"),
        ('torch: "2.2.2"', "torch: v2.2.2", ":2: torch: found v2.2.2; expected its normal form 2.2.2"),
        (
            'torch: "2.2.2"',
            "torch: 2.2.2+cpu",
            ":2: torch: found 2.2.2+cpu; expected 2.2.2, and 2.2.2+cpu under builds:",
        ),
        ('torch: "2.2.2"', "torch: [2.2.2]", ":2: torch: found a list; expected text"),
        (
            'numpy: "1.26.4"',
            "numpy: 1.26.4; rm -rf /",
            ":3: numpy: found 1.26.4; rm -rf /; expected an exact version such as 2.2.2",
        ),
        ("  cuda:\n", "  gpu:\n", ":9: variants.gpu: unknown key 'gpu'; expected one of cpu, cuda, mps; try: cpu"),
        (
            "win-64]",
            "win64]",
            (
                ":6: variants.cpu.platforms[1]: unknown platform 'win64'; "
                "expected one of linux-64, linux-aarch64, osx-64, osx-arm64, win-64; try: win-64"
            ),
        ),
        ("win-64]", "linux-64]", ":6: variants.cpu.platforms[1]: found linux-64 twice; expected each platform once"),
        ("[linux-64]", "[]", ":10: variants.cuda.platforms: found an empty list; expected one platform or more"),
        ("[linux-64]", "linux-64", ":10: variants.cuda.platforms: found text; expected a list"),
        ('    cuda: "12.1"\n', "", ":9: variants.cuda: the key 'cuda' is missing; expected all of platforms, cuda"),
        ('cuda: "12.1"', 'cuda: "12"', ":11: variants.cuda.cuda: found 12; expected a CUDA release such as 12.1"),
        (
            "    builds:",
            '    cuda: "12.1"\n    builds:',
            (
                ":7: variants.cpu.cuda: unknown key 'cuda'; expected one of platforms, builds, also, indexes, conda"
                "; try: conda"
            ),
        ),
        (
            "      linux-64: {",
            "      osx-64: {",
            ":8: variants.cpu.builds.osx-64: unknown key 'osx-64'; expected one of linux-64, win-64",
        ),
        (
            "2.2.2+cpu",
            "2.3.0+cpu",
            ":8: variants.cpu.builds.linux-64.torch: found 2.3.0+cpu; expected a build of torch 2.2.2",
        ),
        (
            "index: pytorch-cpu",
            "index: pytorch",
            (
                ":8: variants.cpu.builds.linux-64.index: unknown index 'pytorch'; "
                "expected one of pypi, pytorch-cpu, own; try: pytorch-cpu"
            ),
        ),
        (
            ", index: pytorch-cpu",
            "",
            ":8: variants.cpu.builds.linux-64: the key 'index' is missing; expected all of torch, index",
        ),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    """A line that does not say what it must is refused at its place."""
    assert BASE.count(old) == 1
    assert refused(BASE.replace(old, new)) == message


def test_no_variants() -> None:
    """A line without variants is refused."""
    text = 'python: "3.11"\ntorch: 2.2.2\nnumpy: 1.26.4\nvariants: {}\n'
    assert refused(text) == ":4: variants: found no variants; expected one or more of cpu, cuda, mps"


def test_also() -> None:
    """Requirements of one's own join the pins: names normalized, sorted, markers kept, each once."""
    found = line(BASE + "also: [Pandas == 2.2.3, 'tomli; python_version < \"3.11\"', numpy<2, pandas==2.2.3]\n")
    texts = ("numpy<2", "numpy==1.26.4", "pandas==2.2.3", 'tomli; python_version < "3.11"', "torch==2.2.2")
    assert wanted(found) == texts


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("pandas==", "found pandas==; expected a requirement such as pandas==2.2.3"),
        ("-r other.txt", "found -r other.txt; expected a requirement such as pandas==2.2.3"),
        (
            "a; " + "(" * 400 + 'os_name < "x"' + ")" * 400,
            f"found a; {'(' * 77}…; expected a requirement such as pandas==2.2.3",
        ),
        ("x" * 1001, "found 1,001 characters of text; expected 1 to 1,000"),
        (
            "Pandas @ https://u:p@host/pandas.whl",
            (
                "found an address for pandas; "
                "expected a requirement such as pandas==2.2.3; try: name an index under indexes:"
            ),
        ),
        (
            "https://u:p@host/pandas.whl",
            "found https://***@host/pandas.whl; expected a requirement such as pandas==2.2.3",
        ),
    ],
)
def test_also_refused(also: str, message: str) -> None:
    """What is no requirement, or names an address, is refused; credentials are not repeated."""
    assert refused(f"{BASE}also: ['{also}']\n") == f":12: also[0]: {message}"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("rich", "numpy>=2", ":10: variants.cpu.also[0]: found numpy>=2, which contradicts numpy==1.26.4"),
        ("rich", "Torch==2.4.1", ":10: variants.cpu.also[0]: found torch==2.4.1, which contradicts torch==2.2.2"),
        (
            "numpy==2.0.2; os_name == 'nt'",
            "rich",
            ':1: also[0]: found numpy==2.0.2; os_name == "nt", which contradicts numpy==1.26.4',
        ),
        (
            "pandas==2.2.3",
            "pandas==2.2.2",
            ":10: variants.cpu.also[0]: found pandas==2.2.2, which contradicts pandas==2.2.3",
        ),
        ("pandas<2", "pandas==2.2.2", ":1: also[0]: found pandas<2, which contradicts pandas==2.2.2"),
    ],
)
def test_contradictions(first: str, second: str, message: str) -> None:
    """A requirement that contradicts a pin of the line, or one that stands elsewhere in it, is refused at its place."""
    text = f'also: ["{first}"]\n' + BASE.replace("  cuda:\n", f'    also: ["{second}"]\n  cuda:\n', 1)
    found = line(text)
    with pytest.raises(ProfileError) as caught:
        wanted(found)
    tail = "; expected one version of a project in all of a line"
    assert str(caught.value) == f"environments/mine.yaml{message}{tail}"


def test_compatible_wishes() -> None:
    """Ranges, extras and wildcards that a pin satisfies contradict nothing: nor do a pre-release, a local version."""
    found = line(
        BASE + "also: ['torch[opt-einsum]==2.2.2', 'torch==2.2.*', 'numpy>=1.24,<2', 'pandas>=2', pandas==3.0rc1]\n"
    )
    assert requirements("2.2.2+cpu", "1.26.4", found.also)[-3:] == (
        "torch==2.2.*",
        "torch==2.2.2+cpu",
        "torch[opt-einsum]==2.2.2",
    )


def test_indexes() -> None:
    """A project may come from another index; its name is normalized, the alias must be known."""
    assert line(BASE + "indexes: {My_Project: own}\n").indexes == {"my-project": "own"}
    known = "expected one of pypi, pytorch-cpu, own; try: own"
    assert refused(BASE + "indexes: {a: owm}\n") == f":12: indexes.a: unknown index 'owm'; {known}"
    twice = ":12: indexes.my-x: found my-x twice, in two spellings; expected each project once"
    assert refused(BASE + "indexes: {My_X: own, my-x: own}\n") == twice
    assert (
        refused(BASE + "indexes: {a b: own}\n") == ":12: indexes.\"a b\": found 'a b'; expected the name of a project"
    )


def test_extends_all() -> None:
    """A file that extends a line has its pins and variants, and adds what it names."""
    found = line("extends: base\npython: '3.12'\nalso: [pandas==2.2.3]\nindexes: {pandas: own}\n")
    base = line(BASE)
    assert (found.python, found.torch, found.numpy, found.variants) == ("3.12", base.torch, base.numpy, base.variants)
    assert wanted(found) == ("numpy==1.26.4", "pandas==2.2.3", "torch==2.2.2")
    assert found.indexes == {"pandas": "own"}


def test_extends_some() -> None:
    """The variants and platforms that an extending file names are those that stay, builds included."""
    found = line("extends: base\nvariants: {cpu: {platforms: [linux-64], also: [rich]}}\n")
    assert list(found.variants) == ["cpu"]
    assert found.variants["cpu"].platforms == ("linux-64",)
    assert found.variants["cpu"].builds == line(BASE).variants["cpu"].builds
    assert "rich" in wanted(found)


def test_extends_chain() -> None:
    """Lines extend lines that extend lines; the nearest says the last word on Python and indexes."""
    others = {
        "one": "extends: base\npython: '3.12'\nalso: [a]\nindexes: {a: own}\n",
        "two": "extends: one\nalso: [b]\n",
    }
    found = line("extends: two\nalso: [c]\nindexes: {a: pypi}\n", others)
    assert (found.python, found.indexes) == ("3.12", {"a": "pypi"})
    assert wanted(found)[:3] == ("a", "b", "c")


def test_extends_long_chain() -> None:
    """A chain of two thousand files does not exhaust the stack."""
    others = {f"l{i}": f"extends: l{i - 1}\n" for i in range(1, 2000)}
    assert line("extends: l1999\n", {**others, "l0": "extends: base\n"}).torch == "2.2.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: mine\n", ":1: extends: found a circle: mine -> mine; expected a line that extends no one"),
        ("extends: bse\n", ":1: extends: unknown line 'bse'; expected one of base, other, mine; try: base"),
        (
            "extends: base\ntorch: 2.4.1\n",
            (
                ":2: torch: found torch in a file that extends a line; "
                "expected torch 2.2.2 of that line; try: leave out extends"
            ),
        ),
        (
            "extends: base\nnumpy: 2.0.2\n",
            (
                ":2: numpy: found numpy in a file that extends a line; "
                "expected numpy 1.26.4 of that line; try: leave out extends"
            ),
        ),
        ("extends: base\nvariants: {mps: {}}\n", ":2: variants.mps: unknown key 'mps'; expected one of cpu, cuda"),
        ("extends: base\nvariants: {}\n", ":2: variants: found no variants; expected one or more of cpu, cuda"),
        (
            "extends: base\nvariants: {cuda: {platforms: [win-64]}}\n",
            ":2: variants.cuda.platforms[0]: unknown platform 'win-64'; expected one of linux-64; try: linux-64",
        ),
        (
            "extends: base\nvariants: {cuda: {cuda: '11.8'}}\n",
            ":2: variants.cuda.cuda: unknown key 'cuda'; expected one of platforms, also, indexes",
        ),
    ],
)
def test_extends_refused(text: str, message: str) -> None:
    """An extending file may narrow and add, but neither change the pins nor widen."""
    found = refused(text, {"other": "extends: base\n"})
    assert found == message


def test_circle() -> None:
    """A circle of lines is refused, and shown."""
    found = refused("extends: one\n", {"one": "extends: two\n", "two": "extends: one\n"})
    circle = "found a circle: mine -> one -> two -> one; expected a line that extends no one"
    assert found == f"environments/two.yaml:1: extends: {circle}"


def waiver(project: str, digit: str, reason: str = "why") -> str:
    """Write an exception as a file has it."""
    return f"{{project: {project}, sha256: '{digit * 64}', reason: \"{reason}\"}}"


def test_exceptions() -> None:
    """A file's exceptions are read in order, and those of the line that it extends stay."""
    others = {"one": f"extends: base\nexceptions: [{waiver('Pandas', 'b')}]\n"}
    found = line(f"extends: one\nexceptions: [{waiver('pandas', 'a', 'tested, see #12')}]\n", others)
    assert found.exceptions == (
        Waiver(project="pandas", sha256=Digest("a" * 64), reason="tested, see #12"),
        Waiver(project="pandas", sha256=Digest("b" * 64), reason="why"),
    )
    assert line(BASE).exceptions == ()
    assert len(line(f"{BASE}exceptions: [{waiver('x', 'c')}]\n").exceptions) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{project: a, sha256: b}", ": the key 'reason' is missing; expected all of project, sha256, reason"),
        (
            "{project: a, sha256: b, reason: c, until: d}",
            ".until: unknown key 'until'; expected one of project, sha256",
        ),
        (waiver("a b", "a"), ".project: found 'a b'; expected the name of a project"),
        (waiver("a", "A"), f".sha256: found {'A' * 64}; expected 64 lower-case hexadecimal digits"),
        (
            "{project: a, sha256: 0000, reason: c}",
            ".sha256: found 0000, which YAML reads as the number 0; expected a string; try: quote it",
        ),
        (waiver("a", "a", "x" * 301), f".reason: found {'x' * 80}…; expected one line of 1 to 300 characters that"),
        (waiver("a", "a", " "), ".reason: found nothing; expected one line of 1 to 300 characters that says why"),
        (waiver("a", "a", "b\\nc"), ".reason: found b\\nc; expected one line of 1 to 300 characters"),
        (f"{waiver('a', 'a')}, {waiver('A', 'a')}", f"[1]: found a with sha256:{'a' * 64} twice; expected each "),
    ],
)
def test_exceptions_refused(text: str, message: str) -> None:
    """An exception is exact, has a reason, and is there once."""
    place = ":2: exceptions" + ("" if message.startswith("[") else "[0]")
    assert refused(f"extends: base\nexceptions: [{text}]\n").startswith(f"{place}{message}")


def test_exceptions_twice_over_files() -> None:
    """What the line that is extended lets pass is not said again."""
    others = {"one": f"extends: base\nexceptions: [{waiver('a', 'a')}]\n"}
    found = refused(f"extends: one\nexceptions: [{waiver('a', 'a', 'another')}]\n", others)
    assert "found a with sha256:" in found
