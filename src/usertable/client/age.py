"""The age of a moment, measured with clocks that may be wrong.

The wall clock is set by people and programs, and shows about 1970 on a machine that has not been synchronized yet. The clock
that runs since boot is never set, but restarts at each boot.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLOCK_UNSET_MS = 1_767_225_600_000
"""Milliseconds since 1970 UTC: 2026-01-01. A wall clock that shows less has not been set, because this program is younger.
"""
_FUTURE_MS = 3_600_000
_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NO_BOOT = bytes(16)


@cache
def _boot() -> bytes:
    """Return the ID of the current boot; zeros if the system has none."""
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
    except (OSError, ValueError):
        return NO_BOOT


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: milliseconds since 1970 UTC by the wall clock, and milliseconds since the boot `boot`."""

    wall_ms: int
    running_ms: int
    boot: bytes

    @classmethod
    def at(cls, wall_ms: int) -> Moment:
        """Return the current moment, with this wall clock time."""
        return cls(wall_ms, time.clock_gettime_ns(_RUNNING) // 1_000_000, _boot())

    def age_ms(self, now: Moment) -> int | None:
        """Return the age at `now` in milliseconds, rather too high than too low; None if it cannot be known."""
        by_wall = now.wall_ms - self.wall_ms
        unset = self.wall_ms < CLOCK_UNSET_MS
        if self.boot == now.boot != NO_BOOT:
            elapsed = now.running_ms - self.running_ms
            # The boot clock of a suspended virtual machine is behind; then the wall clock is right.
            return elapsed if unset else max(elapsed, by_wall)
        return None if unset or by_wall < -_FUTURE_MS else by_wall
