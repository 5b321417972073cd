"""Run torchlock from a checkout: `python scripts/torchlock <verb>`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from torchlock.cli import main  # noqa: E402 - the path must be right first

if __name__ == "__main__":
    sys.exit(main())
