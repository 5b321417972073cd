"""Strict YAML: what is read, with its places, and what is refused, in which words."""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlock.errors import ProfileError
from torchlock.profiles.document import DEPTH, SIZE, Node, nearest, parse, read, show

if TYPE_CHECKING:
    from pathlib import Path

WHERE = "environments/x.yaml"
QUIET = settings(deadline=None, database=None, derandomize=True, max_examples=400)


def refused(data: str | bytes) -> str:
    """Return the message with which a document is refused, less the name of the file."""
    with pytest.raises(ProfileError) as caught:
        parse(data if isinstance(data, bytes) else data.encode(), WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert "\n" not in message
    return message.removeprefix(WHERE)


def plain(node: Node) -> object:
    """Return what a node holds, without places."""
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    return {key: plain(item) for key, item in node.value.items()}


def test_values_and_places() -> None:
    """Texts, lists and mappings are read with the line and the path of each."""
    node = parse(b"a: b\nvariants:\n  cuda:\n    platforms:\n    - x\n    - linux-64\n", WHERE)
    assert plain(node) == {"a": "b", "variants": {"cuda": {"platforms": ["x", "linux-64"]}}}
    item = node.table()["variants"].table()["cuda"].table()["platforms"].items()[1]
    assert item.where == "environments/x.yaml:6: variants.cuda.platforms[1]"


@pytest.mark.parametrize(
    "text", ["2.2.2", "linux-64", "numpy<2", "'3.10'", '"no"', '"012"', "yess", "1.2.3-4", "v1", "|\n  3.10"]
)
def test_texts(text: str) -> None:
    """What YAML reads as text, quoted or not, is a text."""
    assert plain(parse(f"a: {text}".encode(), WHERE)) == yaml.safe_load(f"a: {text}")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("3.10", "the number 3.1"),
        ("3.11", "the number 3.11"),
        ("012", "the number 10"),
        ("1_000", "the number 1000"),
        ("0x1F", "the number 31"),
        ("1:30", "the number 90"),
        (".inf", "the number inf"),
        ("no", "the truth value false"),
        ("On", "the truth value true"),
        ("y", "the truth value true"),
        ("2024-01-01", "the date 2024-01-01"),
        ("2024-13-45", "a date"),
        ("1e3", "a number"),
        ("0o14", "a number"),
        ("=", "a default value"),
    ],
)
def test_unquoted(text: str, meaning: str) -> None:
    """A plain scalar that YAML 1.1 or 1.2 reads as something else than text is refused, with how to write it."""
    expected = f':1: python: found {text}, which YAML reads as {meaning}; expected a string; try: quote it: "{text}"'
    assert refused(f"python: {text}") == expected


