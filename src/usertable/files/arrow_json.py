"""Lines of JSON as Arrow arrays: stored attributes for an export, and NDJSON for an import."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from struct import pack
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from usertable.domain.schema import Attribute
from usertable.domain.values import DataType
from usertable.files.arrow import NUMBER, all_match, arrow_reader, scalar
from usertable.files.options import ReadOptions

_INTEGER = "^(?:0|[1-9][0-9]{0,17})$"
_CONTROLS = bytes(code for code in range(32) if code != ord("\n"))
"""Bytes that occur in a line of JSON only as white space between values."""
_TRUE, _FALSE = scalar("true"), scalar("false")


def _any_tiny(lines: bytes) -> bool:
    """Return whether a line has a number with a negative exponent, or a text that looks like one."""
    return (b"e-" in lines or b"E-" in lines) and re.search(b"[0-9][eE]-", lines) is not None


def json_reader(attribute: Attribute, options: ReadOptions) -> Callable[[Any], object]:
    """Return a function that converts a cell of :class:`ArrowLines` to an API value, or a problem."""
    if attribute.type is DataType.NUMBER:
        return lambda cell: Decimal(cell) if type(cell) is str else cell
    return arrow_reader(attribute, pa.bool_() if attribute.type is DataType.BOOL else pa.string(), options)


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_WIDE = pa.decimal256(57, 18)
"""Arrow does not detect every overflow when it rescales a number to a type. Numbers with so few digits cannot overflow."""
_DECIMAL = pa.decimal128(38, 18)
_TYPES: dict[str, pa.DataType] = {DataType.NUMBER: _WIDE, DataType.BOOL: pa.bool_(), DataType.LIST: pa.list_(pa.string())}
_DOCUMENT_TYPES = _TYPES | {DataType.STRING: pa.string(), DataType.DATETIME: pa.int64()}


@dataclass(frozen=True, slots=True)
class Split:
    """JSON objects, split by member."""

    members: Mapping[str, tuple[pa.Array, str]]
    """By name: the JSON texts of the values, each with a suffix, and that suffix."""
    gap: str
    """The text after colons and commas: empty or a space."""


def split_objects(lines: bytes, count: int) -> Split | None:
    """Split `count` JSON objects, one per line, into their members. None if they are irregular.

    Regular objects have the same members in the same order, no space or one after each colon and comma, and no backslash.
    Then every quote begins or ends a text. A quote followed by a colon ends a name, or begins a text without a name before
    it. If the lines are split there, and there are as many names as members, then each part is one name with its value.
    Values are not checked: a line is valid JSON if and only if each of its values is.
    """
    if b"\\" in lines:
        return None
    try:
        first_end = lines.find(b"\n")
        first = _decode_members(lines if first_end < 0 else lines[:first_end])
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
    for name, indexes, end in zip(names, _indexes(len(names), count), after, strict=True):
        column = fields.take(indexes)
        if not pc.all(pc.ends_with(column, end)).as_py():
            return None
        found[name] = column, end
    return Split(found, gap)


@lru_cache(maxsize=4)
def _indexes(width: int, count: int) -> list[pa.Array]:
    """Return the positions of each column's cells, row by row, after a first cell."""
    return [pa.array(range(1 + i, 1 + width * count, width), pa.int32()) for i in range(width)]


def _cut(texts: pa.Array, quotes: int, behind: str) -> pa.Array:
    """Return texts without their suffix, and without `quotes` quotes or brackets at both ends."""
    return pc.binary_slice(texts.view(pa.binary()), quotes, -quotes - len(behind.encode())).view(pa.string())


