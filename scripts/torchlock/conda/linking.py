"""Linking: the child process that unpacks verified packages with rattler, looks into them, and links a prefix.

It runs apart because rattler ends its whole process on some bad packages, and sometimes after a good answer. What
counts is therefore what it reports, line by line, and never its exit status.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlock import files
from torchlock.errors import CondaError, TorchlockError
from torchlock.reporter import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rattler import InstallerReporter, RepoDataRecord

UNPACKERS = 2
# rattler keeps one lock file for each unpacked package: a revision in eight bytes and the sha256 of its archive.
_REVISION = (1).to_bytes(8, "big")
_SCRIPTS = re.compile(r"(bin/\.|Scripts/\.).*-(pre|post)-link\.(sh|bat)")
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.+-]*)\s*=\s*[A-Za-z_][\w.]*\s*:\s*[A-Za-z_][\w.]*")
_PATH = re.compile(r"[^\x00-\x1f\x7f\\]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One package to link: its verified file under its own name, and what the lock says of it."""

    path: str
    name: str
    version: str
    build: str
    subdir: str
    channel: str
    sha256: str
    md5: str
    size: int

    @property
    def stem(self) -> str:
        """The name of the folder that it is unpacked into."""
        return f"{self.name}-{self.version}-{self.build}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to link where: `final` is the path that the files are to hold, though they lie in `staging` at first."""

    items: tuple[Item, ...]
    platform: str
    cache: str
    staging: str
    final: str
    guard: str
    skip_scripts: bool

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read an order."""
        value = json.loads(text)
        return cls(**{**value, "items": tuple(Item(**item) for item in value["items"])})


def serve(order: Order, descriptor: int) -> None:
    """Do what is ordered and report on a file descriptor: `progress`, `note`, and at last `done` or `error`.

    The end of standard input means that the parent is gone, and ends this process at once.
    """
    threading.Thread(target=_watch, daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        guard = threading.Lock()

        def say(**message: Any) -> None:
            with guard:
                out.write(json.dumps(message) + "\n")
                out.flush()

        with files.exclusive(Path(order.guard), Silent()):
            try:
                asyncio.run(_link(order, say))
            except TorchlockError as error:
                say(error=[error.where, error.found, error.expected, error.remedy])
            except Exception as error:  # noqa: BLE001 - rattler's errors have no common class, and all end here
                say(error=[Path(order.final).name, f"rattler: {' '.join(str(error).split())[:600]}", "", ""])
            else:
                say(done=True)


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


async def _link(order: Order, say: Callable[..., None]) -> None:
    from rattler import PackageRecord, RepoDataRecord, Subdir, install  # noqa: PLC0415 - only this process has rattler

    cache = Path(order.cache)
    _unpack(order, cache, say)
    _examine(order, cache, say)
    records = []
    for item in order.items:
        index = cache / item.stem / "info" / "index.json"
        record = PackageRecord.from_index_json(index, item.size, item.sha256, item.md5)
        records.append(RepoDataRecord(record, Path(item.path).name, Path(item.path).as_uri(), item.channel))
    await install(
        records,
        order.staging,
        cache_dir=cache,
        installed_packages=[],
        platform=Subdir(order.platform),
        execute_link_scripts=False,
        reporter=_linked(records, say),
        alternative_target_prefix=order.final,
    )


def _unpack(order: Order, cache: Path, say: Callable[..., None]) -> None:
    """Unpack all archives; what was unpacked must have the sha256 of the lock, to the last byte."""
    from rattler.package_streaming import extract  # noqa: PLC0415 - as above

    total, done = sum(item.size for item in order.items), 0
    guard = threading.Lock()

    def one(item: Item) -> None:
        nonlocal done
        sha256, _ = extract(Path(item.path), cache / item.stem)
        if sha256.hex() != item.sha256:
            raise CondaError(Path(item.path).name, f"sha256:{sha256.hex()}", f"sha256:{item.sha256} as locked")
        (cache / f"{item.stem}.lock").write_bytes(_REVISION + bytes.fromhex(item.sha256))
        with guard:
            done += item.size
            say(progress=["unpacking", done, total])

    with ThreadPoolExecutor(UNPACKERS) as pool:
        try:
            for _ in pool.map(one, sorted(order.items, key=lambda item: -item.size)):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _examine(order: Order, cache: Path, say: Callable[..., None]) -> None:
    """Refuse packages that are not what the lock says, that leave the prefix, clash, or want to run code."""
    python = next((item.version for item in order.items if item.name == "python"), "")
    owners: dict[str, tuple[str, Any]] = {}
    skipped = []
    for item in order.items:
        info = cache / item.stem / "info"
        index = _json(info / "index.json", item)
        _same(item, index)
        scripts = []
        for path, content in destinations(item, index, info, python).items():
            owner, theirs = owners.setdefault(path, (item.stem, content))
            if content != theirs:
                found = f"{owner} and {item.stem} both hold it, with different bytes"
                raise CondaError(path, found, "each file from one package", "leave one of them out of the profile")
            if _SCRIPTS.fullmatch(path):
                scripts.append(path)
        if scripts and not order.skip_scripts:
            found = f"has a link script ({', '.join(scripts)}), which is not run: its effects are in no lock"
            remedy = "choose another build, or SCRIPTS=skip to install it without running them"
            raise CondaError(Path(item.path).name, found, "a package that is files alone", remedy)
        skipped += [item.stem] if scripts else []
    if skipped:
        say(note=f"the link scripts of {', '.join(skipped)} are not run, as SCRIPTS=skip says")


def _same(item: Item, index: Mapping[str, Any]) -> None:
    for key in ("name", "version", "build"):
        if index.get(key) != getattr(item, key):
            where = f"{Path(item.path).name}: info/index.json: {key}"
            raise CondaError(where, repr(index.get(key)), f"{getattr(item, key)!r} as locked")
    if (index.get("noarch") is not None) != (item.subdir == "noarch"):
        found = f"noarch is {index.get('noarch')!r}, and the package lies under {item.subdir}/"
        raise CondaError(f"{Path(item.path).name}: info/index.json", found, "noarch packages under noarch/ alone")


def destinations(item: Item, index: Mapping[str, Any], info: Path, python: str) -> dict[str, Any]:
    """Return where a package's files will lie and what decides about their bytes; refuse a path that leaves."""
    where = f"{Path(item.path).name}: info/paths.json"
    listed = _json(info / "paths.json", item).get("paths")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CondaError(where, "has no list of paths", "a package that conda-build, or one of its kind, made")
    site = f"lib/python{'.'.join(python.split('.')[:2])}/site-packages"
    found: dict[str, Any] = {}
    for entry in listed:
        path = entry.get("_path")
        parts = path.split("/") if isinstance(path, str) else [""]
        if not isinstance(path, str) or not _PATH.fullmatch(path) or not {"", ".", ".."}.isdisjoint(parts):
            raise CondaError(where, f"the path {path!r}", "a path inside the prefix")
        if index.get("noarch") == "python":
            for source, target in (("site-packages/", f"{site}/"), ("python-scripts/", "bin/")):
                path = target + path.removeprefix(source) if path.startswith(source) else path
        if path in found:
            raise CondaError(where, f"{path} stands there twice", "each path once")
        found[path] = [entry.get(key) for key in ("path_type", "sha256", "prefix_placeholder")]
    for text in _entry_points(item, info):
        match = _ENTRY.fullmatch(text) if isinstance(text, str) else None
        if match is None or match["name"].startswith("python"):
            raise CondaError(
                f"{Path(item.path).name}: info/link.json", f"the entry point {text!r}", "name = module:name"
            )
        found[f"bin/{match['name']}"] = text
    return found


