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
"""What stands in no JSON of a line, but as white space beside its values."""
_TRUE, _FALSE = scalar("true"), scalar("false")


def _any_tiny(lines: bytes) -> bool:
    """Whether there is a number with a negative exponent, or what looks like one in a text."""
    return (b"e-" in lines or b"E-" in lines) and re.search(b"[0-9][eE]-", lines) is not None


def json_reader(attribute: Attribute, options: ReadOptions) -> Callable[[Any], object]:
    """From a cell of :class:`ArrowLines` to what the API would be sent, or what is wrong with it."""
    if attribute.type is DataType.NUMBER:
        return lambda cell: Decimal(cell) if type(cell) is str else cell
    return arrow_reader(attribute, pa.bool_() if attribute.type is DataType.BOOL else pa.string(), options)


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_WIDE = pa.decimal256(57, 18)
"""Arrow does not see every overflow when it brings a number to a type's places. With so few digits, there is none."""
_DECIMAL = pa.decimal128(38, 18)
_TYPES: dict[str, pa.DataType] = {DataType.NUMBER: _WIDE, DataType.BOOL: pa.bool_(), DataType.LIST: pa.list_(pa.string())}
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

    def __init__(self, attributes: Sequence[Attribute], *, floats: bool = False) -> None:
        self._types = {a.name: a.type for a in attributes}
        self._floats = floats
        self._arrow_types = _DOCUMENT_TYPES | ({DataType.NUMBER: pa.float64()} if floats else {})
        self._broken: set[str] = set()
        """The NUMBERs that have values with a point. Arrow takes long to tell that a text is no integer."""
        # Moments come as numbers, and are taken for moments afterwards; numbers are looked at when they are narrowed.
        fields = [pa.field(a.name, self._arrow_types[a.type]) for a in attributes]
        self._parse = json.ParseOptions(pa.schema(fields), unexpected_field_behavior="ignore")

    def columns(self, lines: bytes, count: int) -> Mapping[str, Any]:
        """By attribute: NUMBERs as wide decimals or integers, or with `floats` as such; moments as integers; the others as
        they are.

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
            return pa.nulls(count, self._arrow_types[kind])
        texts, behind = split.members[name]
        if kind is DataType.STRING:
            return _cut(texts, 1, behind)
        if kind is DataType.LIST:
            # One without elements has no quotes to be cut off.
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
"""Arrow's types by the types of a member's values, as JSON is decoded."""
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
"""The types of members by what they are for: an attribute of that data type, or what else."""


class ArrowLines:
    """Splits lines of NDJSON into columns, if they are like those that were learned from: the same members and types.

    Arrow takes several objects on a line, bytes that are not UTF-8, and texts for decimals; it does not look at how many
    places a tiny exponent means; and a line `null` ends the process (26.0). What might be one of these is not for it.

    Args:
        names: the members.
        rows: what some lines have of them.
        kinds: what each member is for, as in :data:`_TAKEN`.

    Raises:
        ValueError: a member is not of one type that it may have.
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
        """The columns of so many lines, UTF-8 without a backslash; None if they are not like the learned ones."""
        # No text has an end of a line in it.
        lines = (raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw).removesuffix(b"\n")
        columns = self._cut_apart(lines, count)
        if columns is not None:
            return columns
        # An object from each line's beginning to its end, so that there is nothing beside it.
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
        """The columns of lines that :func:`split_objects` can split, numbers of attributes as texts; None otherwise."""
        split = split_objects(raw, count)
        if split is None or list(split.members) != self._names or len(raw) != len(raw.translate(None, _CONTROLS)):
            return None
        columns = []
        # What begins and ends with a quote is a text if there are no more of them.
        quotes = 2 * count * len(self._names)
        for field, kind in zip(self._parse.explicit_schema, self._kinds, strict=True):
            found = _member_cells(*split.members[field.name], split.gap, field.type, kind)
            if found is None:
                return None
            columns.append(found[0])
            quotes += found[1]
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


def _member_cells(texts: pa.Array, behind: str, gap: str, member: pa.DataType, kind: str) -> tuple[pa.Array, int] | None:
    """The cells in a member's JSON texts, and how many quotes these have; None if they are not all of its type."""
    if pa.types.is_string(member):
        cells = _within(texts, '"', '"' + behind)
        return None if cells is None else (cells, 2 * len(cells))
    if pa.types.is_list(member):
        # One without elements has no quotes.
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
    """What stands between an opening and a closing; None if they do not begin and end every text."""
    if pc.min(pc.binary_length(texts)).as_py() < len(opening) + len(closing.encode()):
        return None
    if not (pc.all(pc.starts_with(texts, opening)).as_py() and pc.all(pc.ends_with(texts, closing)).as_py()):
        return None
    return _cut(texts, len(opening), closing[len(opening) :])
