"""Readers: one module for each format that an import reads."""

from __future__ import annotations

from typing import IO

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.domain.schema import Project
from usertable.files.block import Source
from usertable.files.options import ReadOptions
from usertable.files.parquet_library import parquet_library
from usertable.files.readers.csv import CSVSource
from usertable.files.readers.ndjson import NDJSONSource


def open_source(stream: IO[bytes], options: ReadOptions, project: Project, *, arrow: bool = True) -> Source:
    """Begin to read a file.

    Args:
        stream: buffered; must be able to seek if the format is Parquet.
        arrow: read CSV and NDJSON with Arrow if it is installed. Loading it takes 60 ms of CPU.

    Raises:
        Refused: the file does not have that format, or a column matches nothing in the project.
    """
    if options.format == "ndjson":
        return NDJSONSource(stream, options, project, arrow=arrow)
    source: Source
    if options.format == "csv":
        source = CSVSource(stream, options, project, arrow=arrow)
    else:
        parquet_library()
        from usertable.files.readers.parquet import ParquetSource

        source = ParquetSource(stream, options, project)
    for column in options.columns:
        columns = source.head.columns
        if column not in columns:
            expected = phrase(PhraseKind.MISSING_COLUMN, columns=tuple(columns))
            raise refusal(ProblemKind.COLUMN, column, expected=expected)
    return source
