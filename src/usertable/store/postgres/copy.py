"""Copying a store as it is, from or into it; see :class:`usertable.store.protocol.Copyable`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier, Placeholder

from usertable.domain.schema import Project
from usertable.store.encoding import decode_user, encode_user
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.transaction import advance_epoch, insert_project
from usertable.store.tables import USERS, VALUES, Row, TableSpec

_DOCUMENTS = ("attributes", "changed_at")
"""Columns of JSON."""


def count(db: Connection, project: int, spec: TableSpec) -> int:
    query = SQL("SELECT count(*) FROM usertable.{} WHERE project = %s").format(Identifier(spec.table))
    found: int = db.execute(query, (project,)).fetchall()[0][0]
    return found


def rows(db: Connection, project: int, spec: TableSpec, after: Row | None, limit: int) -> list[Row]:
    names = SQL(", ").join(Identifier(c) + SQL("::text" if c in _DOCUMENTS else "") for c in spec.columns)
    key = SQL(", ").join(map(Identifier, spec.columns[: spec.key]))
    query = SQL("SELECT {} FROM usertable.{} WHERE project = %s").format(names, Identifier(spec.table))
    if after is not None:
        query += SQL(" AND ({}) > ({})").format(key, SQL(", ").join(Placeholder() * spec.key))
    query += SQL(" ORDER BY {} LIMIT %s").format(key)
    found = db.execute(query, (project, *(after or ()), limit)).fetchall()
    return list(map(decode_user, found)) if spec is USERS else found


def last(db: Connection, project: int, spec: TableSpec) -> Row | None:
    key = spec.columns[: spec.key]
    query = SQL("SELECT {} FROM usertable.{} WHERE project = %s ORDER BY {} LIMIT 1").format(
        SQL(", ").join(map(Identifier, key)),
        Identifier(spec.table),
        SQL(", ").join(Identifier(column) + SQL(" DESC") for column in key),
    )
    return db.execute(query, (project,)).fetchone()


def load(db: Connection, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
    if spec is USERS:
        rows = list(map(encode_user, rows))
    # Identifier values are kept twice: see migrations/0001_initial.sql.
    for table in (spec.table, "user_identifier") if spec is VALUES else (spec.table,):
        copy = SQL("COPY usertable.{} (project, {}) FROM STDIN").format(
            Identifier(table), SQL(", ").join(map(Identifier, spec.columns))
        )
        with db.cursor() as cursor, cursor.copy(copy) as target:
            for row in rows:
                target.write_row((project, *row))


def finish_copy(db: Connection, project: Project, next_cuid: int) -> None:
    insert_project(db, project, next_cuid)
    advance_epoch(db)
