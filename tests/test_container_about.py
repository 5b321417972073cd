"""What an image says of itself, word for word."""

from __future__ import annotations

import inside
from container import about
from torchlock.images import application

CUDA = """\
An image made by torchlock: a function of the lock below, and of nothing else.

  profile   torch2.2-cuda
  platform  linux-64
  torch     2.2.2
  numpy     1.26.4
  CUDA      12.1 for compute_90, sm_80; NVIDIA driver 525.60.13 or newer
  Python    3.11.2
  lock      {lock}
  base      bookworm sha256:0123
  licences  BSD-3-Clause AND MIT

2 packages in /opt/torchlock/env:
  numpy  1.26.4  BSD-3-Clause
  torch  2.2.2   MIT

smoke it:  docker run --rm --gpus all IMAGE smoke --require-device cuda
use it:    docker run --rm --gpus all IMAGE python -c 'import torch; print(torch.__version__)'"""


def test_a_cuda_image_describes_itself() -> None:
    """Versions, GPU, digests, licences, packages, and what to type."""
    facts = inside.facts()
    assert about.text(facts) == CUDA.format(lock=facts["lock"])


def test_the_place_it_names_is_the_one_where_packages_are() -> None:
    """The text and the layers agree."""
    assert f"in /{application.ENVIRONMENT}:" in CUDA


def test_an_image_without_numpy_says_none() -> None:
    """Nothing is left out in silence."""
    assert "\n  numpy     none\n" in about.text({**inside.facts("cpu"), "numpy": None})
