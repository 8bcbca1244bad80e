"""A histogram in Prometheus' form: the number of measurements up to each bound, and their sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts measurements by size.

    Args:
        bounds: the upper bounds of the buckets, ascending: (0.001, 0.01, 0.1). One more bucket counts larger ones.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Measurements by bucket, each counted in only one."""
        self.total = 0.0
        """The sum of all measurements."""

    def observe(self, measurement: float, times: int = 1) -> None:
        """Count a measurement that occurred `times` times."""
        self.counts[bisect_left(self.bounds, measurement)] += times
        self.total += measurement * times
