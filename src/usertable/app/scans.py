"""Background scans of a whole user table, for results that take longer than a page can wait.

A count, the users changed last, how many users have a value, the distribution of values. A scan reads the table in chunks,
pauses between them, and continues only while somebody waits for it. Its result is kept for a while, with its time, so that
the next request is answered at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.distribution import CHUNK, Distribution, column_pass
from usertable.domain.condition import Condition
from usertable.domain.errors import Unavailable
from usertable.domain.schema import Attribute, Project
from usertable.store.protocol import Browsable

log = logging.getLogger("usertable.scan")

WORKERS = 2
"""Maximum number of concurrent scans; others wait."""
WAITED_SECONDS = 10.0
"""Seconds without a request after which a scan is canceled."""
FRESH_SECONDS = 60.0
"""Maximum age of a result, in seconds, before another pass begins."""
FRESH_TIMES = 50
"""The same in multiples of the pass's duration: a small table is counted again within about a second."""
MIN_FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 0.05
"""Seconds that a page may wait for a pass, if the last one took no longer."""
REMEMBERED = 200
"""Maximum number of results that are kept."""
KEPT_TOP = 2000
"""Maximum number of last changed users in a count."""
SAMPLED_USERS = 2_000_000
"""Number of users above which statistics examine this many evenly spread ones instead of all."""


@dataclass(frozen=True, slots=True)
class Count:
    """The number of users that meet some conditions. `top` has the times and CUIDs of those changed last (or first)."""

    matched: int = 0
    top: tuple[tuple[int, int], ...] = ()

    @property
    def has_all(self) -> bool:
        """Whether `top` contains all matches."""
        return self.matched == len(self.top)


@dataclass(frozen=True, slots=True)
class Filled:
    """By attribute, how many of the examined users have a value."""

    filled: dict[str, int] = field(default_factory=dict)


R = TypeVar("R", bound=Count | Filled | Distribution)
R_co = TypeVar("R_co", bound=Count | Filled | Distribution, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """The current result of a scan."""

    result: R
    examined: int
    """Number of users examined."""
    done: bool
    sampled: bool
    """Whether only evenly spread users were examined, instead of all."""
    at: int
    """When the pass began, ms since 1970 UTC."""
    failed: bool = False
    renewing: bool = False
    """Whether another pass is running, which will find the current result."""

    @property
    def ended(self) -> bool:
        """Whether no other result will follow soon."""
        return self.failed or (self.done and not self.renewing)


class _Pass(Protocol[R_co]):
    """One pass: `step(after)` examines a chunk and returns the number of users, and where it ended."""

    @property
    def chunk(self) -> int: ...

    @property
    def whole(self) -> bool:
        """Whether it must examine every user."""
        ...

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]: ...

    def result(self) -> R_co: ...


class TableScans:
    """Starts scans, and keeps their results. Its methods may be called from any thread."""

    def __init__(self, store: Browsable, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="scan")
        self._scans: OrderedDict[Any, _Scan[Any]] = OrderedDict()
        self._closing = threading.Event()

    def count(
        self,
        project: Project,
        conditions: Sequence[Condition],
        *,
        oldest: bool = False,
        refresh: bool = False,
        wait: bool = False,
    ) -> Found[Count]:
        """Count the users that meet all conditions.

        Args:
            refresh: start another pass, even if there is a result.
            wait: wait for a pass that is known to be short; not for an event loop.
        """
        key = (project.number, "count", tuple(conditions), oldest)
        return self._scan(key, lambda: _CountPass(conditions, oldest), project, refresh, wait)

    def filled(self, project: Project, *, wait: bool = False) -> Found[Filled]:
        """Count, by attribute, the users that have a value."""
        return self._scan((project.number, "filled"), _FillPass, project, False, wait)

    def distribution(
        self, project: Project, attribute: Attribute, *, refresh: bool = False, wait: bool = False
    ) -> Found[Distribution]:
        """Return the distribution of an attribute's values."""
        key = (project.number, "distribution", attribute.name)
        return self._scan(key, lambda: column_pass(attribute, project), project, refresh, wait)

    def forget(self, project: Project) -> None:
        """Discard all results for this project."""
        with self._lock:
            for key in [key for key in self._scans if key[0] == project.number]:
                del self._scans[key]

    def close(self) -> None:
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)

    def _scan(self, key: Any, begin: Callable[[], _Pass[R]], project: Project, refresh: bool, wait: bool) -> Found[R]:
        with self._lock:
            scan: _Scan[R] | None = self._scans.get(key)
            if scan is None:
                scan = self._scans[key] = _Scan(project.number, begin, self._clock.now_ms())
            self._scans.move_to_end(key)
            while len(self._scans) > REMEMBERED:
                self._scans.popitem(last=False)
            scan.wanted_until = self._clock.monotonic() + WAITED_SECONDS
            if not scan.running and (refresh or scan.is_stale(self._clock.now_ms())):
                scan.running = True
                scan.rests.clear()
                self._threads.submit(self._run, scan)
        if wait and scan.took <= PATIENCE_SECONDS:
            scan.rests.wait(PATIENCE_SECONDS)
        return scan.shown()

    def _run(self, scan: _Scan[Any]) -> None:
        try:
            scan.go(self._store, self._clock, self._closing)
        except Unavailable as failure:
            log.warning("a scan of the user table was canceled: %s", failure)
            scan.fail()
        except Exception:
            log.exception("a scan of the user table failed")
            scan.fail()
        finally:
            scan.running = False
            scan.rests.set()


