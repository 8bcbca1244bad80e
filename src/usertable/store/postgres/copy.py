"""Copying a store, from it or into it; see :class:`usertable.store.protocol.Copyable`."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable, Identifier, Placeholder

from usertable.domain.schema import Project
from usertable.store.encoding import decode_user, encode_user
from usertable.store.history import HistoryBlock
from usertable.store.keyframes import decode_keyframe, encode_keyframe
from usertable.store.postgres import history
from usertable.store.postgres.connection import Connection, first_rows
from usertable.store.postgres.transaction import advance_epoch, insert_project
from usertable.store.tables import HISTORY, KEYFRAMES, USERS, VALUES, Row, TableSpec

_DOCUMENTS = ("attributes", "changed_at")
"""Columns with JSON."""
_DECODERS = {USERS: decode_user, KEYFRAMES: decode_keyframe}
_ENCODERS = {USERS: encode_user, KEYFRAMES: encode_keyframe}


def count(db: Connection, project: int, spec: TableSpec) -> int:
    query = SQL("SELECT count(*) FROM usertable.{} WHERE {}").format(Identifier(spec.table), _of(spec))
    found: int = db.execute(query, (project,)).fetchall()[0][0]
    return found


def history_rows(db: Connection, places: Sequence[int], project: int, after: Row | None, limit: int, size: int) -> list[Row]:
    blocks = history.blocks_after(db, places, project, after, limit, size)
    return [(b.block, b.last, b.changes, b.latest, b.body) for b in blocks]


def rows(db: Connection, project: int, spec: TableSpec, after: Row | None, limit: int, size: int) -> list[Row]:
    names = SQL(", ").join(Identifier(c) + SQL("::text" if c in _DOCUMENTS else "") for c in spec.columns)
    key = SQL(", ").join(map(Identifier, spec.columns[: spec.key]))
    query = SQL("SELECT {} FROM usertable.{} WHERE {}").format(names, Identifier(spec.table), _of(spec))
    if after is not None:
        query += SQL(" AND ({}) > ({})").format(key, SQL(", ").join(Placeholder() * spec.key))
    query += SQL(" ORDER BY {} LIMIT %s").format(key)
    found = first_rows(db, query, (project, *(after or ()), limit), size)
    decode = _DECODERS.get(spec)
    return list(map(decode, found)) if decode else found


def last(db: Connection, project: int, spec: TableSpec) -> Row | None:
    key = spec.columns[: spec.key]
    query = SQL("SELECT {} FROM usertable.{} WHERE {} ORDER BY {} LIMIT 1").format(
        SQL(", ").join(map(Identifier, key)),
        Identifier(spec.table),
        _of(spec),
        SQL(", ").join(Identifier(column) + SQL(" DESC") for column in key),
    )
    return db.execute(query, (project,)).fetchone()


def load(db: Connection, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
    if spec is HISTORY:
        history.load_blocks(db, project, [HistoryBlock(*row) for row in rows])
        return
    if encode := _ENCODERS.get(spec):
        rows = list(map(encode, rows))
    head, columns = ((project,), ("project", *spec.columns)) if spec.of_project else ((), spec.columns)
    # Identifier values are stored twice: see migrations/0001_initial.sql.
    for table in (spec.table, "user_identifier") if spec is VALUES else (spec.table,):
        copy = SQL("COPY usertable.{} ({}) FROM STDIN").format(Identifier(table), SQL(", ").join(map(Identifier, columns)))
        with db.cursor() as cursor, cursor.copy(copy) as target:
            for row in rows:
                target.write_row((*head, *row))


def _of(spec: TableSpec) -> Composable:
    """Return the condition for a project's rows. The first parameter is its number, or 0 for a table of the installation."""
    return SQL("project = %s") if spec.of_project else SQL("0 = %s")


def finish_copy(db: Connection, project: Project, next_cuid: int) -> None:
    insert_project(db, project, next_cuid)
    advance_epoch(db)
