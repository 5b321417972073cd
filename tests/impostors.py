"""Fake numpy and torch packages: broken in the ways that real ones break, or just whole enough to import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NUMPY = """
__version__ = "1.26.4"
class ndarray(list):
    def tolist(self): return list(self)
def arange(stop): return ndarray([0.0, 1.0, 2.0])
"""
# Imports and crosses the bridge; nearly every check fails, for lack of anything else.
TORCH = """
import numpy
__version__ = "2.2.2+cu121"
class version:
    cuda = "12.1"
    hip = None
class backends:
    class mps:
        is_built = staticmethod(lambda: False)
class cuda:
    is_available = staticmethod(lambda: False)
class Tensor(numpy.ndarray):
    def numpy(self): return self
def ones(count): return Tensor([1.0] * count)
def from_numpy(array): return array
def set_warn_always(on): pass
"""
NO_NUMPY = "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
NO_TORCH = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"


def plant(folder: Path, *, numpy: str = NUMPY, torch: str = TORCH) -> dict[str, str]:
    """Write both packages into a folder; return the environment in which they hide any real ones."""
    for name, text in (("numpy", numpy), ("torch", torch)):
        package = folder / name
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.fspath(folder), "PYTHONDONTWRITEBYTECODE": "1"}
