"""Parquet files: which types of columns are taken for what, and their rows.

Only columns that are for something are read, so what is in the others does not matter. Whether the type of one can be
taken is told before the first row; a value that cannot be refuses its row. Nothing is asked of a file's statistics: they may
be values that Python cannot hold, and asking for those of an encrypted column ends the process (Arrow 26).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet, types

from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, refusal
from usertable.domain.identity import malformed_cuid
from usertable.domain.schema import Project
from usertable.domain.values import NUMBER_DIGITS, DataType, number
from usertable.files.arrow import UNITS, ArrowColumns, arrow_cells, arrow_reader, clock_text
from usertable.files.block import Block, Head, check_digest, make_block
from usertable.files.columns import cell_identifiers
from usertable.files.options import ReadOptions
from usertable.files.targets import LINE, Target, unique_names

_FAILED = (pa.ArrowException, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""What Arrow raises for a file that it cannot read."""
_EXACT_BITS = {"halffloat": 11, "float": 24, "double": 53}
"""Bits of the integers that a floating-point number holds exactly; a CUID beyond that may have been another."""
_TAKES = {
    DataType.NUMBER: "numbers, or texts of some",
    DataType.STRING: "texts, numbers and booleans",
    DataType.BOOL: "booleans, or 0 and 1",
    DataType.DATETIME: "timestamps, or texts of some",
    DataType.LIST: "lists of texts, or texts that are JSON arrays",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is for something."""

    index: int
    """Among the file's columns."""
    name: str
    target: Target
    kind: pa.DataType
    leaves: range
    """The indexes of its values among those of the file, of which a nested column has several."""


class ParquetSource:
    """A Parquet file that is being read; see :class:`~usertable.files.block.Source`."""

    def __init__(self, stream: IO[bytes], options: ReadOptions, project: Project) -> None:
        self.unseen: set[str] = set()
        self._options = options
        self._size = stream.seek(0, io.SEEK_END)
        self._digest = _footer_digest(stream, self._size)
        try:
            self._file = parquet.ParquetFile(stream, memory_map=False, pre_buffer=False, buffer_size=2**20)
            schema = self._file.schema_arrow
            footer = self._file.metadata
            self._groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
            self._rows = footer.num_rows
        except _FAILED as error:
            raise refusal(ProblemKind.IMPORT_FILE, reason=f"it is not a whole Parquet file: {_reason(error)}") from error
        if self._rows != sum(self._groups) or min(self._groups, default=0) < 0:
            raise refusal(
                ProblemKind.IMPORT_FILE,
                reason=f"it is damaged: its footer tells of {self._rows} rows, and its row groups of"
                f" {', '.join(map(str, self._groups[:10]))}",
            )
        self.columns = unique_names(schema.names)
        self.head = Head(self.columns)
        self._columns = ArrowColumns(self.columns, options, project)
        ends = list(accumulate(map(_leaves, schema.types)))
        self._used = [
            _Column(i, self.columns[i], target, _plain_type(schema.types[i]), range(([0, *ends])[i], ends[i]))
            for i, target in enumerate(self._columns.targets)
            if target.kind != "nothing"
        ]
        self._attributes = project.schema.attributes
        self._unique = {identifier.name for identifier in project.schema.identifiers if identifier.unique}
        problems = [problem for column in self._used if (problem := self._type_problem(column))]
        if problems:
            raise Refused(problems)
        kinds = {column.index: column.kind for column in self._used}
        self._columns.prepare(lambda index, attribute: arrow_reader(attribute, kinds[index]), cell_identifiers)

    def _type_problem(self, column: _Column) -> Problem | None:
        """Why no value of a column can be taken; None if some can, or if it has none."""
        if self._file.schema.column(column.leaves.start).physical_type == "INT96":
            why = (
                "it holds timestamps of the type INT96, which do not tell whether they are in UTC; write them as TIMESTAMP"
                " (in Spark: spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS)"
            )
        else:
            takes = self._takes(column)
            if not takes:
                return None
            why = f"it holds values of the type {excerpt(str(column.kind), 200)}, and {takes}"
        if self._has_no_values(column):
            return None
        return Problem(
            ProblemKind.COLUMN, column.name, {"expected": f"{why}; or leave the column out with --map '{column.name}='"}
        )

    def _takes(self, column: _Column) -> str:
        """What a column would have to hold if its type cannot be taken; empty if it can."""
        kind, target = column.kind, column.target
        is_text, is_list = _is_text(kind), _is_list(kind)
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        if types.is_null(kind) or target.kind == "unnamed":
            return ""
        if target.kind == "cuid":
            return "" if is_text or is_number else "a cuid is an integer, or a text of its digits"
        if target.kind == "identifier":
            is_one = is_text or types.is_integer(kind) or types.is_decimal(kind)
            if target.name in self._unique:
                return "" if is_one else f"{target.name} takes texts and integers"
            of_some = is_list and (_is_text(kind.value_type) or types.is_integer(kind.value_type))
            return "" if is_one or of_some else f"{target.name} takes texts, integers, and lists of them"
        data_type = self._attributes[target.name].type
        fits = {
            DataType.NUMBER: is_number or is_text,
            DataType.STRING: is_number or is_text or types.is_boolean(kind),
            DataType.BOOL: is_number or types.is_boolean(kind),
            DataType.DATETIME: is_text or types.is_timestamp(kind),
            DataType.LIST: is_text or (is_list and _is_text(kind.value_type)),
        }
        return "" if fits[data_type] else f"{target.name} is a {data_type}, which takes {_TAKES[data_type]}"

    def _has_no_values(self, column: _Column) -> bool:
        """Whether all cells of a column are null, or lists without elements."""
        try:
            for batch in self._batches(range(len(self._groups)), column.leaves):
                cells = batch.column(0)
                if _is_list(column.kind):
                    cells = pc.list_flatten(_plain_array(cells))
                if cells.null_count < len(cells):
                    return False
        except _FAILED:
            return False
        return True

    def _batches(self, groups: Sequence[int], leaves: Sequence[int]) -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = self._file.reader.iter_batches(
            self._options.rows, row_groups=list(groups), column_indices=list(leaves), use_threads=False
        )
        return batches

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        """See :meth:`usertable.files.block.Source.blocks`."""
        check_digest(skip, self._rows, digest, self._digest)
        done = 0
        groups: list[int] = []
        for group, size in enumerate(self._groups):
            if not groups and done + size <= skip:
                done += size
            else:
                groups.append(group)
        leaves = [leaf for column in self._used for leaf in column.leaves]
        batches = self._batches(groups, leaves)
        while True:
            try:
                batch = next(batches, None)
            except _FAILED as error:
                raise self._failure(error, done) from error
            if batch is None:
                break
            if done + batch.num_rows <= skip:
                done += batch.num_rows
                continue
            if done < skip:
                batch = batch.slice(skip - done)
                done = skip
            block = self._block(batch, done)
            done = block.done
            yield block
        if done != self._rows:
            raise refusal(ProblemKind.IMPORT_FILE, reason=f"it is damaged: it ends after row {done} of {self._rows}")

    def _failure(self, error: BaseException, done: int) -> Refused:
        """What is wrong with a file that was read as far as this row."""
        if "ecrypt" in str(error):
            for column in self._used:
                try:
                    next(self._batches([0], column.leaves), None)
                except _FAILED:
                    return refusal(
                        ProblemKind.COLUMN, column.name, expected="it is encrypted; write the file without encryption"
                    )
        return refusal(ProblemKind.IMPORT_FILE, reason=f"it is damaged after row {done}: {_reason(error)}")

    def _block(self, batch: pa.RecordBatch, done: int) -> Block:
        count = batch.num_rows
        names = [column.name for column in self._used]
        batch = pa.RecordBatch.from_arrays([_plain_array(cells) for cells in batch.columns], names=names)
        # Others than these are not read. What is in them does not make a row blank.
        columns: list[pa.Array] = [None] * len(self.columns)
        unread: pa.Array | None = None
        bad: dict[int, list[Problem]] = {}
        for column, cells in zip(self._used, batch.columns, strict=True):
            columns[column.index] = self._fitting(column, cells, bad)
        for index, cells in enumerate(columns):
            if cells is None:
                unread = pa.repeat(True, count) if unread is None else unread
                columns[index] = unread
        numbers: Sequence[int] = range(done + 1, done + 1 + count)
        refused = []
        if bad:
            kept = pa.array([i for i in range(count) if i not in bad], pa.int64())
            columns = [cells.take(kept) for cells in columns]
            refused = [(numbers[i], problems) for i, problems in bad.items()]
            numbers = [numbers[i] for i in kept.to_pylist()]
        parsed = self._columns.block(columns, numbers)
        if refused:
            parsed = replace(parsed, refused=sorted([*refused, *parsed.refused], key=lambda entry: entry[0]))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        last = done + count
        position = self._size * last // max(self._rows, 1)
        return make_block(parsed, done + 1, last, position, self._digest, sink.getvalue().to_pybytes())

    def _fitting(self, column: _Column, cells: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
        """The cells in a type that :class:`ArrowColumns` takes. Where that fails, a problem is noted."""
        kind = column.kind
        if types.is_null(kind) or cells.null_count == len(cells):
            return pa.nulls(len(cells), pa.string())
        if column.target.kind not in ("cuid", "identifier", "attribute"):
            # That there is a value is all that matters of a column without a name.
            return pc.if_else(cells.is_valid(), f"a {kind}", None)
        if _is_text(kind):
            return _texts(column, cells, bad)
        if _is_list(kind):
            return self._lists(column, cells, bad)
        if column.target.kind == "cuid" and not types.is_decimal(kind):
            return _integers(column, cells, self._options, bad) if types.is_floating(kind) else _longs(cells)
        if types.is_floating(kind):
            texts = _float_texts(column, cells, self._options, bad)
            is_bool = column.target.kind == "attribute" and self._attributes[column.target.name].type is DataType.BOOL
            return _zeros_and_ones(column, texts, bad) if is_bool else texts
        return cells

    def _lists(self, column: _Column, cells: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
        flat = pc.list_flatten(cells)
        if types.is_list(cells.type) and _is_utf8(flat):
            return cells
        element = _plain_type(column.kind.value_type)
        if types.is_integer(element) and column.target.kind == "identifier":
            return cells
        found: dict[int, list[Problem]] = {}
        texts = _texts(column, flat, found) if len(flat) > flat.null_count else pa.nulls(len(flat), pa.string())
        if found:
            parents = pc.list_parent_indices(cells).to_pylist()
            for index, problems in found.items():
                bad.setdefault(parents[index], problems)
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_pylist()
        offsets = pa.array([0, *accumulate(lengths)], pa.int32())
        return pa.ListArray.from_arrays(offsets, texts, mask=cells.is_null() if cells.null_count else None)


def _footer_digest(stream: IO[bytes], size: int) -> str:
    """A hash of the footer, which tells of everything in the file where it is and how much of it there is.

    Raises:
        Refused: it is encrypted.
    """
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    if tail[-4:] == b"PARE":
        raise refusal(
            ProblemKind.IMPORT_FILE, reason="it is a Parquet file with an encrypted footer; write it without encryption"
        )
    length = int.from_bytes(tail[:4], "little") if tail[4:] == b"PAR1" else 0
    stream.seek(max(0, size - 8 - length))
    return hashlib.blake2b(b"%d " % size + stream.read(length + 8), digest_size=16).hexdigest()


def _reason(error: BaseException) -> str:
    return excerpt(" ".join(str(error).split()), 200)


def _leaves(kind: pa.DataType) -> int:
    """How many columns of values a column of that type is stored as."""
    kind = _plain_type(kind)
    if types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if _is_list(kind):
        return _leaves(kind.value_type)
    if types.is_struct(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    return 1


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without how they are held."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return _plain_type(kind.value_type) if types.is_dictionary(kind) else kind


def _plain_array(cells: pa.Array) -> pa.Array:
    """The values without a dictionary or an extension's type around them, also in a list."""
    if isinstance(cells.type, pa.BaseExtensionType):
        return _plain_array(cells.storage)
    if types.is_dictionary(cells.type):
        return _plain_array(cells.dictionary_decode())
    if _is_list(cells.type) and (
        types.is_dictionary(cells.type.value_type) or isinstance(cells.type.value_type, pa.BaseExtensionType)
    ):
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_pylist()
        offsets = pa.array([0, *accumulate(lengths)], pa.int64())
        mask = cells.is_null() if cells.null_count else None
        return pa.LargeListArray.from_arrays(offsets, _plain_array(pc.list_flatten(cells)), mask=mask)
    return cells


def _is_text(kind: pa.DataType) -> bool:
    """Whether values of the type are texts, or bytes that may be: many programs write texts without saying so."""
    kind = _plain_type(kind)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(is_bytes or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return not types.is_map(kind) and bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _bytes_of(cells: pa.Array) -> pa.Array:
    """Texts as bytes, which nobody takes for UTF-8."""
    return cells.cast(pa.large_binary())


def _is_utf8(cells: pa.Array) -> bool:
    """Whether cells are texts that Arrow takes as they are. A file's may be any bytes."""
    if not types.is_string(cells.type):
        return False
    try:
        cells.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _texts(column: _Column, cells: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
    if _is_utf8(cells):
        return cells
    raw = _bytes_of(cells)
    try:
        texts = raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        decoded = []
        for index, content in enumerate(raw.to_pylist()):
            try:
                decoded.append(None if content is None else content.decode())
            except UnicodeDecodeError as error:
                decoded.append("?")
                reason = f"column [{column.name}] holds the byte 0x{content[error.start]:02X}, which is not UTF-8"
                bad.setdefault(index, []).append(Problem(ProblemKind.ROW_FORM, None, {"reason": reason}))
        texts = pa.array(decoded, pa.large_string())
    return texts.cast(pa.string())


def _longs(cells: pa.Array) -> pa.Array:
    try:
        return cells.cast(pa.int64())
    except pa.ArrowInvalid:
        # The largest are none.
        return cells.cast(pa.string())


def _value_problem(column: _Column, value: str, data_type: str, expected: str) -> Problem:
    if column.target.kind == "cuid":
        return malformed_cuid(value)
    return Problem(ProblemKind.VALUE_TYPE, column.target.name, {"value": value, "type": data_type, "expected": expected})


def _integers(column: _Column, cells: pa.Array, options: ReadOptions, bad: dict[int, list[Problem]]) -> pa.Array:
    """CUIDs that are floating-point numbers, as a column of integers becomes where one is missing."""
    largest = 2 ** _EXACT_BITS[str(column.kind)]
    found: list[int | None] = []
    for index, text in enumerate(_float_texts(column, cells, options, bad).to_pylist()):
        value = None if text is None or index in bad else Decimal(text)
        if value is None or (value == value.to_integral_value() and abs(value) <= largest):
            found.append(None if value is None else int(value))
            continue
        found.append(None)
        bad.setdefault(index, []).append(_value_problem(column, text, "", ""))
    return pa.array(found, pa.int64())


def _zeros_and_ones(column: _Column, texts: pa.Array, bad: dict[int, list[Problem]]) -> pa.Array:
    found: list[bool | None] = []
    for index, text in enumerate(texts.to_pylist()):
        found.append(None if text is None else text == "1")
        if text not in (None, "0", "1") and index not in bad:
            bad[index] = [_value_problem(column, text, DataType.BOOL, "0 or 1")]
    return pa.array(found, pa.bool_())


def _float_texts(column: _Column, cells: pa.Array, options: ReadOptions, bad: dict[int, list[Problem]]) -> pa.Array:
    """Floating-point numbers as the shortest decimal texts that mean them among all of their own width."""
    if types.is_float16(column.kind):
        texts = pa.array([None if cell is None else _half_text(cell + 0.0) for cell in cells.to_pylist()], pa.string())
    else:
        texts = cells.cast(pa.string())
    if not pc.any(pc.match_substring_regex(texts, "[a-z]|^-0$")).as_py():
        return texts
    parsed = []
    for index, text in enumerate(texts.to_pylist()):
        if text is None or (not text.endswith(("nan", "inf", "-0")) and "e" not in text):
            parsed.append(text)
        elif text == "-0":
            parsed.append("0")
        elif text[-1].isdigit():
            value = Decimal(text)
            parsed.append(format(value, "f"))
            if column.target.kind == "attribute" and number(value) is None:
                params = {"value": text, "digits": str(NUMBER_DIGITS)}
                bad.setdefault(index, []).append(Problem(ProblemKind.NUMBER_RANGE, column.target.name, params))
        else:
            shown = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
            parsed.append(None)
            if not options.nulls & {shown, text}:
                expected = f"a number, which {shown} is not; --null {shown} makes it count as an empty cell"
                bad.setdefault(index, []).append(_value_problem(column, shown, "a column of numbers", expected))
    return pa.array(parsed, pa.string())


@lru_cache(maxsize=2**16)
def _half_text(value: float) -> str:
    """The shortest decimal text of a number of 16 bits, of which Arrow writes all digits."""
    if not isfinite(value):
        return str(value)
    wanted = struct.pack("e", value)
    for digits in range(1, 5):
        text = f"{value:.{digits}g}"
        # Rounded, the largest may be larger than any.
        with contextlib.suppress(OverflowError):
            if struct.pack("e", float(text)) == wanted:
                return text
    return f"{value:.5g}"


def parquet_rows(raw: bytes, first: int, numbers: Sequence[int]) -> list[dict[str, object]]:
    """Rows of a block, as members for a line of JSON. One with bytes that are not UTF-8 is a `#line` that shows them."""
    table = pa.ipc.open_stream(raw).read_all().combine_chunks()
    columns = [(name, table.column(i)) for i, name in enumerate(table.column_names)]
    rows = []
    for row in numbers:
        cells = {name: _json_cell(column.slice(row - first, 1)) for name, column in columns}
        members = {name: value for name, (value, _) in cells.items()}
        if all(is_exact for _, is_exact in cells.values()):
            rows.append(members)
        else:
            line = json.dumps(members, ensure_ascii=False, default=str)
            # As `\xfc`, which is no JSON: unchanged, the row must not be taken.
            rows.append({LINE: line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")})
    return rows


def _json_cell(cells: pa.ChunkedArray | pa.Array) -> tuple[object, bool]:
    """The only one of some cells for a line of JSON, and whether it says what the cell does."""
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
        cells = cells.chunk(0) if isinstance(cells, pa.ChunkedArray) else cells
    kind = cells.type
    if cells.null_count:
        return None, True
    if _is_text(kind):
        (content,) = _bytes_of(cells).to_pylist()
        text = content.decode("utf-8", "surrogateescape")
        return text, not any("\udc80" <= character <= "\udcff" for character in text)
    if _is_list(kind):
        elements = pc.list_flatten(cells)
        found = [_json_cell(elements.slice(i, 1)) for i in range(len(elements))]
        return [value for value, _ in found], all(is_exact for _, is_exact in found)
    if types.is_floating(kind):
        (text,) = [_half_text(cells[0].as_py() + 0.0)] if types.is_float16(kind) else cells.cast(pa.string()).to_pylist()
        value = Decimal(text)
        if not value.is_finite():
            return str(value), True
        # Whole ones count as integers wherever they are taken.
        return (int(value) if value == value.to_integral_value() and abs(value) <= 2**53 else float(text)), True
    if types.is_decimal(kind):
        return Decimal(arrow_cells(cells)[0]), True
    if types.is_timestamp(kind):
        (count,) = cells.cast(pa.int64()).to_pylist()
        return clock_text(count, UNITS[kind.unit]) + ("+00:00" if kind.tz is not None else ""), True
    return cells.to_pylist()[0], True