def _entry_points(item: Item, info: Path) -> Sequence[Any]:
    if not (info / "link.json").exists():
        return ()
    noarch = _json(info / "link.json", item).get("noarch")
    listed = noarch.get("entry_points") if isinstance(noarch, dict) else None
    return listed if isinstance(listed, list) else ()


def _json(path: Path, item: Item) -> dict[str, Any]:
    where = f"{Path(item.path).name}: info/{path.name}"
    try:
        value = json.loads(path.read_bytes()) if not path.is_symlink() else None
    except (OSError, ValueError, RecursionError) as error:
        raise CondaError(where, f"cannot be read ({type(error).__name__})", "a conda package") from None
    if not isinstance(value, dict):
        raise CondaError(where, "is not a mapping", "a conda package")
    return value


def _linked(records: Sequence[RepoDataRecord], say: Callable[..., None]) -> InstallerReporter:
    """Return what counts the packages that are linked, in bytes of their archives, as rattler tells of each."""
    from rattler import InstallerReporter  # noqa: PLC0415 - as above

    sizes = {record.name.normalized: record.size or 0 for record in records}
    names: list[str] = []

    class Linked(InstallerReporter):
        done = 0

        def on_link_start(self, operation: int, package_name: str) -> int:
            del operation
            names.append(package_name)
            return len(names) - 1

        def on_link_complete(self, index: int) -> None:
            self.done += sizes.get(names[index], 0)
            say(progress=["linking", self.done, sum(sizes.values())])

    return Linked()  # type: ignore[abstract] # the others have empty bodies that are meant
