"""The user table as a file: what an export writes, and what an import of it reads back as it was."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import IO, Any, Protocol

import msgspec

from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value, number_text
from usertable.store.base import NO_VALUES, Page, SnapshotRow
from usertable.store.document import decode_attributes
from usertable.wire.columns import CUID, WIDE_PRECISION, Format, Target, moment_text
from usertable.wire.rows import parquet_library

NUMBER_PRECISION, NUMBER_SCALE = 38, 18
"""A NUMBER is DECIMAL(38, 18) in Parquet, if that holds all values of its column; otherwise the column is text."""
_WHOLE: int = 10 ** (NUMBER_PRECISION - NUMBER_SCALE)
ROW_GROUP, ROW_GROUP_BYTES = 50_000, 64 * 2**20
"""A row group of Parquet is written when it has so many rows, or takes so much memory."""
CONVERTERS = 2
BYTES_UNDER_WAY = 32 * 2**20
"""Of pages that are converted and written beside the reading, in so many threads and one."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_encoder = msgspec.json.Encoder(decimal_format="number")


class TableWriter(Protocol):
    """Writes users, some at a time."""

    def write(self, page: Page) -> None:
        """Write some more users."""
        ...

    def close(self) -> None:
        """Write what is left. The stream stays open."""
        ...


class Unfit(Exception):
    """A NUMBER does not fit its column: write anew, with the columns as text that :func:`unfit_numbers` finds."""


def table_columns(project: Project, attributes: Sequence[Attribute]) -> list[tuple[str, Target]]:
    """The columns of a table: CUID, identifiers by priority, attributes; with a prefix where a name means two things."""
    declared = project.schema.attributes
    identifiers = {identifier.name for identifier in project.schema.identifiers}
    columns = [(CUID, Target("cuid"))]
    for identifier in project.schema.identifiers:
        name = identifier.name
        columns.append((f"identifier:{name}" if name in declared or name == CUID else name, Target("identifier", name)))
    for attribute in attributes:
        name = attribute.name
        columns.append((f"attribute:{name}" if name in identifiers or name == CUID else name, Target("attribute", name)))
    return columns


def open_table(
    stream: IO[bytes],
    format: Format,
    project: Project,
    attributes: Sequence[Attribute],
    *,
    escape_formulas: bool = False,
    as_text: frozenset[str] = frozenset(),
) -> TableWriter:
    """Begin a table.

    Args:
        escape_formulas: of CSV: put an apostrophe before a text that a spreadsheet would take for a formula.
        as_text: of Parquet: NUMBERs that are written as text.
    """
    if format == "csv":
        return _CSV(stream, project, attributes, escape_formulas)
    if format == "ndjson":
        return _NDJSON(stream, project, attributes)
    return _Parquet(stream, project, attributes, as_text)


def _shown(project: Project, attributes: Sequence[Attribute]) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """By attribute, how its value is shown in a text format; None for as it is."""
    zone = project.zone

    def moment(ms: int) -> str:
        return moment_text(ms, zone)

    return [(a.name, moment if a.type is DataType.DATETIME else None) for a in attributes]


