"""TableScans: passes through a whole user table in the background, for what no page can wait for.

A count, who changed last, how many users have a value, how values are spread. A scan goes through the table stretch by
stretch, rests between them, and goes on only as long as somebody waits for it. What it found stays for a while, with its
moment, so that whoever asks next is answered at once.
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
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.domain.condition import Condition
from usertable.domain.errors import Unavailable
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value
from usertable.store.protocol import Browsable

log = logging.getLogger("usertable.scan")

WORKERS = 2
"""So many scans go on at once; others wait."""
WAITED_SECONDS = 10.0
"""A scan that nobody asked after for so long is given up."""
FRESH_SECONDS = 60.0
"""What was found is given again for so long at most before another pass begins."""
FRESH_TIMES = 50
"""That long in times of what the pass took: a small table is counted again within a second or so."""
FRESH_LEAST_SECONDS = 1.0
PATIENCE_SECONDS = 0.05
"""A page that can wait does so for a pass that took no longer the last time."""
REMEMBERED = 200
KEPT_EDGE = 2000
"""So many of the last changed users a count knows."""
STRETCH = 5000
LIST_STRETCH = 200
SAMPLED_USERS = 2_000_000
"""A table of more users than this is not gone through whole for its statistics, but in so many evenly spread samples."""
DISTINCT = 20_000
"""So many different values are counted at most."""
SHOWN_CHARACTERS = 200
FINE_BINS = 4000
BINS = 40


@dataclass(frozen=True, slots=True)
class Count:
    """How many users meet some conditions; `edge` has the times and CUIDs of those who were changed last (or first)."""

    matched: int = 0
    edge: tuple[tuple[int, int], ...] = ()

    @property
    def has_all(self) -> bool:
        """Whether all that matched are in `edge`."""
        return self.matched == len(self.edge)


@dataclass(frozen=True, slots=True)
class Filled:
    """By attribute, how many users of those looked at have a value."""

    filled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie from `low` up to and without `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the values of an attribute are spread: `bins` for numbers and moments, `top` for the other types."""

    values: int = 0
    """So many users have a value."""
    bins: tuple[Bin, ...] = ()
    least: int | Decimal | None = None
    greatest: int | Decimal | None = None
    top: tuple[tuple[str | bool, int], ...] = ()
    distinct: int = 0
    rounded: bool = False
    """There were too many different values to count each: rare ones are missing, and a count may be too low."""


R = TypeVar("R", bound=Count | Filled | Distribution)
R_co = TypeVar("R_co", bound=Count | Filled | Distribution, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """What a scan has found so far."""

    result: R
    examined: int
    """So many users were looked at."""
    done: bool
    sampled: bool
    """Not all users were looked at, but evenly spread ones."""
    at: int
    """When the pass began, ms since 1970 UTC."""
    failed: bool = False
    renewing: bool = False
    """Another pass goes on, which will find what is so now."""

    @property
    def ended(self) -> bool:
        """Whether there will be nothing else before long."""
        return self.failed or (self.done and not self.renewing)


class _Pass(Protocol[R_co]):
    """One pass: `step(after)` looks at a stretch and gives how many users that were, and where it ended."""

    @property
    def stretch(self) -> int: ...

    @property
    def whole(self) -> bool:
        """Whether it must see every user."""
        ...

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]: ...

    def result(self) -> R_co: ...