def test_nothing() -> None:
    """A key without a value, and a tilde, are refused."""
    tail = "; expected a string; try: write a value, or [] for an empty list"
    assert refused("a:\n  also:\nb: c") == f":2: a.also: found nothing{tail}"
    assert refused("a: [~]") == f":1: a[0]: found ~, which YAML reads as nothing{tail}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3: a", ':1: found 3, which YAML reads as the number 3; expected a key that is text; try: quote it: "3"'),
        (
            "a: b\n<<: c",
            ':2: found <<, which YAML reads as a merge key; expected a key that is text; try: quote it: "<<"',
        ),
        ("? [a]\n: b", ":1: found a list or mapping as a key; expected a key that is text"),
        ("v:\n  a: b\n  a: c", ":3: v.a: found this key twice, first on line 2; expected each key once"),
        ("a: {b: c,\n 'b': d}", ":2: a.b: found this key twice, first on line 1; expected each key once"),
    ],
)
def test_keys(text: str, message: str) -> None:
    """A key is text, and stands once: PyYAML would keep the last in silence."""
    assert refused(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: !!python/object:os.system x",
            ":1: a: found the tag !!python/object:os.system; expected a value without a tag",
        ),
        ("a: !!str 3.10", ":1: a: found the tag !!str; expected a value without a tag"),
        ("a: !x [b]", ":1: a: found the tag !x; expected a value without a tag"),
        ("a: &x b\nc: *x", ":1: a: found the anchor &x; expected a value without an anchor"),
        ("a: &x\n  b: *x", ":1: a: found the anchor &x; expected a value without an anchor"),
        ("a: *x", ":1: a: found the alias *x; expected the value itself"),
        ("a: b\n---\nc: d", ":2: found a second document; expected one document a file"),
        ("%YAML 1.2\n---\na: b", ":1: found a % directive; expected a file without directives"),
        ("%TAG ! tag:x,2000:\n---\na: b", ":1: found a % directive; expected a file without directives"),
        ("", ": an empty file; expected a mapping"),
        ("# nothing\n", ": an empty file; expected a mapping"),
        ("a: [", ":1: not YAML: expected the node content, but found '<stream end>'"),
        ("a: b\n\tc: d", ":2: not YAML: found character '\\t' that cannot start any token"),
        ('a: "\\UFFFFFFFF"', ": not YAML: a number in it is out of range"),
        (f"%YAML 1.{'9' * 5000}\n--- a", ": not YAML: a number in it is out of range"),
        ('a: "\\ud800"', ":1: a: found '\\ud800', which holds a control character; expected printable text"),
        ('a: "\\0"', ":1: a: found '\\x00', which holds a control character; expected printable text"),
        ('a: b\nc: "\\e[31m"', ":2: c: found '\\x1b[31m', which holds a control character; expected printable text"),
        ("a: b\nc: \x1b", ":2: found the character U+001B; expected printable text"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """Whatever runs, refers, repeats or hides something is refused."""
    if "%YAML 1.9" in text and not hasattr(sys, "set_int_max_str_digits"):
        message = ":2: found a % directive; expected a file without directives"
    assert refused(text) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: b\nc: \0", ":2: found a NUL byte; expected text in UTF-8"),
        ("a: b".encode("utf-16"), ":1: found a NUL byte; expected text in UTF-8"),
        (b"a: b\nc: \xff", ":2: byte 8 is not UTF-8; expected text in UTF-8"),
        (b"a: \xed\xa0\x80", ":1: byte 3 is not UTF-8; expected text in UTF-8"),
        (b"a: " + b"b" * SIZE, ": larger than 1 MiB; expected a short file"),
    ],
)
def test_bytes(data: bytes, message: str) -> None:
    """What is not short UTF-8 is refused before it is parsed."""
    assert refused(data) == message


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", "=======", ">>>>>>> theirs", "||||||| base"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conflict(mark: str, end: str) -> None:
    """The markers that git leaves in a file are named as such."""
    found = f"found the merge-conflict marker {mark[:7]}"
    rest = "; expected a file without conflicts; try: resolve the conflict by hand"
    assert refused(f"a: b{end}{mark}{end}c: d{end}") == f":2: {found}{rest}"


def test_windows_text() -> None:
    """A byte-order mark and CRLF are accepted, and change no value and no line."""
    node = parse(b"\xef\xbb\xbfa: b\r\nc:\r\n  - d\r\n", WHERE)
    assert node == parse(b"a: b\nc:\n  - d\n", WHERE)
    assert refused("\ufeff<<<<<<< HEAD\r\n").startswith(":1: found the merge-conflict marker <<<<<<<;")


def bomb() -> str:
    """Return ten generations of nine aliases each."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(), ":1: a0: found the anchor &a0; expected a value without an anchor"),
        ("[" * 3000 + "]" * 3000, ":1: more than 32 levels deep; expected a flat file"),
        ("{a: " * 3000 + "}" * 3000, ":1: more than 32 levels deep; expected a flat file"),
        ("- " * 3000, ":1: more than 32 levels deep; expected a flat file"),
        ("\n".join(" " * i + "a:" for i in range(1000)), ":33: more than 32 levels deep; expected a flat file"),
        ("[" * (SIZE - 1), ":1: more than 32 levels deep; expected a flat file"),
        ("- x\n" * (SIZE // 4), ":20001: [19998]: more than 10,000 values; expected a short file"),
    ],
    ids=["aliases", "lists", "mappings", "dashes", "indented", "one MiB of lists", "one MiB of items"],
)
def test_bombs(text: str, message: str) -> None:
    """What would take memory, time or the stack is refused within a second."""
    start = time.process_time()
    found = refused(text)
    assert time.process_time() - start < 1
    assert re.sub(r"^:\d+: \[\d+\]", ":20001: [19998]", found) == message


def test_depth_is_allowed() -> None:
    """As many levels as are permitted are read."""
    assert parse(("[" * DEPTH + "]" * DEPTH).encode(), WHERE).items()


@QUIET
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Any bytes give a value or a ProfileError, and no other exception."""
    with suppress(ProfileError):
        assert isinstance(parse(data, WHERE), Node)


FRAGMENTS = st.sampled_from(
    [
        *"-:?,[]{}#&*!|>'\"%@`<=~\\ \t\n\r0123",
        *[
            "\ufeff",
            "\x85",
            "\u2028",
            "\ud7ff",
            "a",
            "- ",
            ": ",
            "? ",
            "<<",
            "!!",
            "---\n",
            "...\n",
            "&a ",
            "*a ",
            "\\u",
            "\\x0",
            "\\Uffffffff",
            "%YAML 1.1\n",
            "no",
            "1e9",
            "2024-01-01",
            "\n  ",
            "k: ",
        ],
    ]
)


