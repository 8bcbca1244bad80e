"""Wait for what happens at a time of its own, such as a line in a log that another process writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 120.0
"""Seconds after which what has not happened never will, on a busy machine too."""


def wait_until(look: Callable[[], T | None], seconds: float = DEADLINE_SECONDS) -> T:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: it did not within this many seconds; with what it returned last.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {found!r}"
        time.sleep(0.02)
    return found