class Documents:
    """Converts stored attributes to typed columns.

    Similar documents are split at the text between their values. Others go through Arrow's JSON reader, which takes about
    twice the time.
    """

    def __init__(self, attributes: Sequence[Attribute], *, floats: bool = False) -> None:
        self._types = {a.name: a.type for a in attributes}
        self._floats = floats
        self._arrow_types = _DOCUMENT_TYPES | ({DataType.NUMBER: pa.float64()} if floats else {})
        self._broken: set[str] = set()
        """NUMBERs that have values with a decimal point. Arrow is slow to detect that a text is not an integer."""
        # Times are read as numbers and converted later. Numbers are checked when they are narrowed.
        fields = [pa.field(a.name, self._arrow_types[a.type]) for a in attributes]
        self._parse = json.ParseOptions(pa.schema(fields), unexpected_field_behavior="ignore")

    def columns(self, lines: bytes, count: int) -> Mapping[str, Any]:
        """Return columns by attribute: NUMBERs as wide decimals or integers, or with `floats` as floats; times as integers;
        others as they are.

        Raises:
            ArrowInvalid: a number has more digits than these types.
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
            return pa.nulls(count, self._arrow_types[kind])
        texts, behind = split.members[name]
        if kind is DataType.STRING:
            return _cut(texts, 1, behind)
        if kind is DataType.LIST:
            # An empty list has no quotes to cut off.
            shortest = pc.min(pc.binary_length(texts)).as_py() - len(behind.encode())
            return pc.split_pattern(_cut(texts, 2, behind), f'",{split.gap}"') if shortest > len("[]") else None
        texts = _cut(texts, 0, behind)
        if kind is DataType.NUMBER and not self._floats and name not in self._broken:
            try:
                return texts.cast(pa.int64())
            except pa.ArrowInvalid:
                self._broken.add(name)
        return texts.cast(self._arrow_types[kind])


_MEMBER_TYPES = {
    frozenset({str}): pa.string(),
    frozenset({int}): pa.int64(),
    frozenset({float}): _WIDE,
    frozenset({int, float}): _WIDE,
    frozenset({bool}): pa.bool_(),
    frozenset({list}): pa.list_(pa.string()),
}
"""Arrow types, by the Python types of a member's decoded values."""
_TAKEN: Mapping[str, Collection[pa.DataType]] = {
    DataType.NUMBER: (pa.int64(), _WIDE),
    DataType.STRING: (pa.string(),),
    DataType.BOOL: (pa.int64(), pa.bool_()),
    DataType.DATETIME: (pa.string(),),
    DataType.LIST: (pa.list_(pa.string()),),
    "cuid": (pa.int64(), pa.string()),
    "identifier": (pa.int64(), pa.string(), pa.list_(pa.string())),
    "unnamed": (pa.int64(), pa.string()),
    "nothing": tuple(_MEMBER_TYPES.values()),
}
"""The Arrow types accepted for a member, by its purpose: an attribute of this data type, or something else."""


