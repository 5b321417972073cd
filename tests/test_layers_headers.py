"""Headers of foreign tars: every usual dialect is read, and what could be read in two ways is not."""

from __future__ import annotations

import io
import tarfile
from typing import Any, Literal

import pytest

from torchlock.layers import headers
from torchlock.layers.headers import Header, HeaderError

LONG = "/".join(["d" * 60] * 5)


def made(
    tar_format: Literal[0, 1, 2] = tarfile.USTAR_FORMAT, pax: dict[str, str] | None = None, **values: Any
) -> bytes:
    """Return an entry's headers as Python's tarfile writes them."""
    info = tarfile.TarInfo(values.pop("name", "a"))
    info.pax_headers = pax or {}
    for name, value in values.items():
        setattr(info, name, value)
    return info.tobuf(tar_format, "utf-8", "surrogateescape")


def raw(data: bytes, **fields: bytes) -> bytes:
    """Return a header with some fields replaced, and its checksum made right."""
    places = {"name": 0, "mode": 100, "uid": 108, "size": 124, "type": 156, "magic": 257, "devmajor": 329}
    places |= {"prefix": 345, "end": 500}
    block = bytearray(data)
    for name, value in fields.items():
        block[places[name] : places[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(records: bytes, kind: bytes = b"x") -> bytes:
    """Return a pax header with these records and the plain file `a` after it."""
    block = raw(made(), type=kind, size=b"%011o" % len(records))
    return block + records + bytes(-len(records) % 512) + made()


def record(text: str) -> bytes:
    """Return a pax record with its length."""
    size = len(text.encode()) + 2
    return f"{size + len(str(size + 1))} {text}\n".encode()


def read(data: bytes) -> Header | None:
    """Read one entry of a tar."""
    return headers.read(io.BytesIO(data + bytes(1024)).read)


def refused(data: bytes) -> str:
    """Return why an entry is refused."""
    with pytest.raises(HeaderError) as error:
        read(data)
    return str(error.value)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(tarfile.REGTYPE, "file"), (tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hardlink")],
)
def test_dialects(tar_format: Literal[0, 1, 2], kind: bytes, name: str) -> None:
    """Files, folders and links are read in each dialect that tarfile writes."""
    target = "t" if name in ("link", "hardlink") else ""
    data = made(tar_format, name="p/n", type=kind, linkname=target, mode=0o4755, uid=1, gid=2, mtime=3)
    path = "p/n/" if name == "folder" else "p/n"
    assert read(data) == Header(path=path, kind=name, mode=0o4755, size=0, target=target, uid=1, gid=2, mtime=3)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tar_format: Literal[0, 1, 2]) -> None:
    """Names longer than a header, and not in ASCII, are read from GNU's and pax's extensions."""
    found = read(made(tar_format, name=f"{LONG}/\u00fc", type=tarfile.SYMTYPE, linkname=f"../{LONG}/\u4e2d"))
    assert found is not None
    assert (found.path, found.target) == (f"{LONG}/\u00fc", f"../{LONG}/\u4e2d")


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(("name", "value"), [("size", 1 << 40), ("uid", 1 << 30), ("gid", 1 << 30), ("mtime", -5)])
def test_large_numbers(tar_format: Literal[0, 1, 2], name: str, value: int) -> None:
    """Numbers that octal digits cannot hold are read from base 256 and from pax."""
    values: dict[str, Any] = {name: value}
    assert getattr(read(made(tar_format, **values)), name) == value


def test_prefix() -> None:
    """The prefix of ustar is put before the name; a dialect from before has none."""
    block = raw(made(), prefix=b"pre")
    found = read(block)
    assert found is not None
    assert found.path == "pre/a"
    for magic in (b"\0" * 8, b"ustar  \0"):
        assert refused(raw(block, magic=magic)) == "a header of an unknown dialect"
        assert read(raw(made(), magic=magic)) == read(made())


def test_fraction_of_a_second() -> None:
    """A time of pax may have a fraction; extended attributes are passed over."""
    pax = {
        "mtime": "12.75",
        "atime": "1.5",
        "SCHILY.xattr.security.capability": "\u00ff",
        "LIBARCHIVE.creationtime": "1",
    }
    found = read(made(tarfile.PAX_FORMAT, pax=pax))
    assert found is not None
    assert found.mtime == 12


def test_end() -> None:
    """A block of zeros ends a tar."""
    assert read(b"") is None


def test_comment() -> None:
    """A global header that only comments is passed over."""
    found = read(extended(record("comment=made by hand"), b"g"))
    assert found is not None
    assert found.path == "a"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (b"3", "the character device 'a'"),
        (b"4", "the block device 'a'"),
        (b"6", "the named pipe 'a'"),
        (b"S", "the sparse file 'a'"),
        (b"7", "an entry of the type b'7', 'a'"),
        (b"V", "an entry of the type b'V', 'a'"),
        (b"D", "an entry of the type b'D', 'a'"),
    ],
)
def test_kinds(kind: bytes, what: str) -> None:
    """Nothing but files, folders and links has a place in a layer."""
    assert refused(raw(made(), type=kind)) == what


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made()[:200] + b"x" + made()[201:], "a header whose checksum is wrong"),
        (raw(made(), size=b"12345678901x"), r"the number b'12345678901x'"),
        (raw(made(), mode=b"-000644\0"), r"the number b'-000644\x00'"),
        (raw(made(), magic=b"ustar\00001"), "a header of an unknown dialect"),
        (raw(made(), magic=b"star\0\0\0\0"), "a header of an unknown dialect"),
        (raw(made(), type=b"L", mode=b"x"), r"the number b'x000644\x00'"),
        (raw(made(), type=b"x", mode=b"x"), r"the number b'x000644\x00'"),
        (raw(made(), type=b"2", name=b"a/"), "'a/' is a link, and its name ends like a folder's"),
        (raw(made(), end=b"\0" * 8 + b"tar\0"), "a header of an unknown dialect"),
        (raw(made(), uid=b"\xe3"), r"the number b'\xe3000000\x00'"),
        (raw(made(), devmajor=b"7x"), r"the number b'7x\x00\x00\x00\x00\x00\x00'"),
        (raw(made(), size=b"\xff" * 12), "'a' is a file of -1 bytes"),
        (raw(made(), type=b"5", size=b"00000000001\0"), "'a' is a folder of 1 bytes"),
        (raw(made(), type=b"2", size=b"00000000001\0"), "'a' is a link of 1 bytes"),
        (raw(made(), type=b"1", size=b"00000000001\0"), "'a' is a hardlink of 1 bytes"),
        (raw(made(), name=b"a/"), "'a/' is a file, and its name ends like a folder's"),
        (raw(made(), name=b"\xff"), r"the name b'\xff', which is not UTF-8"),
        (raw(made(), name=b"a\nb"), r"the name 'a\nb', which holds a control character"),
        (extended(record("path=b\0c")), r"the name 'b\x00c', which holds a control character"),
        (extended(record("GNU.sparse.major=1")), "an extended header that says the unknown 'GNU.sparse.major'"),
        (extended(record("path=b") * 2), "an extended header that says twice 'path'"),
        (extended(record("path=b")[:-1] + b"x"), "an extended header that cannot be read"),
        (extended(b"99 path=b\n"), "an extended header that cannot be read"),
        (extended(b"0 path=b\n"), "an extended header that cannot be read"),
        (extended(record("without a value")), "an extended header that cannot be read"),
        (extended(record("path=")), "a name of 0 bytes"),
        (extended(record("mtime=soon")), "the mtime 'soon'"),
        (extended(record("size=1e3")), "the size '1e3'"),
        (extended(record("size=-1")), "'a' is a file of -1 bytes"),
        (extended(record("path=b"), b"g"), "a global header that sets path"),
        (extended(record("path=b"))[:1024] * 2, "two extended headers of one kind before one entry"),
        (extended(record("path=b"))[:1024], "an extended header without an entry"),
        (raw(made(), type=b"x", size=b"%011o" % (2 << 20)), "an extended header of 2097152 bytes"),
        (raw(made(), type=b"L", size=b"%011o" % 0), "an extended header of 0 bytes"),
        (raw(made(), type=b"L", size=b"%011o" % 5000) + b"x" * 5000, "a name of 5000 bytes"),
    ],
)
def test_ambiguous(data: bytes, message: str) -> None:
    """A header that two readers could take for two things is refused, and the message says what it is."""
    assert refused(data) == message


def test_pax_prevails() -> None:
    """Where GNU and pax both give a name, pax's holds, in either order: as GNU tar and Go have it."""
    long = made(tarfile.GNU_FORMAT, name="l" * 200)[:-512]
    pax = extended(record("path=p"))[:1024]
    assert [found and found.path for found in (read(long + pax + made()), read(pax + long + made()))] == ["p", "p"]
