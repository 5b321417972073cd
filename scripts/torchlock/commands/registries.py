"""Verbs of images at a registry: push them there and pull them from there, by digest."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torchlock.commands import layouts
from torchlock.digest import Digest
from torchlock.engine import evidence
from torchlock.errors import ImageError
from torchlock.images import committed, index
from torchlock.oci import layout
from torchlock.oci.blobs import Blobs
from torchlock.oci.descriptor import INDEX, PLATFORMS, Descriptor
from torchlock.registry import documents, pull, push, referrers
from torchlock.registry.client import PULL, PUSH, Client, StatusError
from torchlock.registry.reference import Reference

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from torchlock.commands.layouts import Ready
    from torchlock.engine.evidence import Evidence
    from torchlock.profiles.profile import Target
    from torchlock.workspace import Workspace


def push_image(workspace: Workspace, options: argparse.Namespace) -> int:
    """Push the images of a profile to a registry, by digest, with what it lacks of them; tags last."""
    target = _registry(options)
    chosen = layouts.targets(workspace, options)
    readies = [layouts.ready(workspace, options, item) for item in chosen]
    kept = [(item, _kept(item)) for item in readies] if options.evidence else []
    several = len(layouts.capable(workspace, options.profile)) > 1
    with closing(Client(target, PUSH, readable=_mounts(options, target), reporter=workspace.reporter)) as client:
        send = partial(push.push, target=target, mounts=_mounts(options, target), client=client)
        for ready in readies:
            tags = [f"{ready.tag}-{ready.platform.architecture}" if several else ready.tag]
            print(_pushed(ready.name, send(ready.image, ready.file, tags=tags)), flush=True)
        whole = _index(workspace, options, readies)
        if whole is not None:
            done = send(whole[0], partial(_file, readies, whole), tags=[readies[0].tag])
            print(_pushed(f"{readies[0].target.profile} on {len(readies)} platforms", done), flush=True)
        for ready, found in kept:
            put = referrers.attach(client, ready.image, evidence.MEDIA_TYPE, found.to_json(), found.annotations)
            how = " (listed by a tag: the registry has no list of referrers)" if put.by_tag else ""
            print(f"{ready.name}: evidence {found.result} attached as {put.descriptor.digest}{how}", flush=True)
    return 0


def pull_image(workspace: Workspace, options: argparse.Namespace) -> int:
    """Pull the image of a profile by its committed digest, every blob verified, into the layout of `image`."""
    source = _registry(options)
    target = layouts.here(workspace, options)
    known = committed.read(workspace.root, target.profile, target.platform)
    if known is None:
        raise _uncommitted(target)
    blobs = Blobs(workspace.store.root / "blobs", workspace.reporter)
    tag = known.labels[layouts.VERSION]
    with closing(Client(source, PULL, reporter=workspace.reporter)) as client:
        found = pull.pull(
            source.at(known.image.digest),
            blobs,
            platform=known.image.platform,
            client=client,
        )
        remark = _named(workspace, client, target, tag, known.image.digest, blobs)
    folder = layouts.folder(workspace, options, target)
    layout.write(folder, [known.image.descriptor({layout.REF_NAME: tag})], blobs, workspace.reporter)
    print(
        f"{target.profile} {target.platform}: {source.at(known.image.digest)}, the committed digest\n"
        f"  {found.received / 1e6:,.1f} MB received, {found.present} blobs here already,"
        f" in {layouts.shown(workspace, folder)}"
    )
    if remark:
        workspace.reporter.note(remark)
    return 0


def _kept(ready: Ready) -> Evidence:
    """Return the evidence that is kept of an image; refuse that of another."""
    remedy = f"make smoke-image-{ready.target.profile} PLATFORM={ready.target.platform}"
    if not ready.evidence.is_file():
        raise ImageError(ready.evidence, "is missing", f"the evidence of a smoke run of {ready.image.digest}", remedy)
    found = evidence.read(ready.evidence)
    if found.image != ready.image.digest:
        raise ImageError(ready.evidence, f"is about {found.image}", str(ready.image.digest), remedy)
    return found


def _index(
    workspace: Workspace, options: argparse.Namespace, readies: Sequence[Ready]
) -> tuple[Descriptor, Path] | None:
    """Return the committed index of all platforms of a profile, where all of them are pushed."""
    place = index.path(workspace.root, readies[0].target.profile)
    if workspace.settings.platform is not None or options.base or not place.is_file():
        return None
    index.check(workspace.root, workspace.catalogue.find(options.profile))
    data = place.read_bytes()
    return Descriptor(media_type=INDEX, digest=Digest.of(data), size=len(data)), place


def _file(readies: Sequence[Ready], whole: tuple[Descriptor, Path], descriptor: Descriptor) -> Path:
    """Return where a blob of an index, or of one of its images, lies."""
    if descriptor.digest == whole[0].digest:
        return whole[1]
    name = Path("blobs", "sha256", descriptor.digest.hex)
    holders = [item for item in readies if (item.folder / name).is_file()]
    return (holders or list(readies))[0].file(descriptor)


def _pushed(name: str, done: push.Pushed) -> str:
    resumed = f", {done.resumed} resumed" if done.resumed else ""
    counts = f"{done.uploaded} blobs sent, {done.skipped} there already, {done.mounted} mounted{resumed}"
    tags = f", tagged {', '.join(done.tags)}" if done.tags else ""
    return f"{name}: {done.reference}\n  {done.sent / 1e6:,.3f} MB sent; {counts}{tags}"


def _named(  # noqa: PLR0913, PLR0917 - what it compares
    workspace: Workspace, client: Client, target: Target, tag: str, digest: Digest, blobs: Blobs
) -> str:
    """Return a remark where the registry's tag is not this image: nothing depends on it."""
    several = len(layouts.capable(workspace, target.profile)) > 1
    name = client.repository.tagged(f"{tag}-{PLATFORMS[target.platform].architecture}" if several else tag)
    try:
        found = documents.document(client, name, blobs)
    except StatusError as error:
        if error.code == 404:
            return f"{name} is not there: this image was pulled by its digest"
        raise
    return (
        ""
        if found.digest == digest
        else f"{name} is {found.digest}: tags move, and this image was pulled by its digest"
    )


def _registry(options: argparse.Namespace) -> Reference:
    if not options.registry:
        raise ImageError("REGISTRY", "is not given", "host[:port]/repository", "REGISTRY=localhost:5000/torchlock")
    return Reference.parse(options.registry)


def _mounts(options: argparse.Namespace, target: Reference) -> list[str]:
    """Return the other repositories of the registry that MOUNT names."""
    named = [Reference.parse(f"{target.registry}/{word}").repository for word in (options.mount or "").split()]
    return [name for name in named if name != target.repository]


def _uncommitted(target: Target) -> ImageError:
    where = f"{target.profile} {target.platform}"
    return ImageError(
        where, "no image is committed, and nothing else says what to trust", "", f"make image-{target.profile}"
    )
