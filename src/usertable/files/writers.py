"""The user table as a file: what an export writes, and what an import of it reads back as it was."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from itertools import starmap
from operator import attrgetter
from typing import IO, Any, Protocol

import msgspec

from usertable.domain.schema import Attribute, Identifier, Project
from usertable.domain.values import DataType, number_text
from usertable.files.moment_texts import Moments
from usertable.files.options import Format
from usertable.files.parquet_library import parquet_library
from usertable.files.targets import CUID, ESCAPED, MASKED, Target
from usertable.store.encoding import decode_attributes
from usertable.store.records import NO_VALUES, Page, SnapshotRow

NUMBER_PRECISION, NUMBER_SCALE = 38, 18
"""A NUMBER is DECIMAL(38, 18) in Parquet, if that holds all values of its column; otherwise the column is text."""
_WHOLE: int = 10 ** (NUMBER_PRECISION - NUMBER_SCALE)
ROW_GROUP, ROW_GROUP_BYTES = 50_000, 64 * 2**20
"""A row group of Parquet is written when it has so many rows, or takes so much memory."""
CONVERTERS = 2
BYTES_UNDER_WAY = 32 * 2**20
"""Of pages that are converted and written beside the options, in so many threads and one."""
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


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Which identifiers a table has."""

    chosen: Sequence[Identifier]
    masked: frozenset[str] = frozenset()
    """Names of those whose values are cut. Their columns are called so, and no import takes them for identifiers."""


def table_columns(project: Project, attributes: Sequence[Attribute], identifiers: Identifiers) -> list[tuple[str, Target]]:
    """The columns of a table: CUID, identifiers by priority, attributes; with a prefix where a name means two things."""
    declared = project.schema.attributes
    names = {identifier.name for identifier in project.schema.identifiers}
    columns = [(CUID, Target("cuid"))]
    for identifier in identifiers.chosen:
        name = identifier.name
        prefix = MASKED if name in identifiers.masked else "identifier:" if name in declared or name == CUID else ""
        columns.append((prefix + name, Target("identifier", name)))
    for attribute in attributes:
        name = attribute.name
        columns.append((f"attribute:{name}" if name in names or name == CUID else name, Target("attribute", name)))
    return columns


