"""The writer of Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import IO, Any

from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, number_text
from usertable.files.parquet_library import parquet_library
from usertable.files.targets import CUID
from usertable.files.writers.table import Identifiers, TableWriter, table_columns
from usertable.store.encoding import decode_attributes
from usertable.store.records import NO_VALUES, Page, SnapshotRow

NUMBER_PRECISION, NUMBER_SCALE = 38, 18
"""A NUMBER is DECIMAL(38, 18) in Parquet, if that holds all values of its column; otherwise the column is text."""
_WHOLE: int = 10 ** (NUMBER_PRECISION - NUMBER_SCALE)
ROW_GROUP, ROW_GROUP_BYTES = 50_000, 64 * 2**20
"""A row group of Parquet is written when it has so many rows, or takes so much memory."""
CONVERTERS = 2


class Unfit(Exception):
    """A NUMBER does not fit its column: write anew, with the columns as text that :func:`unfit_numbers` finds."""


class ParquetWriter(TableWriter):
    def __init__(
        self,
        stream: IO[bytes],
        project: Project,
        attributes: Sequence[Attribute],
        identifiers: Identifiers,
        as_text: frozenset[str],
    ) -> None:
        super().__init__(CONVERTERS)
        pyarrow, parquet = parquet_library()
        from usertable.files.arrow_json import Documents

        self._pyarrow = pyarrow
        types = {
            DataType.NUMBER: pyarrow.decimal128(NUMBER_PRECISION, NUMBER_SCALE),
            DataType.STRING: pyarrow.string(),
            DataType.BOOL: pyarrow.bool_(),
            DataType.DATETIME: pyarrow.timestamp("ms", "UTC"),
            DataType.LIST: pyarrow.list_(pyarrow.string()),
        }
        identifier_types = {i.name: types[DataType.STRING if i.unique else DataType.LIST] for i in identifiers.chosen}
        attribute_types = {a.name: types[DataType.STRING if a.name in as_text else a.type] for a in attributes}
        self._targets = table_columns(project, attributes, identifiers)
        fields = []
        for name, target in self._targets:
            kind = {"identifier": identifier_types, "attribute": attribute_types}.get(target.kind, {})
            fields.append(pyarrow.field(name, kind.get(target.name, pyarrow.int64())))
        self._schema = pyarrow.schema(fields)
        self._as_text = as_text
        self._documents = Documents([a for a in attributes if a.name not in as_text])
        self._stream = stream
        self._parquet = parquet
        self._writer: Any = None
        self._unwritten: list[Any] = []
        self._rows_unwritten = self._bytes_unwritten = 0

    def _convert(self, page: Page) -> Any:
        pyarrow = self._pyarrow
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
                elif target.name in self._as_text:
                    numbers = [values.get(target.name) for values in decoded]
                    column = pyarrow.array([None if n is None else number_text(n) for n in numbers], field.type)  # type: ignore[arg-type]
                else:
                    column = read[target.name].cast(field.type)
                columns.append(column)
        except pyarrow.ArrowInvalid as error:
            raise Unfit(str(error)) from error
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

    def _finish(self) -> None:
        if self._unwritten or self._writer is None:
            self._flush()

    def _release(self) -> None:
        # Otherwise it would close itself later, into whatever the stream is by then.
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
