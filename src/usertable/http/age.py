"""How old receipts are, by elapsed time: the system's clock may be set, or be wrong for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SETTLING_MS = 600_000
"""Milliseconds after the start in which nothing expires: a clock that is wrong at boot is set right meanwhile."""


def elapsed_ms() -> int:
    """Milliseconds of a clock that is never set, and that also counts while the machine sleeps."""
    # Not every system has it.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class Age:
    """What is older than a lifetime by the system's clock and by elapsed time, too.

    The clock counts as it stood against elapsed time when it was the furthest behind during one lifetime. So a jump forward
    makes nothing old, and what was dated in a jump backward, which is over, is not old either.

    Belongs to one thread.

    Args:
        lifetime: milliseconds.
        clock: milliseconds since 1970 UTC; it may jump.
        elapsed: milliseconds; it does not.
    """

    def __init__(self, lifetime: int, clock: Callable[[], int], elapsed: Callable[[], int] = elapsed_ms) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._elapsed = elapsed
        self._started = elapsed()
        self._offsets: deque[tuple[int, int]] = deque()
        """When looked, and by how much the clock was ahead of elapsed time then: only those that none after it is below."""
        self.look()

    def look(self) -> None:
        """Compare the clocks. Whatever jumps for less time than there is between two calls is not seen."""
        now = self._elapsed()
        offset = self._clock() - now
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((now, offset))
        while self._offsets[0][0] < now - self._lifetime:
            self._offsets.popleft()

    def before(self) -> int | None:
        """What is dated before this moment is older than the lifetime; None while that cannot be known."""
        self.look()
        now = self._elapsed()
        if now - self._started < SETTLING_MS:
            return None
        return now + self._offsets[0][1] - self._lifetime
