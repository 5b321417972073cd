"""Integrity: installed files against their RECORD, and packages that were upgraded by hand."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from base64 import urlsafe_b64encode
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from torchlock.doctor import abi, distributions
from torchlock.doctor.findings import ERROR, NOTE, Evidence, Finding, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlock.doctor.distributions import Distribution
    from torchlock.doctor.findings import Case
    from torchlock.reporter import Reporter

HASHERS = 2
SHOWN = 3
_BLOCK = 1 << 20
# What runs, and what installers go by; matched against "path: changed".
_CODE = re.compile(r"(\.(py|pyd|dll|dylib|pth|so(\.[0-9.]+)?)|/METADATA): (changed|missing|cannot)")
_HASHES = frozenset({"sha256", "sha384", "sha512"})


def issues(installed: Sequence[Distribution], reporter: Reporter) -> Mapping[str, tuple[str, ...]]:
    """Hash every file that a RECORD lists; return by project what is changed or missing, largest files first.

    A file that several distributions bring counts as sound where it is what one of them brought.
    """
    owners: dict[Path, list[tuple[str, str, str]]] = defaultdict(list)
    for item in installed:
        for file in item.files or () if _answers(item) else ():
            if file.hash and not file.path.startswith("../") and not file.path.endswith(".pyc"):
                owners[item.site / file.path].append((item.project, file.hash, file.size))
    queue = sorted(owners, key=lambda path: -max(int(size or 0) for _, _, size in owners[path]))
    found: dict[str, list[str]] = defaultdict(list)
    total, done, lock = sum(int(rows[0][2] or 0) for rows in owners.values()), [0], threading.Lock()

    def judge(path: Path) -> str:
        rows = owners[path]
        problem = _problem(path, {(value, size) for _, value, size in rows})
        with lock:
            done[0] += int(rows[0][2] or 0)
            reporter.progress("reading the installed files", min(done[0], total - 1), total)
        shared_and_empty = len({project for project, _, _ in rows}) > 1 and all(size in {"0", ""} for *_, size in rows)
        return "" if shared_and_empty else problem

    with ThreadPoolExecutor(HASHERS) as pool:
        for path, problem in zip(queue, pool.map(judge, queue), strict=True):
            if problem:
                for project in dict.fromkeys(row[0] for row in owners[path]):
                    found[project].append(f"{path}: {problem}")
    reporter.progress("reading the installed files", total, total)
    return {project: tuple(texts) for project, texts in found.items()}


def _answers(item: Distribution) -> bool:
    """Tell whether a RECORD speaks of what is there: a distribution's packagers strip and split, and leave it be."""
    return item.installer != "debian" and item.site.name != "dist-packages"


