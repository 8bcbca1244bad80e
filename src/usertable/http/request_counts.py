"""A server process's counts of requests, for its metrics: plain numbers, so that counting costs almost nothing."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, MutableMapping
from typing import Any, Literal

from usertable.domain.errors import ProblemKind
from usertable.histogram import Histogram
from usertable.http.unavailable_log import UnavailableLog

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds of the histograms of requests, in seconds."""
OTHER = "other"
"""Stands for every path without a route, and every method that HTTP does not define."""
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"))

RecordApi = Literal["batch", "import"]
RecordResult = Literal["written", "replayed", "refused", "failed"]
KeyResult = Literal["stored", "replayed", "reused"]


class RouteCounts(Histogram):
    """The answered requests of one method and route: their durations in seconds, and their number by status."""

    __slots__ = ("by_status", "method", "route", "uncounted")

    def __init__(self, method: str = OTHER, route: str = OTHER) -> None:
        super().__init__(SECONDS)
        self.method = method
        self.route = route
        self.by_status: defaultdict[int, int] = defaultdict(int)
        self.uncounted: list[float] = []
        """Seconds of requests that were answered with 200 and will be counted by the next :meth:`settle`.

        Appending costs a write a fifth of what counting it at once would. Requests of one commit took equally long, so they
        are counted together.
        """

    def count(self, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.by_status[status] += 1
        self.observe(seconds)

    def settle(self) -> None:
        """Count what was not counted yet. Call it in the event loop, about once a second."""
        answered, self.uncounted = self.uncounted, []
        self.by_status[200] += len(answered)
        for seconds, times in Counter(answered).items():
            self.observe(seconds, times)


class RequestCounts:
    """A server process's counts of requests. Belongs to the event loop; may be read from any thread.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.unavailable = UnavailableLog(monotonic)
        """Logs the requests that cannot be served now."""
        self.routes: dict[tuple[str, str], RouteCounts] = {}
        """By method and route: ("GET", "/api/v1/projects/{project}"). Their number is bounded, whatever paths are
        requested."""
        self.refusals: defaultdict[ProblemKind, int] = defaultdict(int)
        """Refused requests, and refused records of batches, by the kind of their first problem."""
        self.keys: dict[KeyResult, int] = {"stored": 0, "replayed": 0, "reused": 0}
        """Writes with an `Idempotency-Key`: stored with a new receipt, answered from one, refused because the body
        differs."""
        self.records: defaultdict[tuple[RecordApi, RecordResult], int] = defaultdict(int)
        """Records of batches, by API and result."""

    def route(self, method: str, route: str) -> RouteCounts:
        """Return the counts of a method and route."""
        key = (method if method in _METHODS else OTHER, route)
        found = self.routes.get(key)
        if found is None:
            found = self.routes[key] = RouteCounts(*key)
        return found

    def settle(self) -> None:
        """Count what was not counted yet; see :meth:`RouteCounts.settle`."""
        for route in self.routes.values():
            if route.uncounted:
                route.settle()

    def of(self, scope: MutableMapping[str, Any]) -> RouteCounts:
        """Return the counts of an ASGI request. Whatever answers it stores its route in `scope["route"]`."""
        return self.route(scope["method"], scope.get("route", OTHER))
