"""Writers: one module for each format that an export writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from usertable.domain.schema import Project
from usertable.files.export_options import ExportOptions
from usertable.files.writers.csv import CSVWriter
from usertable.files.writers.ndjson import NDJSONWriter
from usertable.files.writers.parquet import NumberType, ParquetWriter
from usertable.files.writers.table import TableWriter


def open_table(
    stream: IO[bytes], project: Project, options: ExportOptions, number_types: Mapping[str, NumberType]
) -> TableWriter:
    """Begin a table.

    Args:
        number_types: for Parquet: the type of each NUMBER.
    """
    if options.format == "csv":
        return CSVWriter(stream, project, options)
    if options.format == "ndjson":
        return NDJSONWriter(stream, project, options)
    return ParquetWriter(stream, project, options, number_types)
