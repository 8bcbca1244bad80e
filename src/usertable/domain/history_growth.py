"""How fast a project's history grows, and what will be kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from usertable.domain.moments import DAY_MS, HOUR_MS
from usertable.domain.schema import HistorySettings


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is kept once a limit is reached, if history keeps growing as it has."""

    bytes: int
    days: float
    limit: Literal["days", "gigabytes"]
    """The limit that is reached first."""


def bytes_per_day(size: int, since: int | None, now: int) -> int | None:
    """Return the growth of a history that got `size` bytes since a moment; None if that is less than an hour.

    Args:
        since, now: ms since 1970 UTC; `since` is None if history is off.
    """
    if since is None or now - since < HOUR_MS:
        return None
    return size * DAY_MS // (now - since)


def forecast(settings: HistorySettings, growth: int | None) -> Forecast | None:
    """Return what will be kept; None if history is off or does not grow.

    Args:
        growth: bytes per day.
    """
    if not growth or not settings.is_on:
        return None
    maximum = settings.gigabytes * 10**9
    if growth * settings.days <= maximum:
        return Forecast(growth * settings.days, settings.days, "days")
    return Forecast(maximum, round(maximum / growth, 1), "gigabytes")
