"""The tables that hold what a project has, for copying a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table with rows of a project, for copying a store. The first `key` columns tell rows apart and order them."""

    table: str
    columns: tuple[str, ...]
    key: int = 1


USERS = TableSpec("users", ("cuid", "version", "created_at", "updated_at", "attributes", "changed_at"))
VALUES = TableSpec("identifier_value", ("identifier", "value", "cuid"), key=2)
ERASED = TableSpec("erased", ("cuid",))
RECEIPTS = TableSpec("receipt", ("key", "cuid", "fingerprint", "written", "personal", "at"), key=2)
CHANGES = TableSpec("schema_change", ("number", "at", "who", "what"))
REPORTED = TableSpec("reported", ("attribute",))
JOBS = TableSpec("import_job", ("name", "state"))
TABLES = (USERS, VALUES, ERASED, RECEIPTS, CHANGES, REPORTED, JOBS)
"""All that a project has beside itself."""

Row = tuple[Any, ...]
"""A row of a table, column by column. Attributes and `changed_at` are dictionaries, `written` is a text; the others
are plain values."""
