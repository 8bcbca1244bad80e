"""Copying a store as it is, from or into it; see :class:`usertable.store.protocol.Copyable`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier, Placeholder

from usertable.domain.schema import Project
from usertable.store.encoding import decode_user, encode_user
from usertable.store.parts import USERS, VALUES, Part, Row
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.transaction import advance_epoch, insert_project

_DOCUMENTS = ("attributes", "changed_at")
"""Columns of JSON."""


def count(db: Connection, project: int, part: Part) -> int:
    """How many rows the project has of that part."""
    query = SQL("SELECT count(*) FROM usertable.{} WHERE project = %s").format(Identifier(part.table))
    found: int = db.execute(query, (project,)).fetchall()[0][0]
    return found


def rows(db: Connection, project: int, part: Part, after: Row | None, limit: int) -> list[Row]:
    """Up to `limit` rows in the order of their keys, after that key."""
    names = SQL(", ").join(Identifier(c) + SQL("::text" if c in _DOCUMENTS else "") for c in part.columns)
    key = SQL(", ").join(map(Identifier, part.columns[: part.key]))
    query = SQL("SELECT {} FROM usertable.{} WHERE project = %s").format(names, Identifier(part.table))
    if after is not None:
        query += SQL(" AND ({}) > ({})").format(key, SQL(", ").join(Placeholder() * part.key))
    query += SQL(" ORDER BY {} LIMIT %s").format(key)
    found = db.execute(query, (project, *(after or ()), limit)).fetchall()
    return list(map(decode_user, found)) if part is USERS else found


def last(db: Connection, project: int, part: Part) -> Row | None:
    """The key of the last row; None if there is none."""
    key = part.columns[: part.key]
    query = SQL("SELECT {} FROM usertable.{} WHERE project = %s ORDER BY {} LIMIT 1").format(
        SQL(", ").join(map(Identifier, key)),
        Identifier(part.table),
        SQL(", ").join(Identifier(column) + SQL(" DESC") for column in key),
    )
    return db.execute(query, (project,)).fetchone()


def load(db: Connection, project: int, part: Part, rows: Sequence[Row]) -> None:
    """Keep rows."""
    if part is USERS:
        rows = list(map(encode_user, rows))
    # Identifier values are kept twice: see migrations/0001_initial.sql.
    for table in (part.table, "user_identifier") if part is VALUES else (part.table,):
        copy = SQL("COPY usertable.{} (project, {}) FROM STDIN").format(
            Identifier(table), SQL(", ").join(map(Identifier, part.columns))
        )
        with db.cursor() as cursor, cursor.copy(copy) as target:
            for row in rows:
                target.write_row((project, *row))


def adopt(db: Connection, project: Project, next_cuid: int) -> None:
    """Keep the project itself, with the number that it has."""
    insert_project(db, project, next_cuid)
    advance_epoch(db)
