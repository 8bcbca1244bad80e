"""Rows as Arrow columns: uniform columns become the JSON of their rows without an object per value.

The meaning of a value is defined in :mod:`usertable.files.columns` alone. This module only decides whether Arrow can convert
a whole column. Other columns are converted there, each distinct value once.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import compress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usertable.domain.errors import Problem
from usertable.domain.moments import moment_at
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import STRING_BYTES, DataType, is_empty, steady_midnight
from usertable.files.arrow_types import is_text
from usertable.files.block import ParsedRows
from usertable.files.cell_texts import text_reader
from usertable.files.columns import Column, Columns, decode_array
from usertable.files.options import ReadOptions
from usertable.files.targets import unnamed_problem
from usertable.store.records import ImportRows
from usertable.wire.import_values import EARLIEST, LATEST

_EPOCH = date(1970, 1, 1)
# With so few digits, the store writes the number in this form too, without an exponent.
NUMBER = r"^(?:-?(?:0|[1-9][0-9]{0,30})\.[0-9]{0,5}[1-9]|0|-?[1-9][0-9]{0,37})$"
_MOMENT = "^[0-9-]{10} [0-9:]{8}$"
_CUID = "^[1-9][0-9]{0,17}$"
_ESCAPED = r'["\\\x00-\x1f]'
_SHORT_DECIMAL = pa.decimal128(38, 6)
"""With this few decimals, neither Arrow nor the store writes an exponent."""


def scalar(text: str) -> pa.Scalar:
    """Return a text as a scalar. Without a type, Arrow searches for time libraries on each call."""
    return pa.scalar(text, pa.string())


_NONE, _EMPTY, _ZERO = pa.scalar(None, pa.string()), scalar(""), pa.scalar(0, pa.int32())


def _join(*parts: Any, null_handling: str = "emit_null") -> pa.Array:
    """Concatenate the texts of each row; the last part is the separator."""
    typed = (scalar(part) if type(part) is str else part for part in parts)
    return pc.binary_join_element_wise(*typed, null_handling=null_handling)


@dataclass(slots=True)
class _Findings:
    """Findings about the rows of a block, by index."""

    problems: defaultdict[int, list[Problem]] = field(default_factory=lambda: defaultdict(list))
    cut: Counter[int] = field(default_factory=Counter)
    """Number of times that were given with a higher precision than is stored."""


class ArrowColumns(Columns):
    """Converts rows by columns: like :meth:`Columns.row`, for Arrow arrays."""

    def __init__(self, columns: Sequence[str], options: ReadOptions, project: Project) -> None:
        super().__init__(columns, options, project)
        self._read_texts = {a.name for _, a in self._attributes if text_reader(a, options)}
        """The attributes whose texts the options parse in another way."""
        self._days = _Days(project.zone)

    def block(self, columns: Sequence[pa.Array], numbers: Sequence[int]) -> ParsedRows:
        """Return the parsed rows of these columns."""
        count = len(numbers)
        found = _Findings()
        problems = found.problems
        lines, names = self._documents(columns, count, found)
        cuids: Sequence[Any] = [None] * count
        if self._cuid is not None and count:
            cuids = self._cuids(columns[self._cuid], found)
        pairs = self._pairs_of_rows(columns, cuids, problems)
        self._find_unnamed(columns, problems)
        blank = self._blank_rows(columns, cuids, pairs) if pairs else set()
        refused = [(numbers[i], problems[i]) for i in sorted(problems) if problems[i] and i not in blank]
        cut = {numbers[i]: moments for i, moments in found.cut.items() if not problems.get(i)}
        parsed = ImportRows(cuids, pairs if pairs and any(pairs) else None, lines)
        if refused or blank:
            kept = [not problems.get(i) and i not in blank for i in range(count)]
            numbers, parsed = list(compress(numbers, kept)), ImportRows.of(compress(parsed, kept))
        return ParsedRows(numbers, parsed, frozenset(names), refused, cut)

    def _pairs_of_rows(
        self, columns: Sequence[pa.Array], cuids: Sequence[Any], problems: Mapping[int, list[Problem]]
    ) -> list[tuple[tuple[str, str], ...]] | None:
        """Return each row's identifiers and their values; None if every row has a CUID and no row a value."""
        cells = [(identifier, arrow_cells(columns[i])) for identifier, i in self._identifiers if _has_cells(columns[i])]
        if not cells and None not in cuids:
            return None
        return [
            self._pairs(cuid, [(identifier, column[i]) for identifier, column in cells], problems[i])
            for i, cuid in enumerate(cuids)
        ]

    def _find_unnamed(self, columns: Sequence[pa.Array], problems: Mapping[int, list[Problem]]) -> None:
        for name, index in self._unnamed:
            if _has_cells(columns[index]):
                for i, cell in enumerate(arrow_cells(columns[index])):
                    if not is_empty(cell):
                        problems[i].append(unnamed_problem(name, cell))

    def _blank_rows(
        self, columns: Sequence[pa.Array], cuids: Sequence[Any], pairs: Sequence[tuple[tuple[str, str], ...]]
    ) -> set[int]:
        nobody = [i for i, named in enumerate(pairs) if not named and cuids[i] is None]
        if not nobody:
            return set()
        rows = list(zip(*map(arrow_cells, columns), strict=True))
        return {i for i in nobody if self._is_blank(rows[i])}

    def _documents(self, columns: Sequence[pa.Array], count: int, found: _Findings) -> tuple[str, list[str]]:
        """Return the attributes of each row, one line each, and the names of the attributes that a row has."""
        full: list[Any] = []
        sparse: list[Any] = []
        names = list(self._constants)
        begin = "{" + ",".join(f'"{name}":{text}' for name, text in self._constants.items())
        before = f"{begin}," if names else begin
        for index, column in self._columns:
            texts, quote = self._texts(column, columns[index], found)
            if texts.null_count == count:
                continue
            names.append(column.name)
            if texts.null_count:
                sparse.append(_join(f',"{column.name}":{quote}', texts, quote, ""))
            else:
                full += [f'{before}"{column.name}":{quote}', texts]
                before = f"{quote},"
        if not full and not sparse:
            return "\n".join([begin + "}"] * count), names
        rows = _join(*full, before.rstrip(","), *sparse, "}", "", null_handling="replace")
        if not full and not self._constants:
            rows = pc.replace_substring(rows, "{,", "{", max_replacements=1)
        lines: str = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), rows), scalar("\n"))[
            0
        ].as_py()
        return lines, names

    def _texts(self, column: Column, cells: pa.Array, found: _Findings) -> tuple[pa.Array, str]:
        """Return a column as JSON texts, null for an empty cell, and the quotes to add around them."""
        if pa.types.is_string(cells.type) and pc.min(pc.binary_length(cells)).as_py() == 0:
            cells = pc.if_else(pc.equal(cells, _EMPTY), _NONE, cells)
        if not (cells.null_count and self._options.empty == "refuse") and not self._options.nulls:
            if cells.null_count == len(cells):
                return (pa.repeat(scalar(column.default), len(cells)) if column.default else cells), ""
            # Errors: a malformed value; a day outside Python's calendar, or on which the clocks change.
            with contextlib.suppress(pa.ArrowException, KeyError, ValueError, OverflowError):
                kind = _kind(cells.type)
                is_read = kind == "text" and column.name in self._read_texts
                convert = None if is_read else _CONVERSIONS.get((column.type, kind))
                texts = convert(cells, self._days, found.cut) if convert else None
                if texts is not None:
                    quote = '"' if column.type is DataType.STRING else ""
                    if column.default and texts.null_count:
                        texts = pc.fill_null(texts, scalar(column.default.removeprefix(quote).removesuffix(quote)))
                    return texts, quote
        return self._cell_by_cell(column, cells, found), ""

    def _cell_by_cell(self, column: Column, cells: pa.Array, found: _Findings) -> pa.Array:
        """Return a column as JSON texts in any form, null for an empty cell. Each distinct text is converted once."""
        indexes: Sequence[int] = range(len(cells))
        if pa.types.is_list(cells.type) and not _is_escaped(cells.flatten()) and not cells.flatten().null_count:
            joined = _join('["', pc.binary_join(cells, scalar('","')), '"]', "")
            cells = pc.if_else(pc.equal(pc.list_value_length(cells), _ZERO), _NONE, joined)
        indices = None
        if pa.types.is_string(cells.type) and not cells.null_count:
            encoded = cells.dictionary_encode()
            cells, indices = encoded.dictionary, encoded.indices
            indexes = indices.to_pylist()
        texts: list[str | None] = []
        wrong: dict[int, Problem] = {}
        are_cut = set()
        for index, cell in enumerate(arrow_cells(cells)):
            text = column[cell]
            if isinstance(text, Problem):
                wrong[index], text = text, ""
            elif cell in column.cut:
                are_cut.add(index)
            texts.append(text or None)
        if wrong or are_cut:
            for i, index in enumerate(indexes):
                if index in wrong:
                    found.problems[i].append(wrong[index])
                elif index in are_cut:
                    found.cut[i] += 1
        encoded_texts = pa.array(texts, pa.string())
        return encoded_texts if indices is None else encoded_texts.take(indices)

    def _cuids(self, cells: pa.Array, found: _Findings) -> Sequence[Any]:
        if not cells.null_count and not self._options.nulls:
            if pa.types.is_string(cells.type) and all_match(cells, _CUID):
                cells = cells.cast(pa.int64())
            if cells.type == pa.int64() and pc.min(cells).as_py() > 0:
                cuids: list[int] = cells.to_pylist()
                return cuids
        return [self._cell_cuid(cell, found.problems[i]) for i, cell in enumerate(arrow_cells(cells))]


