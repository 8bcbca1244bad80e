"""The log of requests that cannot be served now."""

from __future__ import annotations

import logging
from collections.abc import Callable

from usertable.domain.errors import Unavailable

log = logging.getLogger("usertable.http")

LOG_SECONDS = 1.0
"""Seconds between two lines with the same reason."""
_REASONS = 100
"""Maximum number of reasons that are remembered."""


class UnavailableLog:
    """Logs one such request per second and reason, with the number of those since the last line.

    A full disk must not be filled with log lines about it.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._logged: dict[str, tuple[float, int]] = {}
        """By reason: when it was last logged, and the number of requests since."""

    def add(self, failure: Unavailable) -> None:
        """Log a request that failed for this reason, or count it for the next line."""
        reason, now = str(failure), self._monotonic()
        if reason in self._logged:
            at, left_out = self._logged[reason]
            if now - at < LOG_SECONDS:
                self._logged[reason] = (at, left_out + 1)
                return
        else:
            left_out = 0
        if len(self._logged) > _REASONS:
            self._logged.clear()
        self._logged[reason] = (now, 0)
        log.warning(
            "a request was answered with 503: %s%s",
            reason,
            f"; requests answered that way since the last such line: {left_out}" if left_out else "",
        )
