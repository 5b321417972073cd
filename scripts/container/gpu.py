"""Whether the GPU that a container sees can run the build in the image; modules of torchlock answer, shipped beside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A container sees the driver's device nodes only where it was given a GPU: Linux, WSL 2, Tegra.
NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu")
REMEDY = "a newer NVIDIA driver on the host, or the cpu image; -e CUDA_VISIBLE_DEVICES= leaves the GPU out"


def visible(nodes: Sequence[str] = NODES) -> bool:
    """Tell whether there is a GPU to ask about; looks at file names only."""
    return any(map(os.path.exists, nodes))


def refusal(facts: Mapping[str, Any]) -> str:
    """Say in one line why no GPU here can run the build; nothing where one can, or where there is none."""
    from torchlock.errors import EnvError  # noqa: PLC0415 - asked only where there is a GPU, as all below

    try:
        line(facts)
    except EnvError as error:
        return f"{error.found}; expected {error.expected}; try: {REMEDY}"
    return ""


def line(facts: Mapping[str, Any]) -> str:
    """Return the line of the preflight; raise EnvError where the GPU cannot run the build."""
    from torchlock.doctor import machine  # noqa: PLC0415
    from torchlock.preflight import preflight  # noqa: PLC0415

    return preflight(facts["profile"], _Needs(facts), machine.look())


class _Needs:
    """What the preflight asks of a lock, from the image's facts."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.cuda: str | None = facts["cuda"]
        self.architectures: Sequence[str] = facts["architectures"]
        self.driver: str | None = facts["driver"]
        self.driver_release: str | None = facts["driver_release"]
