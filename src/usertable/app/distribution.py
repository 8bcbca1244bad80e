"""The distribution of an attribute's values: a histogram for numbers and times, the most frequent values for other types.

A pass gets one chunk of the column after the other, and has a result at any time.

While it counts, a histogram has fine bins, of which only those with values are stored, so that one outlier costs one bin and
does not widen all others. A result has wider bins of equal width, over the range of 98 % of the values.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from usertable.domain.schema import Attribute, Project
from usertable.domain.values import NUMBER_DIGITS, DataType, Value
from usertable.store.protocol import Browsable

CHUNK = 5000
"""Number of users in one chunk of a column."""
LIST_CHUNK = 200
"""The same for a LIST, whose values are longer."""
DISTINCT = 20_000
"""Maximum number of distinct values that are counted."""
SHOWN_CHARACTERS = 200
"""Number of characters by which texts are distinguished."""
FINE_BINS = 8000
"""Number of fine bins from which on they are widened."""
MIN_DIGITS = 2
"""Minimum number of significant digits by which numbers are distinguished. All possible numbers have fewer than 14,000
such bins."""
BINS = 40
"""Maximum number of bins of a result."""
TAIL = 100
"""One in this number of values may be outside of the bins, at either end."""
MIN_TAILED = 20
"""Number of values from which on one may be outside at either end."""
_EXACT = Context(prec=256)
"""In this context sums, and quotients by the widths of bins, are exact."""
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True)
class Bin:
    """The number of values from `low` up to, but excluding, `high`: numbers, or ms since 1970 UTC."""

    low: int | Decimal
    high: int | Decimal
    count: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of an attribute's values: `bins` for numbers and times, `top` for the other types."""

    values: int = 0
    """Number of users with a value."""
    bins: tuple[Bin, ...] = ()
    below: int = 0
    """Number of values below the bins."""
    above: int = 0
    """Number of values above the bins."""
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None
    top: tuple[tuple[str | bool, int], ...] = ()
    distinct: int = 0
    rounded: bool = False
    """There were too many distinct values to count each: rare ones are missing, and a count may be too low."""


class ColumnPass:
    """A pass over the values of one attribute."""

    chunk = CHUNK
    whole = False

    def __init__(self, attribute: Attribute, project: Project) -> None:
        self._name = attribute.name
        self._values = 0

    def step(self, store: Browsable, project: int, after: int | None) -> tuple[int, int | None]:
        column = store.column_values(project, self._name, after, self.chunk)
        self._values += len(column.values)
        if column.values:
            self.add(column.values)
        return column.examined, column.end

    def add(self, values: list[Value]) -> None:
        raise NotImplementedError

    def result(self) -> Distribution:
        raise NotImplementedError


class TopPass(ColumnPass):
    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._counts: Counter[str | bool] = Counter()
        self._rounded = False
        if attribute.type is DataType.LIST:
            self.chunk = LIST_CHUNK

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


