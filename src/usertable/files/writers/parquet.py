"""The writer of Parquet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import IO, Any, Literal

from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project
from usertable.domain.values import DataType, number_text
from usertable.files.export_options import ExportOptions
from usertable.files.parquet_library import parquet_library
from usertable.files.targets import CUID
from usertable.files.writers.table import TableWriter, pseudo_cells, table_columns
from usertable.store.encoding import decode_attributes
from usertable.store.records import NO_VALUES, Page, SnapshotRow

NumberType = Literal["integer", "decimal", "float", "text"]
"""The type of a column of NUMBERs: INT64, DECIMAL(38, 18), DOUBLE or text."""
NUMBER_PRECISION, NUMBER_SCALE = 38, 18
_INTEGERS = range(-(2**63), 2**63)
_WHOLE: int = 10 ** (NUMBER_PRECISION - NUMBER_SCALE)
ROW_GROUP, ROW_GROUP_BYTES = 50_000, 64 * 2**20
"""Maximum number of rows, and bytes of memory, of a Parquet row group."""
CONVERTERS = 2


class Unfit(Exception):
    """A NUMBER does not fit its column. The file must be written again with other types.

    Attributes:
        broken: integer columns with a value that is not an integer; empty if :func:`number_types` must find out.
    """

    def __init__(self, reason: str, broken: frozenset[str] = frozenset()) -> None:
        super().__init__(reason)
        self.broken = broken


def _integers(numbers: Any) -> Any | None:
    """Return numbers as 64-bit integers; None if one of them is not."""
    import pyarrow

    try:
        return numbers.cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:
        return None


class ParquetWriter(TableWriter):
    def __init__(
        self, stream: IO[bytes], project: Project, options: ExportOptions, number_types: Mapping[str, NumberType]
    ) -> None:
        super().__init__(CONVERTERS)
        pyarrow, parquet = parquet_library()
        from usertable.files.arrow_json import Documents

        self._pyarrow = pyarrow
        numbers = {
            "integer": pyarrow.int64(),
            "decimal": pyarrow.decimal128(NUMBER_PRECISION, NUMBER_SCALE),
            "float": pyarrow.float64(),
            "text": pyarrow.string(),
        }
        types = {
            DataType.STRING: pyarrow.string(),
            DataType.BOOL: pyarrow.bool_(),
            DataType.DATETIME: pyarrow.timestamp("ms", "UTC"),
            DataType.LIST: pyarrow.list_(pyarrow.string()),
        }
        chosen, attributes = options.identifiers.chosen, options.attributes
        identifier_types = {i.name: types[DataType.STRING if i.unique else DataType.LIST] for i in chosen}
        attribute_types = {
            a.name: numbers[number_types[a.name]] if a.type is DataType.NUMBER else types[a.type] for a in attributes
        }
        self._targets = table_columns(project, options)
        fields = []
        for name, target in self._targets:
            kind = {"identifier": identifier_types, "attribute": attribute_types}.get(target.kind, {})
            fields.append(pyarrow.field(name, kind.get(target.name, pyarrow.int64())))
        self._schema = pyarrow.schema(fields)
        self._as_text = frozenset(name for name, kind in number_types.items() if kind == "text")
        left_out = self._as_text | PSEUDO_COLUMNS.keys()
        self._documents = Documents([a for a in attributes if a.name not in left_out], floats=options.numbers == "float")
        self._stream = stream
        self._parquet = parquet
        self._writer: Any = None
        self._unwritten: list[Any] = []
        self._rows_unwritten = self._bytes_unwritten = 0

    def _convert(self, page: Page) -> Any:
        pyarrow = self._pyarrow
        broken = set()
        try:
            read = self._documents.columns(page.lines, len(page))
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
                elif target.name in PSEUDO_COLUMNS:
                    column = pyarrow.array(pseudo_cells(page, target.name), pyarrow.int64()).cast(field.type)
                elif target.name in self._as_text:
                    numbers = [values.get(target.name) for values in decoded]
                    column = pyarrow.array([None if n is None else number_text(n) for n in numbers], field.type)  # type: ignore[arg-type]
                elif field.type == pyarrow.int64():
                    column = _integers(read[target.name])
                    if column is None:
                        broken.add(target.name)
                else:
                    column = read[target.name].cast(field.type)
                columns.append(column)
        except pyarrow.ArrowInvalid as error:
            raise Unfit(str(error)) from error
        if broken:
            raise Unfit("not all numbers are integers", frozenset(broken))
        return pyarrow.table(columns, schema=self._schema)

    def _add(self, converted: Any) -> None:
        self._unwritten.append(converted)
        self._rows_unwritten += converted.num_rows
        self._bytes_unwritten += converted.nbytes
        if self._rows_unwritten >= ROW_GROUP or self._bytes_unwritten >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        pyarrow = self._pyarrow
        group = pyarrow.concat_tables(self._unwritten) if self._unwritten else self._schema.empty_table()
        self._unwritten, self._rows_unwritten, self._bytes_unwritten = [], 0, 0
        if self._writer is None:
            repeating = list(self._repeating(group))
            # The minimum and maximum of a row group help to find values that ascend along the file, and little else.
            growing = [field.name for field in self._schema if field.name == CUID or pyarrow.types.is_timestamp(field.type)]
            self._writer = self._parquet.ParquetWriter(
                self._stream, self._schema, use_dictionary=repeating, write_statistics=growing
            )
        self._writer.write_table(group)

    def _repeating(self, group: Any) -> Iterator[str]:
        """Yield the columns whose values occur at least twice on average. For others, a dictionary is a waste."""
        from pyarrow import compute

        for name, column in zip(group.column_names, group.columns, strict=True):
            if self._pyarrow.types.is_list(column.type):
                name, column = f"{name}.list.element", compute.list_flatten(column)
            if 2 * compute.count_distinct(column).as_py() <= len(column):
                yield name

    def _finish(self) -> None:
        if self._unwritten or self._writer is None:
            self._flush()

    def _release(self) -> None:
        # Otherwise it would close itself later, and write to whatever the stream is by then.
        if self._writer is not None:
            self._writer.close()


def _first_number_types(options: ExportOptions) -> dict[str, NumberType]:
    """Return the type of each NUMBER if all values fit."""
    first: NumberType = "integer" if options.numbers == "auto" else options.numbers
    found: dict[str, NumberType] = {a.name: first for a in options.attributes if a.type is DataType.NUMBER}
    return found | {name: "integer" for name in found if name in PSEUDO_COLUMNS}


def likely_number_types(options: ExportOptions, page: Page | None) -> dict[str, NumberType]:
    """Return the type of each NUMBER to begin with: one that fits the first page."""
    found = _first_number_types(options)
    attributes = [a for a in options.attributes if a.type is DataType.NUMBER and a.name not in PSEUDO_COLUMNS]
    if options.numbers != "auto" or page is None or not attributes:
        return found
    pyarrow, _ = parquet_library()
    from usertable.files.arrow_json import Documents

    # A value that fits no type is detected when it is written.
    with contextlib.suppress(pyarrow.ArrowInvalid):
        read = Documents(attributes).columns(page.lines, len(page))
        found |= {a.name: "decimal" for a in attributes if _integers(read[a.name]) is None}
    return found


def number_types(rows: Iterable[SnapshotRow], options: ExportOptions) -> dict[str, NumberType]:
    """Return the type of each NUMBER that represents all values of these rows exactly."""
    found = _first_number_types(options)
    numbers = [name for name in found if name not in PSEUDO_COLUMNS]
    for _, line, _ in rows:
        values = decode_attributes(line)
        for name in numbers:
            value = values.get(name)
            if value is None or found[name] in ("text", "float"):
                continue
            if found[name] == "integer" and not (type(value) is int and value in _INTEGERS):
                found[name] = "decimal"
            if found[name] == "decimal" and not _fits(value):  # type: ignore[arg-type]
                found[name] = "text"
    return found


def _fits(value: int | Decimal) -> bool:
    if type(value) is int:
        return -_WHOLE < value < _WHOLE
    assert isinstance(value, Decimal)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent >= -NUMBER_SCALE and -_WHOLE < value < _WHOLE
