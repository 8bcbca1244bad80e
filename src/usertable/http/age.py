"""The age of receipts and of history in elapsed time: the system's clock may be set, or be wrong for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SETTLING_MS = 600_000
"""Milliseconds after the start in which nothing expires, so that a clock that is wrong at boot can be corrected."""


def elapsed_ms() -> int:
    """Return milliseconds of a clock that is never set, and that also advances during suspend."""
    # Not every system has it.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class Age:
    """Decides what is older than a lifetime, both by the system's clock and in elapsed time.

    The system's clock is compared with elapsed time, and its lowest reading during one lifetime is used. So a jump forward
    makes nothing expire, and neither does a past jump backward for what was dated during it.

    Belongs to one thread.

    Args:
        lifetime: milliseconds.
        clock: milliseconds since 1970 UTC; may jump.
        elapsed: milliseconds; never jumps.
    """

    def __init__(self, lifetime: int, clock: Callable[[], int], elapsed: Callable[[], int] = elapsed_ms) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._elapsed = elapsed
        self._started = elapsed()
        self._offsets: deque[tuple[int, int]] = deque()
        """Times of comparison, and how far the clock was ahead of elapsed time; without those followed by a lower one."""
        self.look()

    def look(self) -> None:
        """Compare the clocks. A jump that is undone between two calls is not detected."""
        now = self._elapsed()
        offset = self._clock() - now
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((now, offset))
        while self._offsets[0][0] < now - self._lifetime:
            self._offsets.popleft()

    def before(self) -> int | None:
        """Return the time before which everything is older than the lifetime; None while that cannot be known."""
        self.look()
        now = self._elapsed()
        if now - self._started < SETTLING_MS:
            return None
        return now + self._offsets[0][1] - self._lifetime
