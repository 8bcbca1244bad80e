"""How the process of a long command behaves."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Have SIGTERM clean up as Ctrl-C does; the exit code is 143."""

    def end(number: int, frame: FrameType | None) -> None:
        # A second one must not interrupt the cleaning up.
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def expect_no_cycles() -> None:
    """Make garbage collections rare: rows make no cycles, and objects that live long need no look for some."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 100)
