"""Readers: one module for each format that an import reads."""

from __future__ import annotations

from typing import IO

from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.schema import Project
from usertable.files.block import Source
from usertable.files.options import ReadOptions
from usertable.files.parquet_library import parquet_library
from usertable.files.readers.csv import CSVSource
from usertable.files.readers.ndjson import NDJSONSource

COLUMNS_SHOWN = 50
"""Maximum number of a file's columns that a message names."""


def open_source(stream: IO[bytes], options: ReadOptions, project: Project, *, arrow: bool = True) -> Source:
    """Begin to read a file.

    Args:
        stream: buffered; it can seek if the format is Parquet.
        arrow: read CSV and NDJSON with Arrow where it is installed. It takes 60 ms of CPU to load.

    Raises:
        Refused: the file is not of that format, or a column is for nothing that the project has.
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
            have = ", ".join(columns[:COLUMNS_SHOWN]) + (", …" if len(columns) > COLUMNS_SHOWN else "")
            raise refusal(ProblemKind.COLUMN, column, expected=f"it is mapped, and the file does not have it; it has {have}")
    return source
