"""What every test starts with: Ctrl-C as a terminal gives it, also where the run was put in the background."""

from __future__ import annotations

import signal

# A shell lets its background jobs ignore SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
