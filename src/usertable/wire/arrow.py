"""Columns as Arrow arrays: what is plain all over becomes the JSON of its rows without an object for any value.

What a value comes to is decided in :mod:`usertable.wire.columns` alone. Here stands only how Arrow tells that a whole
column is plain; a column that is not goes there, each different value once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from struct import pack
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json

from usertable.domain.errors import Problem
from usertable.domain.schema import Attribute
from usertable.domain.values import STRING_BYTES, DataType
from usertable.wire.columns import (
    EARLIEST,
    LATEST,
    PLAIN_NUMBER,
    WIDE_PRECISION,
    Column,
    Columns,
    JSONNumber,
    decode_array,
)
from usertable.wire.moments import moment_at

_EPOCH = date(1970, 1, 1)
_NUMBER = f"^(?:{PLAIN_NUMBER})$"
_INTEGER = "^(?:0|[1-9][0-9]{0,17})$"
_CONTROLS = bytes(code for code in range(32) if code != ord("\n"))
"""What stands in no JSON of a line, but as white space beside its values."""
_CLOSING = {'"': '"', '["': '"]'}
_MOMENT = "^[0-9-]{10} [0-9:]{8}$"
_CUID = "^[1-9][0-9]{0,17}$"
_ESCAPED = r'["\\\x00-\x1f]'
_SHORT_DECIMAL = pa.decimal128(38, 6)
"""With so few digits behind the point, Arrow writes no exponent, and the store none either."""
_FIRST, _LAST, _LAST_TWO = itemgetter(slice(0, 1)), itemgetter(slice(-1, None)), itemgetter(slice(-2, None))


def _scalar(text: str) -> pa.Scalar:
    """A text beside arrays. Without its type, Arrow would look for libraries that know of times, each time anew."""
    return pa.scalar(text, pa.string())


_TRUE, _FALSE = _scalar("true"), _scalar("false")
_NONE, _EMPTY, _ZERO = pa.scalar(None, pa.string()), _scalar(""), pa.scalar(0, pa.int32())


def _join(*parts: Any, null_handling: str = "emit_null") -> pa.Array:
    """The texts of each row, one after the other; the last part is what stands between them."""
    typed = (_scalar(part) if type(part) is str else part for part in parts)
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
        lines: str = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), rows), _scalar("\n"))[
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
            joined = _join('["', pc.binary_join(cells, _scalar('","')), '"]', "")
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
            if pa.types.is_string(cells.type) and _all_match(cells, _CUID):
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
            return cells if _all_match(cells, _NUMBER) else None
        if types.is_integer(kind):
            return cells.cast(pa.string())
        # Of more digits, Arrow does not see every overflow.
        if types.is_decimal128(kind) and kind.precision - kind.scale <= _SHORT_DECIMAL.precision - _SHORT_DECIMAL.scale:
            texts = cells.cast(_SHORT_DECIMAL).cast(pa.string())
            return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    if attribute is DataType.BOOL and types.is_boolean(kind):
        return cells.cast(pa.string())
    if attribute is DataType.DATETIME and types.is_string(kind) and _all_match(cells, _MOMENT):
        local = cells.cast(pa.timestamp("ms"))
        days = local.cast(pa.date32()).dictionary_encode()
        shifts = [column.days[str(day)] - (day - _EPOCH).days * 86_400_000 for day in days.dictionary.to_pylist()]
        return pc.add(local.cast(pa.int64()), pa.array(shifts, pa.int64()).take(days.indices)).cast(pa.string())
    return None


def _floor(counts: pa.Array, by: int) -> pa.Array:
    """Integers divided, towards the past."""
    found = pc.divide(counts, by)
    return pc.subtract(found, pc.greater(pc.multiply(found, by), counts).cast(pa.int64()))


def _all_match(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern)).as_py())


def _any_tiny(text: str) -> bool:
    """Whether there is a number with a negative exponent, or what looks like one in a text."""
    return bool(pc.match_substring_regex(pa.array([text]), "[0-9][eE]-")[0].as_py())


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


def json_reader(place: int, attribute: Attribute) -> Callable[[Any], object]:
    """From a cell of :func:`json_columns` to what the API would be sent."""
    if attribute.type is DataType.NUMBER:
        return lambda cell: Decimal(cell) if type(cell) is str else cell
    return arrow_reader(attribute, pa.bool_() if attribute.type is DataType.BOOL else pa.string())


def json_columns(columns: Sequence[Sequence[Any]]) -> list[pa.Array] | None:
    """Columns of JSON members as arrays, numbers that are not all whole as texts; None if Arrow has no type for some."""
    try:
        return [_json_column(cells) for cells in columns]
    except (pa.ArrowException, KeyError, OverflowError, TypeError, ValueError):
        return None


_JSON_TYPES = {
    frozenset[type](): pa.string(),
    frozenset({str}): pa.string(),
    frozenset({int}): pa.int64(),
    frozenset({bool}): pa.bool_(),
    frozenset({tuple}): pa.list_(pa.string()),
}


def _json_column(cells: Sequence[Any]) -> pa.Array:
    kinds = frozenset(map(type, cells)) - {type(None)}
    if JSONNumber in kinds and kinds <= {int, JSONNumber}:
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    if tuple in kinds and JSONNumber in set(map(type, chain.from_iterable(filter(None, cells)))):
        # Arrow would take it for the text that it is here.
        raise TypeError("a number in a list of texts")
    return pa.array(cells, _JSON_TYPES[kinds])


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_WIDE = pa.decimal256(WIDE_PRECISION, 18)
_DECIMAL = pa.decimal128(38, 18)
_TYPES = {DataType.NUMBER: _WIDE, DataType.BOOL: pa.bool_(), DataType.LIST: pa.list_(pa.string())}
_DOCUMENT_TYPES = _TYPES | {DataType.STRING: pa.string(), DataType.DATETIME: pa.int64()}


@dataclass(frozen=True, slots=True)
class Split:
    """JSON objects, member by member."""

    members: Mapping[str, tuple[pa.Array, str]]
    """By name: the JSON texts of the values, each with something behind it, and what that is."""
    gap: str
    """What stands behind colons and commas: nothing or a space."""


def split_objects(lines: bytes, count: int) -> Split | None:
    """The members of so many JSON objects, one a line; None if they are not seen at once.

    It is if all have the same members in the same order, with no space or one after each colon and comma, and no
    backslash. Then every quote begins or ends a text. One with a colon behind it ends a name, or begins a text before which
    there is no name. So where the lines are cut at these, and as many names are found as there are members, each is one,
    and a value stands before the next. Values are not looked at: lines that may be no JSON are some if each value is.
    """
    if b"\\" in lines:
        return None
    try:
        first = _decode_members(lines.partition(b"\n")[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    names = list(first)
    if not names:
        return None
    gap = " " if lines.startswith(f'{{"{names[0]}": '.encode()) else ""
    before = f'{{"{names[0]}'
    text = b"".join((lines, b"\n", before.encode()))
    whole = pa.StringArray.from_buffers(1, pa.py_buffer(pack("=ii", 0, len(text))), pa.py_buffer(text))
    fields = pc.split_pattern(whole, f'":{gap}').values
    if len(fields) != len(names) * count + 1 or fields[0].as_py() != before:
        return None
    after = [f',{gap}"{name}' for name in names[1:]] + [f"}}\n{before}"]
    found = {}
    for name, places, end in zip(names, _places(len(names), count), after, strict=True):
        column = fields.take(places)
        if not pc.all(pc.ends_with(column, end)).as_py():
            return None
        found[name] = column, end
    return Split(found, gap)


@lru_cache(maxsize=4)
def _places(width: int, count: int) -> list[pa.Array]:
    """Where the cells of each column stand, row by row, behind a first one."""
    return [pa.array(range(1 + i, 1 + width * count, width), pa.int32()) for i in range(width)]


def _cut(texts: pa.Array, quotes: int, behind: str) -> pa.Array:
    """Texts without what is behind them, and so many quotes or brackets at their ends."""
    return pc.binary_slice(texts.view(pa.binary()), quotes, -quotes - len(behind.encode())).view(pa.string())


class Documents:
    """Turns stored attributes into typed columns.

    Documents that are alike are split by what stands between their values. For others there is Arrow's JSON reader, which
    takes about twice the time.
    """

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        self._types = {a.name: a.type for a in attributes}
        self._broken: set[str] = set()
        """The NUMBERs that have values with a point. Arrow takes long to tell that a text is no integer."""
        # Moments come as numbers, and are taken for moments afterwards; numbers are looked at when they are narrowed.
        fields = [pa.field(a.name, _DOCUMENT_TYPES[a.type]) for a in attributes]
        self._parse = json.ParseOptions(pa.schema(fields), unexpected_field_behavior="ignore")

    def columns(self, lines: bytes, count: int) -> Mapping[str, Any]:
        """By attribute: NUMBERs as wide decimals or integers, moments as integers, the others as they are.

        Raises:
            ArrowInvalid: a number has more digits than these have.
        """
        split = split_objects(lines, count)
        if split is not None:
            found = {name: self._typed(name, kind, split, count) for name, kind in self._types.items()}
            if all(column is not None for column in found.values()):
                return found
        read = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
        table: Mapping[str, Any] = json.read_json(pa.BufferReader(lines), read, self._parse)
        return table

    def _typed(self, name: str, kind: DataType, split: Split, count: int) -> pa.Array | None:
        if name not in split.members:
            return pa.nulls(count, _DOCUMENT_TYPES[kind])
        texts, behind = split.members[name]
        if kind is DataType.STRING:
            return _cut(texts, 1, behind)
        if kind is DataType.LIST:
            # One without elements has no quotes to be cut off.
            shortest = pc.min(pc.binary_length(texts)).as_py() - len(behind.encode())
            return pc.split_pattern(_cut(texts, 2, behind), f'",{split.gap}"') if shortest > len("[]") else None
        texts = _cut(texts, 0, behind)
        if kind is DataType.NUMBER and name not in self._broken:
            try:
                return texts.cast(pa.int64())
            except pa.ArrowInvalid:
                self._broken.add(name)
        return texts.cast(_DOCUMENT_TYPES[kind])


class ArrowLines:
    """Splits lines of NDJSON into columns, if they are like those before: the same members, of the same types.

    Arrow takes several objects on a line, bytes that are not UTF-8, and texts for decimals; it does not look at how many
    places a tiny exponent means; and a line `null` ends the process (26.0). What might be one of these is not for it.

    Args:
        names: the members.
        columns: those of the lines before, as :func:`json_columns` makes them.
        types: of each that is for an attribute, its type.
    """

    def __init__(self, names: Sequence[str], columns: Sequence[pa.Array], types: Sequence[DataType | None]) -> None:
        self._names = list(names)
        self._kinds = types
        fields = []
        for name, column, kind in zip(names, columns, types, strict=True):
            if column.null_count == len(column):
                fields.append(pa.field(name, _TYPES.get(kind, pa.string()) if kind else pa.string()))
            else:
                is_decimal = kind is DataType.NUMBER and pa.types.is_string(column.type)
                fields.append(pa.field(name, _WIDE if is_decimal else column.type))
        self._parse = json.ParseOptions(pa.schema(fields), unexpected_field_behavior="error")
        self._has_decimals = any(field.type == _WIDE for field in fields)

    def columns(self, lines: Sequence[bytes], raw: bytes) -> list[pa.Array] | None:
        """The columns of some lines, which are `raw` together, and have no backslash; None if they are not alike."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return None
        columns = self._cut_apart(raw, len(lines))
        if columns is not None:
            return columns
        # An object from each line's beginning to its end, so that there is nothing beside it.
        if {*map(_FIRST, lines)} != {b"{"} or not {*map(_LAST_TWO, lines[:-1])} <= {b"}\n"}:
            return None
        if not lines[-1].endswith((b"}", b"}\n")) or raw.count(b"}") != len(lines):
            return None
        if self._has_decimals and (b"e-" in raw or b"E-" in raw) and _any_tiny(text):
            return None
        read = json.ReadOptions(use_threads=False, block_size=len(raw) + 1)
        try:
            found = json.read_json(pa.BufferReader(raw), read, self._parse)
            columns = [c.cast(_DECIMAL if c.type == _WIDE else c.type).combine_chunks() for c in found.columns]
        except pa.ArrowInvalid:
            return None
        if found.num_rows != len(lines) or (self._has_decimals and not self._are_all_texts(raw, columns)):
            return None
        return columns

    def _cut_apart(self, raw: bytes, count: int) -> list[pa.Array] | None:
        """The columns of lines that :func:`split_objects` can split, numbers of attributes as texts; None otherwise."""
        split = split_objects(raw.removesuffix(b"\n"), count)
        if split is None or list(split.members) != self._names or len(raw) != len(raw.translate(None, _CONTROLS)):
            return None
        columns = []
        # What begins and ends with a quote is a text if there are no more of them.
        quotes = 2 * count * len(self._names)
        for field, kind in zip(self._parse.explicit_schema, self._kinds, strict=True):
            texts, behind = split.members[field.name]
            opening = '"' if pa.types.is_string(field.type) else '["' if pa.types.is_list(field.type) else ""
            if opening:
                shortest = pc.min(pc.binary_length(texts)).as_py() - len(behind.encode())
                if shortest < 2 * len(opening) or not (
                    pc.all(pc.starts_with(texts, opening)).as_py()
                    and pc.all(pc.ends_with(texts, _CLOSING[opening] + behind)).as_py()
                ):
                    return None
            cells = _cut(texts, len(opening), behind)
            if pa.types.is_list(field.type):
                cells = pc.split_pattern(cells, f'",{split.gap}"')
                quotes += 2 * len(cells.values)
            elif opening:
                quotes += 2 * count
            elif pa.types.is_boolean(field.type):
                is_true = pc.equal(cells, _TRUE)
                if not pc.all(pc.or_(is_true, pc.equal(cells, _FALSE))).as_py():
                    return None
                cells = is_true
            elif not _all_match(cells, _NUMBER if kind is DataType.NUMBER else _INTEGER):
                return None
            elif kind is not DataType.NUMBER:
                cells = cells.cast(field.type)
            columns.append(cells)
        return columns if raw.count(b'"') == quotes else None

    def _are_all_texts(self, raw: bytes, columns: Sequence[pa.Array]) -> bool:
        """Whether every text of the lines is in a column of texts, and none was taken for a number."""
        members = texts = 0
        for column in columns:
            members += len(column) - column.null_count
            cells = column.flatten() if pa.types.is_list(column.type) else column
            if pa.types.is_string(cells.type):
                texts += len(cells) - cells.null_count
        if b"null" in raw:
            members = raw.count(b'":')
        return raw.count(b'"') == 2 * (members + texts)


