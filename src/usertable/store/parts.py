"""The kinds of rows that a project has, for copying a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of rows that a project has, for copying a store. The first `key` columns tell rows apart and order them."""

    table: str
    columns: tuple[str, ...]
    key: int = 1


USERS = Part("users", ("cuid", "version", "created_at", "updated_at", "attributes", "changed_at"))
VALUES = Part("identifier_value", ("identifier", "value", "cuid"), key=2)
ERASED = Part("erased", ("cuid",))
RECEIPTS = Part("receipt", ("key", "cuid", "fingerprint", "written", "personal", "at"), key=2)
CHANGES = Part("schema_change", ("number", "at", "who", "what"))
REPORTED = Part("reported", ("attribute",))
JOBS = Part("import_job", ("name", "state"))
PARTS = (USERS, VALUES, ERASED, RECEIPTS, CHANGES, REPORTED, JOBS)
"""All that a project has beside itself."""

Row = tuple[Any, ...]
"""A row of a part, column by column. Attributes and `changed_at` are dictionaries, `written` is a text; the others
are plain values."""