class _Scan(Generic[R]):
    def __init__(self, project: int, begin: Callable[[], _Pass[R]], now: int) -> None:
        self._project = project
        self._begin = begin
        self.wanted_until = 0.0
        self.running = False
        self.rests = threading.Event()
        self.rests.set()
        self.took = math.inf
        """Seconds of the last complete pass, including its pauses."""
        self._now = Found(begin().result(), 0, False, False, now)
        self._before: Found[R] | None = None

    def is_stale(self, now: int) -> bool:
        fresh = min(FRESH_SECONDS, max(MIN_FRESH_SECONDS, FRESH_TIMES * self.took))
        return not self._now.done or now - self._now.at > fresh * 1000

    def shown(self) -> Found[R]:
        """Return the last result. A running pass does not hide the result of the previous one."""
        renewing, now, before = self.running, self._now, self._before
        found = before if before is not None and not now.done else now
        return replace(found, renewing=renewing)

    def fail(self) -> None:
        self._now = replace(self._now, failed=True)

    def go(self, store: Browsable, clock: Clock, closing: threading.Event) -> None:
        if self._now.done:
            self._before = self._now
        work = self._begin()
        found = self._now = Found(work.result(), 0, False, False, clock.now_ms())
        route = _Route(store, self._project, work)
        after: int | None = None
        first = clock.monotonic()
        while True:
            if closing.is_set() or clock.monotonic() > self.wanted_until:
                return
            began = clock.monotonic()
            examined, end = work.step(store, self._project, after)
            after = route.after(end)
            found = self._now = replace(
                found,
                result=work.result(),
                examined=found.examined + examined,
                done=after is None,
                sampled=route.skipped,
            )
            if after is None:
                self.took = clock.monotonic() - first
                self._before = None
                return
            # Pause for as long as the work took, so that writes have the machine at least half of the time.
            clock.wait(closing, clock.monotonic() - began)


class _Route:
    """The chunks of a pass: all chunks of a small table, evenly spread ones of a large one."""

    def __init__(self, store: Browsable, project: int, work: _Pass[Any]) -> None:
        self.skipped = False
        self._steps = itertools.count(1)
        self._step = 0
        cuid_range = None if work.whole else store.cuid_range(project)
        if cuid_range is not None:
            self._first, last = cuid_range
            if last - self._first >= SAMPLED_USERS:
                self._step = (last - self._first) * work.chunk // SAMPLED_USERS
        self._next = 0

    def after(self, end: int | None) -> int | None:
        """Return the CUID after which the next chunk begins, after one that ended at `end`."""
        if end is None or not self._step:
            return end
        while self._next <= end:
            start = self._first + next(self._steps) * self._step
            if self._next < start:
                self._next = start
        self.skipped = True
        return self._next - 1


class _CountPass:
    chunk = 20_000
    whole = True

    def __init__(self, conditions: Sequence[Condition], oldest: bool) -> None:
        self._conditions = conditions
        self._oldest = oldest
        self._count = Count()

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        counted = store.count_matching(project, self._conditions, after, self.chunk, KEPT_TOP, self._oldest)
        top = itertools.islice(heapq.merge(self._count.top, counted.top, reverse=not self._oldest), KEPT_TOP)
        self._count = Count(self._count.matched + counted.matched, tuple(top))
        return counted.examined, counted.end

    def result(self) -> Count:
        return self._count


class _FillPass:
    chunk = CHUNK
    whole = False

    def __init__(self) -> None:
        self._filled: Counter[str] = Counter()

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        counted = store.count_filled(project, after, self.chunk)
        self._filled.update(counted.filled)
        return counted.examined, counted.end

    def result(self) -> Filled:
        return Filled(dict(self._filled))