class HistogramPass(ColumnPass):
    """Counts values by the low ends of their fine bins."""

    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._minimum: Any = None
        self._maximum: Any = None
        self._fine: Counter[Any] = Counter()

    def add(self, values: list[Any]) -> None:
        minimum, maximum = min(values), max(values)
        self._minimum = minimum if self._minimum is None else min(self._minimum, minimum)
        self._maximum = maximum if self._maximum is None else max(self._maximum, maximum)
        self._fine.update(map(self._floor, values))
        while len(self._fine) > FINE_BINS and self._widen():
            wider: Counter[Any] = Counter()
            for low, count in self._fine.items():
                wider[self._floor(low)] += count
            self._fine = wider

    def result(self) -> Distribution:
        if not self._fine:
            return Distribution(self._values)
        low, high = self._range()
        width, first, last = next(
            (width, first, last)
            for width in self._widths(low, high)
            if (last := self._index(high, width)) - (first := self._index(low, width)) < BINS
        )
        counts: Counter[int] = Counter()
        for fine, count in self._fine.items():
            counts[max(first - 1, min(last + 1, self._index(fine, width)))] += count
        bins = tuple(
            Bin(self._edge(index, width), self._edge(index + 1, width), counts[index]) for index in range(first, last + 1)
        )
        return Distribution(self._values, bins, counts[first - 1], counts[last + 1], self._minimum, self._maximum)

    def _range(self) -> tuple[Any, Any]:
        """Return the fine bins at both ends of the result: those of the lowest and the highest value, without outliers."""
        fine = sorted(self._fine)
        count = self._fine.total()
        spare = max(count // TAIL, int(count >= MIN_TAILED))
        low, high = self._after(fine, spare), self._after(reversed(fine), spare)
        span = high - low
        if not span:
            return fine[0], fine[-1]
        return low if low - fine[0] > span else fine[0], high if fine[-1] - high > span else fine[-1]

    def _after(self, fine: Any, spare: int) -> Any:
        """Return the first of the fine bins with a value that is not among the first `spare`."""
        seen = 0
        return next(low for low in fine if (seen := seen + self._fine[low]) > spare)

    def _floor(self, value: Any) -> Any:
        """Return the low end of a value's fine bin."""
        raise NotImplementedError

    def _widen(self) -> bool:
        """Widen the fine bins, to a whole number of old ones each. Return False if they have the maximum width."""
        raise NotImplementedError

    def _widths(self, low: Any, high: Any) -> Iterator[Any]:
        """Yield round widths of bins, ascending, of which each is a whole number of fine bins."""
        raise NotImplementedError

    def _index(self, value: Any, width: Any) -> int:
        """Return the number of the bin that contains a value."""
        raise NotImplementedError

    def _edge(self, index: int, width: Any) -> int | Decimal:
        """Return the beginning of a bin."""
        raise NotImplementedError


class NumberPass(HistogramPass):
    """Fine bins by significant digits: with 3, from 4.61 up to 4.62, and from 461000 to 462000."""

    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._rounding = Context(prec=NUMBER_DIGITS, rounding=ROUND_FLOOR)
        self._is_whole = True

    def add(self, values: list[Any]) -> None:
        self._is_whole = self._is_whole and all(type(value) is int for value in values)
        super().add(values)

    def _floor(self, value: int | Decimal) -> Decimal:
        return self._rounding.plus(value)

    def _widen(self) -> bool:
        digits = max(len(low.normalize(_EXACT).as_tuple().digits) for low in self._fine)
        self._rounding.prec = max(MIN_DIGITS, min(self._rounding.prec, digits) - 1)
        return digits > MIN_DIGITS

    def _widths(self, low: Decimal, high: Decimal) -> Iterator[Decimal]:
        span = _EXACT.subtract(high, low)
        exponent = span.adjusted() - 2 if span else min(0, low.adjusted())
        finest = max((end.adjusted() for end in (low, high) if end), default=0) - self._rounding.prec + 1
        if self._is_whole:
            finest = max(finest, 0)
        for power in itertools.count(max(exponent, finest)):
            for factor in (1, 2, 5):
                yield Decimal(factor).scaleb(power, _EXACT)

    def _index(self, value: Decimal, width: Decimal) -> int:
        return int(_EXACT.divide(value, width).to_integral_value(ROUND_FLOOR))

    def _edge(self, index: int, width: Decimal) -> Decimal:
        return _EXACT.multiply(index, width)


class MomentPass(HistogramPass):
    """Fine bins that begin with a minute, hour or day of the project's current time zone."""

    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._width = _MINUTE
        offset = project.zone.utcoffset(datetime.now())
        self._shift = int(offset.total_seconds()) * 1000 if offset else 0

    def _floor(self, value: int) -> int:
        return value - (value + self._shift) % self._width

    def _widen(self) -> bool:
        self._width = {_MINUTE: _HOUR, _HOUR: _DAY}.get(self._width, self._width * 10)
        return True

    def _widths(self, low: int, high: int) -> Iterator[int]:
        hours = [_MINUTE * n for n in (1, 2, 5, 10, 15, 30)] + [_HOUR * n for n in (1, 2, 3, 6, 12)]
        days = (_DAY * factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
        return (width for width in itertools.chain(hours, days) if width >= self._width)

    def _index(self, value: int, width: int) -> int:
        return (value + self._shift) // width

    def _edge(self, index: int, width: int) -> int:
        return index * width - self._shift


_PASSES: dict[DataType, Callable[[Attribute, Project], ColumnPass]] = {
    DataType.NUMBER: NumberPass,
    DataType.DATETIME: MomentPass,
    DataType.STRING: TopPass,
    DataType.BOOL: TopPass,
    DataType.LIST: TopPass,
}


def column_pass(attribute: Attribute, project: Project) -> ColumnPass:
    """Return a new pass over the values of an attribute."""
    return _PASSES[attribute.type](attribute, project)
