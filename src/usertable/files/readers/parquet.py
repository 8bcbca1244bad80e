"""Parquet files: which types of columns are accepted for which target, and their rows.

Only columns with a target are read; the contents of others do not matter. A column of an unsupported type is refused before
the first row. A value that cannot be converted refuses its row. A file's statistics are not used: they may be values that
Python cannot represent, and reading those of an encrypted column crashes the process (Arrow 26).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet, types

from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Project
from usertable.domain.values import DataType
from usertable.files.arrow import ArrowColumns, arrow_reader
from usertable.files.arrow_types import content, is_list, leaves_of, storage_array, storage_type
from usertable.files.block import Block, Head, check_digest, make_block
from usertable.files.columns import cell_identifiers
from usertable.files.options import ReadOptions
from usertable.files.readers.parquet_cells import ParquetColumn, fitting_cells
from usertable.files.targets import unique_names

_FAILED = (pa.ArrowException, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""What Arrow raises for a file that it cannot read."""
_NUMBERS = ("integer", "floating", "decimal")
_TAKES: dict[str, tuple[Sequence[str], PhraseKind]] = {
    "cuid": (("text", *_NUMBERS), PhraseKind.CUID_TYPES),
    "unique identifier": (("text", "integer", "decimal"), PhraseKind.UNIQUE_IDENTIFIER_TYPES),
    "identifier": (("text", "integer", "decimal", "texts", "integers"), PhraseKind.IDENTIFIER_TYPES),
    DataType.NUMBER: (("text", *_NUMBERS), PhraseKind.NUMBER_TYPES),
    DataType.STRING: (("text", "boolean", *_NUMBERS), PhraseKind.STRING_TYPES),
    DataType.BOOL: (("boolean", *_NUMBERS), PhraseKind.BOOL_TYPES),
    "BOOL in words": (("text", "boolean", *_NUMBERS), PhraseKind.BOOL_WORD_TYPES),
    DataType.DATETIME: (("text", "timestamp"), PhraseKind.DATETIME_TYPES),
    DataType.LIST: (("text", "texts"), PhraseKind.LIST_TYPES),
}
"""By target: the contents that are accepted, and the phrase for any other."""


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
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.NOT_PARQUET, detail=_detail(error))) from error
        if self._rows != sum(self._groups) or min(self._groups, default=0) < 0:
            reason = phrase(PhraseKind.PARQUET_ROW_COUNTS, rows=self._rows, groups=tuple(self._groups))
            raise refusal(ProblemKind.IMPORT_FILE, reason=reason)
        self.columns = unique_names(schema.names)
        self.head = Head(self.columns)
        self._columns = ArrowColumns(self.columns, options, project)
        self._attributes = project.schema.attributes
        self._has_words = bool(options.true_texts or options.false_texts)
        ends = list(accumulate(map(leaves_of, schema.types)))
        self._used = [
            ParquetColumn(
                i,
                source,
                self.columns[source],
                target,
                self._attributes[target.name].type if target.kind == "attribute" else None,
                storage_type(schema.types[source]),
                range(([0, *ends])[source], ends[source]),
            )
            for i, (source, target) in enumerate(zip(self._columns.sources, self._columns.targets, strict=True))
            if target.kind != "nothing"
        ]
        self._read = {column.source: column for column in self._used}
        """The columns that are read, by their index in the file."""
        self._unique = {identifier.name for identifier in project.schema.identifiers if identifier.unique}
        problems = [problem for column in self._used if (problem := self._type_problem(column))]
        if problems:
            raise Refused(problems)
        kinds = {column.index: column.kind for column in self._used}
        self._columns.prepare(lambda index, attribute: arrow_reader(attribute, kinds[index], options), cell_identifiers)

    def _type_problem(self, column: ParquetColumn) -> Problem | None:
        """Return why a column's type is not accepted; None if it is, or if the column has no values."""
        if self._file.schema.column(column.leaves.start).physical_type == "INT96":
            why = phrase(PhraseKind.INT96_TIMESTAMPS, column=column.name)
        else:
            takes = self._takes(column)
            if not takes:
                return None
            why = phrase(PhraseKind.COLUMN_TYPE, type=str(column.kind), accepted=takes, column=column.name)
        if self._has_no_values(column):
            return None
        return Problem(ProblemKind.COLUMN, column.name, {"expected": why})

    def _takes(self, column: ParquetColumn) -> Phrase | None:
        """Return what a column should contain if its type is not accepted; None if it is."""
        target = column.target
        if types.is_null(column.kind) or target.kind == "unnamed":
            return None
        use: str = column.data_type or target.kind
        if target.kind == "identifier":
            use = "unique identifier" if target.name in self._unique else "identifier"
        if use == DataType.BOOL and self._has_words:
            use = "BOOL in words"
        taken, what = _TAKES[use]
        if content(column.kind) in taken:
            return None
        return phrase(what) if what is PhraseKind.CUID_TYPES else phrase(what, name=target.name)

    def _has_no_values(self, column: ParquetColumn) -> bool:
        """Return whether all cells of a column are null or empty lists."""
        try:
            for batch in self._batches(range(len(self._groups)), column.leaves):
                cells = batch.column(0)
                if is_list(column.kind):
                    cells = pc.list_flatten(storage_array(cells))
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
        leaves = [leaf for column in self._read.values() for leaf in column.leaves]
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
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.PARQUET_ENDS, row=done, rows=self._rows))

    def _failure(self, error: BaseException, done: int) -> Refused:
        """Return the refusal of a file that was read up to this row."""
        if "ecrypt" in str(error):
            for column in self._used:
                try:
                    next(self._batches([0], column.leaves), None)
                except _FAILED:
                    return refusal(ProblemKind.COLUMN, column.name, expected=phrase(PhraseKind.ENCRYPTED_COLUMN))
        reason = phrase(PhraseKind.PARQUET_DAMAGED, row=done, detail=_detail(error))
        return refusal(ProblemKind.IMPORT_FILE, reason=reason)

    def _block(self, batch: pa.RecordBatch, done: int) -> Block:
        count = batch.num_rows
        names = [column.name for column in self._read.values()]
        batch = pa.RecordBatch.from_arrays([storage_array(cells) for cells in batch.columns], names=names)
        # Only these columns are read. The contents of others do not affect whether a row is blank.
        columns: list[pa.Array] = [None] * len(self._columns.targets)
        unread: pa.Array | None = None
        bad: dict[int, list[Problem]] = {}
        by_source = dict(zip(self._read, batch.columns, strict=True))
        for column in self._used:
            columns[column.index] = fitting_cells(column, by_source[column.source], self._options, bad)
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


def _footer_digest(stream: IO[bytes], size: int) -> str:
    """Return a hash of the footer, which describes the location and size of everything in the file.

    Raises:
        Refused: it is encrypted.
    """
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    if tail[-4:] == b"PARE":
        raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.ENCRYPTED_FOOTER))
    length = int.from_bytes(tail[:4], "little") if tail[4:] == b"PAR1" else 0
    stream.seek(max(0, size - 8 - length))
    return hashlib.blake2b(b"%d " % size + stream.read(length + 8), digest_size=16).hexdigest()


def _detail(error: BaseException) -> str:
    return excerpt(" ".join(str(error).split()), 200)
