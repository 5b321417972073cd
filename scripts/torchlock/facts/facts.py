"""The facts of an artifact as a value: its modules' NumPy generations, its CUDA build, its C library floors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

KINDS = ("elf", "macho", "pe")
GENERATIONS = ("1", "2")
_RELEASE = re.compile(r"\d+(\.\d+)*")
_ARCHITECTURE = re.compile(r"(sm|compute|lto)_\d+[a-z]?")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Module:
    """A compiled file that uses NumPy's C-API.

    `numpy` is "1" where it was built for NumPy 1.x only, "2" where it was built with the headers of NumPy 2 (it then
    takes 2.x, and 1.x from the minimum that its builder stated). `kind` is its format: elf, macho or pe. `late` is
    true where it looks the interface up at its first use (pybind11, Rust): generation "1" then imports under NumPy 2
    and misreads there what it asks of a dtype, such as its item size.
    """

    path: str
    numpy: str
    kind: str
    late: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.path}: {self.kind!r}, not one of {', '.join(KINDS)}")
        if self.numpy not in GENERATIONS:
            raise ValueError(f"{self.path}: NumPy generation {self.numpy!r}, not one of {', '.join(GENERATIONS)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the bytes of one artifact say; every tuple is sorted and free of repetitions.

    `cuda` is the release of the CUDA runtime that it links or brings, as exact as its bytes tell ("12.1", "12");
    `cudnn` the generation of cuDNN ("8"). `glibc` and `libstdcxx` are the newest symbol versions that it needs.
    `needed` are CUDA's libraries that it links by SONAME and does not bring, `bundled` those that it brings.
    """

    modules: tuple[Module, ...] = ()
    architectures: tuple[str, ...] = ()
    cuda: str | None = None
    cudnn: str | None = None
    glibc: str | None = None
    libstdcxx: str | None = None
    needed: tuple[str, ...] = ()
    bundled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("modules", "architectures", "needed", "bundled"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
        for name in ("cuda", "cudnn", "glibc", "libstdcxx"):
            value = getattr(self, name)
            if value is not None and not _RELEASE.fullmatch(value):
                raise ValueError(f"{name}: {value!r}, not a release such as 12.1")
        for name in self.architectures:
            if not _ARCHITECTURE.fullmatch(name):
                raise ValueError(f"architectures: {name!r}, not one such as sm_80 or compute_90")

    @property
    def numpy(self) -> frozenset[str]:
        """Return the NumPy generations that its modules were built for; empty where none uses the C-API."""
        return frozenset(module.numpy for module in self.modules)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value: keys sorted, nothing that is empty."""
        modules = [
            {"kind": m.kind, **({"late": True} if m.late else {}), "numpy": m.numpy, "path": m.path}
            for m in self.modules
        ]
        value: dict[str, Any] = {
            "architectures": list(self.architectures),
            "bundled": list(self.bundled),
            "cuda": self.cuda,
            "cudnn": self.cudnn,
            "glibc": self.glibc,
            "libstdcxx": self.libstdcxx,
            "modules": modules,
            "needed": list(self.needed),
        }
        return {key: item for key, item in value.items() if item}

    @classmethod
    def from_dict(cls, value: object) -> Facts:
        """Read a JSON value strictly; raise ValueError that names the place of what is wrong."""
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}, not an object")
        for key, item in value.items():
            if key in {"architectures", "bundled", "needed"}:
                if not isinstance(item, list) or not all(isinstance(part, str) for part in item):
                    raise ValueError(f"{key}: not a list of strings")
            elif key in {"cuda", "cudnn", "glibc", "libstdcxx"}:
                if not isinstance(item, str):
                    raise ValueError(f"{key}: not a string")
            elif key != "modules":
                raise ValueError(f"{key!r}: an unknown key")
        found = cls(**{**value, "modules": tuple(_modules(value.get("modules", [])))})
        if found.to_dict() != value:
            raise ValueError("not sorted, or something twice, or an empty value")
        return found


def _modules(value: object) -> list[Module]:
    if not isinstance(value, list):
        raise ValueError("modules: not a list")
    for at, item in enumerate(value):
        if not isinstance(item, dict) or item.keys() - {"late"} != {"kind", "numpy", "path"}:
            raise ValueError(f"modules[{at}]: not an object of kind, numpy and path")
        if not all(part is True if key == "late" else isinstance(part, str) for key, part in item.items()):
            raise ValueError(f"modules[{at}]: a value that is no string")
    return [Module(**item) for item in value]