@QUIET
@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_any_yaml(text: str) -> None:
    """Any pieces of YAML give a ProfileError, or just what PyYAML reads where all of it is text."""
    try:
        node = parse(text.encode(), WHERE)
    except ProfileError:
        return
    assert plain(node) == yaml.safe_load(text.removeprefix("\ufeff"))


@QUIET
@given(
    st.recursive(
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=9).filter(str.isprintable),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab.c3~", max_size=3), inner, max_size=4),
        max_leaves=20,
    )
)
def test_round_trip(value: object) -> None:
    """Whatever PyYAML writes of texts, lists and mappings is read as the same value."""
    assert plain(parse(yaml.safe_dump(value, allow_unicode=True, default_style=chr(34)).encode(), WHERE)) == value


def test_wrong_kinds() -> None:
    """A list, a mapping or a text where another is meant is named, with both."""
    table = parse(b"text: x\nlist: [x]\nmap: {a: b}\nempty: ''\n", WHERE).table()
    for call, message in (
        (table["list"].text, ":2: list: found a list; expected text"),
        (table["map"].text, ":3: map: found a mapping; expected text"),
        (table["text"].items, ":1: text: found text; expected a list"),
        (table["map"].items, ":3: map: found a mapping; expected a list"),
        (table["text"].table, ":1: text: found text; expected a mapping"),
        (table["list"].table, ":2: list: found a list; expected a mapping"),
        (table["empty"].text, ":4: empty: found 0 characters of text; expected 1 to 1,000"),
    ):
        with pytest.raises(ProfileError, match=f"^{re.escape(WHERE + message)}$"):
            call()


def test_unknown_and_missing_keys() -> None:
    """An unknown key is refused with the nearest known one, a missing one by its name."""
    node = parse(b"a: b\nplatfroms: [x]\n", WHERE)
    with pytest.raises(ProfileError) as caught:
        node.table(("a", "platforms", "cuda"))
    expected = ":2: platfroms: unknown key 'platfroms'; expected one of a, platforms, cuda; try: platforms"
    assert str(caught.value) == WHERE + expected
    with pytest.raises(ProfileError) as caught:
        node.table(required=("a", "cuda"))
    assert str(caught.value) == f"{WHERE}: the key 'cuda' is missing; expected all of a, cuda"


def test_choice() -> None:
    """A word that is none of the known ones is refused with the nearest."""
    node = parse(b"[linux64, linux-64]", WHERE)
    assert node.items()[1].choice(["linux-64"], "platform") == "linux-64"
    with pytest.raises(ProfileError) as caught:
        node.items()[0].choice(["linux-64", "win-64"], "platform")
    expected = ":1: [0]: unknown platform 'linux64'; expected one of linux-64, win-64; try: linux-64"
    assert str(caught.value) == WHERE + expected


def test_odd_keys_in_paths() -> None:
    """A key that is not a plain word stands quoted in a path."""
    assert refused("a: {'b c.d': {e: 1.0}}").startswith(':1: a."b c.d".e: found 1.0')


def test_show() -> None:
    """A text in a message is short, on one line, printable, and without credentials."""
    assert show("x" * 100) == "x" * 80 + "…"
    assert show("a\nb\x1b") == "a\\nb\\x1b"
    assert show("https://user:p/w@host/ and https://host/") == "https://***@host/ and https://host/"


def test_nearest() -> None:
    """Nothing is near to a word unlike all others."""
    assert nearest("cdua", ["cpu", "cuda", "mps"]) == "cuda"
    assert nearest("x" * 100_000, ["cpu", "cuda"]) == ""


def test_read(tmp_path: Path) -> None:
    """A file is read whole; one that is absent, not a file or too long is refused by its name in messages."""
    (tmp_path / "a.yaml").write_bytes(b"a: b")
    (tmp_path / "b.yaml").write_bytes(b"x" * (SIZE + 1))
    assert plain(read(tmp_path / "a.yaml", WHERE)) == {"a": "b"}
    for name, message in (
        ("none.yaml", "no such file; expected a YAML file"),
        ("", "not a file; expected a YAML file"),
        ("b.yaml", "larger than 1 MiB; expected a short file"),
    ):
        with pytest.raises(ProfileError, match=f"^{re.escape(WHERE)}: {message}$"):
            read(tmp_path / name, WHERE)
