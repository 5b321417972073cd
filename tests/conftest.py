"""What tests start with: Ctrl-C as a terminal gives it, also in the background, and empty servers on loopback."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

import registries
import servers
from torchlock.oci.blobs import Blobs
from torchlock.registry.client import PUSH, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A shell lets its background jobs ignore SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def site() -> Iterator[servers.Site]:
    """Serve whatever a test publishes."""
    with servers.serving() as found:
        yield found


@pytest.fixture
def registry() -> Iterator[registries.Registry]:
    """Serve an empty registry."""
    with registries.serving(registries.Registry()) as made:
        yield made


@pytest.fixture
def client(registry: registries.Registry) -> Client:
    """Make a client of the registry's `a/b` that may push."""
    return registries.connect(registry, "a/b", PUSH)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Make an empty folder of blobs."""
    return Blobs(tmp_path / "blobs")