class ArrowCSV:
    """Splits lines of CSV into columns, if that needs no closer look: each line is a row, and no quote is out of place."""

    def __init__(self, width: int, delimiter: str) -> None:
        self._width = width
        self._ends = f"{delimiter}\r\n".encode()
        self._parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        names = [f"f{i}" for i in range(width)]
        self._convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)

    def columns(self, raw: bytes, lines: int) -> list[pa.Array] | None:
        """The columns of so many lines; None if they need a closer look."""
        if raw.startswith(b"\xef\xbb\xbf") or not self._are_quotes_plain(raw, lines):
            return None
        read = csv.ReadOptions(use_threads=False, block_size=len(raw) + 1, autogenerate_column_names=True)
        try:
            table = csv.read_csv(pa.BufferReader(raw), read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        if table.num_rows != lines or table.num_columns != self._width:
            return None
        return [column.combine_chunks() for column in table.columns]

    def _are_quotes_plain(self, raw: bytes, lines: int) -> bool:
        """Whether every quote stands where it must, which Arrow does not mind.

        Without doubled quotes, cells in quotes and what is between them take turns, and the latter begins and ends with a
        delimiter or a line's end.
        """
        if b'"' not in raw:
            return True
        if b"\1" in raw:
            return False
        marked = raw.replace(b'""', b"\1")
        if marked.count(b'"') > 8 * lines:
            # So many are found faster by a closer look.
            return False
        cells = marked.split(b'"')
        between = cells[::2]
        edges = b"".join([*map(_FIRST, between[1:-1]), *map(_LAST, between[1:-1]), between[0][-1:], between[-1][:1]])
        return len(cells) % 2 == 1 and not edges.strip(self._ends) and b"\1" not in b"".join(between)
