"""Findings about a store and its environment, one per line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "problem"]

MIB = 2**20
FREE_PROBLEM, FREE_WARNING = 100 * MIB, 1024 * MIB
"""Bytes of free space below which there is a problem, or a warning."""
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 2.0, 60.0
"""Seconds of difference between two clocks above which there is a warning, or a problem."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: a line of `usertable doctor`."""

    check: str
    """For example `disk space`."""
    level: Level
    found: str
    advice: str = ""
    """What to do; empty if nothing is wrong."""


def compare_clocks(check: str, ahead: float, other: str, advice: str) -> Finding:
    """Judge a clock that is `ahead` seconds ahead of this machine's."""
    difference = abs(ahead)
    if difference < CLOCK_WARNING_SECONDS:
        return Finding(check, "ok", f"{other} agrees with this machine's clock")
    level: Level = "problem" if difference >= CLOCK_PROBLEM_SECONDS else "warning"
    direction = "ahead of" if ahead > 0 else "behind"
    return Finding(check, level, f"{other} is {difference:,.0f} s {direction} this machine's clock", advice)


def free_space(check: str, folder: Path, free: int, used: int) -> Finding:
    """Judge the free space of a folder's disk, on which usertable uses `used` bytes."""
    shown = f"{free / MIB:,.0f} MiB free at {folder}"
    if free < FREE_PROBLEM:
        return Finding(check, "problem", shown, "Free disk space: writes fail while the disk is full")
    if free < max(FREE_WARNING, used // 4):
        return Finding(check, "warning", shown, "Free at least 1 GiB, and a quarter of the size of the store: logs grow")
    return Finding(check, "ok", shown)


def newest_moment(moment: int | None, now_ms: int) -> Finding:
    """Judge this machine's clock by the newest time in the store; None if it has none."""
    ahead = 0.0 if moment is None else (moment - now_ms) / 1000
    if ahead < CLOCK_WARNING_SECONDS:
        return Finding("clock", "ok", "this machine's clock is not behind the newest time in the store")
    return Finding(
        "clock",
        "problem",
        f"this machine's clock is {ahead:,.0f} s behind the newest time in the store",
        "Synchronize it with NTP: new writes get earlier times than stored ones",
    )