def harmless(text: str) -> str:
    """A text of a CSV that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class _CSV:
    def __init__(self, stream: IO[bytes], project: Project, attributes: Sequence[Attribute], escape_formulas: bool) -> None:
        self._stream = stream
        self._identifiers = [(i.name, i.unique) for i in project.schema.identifiers]
        self._shown = _shown(project, attributes)
        self._escape = escape_formulas
        self._lines([[name for name, _ in table_columns(project, attributes)]])

    def write(self, page: Page) -> None:
        self._lines(self._cells(*row) for row in page)

    def _lines(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        # With CR LF, as RFC 4180 has it, the writer quotes either of them.
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._stream.write(text.getvalue().encode())

    def _cells(self, cuid: int, line: bytes, values: Mapping[str, list[str]]) -> list[Any]:
        attributes = decode_attributes(line)
        cells: list[Any] = [cuid]
        for name, unique in self._identifiers:
            found = values.get(name)
            cells.append("" if not found else self._text(found[0]) if unique else _encoder.encode(found).decode())
        for name, moment in self._shown:
            value = attributes.get(name)
            cells.append("" if value is None else self._cell(value if moment is None else moment(value)))
        return cells

    def _cell(self, value: Value) -> object:
        if type(value) is str:
            return self._text(value)
        if type(value) is bool:
            return "true" if value else "false"
        if type(value) is list:
            return _encoder.encode(value).decode()
        return number_text(value)  # type: ignore[arg-type]

    def _text(self, text: str) -> str:
        return harmless(text) if self._escape else text

    def close(self) -> None:
        return


class _NDJSON:
    def __init__(self, stream: IO[bytes], project: Project, attributes: Sequence[Attribute]) -> None:
        self._stream = stream
        columns = table_columns(project, attributes)
        self._columns = {target.name: name for name, target in columns if target.kind == "attribute"}
        self._identifiers = {target.name: name for name, target in columns if target.kind == "identifier"}
        self._unique = {i.name: i.unique for i in project.schema.identifiers}
        self._shown = _shown(project, attributes)

    def write(self, page: Page) -> None:
        self._stream.write(_encoder.encode_lines([self._row(*row) for row in page]))

    def _row(self, cuid: int, line: bytes, values: Mapping[str, list[str]]) -> dict[str, Any]:
        attributes = decode_attributes(line)
        row: dict[str, Any] = {CUID: cuid}
        for name, found in values.items():
            row[self._identifiers[name]] = found[0] if self._unique[name] else found
        for name, moment in self._shown:
            value = attributes.get(name)
            if value is not None:
                row[self._columns[name]] = value if moment is None else moment(value)
        return row

    def close(self) -> None:
        return


class _Parquet:
    def __init__(
        self, stream: IO[bytes], project: Project, attributes: Sequence[Attribute], as_text: frozenset[str]
    ) -> None:
        pyarrow, parquet = parquet_library()
        import pyarrow.json as arrow_json

        self._pyarrow = pyarrow
        self._attributes = attributes
        self._json = arrow_json
        types = {
            DataType.NUMBER: pyarrow.decimal128(NUMBER_PRECISION, NUMBER_SCALE),
            DataType.STRING: pyarrow.string(),
            DataType.BOOL: pyarrow.bool_(),
            DataType.DATETIME: pyarrow.timestamp("ms", "UTC"),
            DataType.LIST: pyarrow.list_(pyarrow.string()),
        }
        identifier_types = {
            i.name: types[DataType.STRING if i.unique else DataType.LIST] for i in project.schema.identifiers
        }
        attribute_types = {a.name: types[DataType.STRING if a.name in as_text else a.type] for a in attributes}
        self._targets = table_columns(project, attributes)
        fields = []
        for name, target in self._targets:
            kind = {"identifier": identifier_types, "attribute": attribute_types}.get(target.kind, {})
            fields.append(pyarrow.field(name, kind.get(target.name, pyarrow.int64())))
        self._schema = pyarrow.schema(fields)
        self._as_text = as_text
        # Moments come as numbers, and are taken for moments afterwards; numbers are looked at when they are narrowed.
        number = pyarrow.decimal256(WIDE_PRECISION, NUMBER_SCALE)
        read = {DataType.DATETIME: pyarrow.int64(), DataType.NUMBER: number}
        members = [pyarrow.field(a.name, read.get(a.type, types[a.type])) for a in attributes if a.name not in as_text]
        self._parse_options = arrow_json.ParseOptions(pyarrow.schema(members), unexpected_field_behavior="ignore")
        self._stream = stream
        self._parquet = parquet
        self._writer: Any = None
        self._unwritten: list[Any] = []
        self._rows_unwritten = self._bytes_unwritten = 0
        self._converting = ThreadPoolExecutor(CONVERTERS, thread_name_prefix="convert")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._bytes_under_way = 0

    def write(self, page: Page) -> None:
        converted = self._converting.submit(self._convert, page)
        self._under_way.append((len(page.lines), self._writing.submit(self._add, converted)))
        self._bytes_under_way += len(page.lines)
        while self._bytes_under_way > BYTES_UNDER_WAY:
            self._await_first()

    def _await_first(self) -> None:
        size, added = self._under_way.popleft()
        self._bytes_under_way -= size
        added.result()

    def _convert(self, page: Page) -> Any:
        pyarrow = self._pyarrow
        options = self._json.ReadOptions(use_threads=False, block_size=len(page.lines) + 1)
        try:
            read = self._json.read_json(pyarrow.BufferReader(page.lines), options, self._parse_options)
            decoded = [decode_attributes(line) for _, line, _ in page] if self._as_text else []
            columns = []
            for (_, target), field in zip(self._targets, self._schema, strict=True):
                if target.kind == "cuid":
                    column = pyarrow.array(page.cuids, field.type)
                elif target.kind == "identifier" and not page.values:
                    column = pyarrow.nulls(len(page), field.type)
                elif target.kind == "identifier":
                    cells: list[Any] = [page.values.get(cuid, NO_VALUES).get(target.name) for cuid in page.cuids]
                    if pyarrow.types.is_string(field.type):
                        cells = [cell and cell[0] for cell in cells]
                    column = pyarrow.array(cells, field.type)
                elif target.name in self._as_text:
                    numbers = [values.get(target.name) for values in decoded]
                    column = pyarrow.array([None if n is None else number_text(n) for n in numbers], field.type)  # type: ignore[arg-type]
                else:
                    column = read[target.name].cast(field.type)
                columns.append(column)
        except pyarrow.ArrowInvalid as error:
            raise Unfit(str(error)) from error
        return pyarrow.table(columns, schema=self._schema)

    def _add(self, converted: Future[Any]) -> None:
        table = converted.result()
        self._unwritten.append(table)
        self._rows_unwritten += table.num_rows
        self._bytes_unwritten += table.nbytes
        if self._rows_unwritten >= ROW_GROUP or self._bytes_unwritten >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        pyarrow = self._pyarrow
        group = pyarrow.concat_tables(self._unwritten) if self._unwritten else self._schema.empty_table()
        self._unwritten, self._rows_unwritten, self._bytes_unwritten = [], 0, 0
        if self._writer is None:
            repeating = list(self._repeating(group))
            # The least and greatest of a row group help to find what grows along the file, and little else.
            growing = [field.name for field in self._schema if field.name == CUID or pyarrow.types.is_timestamp(field.type)]
            self._writer = self._parquet.ParquetWriter(
                self._stream, self._schema, use_dictionary=repeating, write_statistics=growing
            )
        self._writer.write_table(group)

    def _repeating(self, group: Any) -> Iterator[str]:
        """The columns whose values are there twice or more on average: for others, a dictionary is made in vain."""
        from pyarrow import compute

        for name, column in zip(group.column_names, group.columns, strict=True):
            if self._pyarrow.types.is_list(column.type):
                name, column = f"{name}.list.element", compute.list_flatten(column)
            if 2 * compute.count_distinct(column).as_py() <= len(column):
                yield name

    def close(self) -> None:
        try:
            while self._under_way:
                self._await_first()
            if self._unwritten or self._writer is None:
                self._flush()
        finally:
            self._converting.shutdown(cancel_futures=True)
            self._writing.shutdown(cancel_futures=True)
            # Also after a failure: otherwise it would close itself later, into whatever the stream is by then.
            if self._writer is not None:
                self._writer.close()


def unfit_numbers(rows: Iterable[SnapshotRow], attributes: Sequence[Attribute]) -> frozenset[str]:
    """The NUMBERs with a value that DECIMAL(38, 18) does not hold exactly."""
    numbers = [a.name for a in attributes if a.type is DataType.NUMBER]
    found: set[str] = set()
    for _, line, _ in rows:
        values = decode_attributes(line)
        found.update(name for name in numbers if name in values and not _fits(values[name]))  # type: ignore[arg-type]
    return frozenset(found)


def _fits(value: int | Decimal) -> bool:
    if type(value) is int:
        return -_WHOLE < value < _WHOLE
    assert isinstance(value, Decimal)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent >= -NUMBER_SCALE and -_WHOLE < value < _WHOLE