def examine(case: Case, changed: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Give a finding for each package whose files are not those of one version."""
    several: dict[tuple[Path, str], list[Distribution]] = defaultdict(list)
    for item in case.installed:
        if item.info:
            several[item.site, item.project].append(item)
    mixed = set()
    for (_, project), items in several.items():
        stated = distributions.stated(items[0])
        versions = list(dict.fromkeys(item.version for item in items))
        if len(versions) > 1 or (stated and _answers(items[0]) and not _same(stated[1], items[0].version)):
            mixed.add(project)
            yield _mixed(case, items, versions, changed.get(project, ()))
    for project, texts in changed.items():
        if project not in mixed and project in case.packages:
            yield _changed(case, case.packages[project], texts)


def _mixed(case: Case, items: Sequence[Distribution], versions: Sequence[str], texts: Sequence[str]) -> Finding:
    """Report a package of which two versions lie in one folder."""
    item = items[0]
    stated = distributions.stated(item)
    evidence = [Evidence(where=str(each.site / each.info), mark=f"says {each.version}") for each in items]
    if stated:
        evidence.append(Evidence(where=str(item.site / stated[0]), mark=f"says {stated[1]}"))
    evidence += _shown(texts)
    hand = len(versions) > 1
    said = (
        " and ".join(versions) if hand else f"{versions[0]} by its metadata, {stated[1] if stated else ''} by its files"
    )
    version = _chosen(case, item.project, [*versions, *([stated[1].partition("+")[0]] if stated else [])], hand=hand)
    why = "its files were put in place by hand, over or beside those of another version: parts of both can be loaded"
    return Finding(
        id="mixed-versions",
        what=f"{item.project} is installed in two versions at once: {said}",
        why=why,
        evidence=tuple(evidence),
        remedy=Remedy(
            install=(f"{item.project}=={version}",), reinstall=(item.project,), remove=_leftovers(case, item)
        ),
        packages=(item.project,),
    )


def _changed(case: Case, item: Distribution, texts: Sequence[str]) -> Finding:
    version = _chosen(case, item.project, [item.version], hand=False)
    missing = sum(text.endswith(": missing") for text in texts)
    kinds = [f"{len(texts) - missing} changed"] if len(texts) > missing else []
    kinds += [f"{missing} missing"] if missing else []
    code = any(_CODE.search(text) for text in texts)
    return Finding(
        id="files-changed",
        severity=ERROR if code or (case.wanted and case.wanted.make) else NOTE,
        what=f"{item.named}: {' and '.join(kinds)} of the {len(item.files or ())} files that it was installed with",
        why="the bytes are not those of the wheel: somebody edited, deleted or overwrote them, or the disk is damaged"
        if code
        else "no code is among them: people edit certificates and settings on purpose",
        evidence=(
            Evidence(where=str(item.site / item.info / "RECORD"), mark="gives the hashes that the files must have"),
            *_shown(texts),
        ),
        remedy=Remedy(
            install=(f"{item.project}=={version}",), reinstall=(item.project,), remove=_leftovers(case, item)
        ),
        packages=(item.project,),
    )


def _shown(texts: Sequence[str]) -> list[Evidence]:
    shown = [Evidence(where=path, mark=mark) for path, _, mark in (text.rpartition(": ") for text in texts[:SHOWN])]
    if len(texts) > SHOWN:
        shown.append(Evidence(where="RECORD", mark=f"{len(texts) - SHOWN} more of its files are changed or missing"))
    return shown


def _chosen(case: Case, project: str, versions: Sequence[str], *, hand: bool) -> str:
    """Return the version to install: the lock's; of NumPy one that the others take; else what the files are now."""
    if case.wanted and project in case.wanted.versions:
        return case.wanted.versions[project]
    known = sorted({version for version in versions if _version(version)}, key=Version)
    if project == "numpy" and abi.old(case):
        known = [version for version in known if Version(version).major < 2] or known
        return known[-1]
    return versions[-1] if hand else versions[0]


def _leftovers(case: Case, item: Distribution) -> tuple[Path, ...]:
    """Return the package's folder, if compiled files lie there that no RECORD lists: an installer leaves them."""
    if item.files is None:
        return ()
    listed = {file.path for each in case.installed if each.site == item.site for file in each.files or ()}
    top = item.project.replace("-", "_")
    shared = any(
        file.path.startswith(f"{top}/")
        for each in case.installed
        if each.site == item.site and each.project != item.project
        for file in each.files or ()
    )
    if shared or not (item.site / top).is_dir():
        return ()
    for folder, _, names in os.walk(item.site / top):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), item.site).replace(os.sep, "/")  # noqa: PTH118 - speed
            if distributions.COMPILED.search(name) and path not in listed:
                return (item.site / top,)
    return ()


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _same(left: str, right: str) -> bool:
    return left.partition("+")[0] == right.partition("+")[0] or _version(left) == _version(right) is not None


def _problem(path: Path, wanted: set[tuple[str, str]]) -> str:
    """Return what is wrong with a file that must have one of some hashes and sizes."""
    try:
        size = path.stat().st_size
        if not any(not expected or int(expected) == size for _, expected in wanted):
            return "changed"
        algorithms = {value.partition("=")[0] for value, _ in wanted} & _HASHES
        for algorithm in algorithms:
            state = hashlib.new(algorithm)
            with path.open("rb", buffering=0) as file:
                buffer = memoryview(bytearray(_BLOCK))
                while read := file.readinto(buffer):
                    state.update(buffer[:read])
            value = urlsafe_b64encode(state.digest()).rstrip(b"=").decode()
            if f"{algorithm}={value}" in {text for text, _ in wanted}:
                return ""
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "changed" if algorithms else ""