def open_table(
    stream: IO[bytes],
    format: Format,
    project: Project,
    attributes: Sequence[Attribute],
    identifiers: Identifiers,
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
        return _CSV(stream, project, attributes, identifiers, escape_formulas)
    if format == "ndjson":
        return _NDJSON(stream, project, attributes, identifiers)
    return _Parquet(stream, project, attributes, identifiers, as_text)


def harmless(text: str) -> str:
    """A text of a CSV that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class _Behind:
    """Converts pages in threads and writes them in another, in order, beside the reading of the next ones."""

    def __init__(self, converters: int) -> None:
        self._converting = ThreadPoolExecutor(converters, thread_name_prefix="convert")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._bytes_under_way = 0

    def write(self, page: Page) -> None:
        converted = self._converting.submit(self._convert, page)
        self._under_way.append((len(page.lines), self._writing.submit(self._add_when_there, converted)))
        self._bytes_under_way += len(page.lines)
        while self._bytes_under_way > BYTES_UNDER_WAY:
            self._await_first()

    def _await_first(self) -> None:
        size, added = self._under_way.popleft()
        self._bytes_under_way -= size
        added.result()

    def _add_when_there(self, converted: Future[Any]) -> None:
        self._add(converted.result())

    def close(self) -> None:
        try:
            while self._under_way:
                self._await_first()
            self._finish()
        finally:
            self._converting.shutdown(cancel_futures=True)
            self._writing.shutdown(cancel_futures=True)
            self._release()

    def _convert(self, page: Page) -> Any:
        raise NotImplementedError

    def _add(self, converted: Any) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what is left."""

    def _release(self) -> None:
        """Done at the end, after a failure as well."""


class _Text(_Behind):
    """What a text format is made from: the documents of a page as objects, which are built as far as they are needed.

    Args:
        types: what the stored values of a data type become; those of the others stay the JSON that they are.
    """

    def __init__(
        self,
        stream: IO[bytes],
        project: Project,
        attributes: Sequence[Attribute],
        identifiers: Identifiers,
        types: Mapping[DataType, Any],
    ) -> None:
        # More than one would wait for each other: building objects takes the interpreter lock.
        super().__init__(converters=1)
        self._stream = stream
        self._identifiers = identifiers.chosen
        self._attributes = attributes
        self._moments = Moments(project.zone)
        names = [name for name, _ in table_columns(project, attributes, identifiers)]
        self._fields = [f"f{i}" for i in range(len(names))]
        self._first = 1 + len(self._identifiers)
        kinds = [Any] * self._first + [types.get(a.type, msgspec.Raw) for a in attributes]
        self._members = [(field, kind, None) for field, kind in zip(self._fields, kinds, strict=True)]
        # What is no attribute is not in a document; no attribute has a name with a sign in it.
        declared = project.schema.attributes
        stored = [f"={name}" if name in declared else name for name in names[: self._first]] + [a.name for a in attributes]
        self._document = self._struct(stored)
        self._row = self._document if stored == names else self._struct(names)
        self._decoder = msgspec.json.Decoder(self._document)

    def _struct(self, names: Sequence[str]) -> type[msgspec.Struct]:
        rename = dict(zip(self._fields, names, strict=True))
        return msgspec.defstruct("Document", self._members, rename=rename, omit_defaults=True, gc=False)

    def _values(self, page: Page, identifier: Identifier) -> list[Any]:
        """By user: the value of a unique identifier, or those of another one; None where there are none."""
        found = [page.values.get(cuid, NO_VALUES).get(identifier.name) for cuid in page.cuids]
        return [values and values[0] for values in found] if identifier.unique else found

    def _add(self, converted: bytes) -> None:
        self._stream.write(converted)


class _NDJSON(_Text):
    def __init__(
        self, stream: IO[bytes], project: Project, attributes: Sequence[Attribute], identifiers: Identifiers
    ) -> None:
        super().__init__(stream, project, attributes, identifiers, {DataType.DATETIME: int})

    def _convert(self, page: Page) -> bytes:
        documents = self._decoder.decode_lines(page.lines)
        self._set(documents, 0, page.cuids)
        if page.values:
            for place, identifier in enumerate(self._identifiers, start=1):
                self._set(documents, place, self._values(page, identifier))
        for place, attribute in enumerate(self._attributes, start=self._first):
            if attribute.type is DataType.DATETIME:
                cells = map(attrgetter(self._fields[place]), documents)
                self._set(documents, place, self._moments.texts(cells))
        if self._row is not self._document:
            documents = list(starmap(self._row, map(msgspec.structs.astuple, documents)))
        return _encoder.encode_lines(documents)

    def _set(self, documents: Sequence[Any], place: int, cells: Sequence[Any]) -> None:
        field = self._fields[place]
        for document, cell in zip(documents, cells, strict=True):
            setattr(document, field, cell)


_BOOLS = {None: "", True: "true", False: "false"}


class _CSV(_Text):
    def __init__(
        self,
        stream: IO[bytes],
        project: Project,
        attributes: Sequence[Attribute],
        identifiers: Identifiers,
        escape_formulas: bool,
    ) -> None:
        types = {DataType.STRING: str, DataType.BOOL: bool, DataType.DATETIME: int, DataType.LIST: list[str]}
        super().__init__(stream, project, attributes, identifiers, types)
        self._escape = escape_formulas
        names = [name for name, _ in table_columns(project, attributes, identifiers)]
        if escape_formulas:
            names.append(ESCAPED)
        stream.write(_csv([[cell] for cell in _quoted(names)]))

    def _convert(self, page: Page) -> bytes:
        columns = [list(map(str, page.cuids))]
        for identifier in self._identifiers:
            if page.values:
                kind = DataType.STRING if identifier.unique else DataType.LIST
                columns.append(self._texts(kind, self._values(page, identifier)))
            else:
                columns.append([""] * len(page))
        documents = self._decoder.decode_lines(page.lines)
        for attribute, field in zip(self._attributes, self._fields[self._first :], strict=True):
            columns.append(self._texts(attribute.type, list(map(attrgetter(field), documents))))
        if self._escape:
            columns.append([""] * len(page))
        return _csv(columns)

    def _texts(self, kind: DataType, cells: list[Any]) -> list[str]:
        """Cells as they stand in the file, "" for None."""
        if kind is DataType.DATETIME:
            cells = self._moments.texts(cells)
        if kind is DataType.BOOL:
            return list(map(_BOOLS.__getitem__, cells))
        if kind is DataType.STRING or kind is DataType.DATETIME:
            if None in cells:
                cells = ["" if cell is None else cell for cell in cells]
            if kind is DataType.DATETIME:
                return cells
            return _quoted(list(map(harmless, cells)) if self._escape else cells)
        # No line's end is in these texts.
        text = _encoder.encode_lines(cells).decode()
        if kind is DataType.LIST:
            text = text.replace('"', '""')
        texts = text.split("\n")[:-1]
        if None in cells:
            texts = ["" if text == "null" else text for text in texts]
        if kind is DataType.LIST:
            return [text and f'"{text}"' for text in texts]
        if "E" in text or "e" in text:
            return [text and format(Decimal(text), "f") for text in texts]
        return texts


def _csv(columns: Sequence[Sequence[str]]) -> bytes:
    """The lines of a CSV, of cells that have the quotes they need; with CR LF, as RFC 4180 has it."""
    return "".join([f"{line}\r\n" for line in map(",".join, zip(*columns, strict=True))]).encode()


_SPECIAL = re.compile('[",\r\n]')
_WRAPPED = re.compile('="(?>(?:[^"]|"")*)"')


def _quoted(cells: list[str]) -> list[str]:
    """Cells with quotes around those that need them."""
    text = "\n".join(cells)
    if not ('"' in text or "," in text or "\r" in text or text.count("\n") >= len(cells)):
        return cells
    if '="' in text:
        # An import takes such a cell for the text within.
        cells = ['="' + cell.replace('"', '""') + '"' if _WRAPPED.fullmatch(cell) else cell for cell in cells]
    return ['"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells]


class _Parquet(_Behind):
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
