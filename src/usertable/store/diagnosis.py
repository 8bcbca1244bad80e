"""What is found when a store and its surroundings are looked at, one thing a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "problem"]

MIB = 2**20
FREE_PROBLEM, FREE_WARNING = 100 * MIB, 1024 * MIB
"""Bytes of free space below which there is a problem, or a warning."""
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 2.0, 60.0
"""Seconds by which two clocks may differ before there is a warning, or a problem."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: a line of `usertable doctor`."""

    check: str
    """For example `disk space`."""
    level: Level
    found: str
    advice: str = ""
    """What to do; empty if all is well."""


def compare_clocks(check: str, ahead: float, other: str, advice: str) -> Finding:
    """Judge a clock that is so many seconds ahead of this machine's."""
    difference = abs(ahead)
    if difference < CLOCK_WARNING_SECONDS:
        return Finding(check, "ok", f"{other} agrees with this machine's clock")
    level: Level = "problem" if difference >= CLOCK_PROBLEM_SECONDS else "warning"
    direction = "ahead of" if ahead > 0 else "behind"
    return Finding(check, level, f"{other} is {difference:,.0f} s {direction} this machine's clock", advice)


def free_space(check: str, folder: Path, free: int, used: int) -> Finding:
    """Judge the free space of a folder's disk, on which there are so many bytes of ours."""
    shown = f"{free / MIB:,.0f} MiB free at {folder}"
    if free < FREE_PROBLEM:
        return Finding(check, "problem", shown, "Make space: writes fail when there is none, and succeed again afterwards")
    if free < max(FREE_WARNING, used // 4):
        return Finding(check, "warning", shown, "Make space for a quarter of the store, and no less than 1 GiB: logs grow")
    return Finding(check, "ok", shown)


def newest_moment(moment: int | None, now_ms: int) -> Finding:
    """Judge this machine's clock by the newest moment in the store; None if it has none."""
    ahead = 0.0 if moment is None else (moment - now_ms) / 1000
    if ahead < CLOCK_WARNING_SECONDS:
        return Finding("clock", "ok", "this machine's clock is not behind the newest moment in the store")
    return Finding(
        "clock",
        "problem",
        f"this machine's clock is {ahead:,.0f} s behind the newest moment in the store",
        "Set it, by NTP: a write now gets an earlier time than the writes before it",
    )
