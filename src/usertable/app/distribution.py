"""How the values of an attribute are spread: a histogram of numbers and moments, the most frequent of the other types.

A pass is fed with one chunk of the column after the other, and has a result at any time.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value
from usertable.store.protocol import Browsable

CHUNK = 5000
"""Users in one chunk of a column."""
LIST_CHUNK = 200
"""The same of a LIST, whose values are longer."""
DISTINCT = 20_000
"""Maximum number of different values that are counted."""
SHOWN_CHARACTERS = 200
"""Characters by which texts are told apart."""
FINE_BINS = 4000
"""Maximum number of bins while counting."""
BINS = 40
"""Maximum number of bins of a result."""


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
    minimum: int | Decimal | None = None
    maximum: int | Decimal | None = None
    top: tuple[tuple[str | bool, int], ...] = ()
    distinct: int = 0
    rounded: bool = False
    """There were too many different values to count each: rare ones are missing, and a count may be too low."""


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
    """Counts values in fine bins, whose width grows with the range, each time by a whole factor."""

    def __init__(self, attribute: Attribute, project: Project) -> None:
        super().__init__(attribute, project)
        self._minimum: Any = None
        self._maximum: Any = None
        self._fine: Counter[int] = Counter()
        self._width = 0.0
        self._is_moment = attribute.type is DataType.DATETIME
        self._shift = 0
        if self._is_moment:
            # Days begin at midnight of the project's zone, as it is now.
            offset = project.zone.utcoffset(datetime.now())
            self._shift = int(offset.total_seconds() * 1000) if offset else 0

    def add(self, values: list[Any]) -> None:
        minimum, maximum = min(values), max(values)
        self._minimum = minimum if self._minimum is None else min(self._minimum, minimum)
        self._maximum = maximum if self._maximum is None else max(self._maximum, maximum)
        if not self._width:
            self._width = self._first_width(values, float(maximum) - float(minimum))
        width, shift = self._width, self._shift
        self._fine.update(math.floor((float(value) + shift) / width) for value in values)
        while max(self._fine) - min(self._fine) >= FINE_BINS:
            factor = self._factor()
            self._width *= factor
            coarser: Counter[int] = Counter()
            for index, count in self._fine.items():
                coarser[index // factor] += count
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
        for index, count in self._fine.items():
            counts[index // factor] += count
        width = self._width * factor
        bins = tuple(
            Bin(index * width - self._shift, (index + 1) * width - self._shift, counts[index])
            for index in range(first // factor, last // factor + 1)
        )
        return Distribution(self._values, bins, self._minimum, self._maximum)


_FACTORS = (1, 2, 5, 10, 20, 30, 50, 60, 100, 120, 200, 500, 1000)
_PASSES: dict[DataType, Callable[[Attribute, Project], ColumnPass]] = {
    DataType.NUMBER: HistogramPass,
    DataType.DATETIME: HistogramPass,
    DataType.STRING: TopPass,
    DataType.BOOL: TopPass,
    DataType.LIST: TopPass,
}


def column_pass(attribute: Attribute, project: Project) -> ColumnPass:
    """A new pass over the values of an attribute."""
    return _PASSES[attribute.type](attribute, project)
