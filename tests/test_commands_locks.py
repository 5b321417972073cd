"""Which kinds of locks the verbs make: one resolver alone is one kind alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from torchlock.commands import locks
from torchlock.reporter import Silent
from torchlock.workspace import Settings, Workspace

KINDS = [
    (None, ["wheels", "conda"]),
    ("uv", ["wheels"]),
    ("pip-tools", ["wheels"]),
    ("conda-lock", ["conda"]),
]


@pytest.mark.parametrize(("resolver", "kinds"), KINDS)
def test_kinds(monkeypatch: pytest.MonkeyPatch, resolver: str | None, kinds: list[str]) -> None:
    """Without RESOLVER both kinds are locked, the wheels first."""
    made: list[str] = []

    def making(kind: str) -> int:
        made.append(kind)
        return 0

    monkeypatch.setattr(locks, "make_wheels", lambda *_: making("wheels"))
    monkeypatch.setattr(locks, "lock_conda", lambda *_: making("conda"))
    workspace = Workspace(Path.cwd(), Settings(resolver=resolver), Silent())
    assert locks.make_all(workspace, argparse.Namespace(profiles=[])) == 0
    assert made == kinds


def test_wheels_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheels are refused, conda is not asked, and the status is theirs."""
    monkeypatch.setattr(locks, "make_wheels", lambda *_: 3)
    assert locks.make_all(Workspace(Path.cwd(), Settings(), Silent()), argparse.Namespace(profiles=[])) == 3
