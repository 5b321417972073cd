"""The registry as a shared cache: layers of a committed image come from there before they would be made here."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from torchlock.images import committed
from torchlock.registry import presence, pull
from torchlock.registry.client import PULL, Client, StatusError

if TYPE_CHECKING:
    from torchlock.oci.blobs import Blobs
    from torchlock.profiles.profile import Target
    from torchlock.registry.reference import Reference
    from torchlock.workspace import Workspace

_CLOSED = frozenset({401, 403, 404})


def restore(workspace: Workspace, target: Target, registry: Reference, blobs: Blobs) -> None:
    """Bring those layers of a target's committed image into the blobs that a registry has, each verified by its digest.

    A repository that is not there, or that this user may not read, gives nothing; whatever else a registry does wrong
    is refused.
    """
    known = committed.read(workspace.root, target.profile, target.platform)
    if known is None:
        return
    lacking = {item.digest: item for item in known.manifest.layers if blobs.get(item, verify=False) is None}
    with closing(Client(registry, PULL, reporter=workspace.reporter)) as client:
        try:
            there = [item for item in lacking.values() if client.run(partial(presence.exists, client, item))]
        except StatusError as error:
            if error.code not in _CLOSED:
                raise
            workspace.reporter.note(f"no layers from the registry: {error}")
            return
        received, _ = pull.fetch(client, there, blobs)
    if lacking:
        counts = f"{len(there)} of {len(lacking)} missing layers came from {registry}"
        workspace.reporter.note(f"{target.profile} {target.platform}: {counts} ({received / 1e6:,.1f} MB)")