class TableScans:
    """Begins scans, and remembers what they found. Its methods may be called from any thread."""

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
        anew: bool = False,
        patient: bool = False,
    ) -> Found[Count]:
        """Count the users that meet all conditions.

        Args:
            anew: begin another pass, whatever is known.
            patient: wait for a pass that is known to be short; not for an event loop.
        """
        key = (project.number, "count", tuple(conditions), oldest)
        return self._scan(key, lambda: _CountPass(conditions, oldest), project, anew, patient)

    def filled(self, project: Project, *, patient: bool = False) -> Found[Filled]:
        """Count, by attribute, who has a value."""
        return self._scan((project.number, "filled"), _FillPass, project, False, patient)

    def distribution(
        self, project: Project, attribute: Attribute, *, anew: bool = False, patient: bool = False
    ) -> Found[Distribution]:
        """How the values of an attribute are spread."""
        key = (project.number, "distribution", attribute.name)
        return self._scan(key, lambda: _passes[attribute.type](attribute, project), project, anew, patient)

    def forget(self, project: Project) -> None:
        """Give nothing again that was found in this project so far."""
        with self._lock:
            for key in [key for key in self._scans if key[0] == project.number]:
                del self._scans[key]

    def close(self) -> None:
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)

    def _scan(self, key: Any, begin: Callable[[], _Pass[R]], project: Project, anew: bool, patient: bool) -> Found[R]:
        with self._lock:
            scan: _Scan[R] | None = self._scans.get(key)
            if scan is None:
                scan = self._scans[key] = _Scan(project.number, begin, self._clock.now_ms())
            self._scans.move_to_end(key)
            while len(self._scans) > REMEMBERED:
                self._scans.popitem(last=False)
            scan.wanted_until = self._clock.monotonic() + WAITED_SECONDS
            if not scan.running and (anew or scan.is_stale(self._clock.now_ms())):
                scan.running = True
                scan.rests.clear()
                self._threads.submit(self._run, scan)
        if patient and scan.took <= PATIENCE_SECONDS:
            scan.rests.wait(PATIENCE_SECONDS)
        return scan.shown()

    def _run(self, scan: _Scan[Any]) -> None:
        try:
            scan.go(self._store, self._clock, self._closing)
        except Unavailable as failure:
            log.warning("a scan was given up: %s", failure)
            scan.fail()
        except Exception:
            log.exception("a scan failed")
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
        """Seconds of the last whole pass, its rests included."""
        self._now = Found(begin().result(), 0, False, False, now)
        self._before: Found[R] | None = None

    def is_stale(self, now: int) -> bool:
        fresh = min(FRESH_SECONDS, max(FRESH_LEAST_SECONDS, FRESH_TIMES * self.took))
        return not self._now.done or now - self._now.at > fresh * 1000

    def shown(self) -> Found[R]:
        """What was found last; a pass that goes on does not hide what the one before it found."""
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
            # As long a rest as the work took: whoever writes has the machine half of the time at least.
            clock.wait(closing, clock.monotonic() - began)


class _Route:
    """Where a pass goes: from stretch to stretch through a small table, to evenly spread ones of a large one."""

    def __init__(self, store: Browsable, project: int, work: _Pass[Any]) -> None:
        self.skipped = False
        self._places = itertools.count(1)
        self._step = 0
        extent = None if work.whole else store.extent(project)
        if extent is not None:
            self._first, last = extent
            if last - self._first >= SAMPLED_USERS:
                self._step = (last - self._first) * work.stretch // SAMPLED_USERS
        self._next = 0

    def after(self, end: int | None) -> int | None:
        """The CUID after which the stretch begins that follows one which ended at `end`."""
        if end is None or not self._step:
            return end
        while self._next <= end:
            place = self._first + next(self._places) * self._step
            if self._next < place:
                self._next = place
        self.skipped = True
        return self._next - 1


class _CountPass:
    stretch = 20_000
    whole = True

    def __init__(self, conditions: Sequence[Condition], oldest: bool) -> None:
        self._conditions = conditions
        self._oldest = oldest
        self._count = Count()

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        tally = store.tally(project, self._conditions, after, self.stretch, KEPT_EDGE, self._oldest)
        edge = itertools.islice(heapq.merge(self._count.edge, tally.edge, reverse=not self._oldest), KEPT_EDGE)
        self._count = Count(self._count.matched + tally.matched, tuple(edge))
        return tally.examined, tally.end

    def result(self) -> Count:
        return self._count


class _FillPass:
    stretch = STRETCH
    whole = False

    def __init__(self) -> None:
        self._filled: Counter[str] = Counter()

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        fill = store.fill(project, after, self.stretch)
        self._filled.update(fill.filled)
        return fill.examined, fill.end

    def result(self) -> Filled:
        return Filled(dict(self._filled))


