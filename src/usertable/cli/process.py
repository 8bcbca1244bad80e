"""Process settings of long-running commands."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM clean up like Ctrl-C. The exit code is 143."""

    def end(number: int, frame: FrameType | None) -> None:
        # A second signal must not interrupt the cleanup.
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def expect_no_cycles() -> None:
    """Make garbage collection rare: rows create no reference cycles, and scanning long-lived objects for them is wasted."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 100)
