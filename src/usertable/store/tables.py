"""The tables of an installation and its projects, for copying a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table, for copying a store. The first `key` columns identify and order its rows.

    Args:
        of_project: it has a column `project`.
    """

    table: str
    columns: tuple[str, ...]
    key: int = 1
    of_project: bool = True


USERS = TableSpec("users", ("cuid", "version", "created_at", "updated_at", "attributes", "changed_at", "head", "sole_actor"))
HISTORY = TableSpec("history", ("block", "last", "changes", "latest", "body"))
HISTORY_SINCE = TableSpec("history_since", ("at",), key=1)
KEYFRAMES = TableSpec("keyframe", ("number", "cuid", "version", "at", "attributes"))
VALUES = TableSpec("identifier_value", ("identifier", "value", "cuid"), key=2)
ERASED = TableSpec("erased", ("cuid",))
RECEIPTS = TableSpec("receipt", ("key", "cuid", "fingerprint", "written", "personal", "at"), key=2)
AUDIT = TableSpec("audit", ("number", "first", "at", "actor", "kind", "subject", "facts", "request", "address"))
REPORTED = TableSpec("reported", ("attribute",))
JOBS = TableSpec("import_job", ("name", "state"))
KEYS = TableSpec("project_key", ("name", "document"))
KEY_USES = TableSpec("key_use", ("name", "at"))
TABLES = (USERS, VALUES, ERASED, RECEIPTS, AUDIT, REPORTED, JOBS, KEYS, KEY_USES, HISTORY, HISTORY_SINCE, KEYFRAMES)
"""All tables of a project, besides the project itself."""

PEOPLE = TableSpec("person", ("id", "email", "document"), of_project=False)
OF_INSTALLATION = (PEOPLE, AUDIT)
"""Tables that belong to no project. Sessions are omitted: people sign in again after a move to another store."""

Row = tuple[Any, ...]
"""A row of a table, column by column. Attributes and `changed_at` are dictionaries, `written` is a text; the others are
plain values."""

ROWS_BYTES = 4 * 2**20
"""Characters and bytes of rows that are read together. As Python objects, they may take ten times as much."""


def up_to(size: int, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield stored rows, up to the one with which they have this many characters and bytes."""
    for row in rows:
        yield row
        size -= sum(map(_size, row))
        if size <= 0:
            return


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value)) + sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 0
