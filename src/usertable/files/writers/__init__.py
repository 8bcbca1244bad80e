"""Writers: one module for each format that an export writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from usertable.domain.schema import Attribute, Project
from usertable.files.options import Format
from usertable.files.writers.csv import CSVWriter
from usertable.files.writers.ndjson import NDJSONWriter
from usertable.files.writers.parquet import ParquetWriter
from usertable.files.writers.table import Identifiers, TableWriter


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
        return CSVWriter(stream, project, attributes, identifiers, escape_formulas)
    if format == "ndjson":
        return NDJSONWriter(stream, project, attributes, identifiers)
    return ParquetWriter(stream, project, attributes, identifiers, as_text)