class _ColumnPass:
    """A pass over the values of one attribute."""

    stretch = STRETCH
    whole = False

    def __init__(self, attribute: Attribute, project: Project) -> None:
        self._name = attribute.name
        self._values = 0

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        column = store.column(project, self._name, after, self.stretch)
        self._values += len(column.values)
        if column.values:
            self.add(column.values)
        return column.examined, column.end

    def add(self, values: list[Value]) -> None:
        raise NotImplementedError

    def result(self) -> Distribution:
        raise NotImplementedError


class _TopPass(_ColumnPass):
    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._counts: Counter[str | bool] = Counter()
        self._rounded = False
        if attribute.type is DataType.LIST:
            self.stretch = LIST_STRETCH

    def add(self, values: list[Any]) -> None:
        if isinstance(values[0], list):
            values = list(itertools.chain.from_iterable(values))
        self._counts.update(v[:SHOWN_CHARACTERS] if isinstance(v, str) else v for v in values)
        if len(self._counts) > DISTINCT:
            self._counts = Counter(dict(self._counts.most_common(DISTINCT // 2)))
            self._rounded = True

    def result(self) -> Distribution:
        top = tuple(self._counts.most_common(12))
        return Distribution(self._values, top=top, distinct=len(self._counts), rounded=self._rounded)


class _HistogramPass(_ColumnPass):
    """Counts values in fine bins, whose width grows with the range, each time by a whole factor."""

    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._least: Any = None
        self._greatest: Any = None
        self._fine: Counter[int] = Counter()
        self._width = 0.0
        self._is_moment = attribute.type is DataType.DATETIME
        self._shift = 0
        if self._is_moment:
            # Days begin at midnight of the project's zone, as it is now.
            offset = project.zone.utcoffset(datetime.now())
            self._shift = int(offset.total_seconds() * 1000) if offset else 0

    def add(self, values: list[Any]) -> None:
        least, greatest = min(values), max(values)
        self._least = least if self._least is None else min(self._least, least)
        self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)
        if not self._width:
            self._width = self._first_width(values, float(greatest) - float(least))
        width, shift = self._width, self._shift
        self._fine.update(math.floor((float(value) + shift) / width) for value in values)
        while max(self._fine) - min(self._fine) >= FINE_BINS:
            factor = self._factor()
            self._width *= factor
            coarser: Counter[int] = Counter()
            for place, count in self._fine.items():
                coarser[place // factor] += count
            self._fine = coarser

    def _first_width(self, values: list[Any], span: float) -> float:
        if self._is_moment:
            return 60_000.0
        if all(type(value) is int for value in values) or not span:
            return 1.0
        return float(10.0 ** (math.floor(math.log10(span)) - 2))

    def _factor(self) -> int:
        if self._is_moment and self._width < 86_400_000:
            return 60 if self._width < 3_600_000 else 24
        return 10

    def result(self) -> Distribution:
        if not self._fine:
            return Distribution(self._values)
        first, last = min(self._fine), max(self._fine)
        factor = next(f for f in _FACTORS if last // f - first // f < BINS)
        counts: Counter[int] = Counter()
        for place, count in self._fine.items():
            counts[place // factor] += count
        width = self._width * factor
        bins = tuple(
            Bin(place * width - self._shift, (place + 1) * width - self._shift, counts[place])
            for place in range(first // factor, last // factor + 1)
        )
        return Distribution(self._values, bins, self._least, self._greatest)


_FACTORS = (1, 2, 5, 10, 20, 30, 50, 60, 100, 120, 200, 500, 1000)
_passes: dict[DataType, Callable[[Attribute, Project], _ColumnPass]] = {
    DataType.NUMBER: _HistogramPass,
    DataType.DATETIME: _HistogramPass,
    DataType.STRING: _TopPass,
    DataType.BOOL: _TopPass,
    DataType.LIST: _TopPass,
}