class _Days(dict[int, int]):
    """By local day since 1970: milliseconds by which UTC is ahead all day. KeyError for a day on which the clocks change."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __missing__(self, day: int) -> int:
        midnight = steady_midnight(str(_EPOCH + timedelta(days=day)), self._zone)
        if midnight is None:
            raise KeyError(day)
        ahead = self[day] = midnight * 1000 - day * 86_400_000
        return ahead

    def moments(self, local: pa.Array, days: pa.Array) -> pa.Array:
        """Return local times as milliseconds since 1970 UTC. `days` are their days since 1970."""
        encoded = days.dictionary_encode()
        ahead = pa.array(map(self.__getitem__, encoded.dictionary.to_pylist()), pa.int64())
        return pc.add(local, ahead.take(encoded.indices))


# From uniform cells to the JSON texts of their values; None if the cells are not uniform.


def _strings(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array | None:
    return None if _is_escaped(cells) or pc.max(pc.binary_length(cells)).as_py() > STRING_BYTES else cells


def _canonical_numbers(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array | None:
    return cells if all_match(cells, NUMBER) else None


def _decimals(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array | None:
    # Arrow does not detect every overflow with more digits.
    if cells.type.precision - cells.type.scale > _SHORT_DECIMAL.precision - _SHORT_DECIMAL.scale:
        return None
    texts = cells.cast(_SHORT_DECIMAL).cast(pa.string())
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")


def _as_text(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array:
    return cells.cast(pa.string())


def _moment_texts(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array | None:
    if not all_match(cells, _MOMENT):
        return None
    local = cells.cast(pa.timestamp("ms"))
    return days.moments(local.cast(pa.int64()), local.cast(pa.date32()).cast(pa.int32())).cast(pa.string())


def _timestamps(cells: pa.Array, days: _Days, cut: Counter[int]) -> pa.Array | None:
    """Convert timestamps that are all within the calendar, on days without a clock change."""
    counts, per_second = cells.cast(pa.int64()), UNITS[cells.type.unit]
    moments = counts
    finer: list[int] = []
    if per_second < 1000:
        moments = pc.multiply_checked(counts, 1000)
    elif per_second > 1000:
        moments = _floor(counts, per_second // 1000)
        is_cut = pc.not_equal(pc.multiply(moments, per_second // 1000), counts)
        if pc.any(is_cut).as_py():
            finer = pc.indices_nonzero(pc.fill_null(is_cut, False)).to_pylist()
    if cells.type.tz is None:
        moments = days.moments(moments, _floor(moments, 86_400_000))
    bounds = pc.min_max(moments).as_py()
    if bounds["min"] < EARLIEST or bounds["max"] > LATEST:
        return None
    cut.update(finer)
    return moments.cast(pa.string())


_CONVERSIONS: dict[tuple[DataType, str], Callable[[pa.Array, _Days, Counter[int]], pa.Array | None]] = {
    (DataType.STRING, "text"): _strings,
    (DataType.NUMBER, "text"): _canonical_numbers,
    (DataType.NUMBER, "integer"): _as_text,
    (DataType.NUMBER, "decimal"): _decimals,
    (DataType.BOOL, "boolean"): _as_text,
    (DataType.DATETIME, "text"): _moment_texts,
    (DataType.DATETIME, "timestamp"): _timestamps,
}


def _kind(arrow: pa.DataType) -> str:
    """Return the kind of an Arrow type, a key of :data:`_CONVERSIONS`; "" for others."""
    types = pa.types
    sorts = {
        "text": types.is_string,
        "integer": types.is_integer,
        "decimal": types.is_decimal128,
        "boolean": types.is_boolean,
        "timestamp": types.is_timestamp,
    }
    return next((name for name, is_of in sorts.items() if is_of(arrow)), "")


def _has_cells(column: pa.Array) -> bool:
    """Return whether a column has a cell that is not empty."""
    if pa.types.is_string(column.type):
        return bool(pc.max(pc.binary_length(column)).as_py())
    return bool(column.null_count < len(column))


def _floor(counts: pa.Array, by: int) -> pa.Array:
    """Divide integers, rounding towards the past."""
    found = pc.divide(counts, by)
    return pc.subtract(found, pc.greater(pc.multiply(found, by), counts).cast(pa.int64()))


def all_match(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())


def _is_escaped(texts: pa.Array) -> bool:
    """Return whether any character must be escaped in JSON."""
    return bool(pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py())


def arrow_cells(column: pa.Array) -> list[Any]:
    """Return the cells of a column; timestamps as integers in their unit."""
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
"""Number of a timestamp's units in a second."""


def clock_text(count: int, per_second: int) -> str:
    """Return the clock time `count` units after 1970-01-01 00:00:00: `2024-05-01 12:00:00.123456`."""
    seconds, rest = divmod(count, per_second)
    try:
        text = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat(" ")
    except OverflowError:
        return f"{seconds} seconds since 1970"
    return f"{text}.{rest:0{len(str(per_second)) - 1}}" if rest else text


def arrow_reader(attribute: Attribute, kind: pa.DataType, options: ReadOptions) -> Callable[[Any], object]:
    """Return a function that converts a cell of a typed column to an API value, or a problem."""
    read = text_reader(attribute, options)
    if read is not None and is_text(kind):
        return read
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
