"""Columns as Arrow arrays: what is plain all over becomes the JSON of its rows without an object for any value.

What a value comes to is decided in :mod:`usertable.files.columns` alone. Here stands only how Arrow tells that a whole
column is plain; a column that is not goes there, each different value once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usertable.domain.errors import Problem
from usertable.domain.schema import Attribute
from usertable.domain.values import STRING_BYTES, DataType
from usertable.files.columns import PLAIN_NUMBER, Column, Columns, decode_array
from usertable.wire.import_values import EARLIEST, LATEST
from usertable.wire.moments import moment_at

_EPOCH = date(1970, 1, 1)
NUMBER = f"^(?:{PLAIN_NUMBER})$"
_MOMENT = "^[0-9-]{10} [0-9:]{8}$"
_CUID = "^[1-9][0-9]{0,17}$"
_ESCAPED = r'["\\\x00-\x1f]'
_SHORT_DECIMAL = pa.decimal128(38, 6)
"""With so few digits behind the point, Arrow writes no exponent, and the store none either."""


def scalar(text: str) -> pa.Scalar:
    """A text beside arrays. Without its type, Arrow would look for libraries that know of times, each time anew."""
    return pa.scalar(text, pa.string())


_NONE, _EMPTY, _ZERO = pa.scalar(None, pa.string()), scalar(""), pa.scalar(0, pa.int32())


def _join(*parts: Any, null_handling: str = "emit_null") -> pa.Array:
    """The texts of each row, one after the other; the last part is what stands between them."""
    typed = (scalar(part) if type(part) is str else part for part in parts)
    return pc.binary_join_element_wise(*typed, null_handling=null_handling)


class ArrowColumns(Columns):
    """Like :class:`Columns`, of Arrow arrays."""

    def _documents(self, columns: Sequence[pa.Array], count: int, bad: dict[int, list[Problem]]) -> tuple[str, list[str]]:
        full: list[Any] = []
        sparse: list[Any] = []
        names = []
        before = "{"
        for place, column in self._columns:
            texts, quote = self._texts(column, columns[place], bad)
            if texts.null_count == count:
                continue
            names.append(column.name)
            if texts.null_count:
                sparse.append(_join(f',"{column.name}":{quote}', texts, quote, ""))
            else:
                full += [f'{before}"{column.name}":{quote}', texts]
                before = f"{quote},"
        if not names:
            return "\n".join(["{}"] * count), names
        rows = _join(*full, before.rstrip(","), *sparse, "}", "", null_handling="replace")
        if not full:
            rows = pc.replace_substring(rows, "{,", "{", max_replacements=1)
        lines: str = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), rows), scalar("\n"))[
            0
        ].as_py()
        return lines, names

    def _texts(self, column: Column, cells: pa.Array, bad: dict[int, list[Problem]]) -> tuple[pa.Array, str]:
        """A column as JSON texts, null for an empty cell, and the quotes that they lack."""
        if pa.types.is_string(cells.type) and pc.min(pc.binary_length(cells)).as_py() == 0:
            cells = pc.if_else(pc.equal(cells, _EMPTY), _NONE, cells)
        if not (cells.null_count and self._reading.empty == "refuse") and not self._reading.nulls:
            if cells.null_count == len(cells):
                return cells, ""
            # Errors: a value is not of the form; a day is none in Python's calendar, or its clocks change.
            with contextlib.suppress(pa.ArrowException, KeyError, ValueError, OverflowError):
                is_timed = column.type is DataType.DATETIME and pa.types.is_timestamp(cells.type)
                plain = self._moments(column, cells) if is_timed else _plain(column, cells)
                if plain is not None:
                    return plain, '"' if column.type is DataType.STRING else ""
        return self._one_by_one(column, cells, bad)

    def _moments(self, column: Column, cells: pa.Array) -> pa.Array | None:
        """The texts of timestamps that are all in the calendar, and none of which needs a closer look at the clock."""
        counts, per_second = cells.cast(pa.int64()), UNITS[cells.type.unit]
        cut: list[int] = []
        if per_second < 1000:
            moments = pc.multiply_checked(counts, 1000)
        else:
            moments = _floor(counts, per_second // 1000)
            if per_second > 1000:
                is_cut = pc.not_equal(pc.multiply(moments, per_second // 1000), counts)
                if pc.any(is_cut).as_py():
                    cut = pc.indices_nonzero(pc.fill_null(is_cut, False)).to_pylist()
        if cells.type.tz is None:
            days = _floor(moments, 86_400_000).dictionary_encode()
            shifts = [
                column.days[str(_EPOCH + timedelta(days=day))] - day * 86_400_000 for day in days.dictionary.to_pylist()
            ]
            moments = pc.add(moments, pa.array(shifts, pa.int64()).take(days.indices))
        bounds = pc.min_max(moments).as_py()
        if bounds["min"] < EARLIEST or bounds["max"] > LATEST:
            return None
        self._cut.update(cut)
        return moments.cast(pa.string())

    def _one_by_one(self, column: Column, cells: pa.Array, bad: dict[int, list[Problem]]) -> tuple[pa.Array, str]:
        places = None
        if pa.types.is_list(cells.type) and not _is_escaped(cells.flatten()) and not cells.flatten().null_count:
            joined = _join('["', pc.binary_join(cells, scalar('","')), '"]', "")
            cells = pc.if_else(pc.equal(pc.list_value_length(cells), _ZERO), _NONE, joined)
        if pa.types.is_string(cells.type) and not cells.null_count:
            encoded = cells.dictionary_encode()
            cells, places = encoded.dictionary, encoded.indices
        found = column.texts(arrow_cells(cells))
        texts = pa.array([text or None for text in found.texts], pa.string())
        if places is None:
            problems = found.problems
            self._cut.update(found.cut)
        else:
            texts = texts.take(places)
            if found.cut:
                are_cut = set(found.cut)
                self._cut.update(i for i, k in enumerate(places.to_pylist()) if k in are_cut)
            problems = {}
            if found.problems:
                problems = {i: found.problems[k] for i, k in enumerate(places.to_pylist()) if k in found.problems}
        for i, problem in problems.items():
            bad.setdefault(i, []).append(problem)
        return texts, "" if found.is_quoted else '"'

    def _cuids(self, cells: pa.Array, bad: dict[int, list[Problem]]) -> Sequence[Any]:
        if not cells.null_count:
            if pa.types.is_string(cells.type) and all_match(cells, _CUID):
                cells = cells.cast(pa.int64())
            if cells.type == pa.int64() and pc.min(cells).as_py() > 0:
                cuids: list[int] = cells.to_pylist()
                return cuids
        return super()._cuids(arrow_cells(cells), bad)

    def _cells(self, column: pa.Array) -> Sequence[Any]:
        return arrow_cells(column)

    def _has_cells(self, column: pa.Array) -> bool:
        if pa.types.is_string(column.type):
            return bool(pc.max(pc.binary_length(column)).as_py())
        return bool(column.null_count < len(column))


def _plain(column: Column, cells: pa.Array) -> pa.Array | None:
    """The texts of cells that are plain all over; None if they are not."""
    types, kind, attribute = pa.types, cells.type, column.type
    if attribute is DataType.STRING and types.is_string(kind):
        return None if _is_escaped(cells) or pc.max(pc.binary_length(cells)).as_py() > STRING_BYTES else cells
    if attribute is DataType.NUMBER:
        if types.is_string(kind):
            return cells if all_match(cells, NUMBER) else None
        if types.is_integer(kind):
            return cells.cast(pa.string())
        # Of more digits, Arrow does not see every overflow.
        if types.is_decimal128(kind) and kind.precision - kind.scale <= _SHORT_DECIMAL.precision - _SHORT_DECIMAL.scale:
            texts = cells.cast(_SHORT_DECIMAL).cast(pa.string())
            return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    if attribute is DataType.BOOL and types.is_boolean(kind):
        return cells.cast(pa.string())
    if attribute is DataType.DATETIME and types.is_string(kind) and all_match(cells, _MOMENT):
        local = cells.cast(pa.timestamp("ms"))
        days = local.cast(pa.date32()).dictionary_encode()
        shifts = [column.days[str(day)] - (day - _EPOCH).days * 86_400_000 for day in days.dictionary.to_pylist()]
        return pc.add(local.cast(pa.int64()), pa.array(shifts, pa.int64()).take(days.indices)).cast(pa.string())
    return None


def _floor(counts: pa.Array, by: int) -> pa.Array:
    """Integers divided, towards the past."""
    found = pc.divide(counts, by)
    return pc.subtract(found, pc.greater(pc.multiply(found, by), counts).cast(pa.int64()))


def all_match(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())


def _is_escaped(texts: pa.Array) -> bool:
    """Whether there is a character that JSON escapes."""
    return bool(pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py())


def arrow_cells(column: pa.Array) -> list[Any]:
    """The cells of a column; timestamps as what they count."""
    kind = column.type
    cells: list[Any]
    if pa.types.is_timestamp(kind):
        cells = column.cast(pa.int64()).to_pylist()
        return cells
    if pa.types.is_decimal(kind):
        texts = column.cast(pa.string())
        texts = pc.replace_substring_regex(texts, r"^(-?[0-9]+)\.0*$", r"\1")
        found = pc.replace_substring_regex(texts, r"^(-?[0-9]+\.[0-9]*[1-9])0+$", r"\1").to_pylist()
        return [text if text is None or "E" not in text else format(Decimal(text), "f") for text in found]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [tuple(cell) if cell else None for cell in column.to_pylist()]
    cells = column.to_pylist()
    return cells


UNITS = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of a timestamp's units are a second."""


def clock_text(count: int, per_second: int) -> str:
    """What a clock shows so many units after 1970-01-01 00:00:00: `2024-05-01 12:00:00.123456`."""
    seconds, rest = divmod(count, per_second)
    try:
        text = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat(" ")
    except OverflowError:
        return f"{seconds} seconds since 1970"
    return f"{text}.{rest:0{len(str(per_second)) - 1}}" if rest else text


def arrow_reader(attribute: Attribute, kind: pa.DataType) -> Callable[[Any], object]:
    """From a cell of a typed column to what the API would be sent."""
    if attribute.type is DataType.DATETIME and pa.types.is_timestamp(kind):
        per_second = UNITS[kind.unit]
        if kind.tz is not None:
            return lambda cell: moment_at(cell, per_second)
        return lambda cell: clock_text(cell, per_second)
    if attribute.type is DataType.BOOL:
        return lambda cell: int(cell) if type(cell) is bool else cell
    if attribute.type is DataType.LIST:
        return lambda cell: decode_array(cell) if type(cell) is str else list(cell) if type(cell) is tuple else cell
    return lambda cell: cell