class ArrowLines:
    """Splits lines of NDJSON into columns, if they have the same members and types as the sample.

    Arrow accepts several objects on one line, bytes that are not UTF-8, and texts for decimals. It does not check the number
    of decimals of a tiny exponent. A line `null` crashes the process (Arrow 26.0). Lines that may contain one of these are
    left to the slow reader.

    Args:
        names: the members.
        rows: the sample's values of them.
        kinds: the purpose of each member, as in :data:`_TAKEN`.

    Raises:
        ValueError: a member does not have one single type, or has one that it may not have.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> None:
        self._names = list(names)
        self._kinds = kinds
        fields = []
        for name, kind in zip(names, kinds, strict=True):
            members = frozenset(type(row.get(name)) for row in rows) - {type(None)}
            found = _MEMBER_TYPES.get(members) if members else _TYPES.get(kind, pa.string())
            if found not in _TAKEN[kind]:
                raise ValueError(name)
            fields.append(pa.field(name, found))
        self._parse = json.ParseOptions(pa.schema(fields), unexpected_field_behavior="error")
        self._has_decimals = any(field.type == _WIDE for field in fields)

    def columns(self, raw: bytes, count: int) -> list[pa.Array] | None:
        """Return the columns of `count` lines, UTF-8 without a backslash; None if they differ from the sample."""
        # No text contains a line end.
        lines = (raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw).removesuffix(b"\n")
        columns = self._cut_apart(lines, count)
        if columns is not None:
            return columns
        # There is one object from each line's beginning to its end, so there is nothing next to it.
        if lines[:1] != b"{" or lines[-1:] != b"}" or not lines.count(b"}\n{") == lines.count(b"\n") == count - 1:
            return None
        if lines.count(b"}") != count or (self._has_decimals and _any_tiny(lines)):
            return None
        read = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
        try:
            found = json.read_json(pa.BufferReader(lines), read, self._parse)
            columns = [c.cast(_DECIMAL if c.type == _WIDE else c.type).combine_chunks() for c in found.columns]
        except pa.ArrowInvalid:
            return None
        if found.num_rows != count or (self._has_decimals and not self._are_all_texts(lines, columns)):
            return None
        return columns

    def _cut_apart(self, raw: bytes, count: int) -> list[pa.Array] | None:
        """Return the columns of lines that :func:`split_objects` can split, with numbers as texts; None otherwise."""
        split = split_objects(raw, count)
        if split is None or list(split.members) != self._names or len(raw) != len(raw.translate(None, _CONTROLS)):
            return None
        columns = []
        # A value that begins and ends with a quote is a text if it contains no other quote.
        quotes = 2 * count * len(self._names)
        for field, kind in zip(self._parse.explicit_schema, self._kinds, strict=True):
            found = _member_cells(*split.members[field.name], split.gap, field.type, kind)
            if found is None:
                return None
            columns.append(found[0])
            quotes += found[1]
        return columns if raw.count(b'"') == quotes else None

    def _are_all_texts(self, raw: bytes, columns: Sequence[pa.Array]) -> bool:
        """Return whether every text in the lines is in a column of texts, and none was read as a number."""
        members = texts = 0
        for column in columns:
            members += len(column) - column.null_count
            cells = column.flatten() if pa.types.is_list(column.type) else column
            if pa.types.is_string(cells.type):
                texts += len(cells) - cells.null_count
        if b"null" in raw:
            members = raw.count(b'":')
        return raw.count(b'"') == 2 * (members + texts)


def _member_cells(texts: pa.Array, behind: str, gap: str, member: pa.DataType, kind: str) -> tuple[pa.Array, int] | None:
    """Return the cells in a member's JSON texts and their number of quotes; None if a cell has another type."""
    if pa.types.is_string(member):
        cells = _within(texts, '"', '"' + behind)
        return None if cells is None else (cells, 2 * len(cells))
    if pa.types.is_list(member):
        # An empty list has no quotes.
        cells = _within(texts, '["', '"]' + behind)
        if cells is None:
            return None
        elements = pc.split_pattern(cells, f'",{gap}"')
        return elements, 2 * len(elements.values)
    cells = _cut(texts, 0, behind)
    if pa.types.is_boolean(member):
        is_true = pc.equal(cells, _TRUE)
        return (is_true, 0) if pc.all(pc.or_(is_true, pc.equal(cells, _FALSE))).as_py() else None
    if kind == DataType.NUMBER:
        return (cells, 0) if all_match(cells, NUMBER) else None
    return (cells.cast(member), 0) if all_match(cells, _INTEGER) else None


def _within(texts: pa.Array, opening: str, closing: str) -> pa.Array | None:
    """Return the text between `opening` and `closing`; None if a text does not begin and end with them."""
    if pc.min(pc.binary_length(texts)).as_py() < len(opening) + len(closing.encode()):
        return None
    if not (pc.all(pc.starts_with(texts, opening)).as_py() and pc.all(pc.ends_with(texts, closing)).as_py()):
        return None
    return _cut(texts, len(opening), closing[len(opening) :])
