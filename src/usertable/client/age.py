"""How long ago something was, told by clocks that may be wrong.

The wall clock is set by people and programs, and stands at 1970 or so on a machine that has not been told the time yet.
The clock that runs since the machine was started is never set, but starts over at each boot.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLOCK_UNSET_MS = 1_767_225_600_000
"""2026-01-01: a wall clock that shows less has not been set, since this program is younger."""
_FUTURE_MS = 3_600_000
_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NO_BOOT = bytes(16)


@cache
def _boot() -> bytes:
    """Which start of the machine this is; zeros where that is not told."""
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
    except (OSError, ValueError):
        return NO_BOOT


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: milliseconds since 1970 UTC by the wall clock, and since the machine's start `boot`."""

    wall_ms: int
    running_ms: int
    boot: bytes

    @classmethod
    def at(cls, wall_ms: int) -> Moment:
        """Now, which the wall clock calls so."""
        return cls(wall_ms, time.clock_gettime_ns(_RUNNING) // 1_000_000, _boot())

    def age_ms(self, now: Moment) -> int | None:
        """How long before `now` it was, rather too long than too short; None if nobody can know."""
        by_wall = now.wall_ms - self.wall_ms
        unset = self.wall_ms < CLOCK_UNSET_MS
        if self.boot == now.boot != NO_BOOT:
            elapsed = now.running_ms - self.running_ms
            # A virtual machine that was suspended counts less than the wall clock, and then the latter is right.
            return elapsed if unset else max(elapsed, by_wall)
        return None if unset or by_wall < -_FUTURE_MS else by_wall
