"""Copying rows from the store and into it; see :class:`usertable.store.protocol.Copyable`."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from usertable.domain.schema import Project
from usertable.store.encoding import decode_user, encode_project, encode_user
from usertable.store.keyframes import decode_keyframe, encode_keyframe
from usertable.store.sqlite import history
from usertable.store.sqlite.transaction import advance_epoch, make_user_table
from usertable.store.tables import HISTORY, KEYFRAMES, RECEIPTS, USERS, Row, TableSpec, up_to


def count(db: apsw.Connection, project: int, spec: TableSpec) -> int:
    if spec is HISTORY:
        return history.count(db, project)
    found: int = db.execute(f"SELECT count(*) FROM ({_rows_query(db, project, spec)})").get
    return found


def rows(db: apsw.Connection, project: int, spec: TableSpec, after: Row | None, limit: int, size: int) -> list[Row]:
    if spec is HISTORY:
        return list(up_to(size, history.rows(db, project, after[0] if after else None, limit)))
    key = ", ".join(spec.columns[: spec.key])
    after_key = f"WHERE ({key}) > ({', '.join('?' * spec.key)})" if after is not None else ""
    rows = db.execute(
        f"SELECT {', '.join(spec.columns)} FROM ({_rows_query(db, project, spec)}) {after_key} ORDER BY {key} LIMIT ?",
        (*(after or ()), limit),
    )
    found = list(up_to(size, rows))
    if spec is USERS:
        return list(map(decode_user, found))
    if spec is KEYFRAMES:
        return list(map(decode_keyframe, found))
    if spec is RECEIPTS:
        return [(*row[:4], bool(row[4]), row[5]) for row in found]
    return found


def last(db: apsw.Connection, project: int, spec: TableSpec) -> Row | None:
    if spec is HISTORY:
        last_block = history.last(db, project)
        return None if last_block is None else (last_block,)
    key = spec.columns[: spec.key]
    order = ", ".join(f"{column} DESC" for column in key)
    found: Row | None = db.execute(
        f"SELECT {', '.join(key)} FROM ({_rows_query(db, project, spec)}) ORDER BY {order} LIMIT 1"
    ).fetchone()
    return found


def load(db: apsw.Connection, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
    if spec is HISTORY:
        return history.load(db, project, rows)
    table: str = spec.table
    columns: Sequence[str] = ("project", *spec.columns)
    values: Sequence[Row] = [(project, *row) for row in rows]
    if not spec.of_project:
        columns, values = spec.columns, rows
    elif spec is KEYFRAMES:
        values = [(project, *encode_keyframe(row)) for row in rows]
    elif spec is USERS:
        make_user_table(db, project)
        table = f"user_{project}"
        columns = spec.columns
        values = list(map(encode_user, rows))
    db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values)


def finish_copy(db: apsw.Connection, project: Project, next_cuid: int) -> None:
    make_user_table(db, project.number)
    db.execute(
        "INSERT INTO project (number, id, version, next_cuid, document) VALUES (?, ?, ?, ?, ?)",
        (project.number, project.id, project.version, next_cuid, encode_project(project)),
    )
    advance_epoch(db)


def _rows_query(db: apsw.Connection, project: int, spec: TableSpec) -> str:
    """Return a query for a table's rows, with its columns."""
    if spec is USERS:
        columns = ", ".join(spec.columns)
        there = db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"user_{project}",)).fetchone()
        return f"SELECT {columns} FROM user_{project}" if there else f"SELECT {columns} FROM {_NO_USERS}"
    query = f"SELECT {', '.join(spec.columns)} FROM {spec.table}"
    return f"{query} WHERE project = {project}" if spec.of_project else query


_NO_USERS = (
    "(SELECT 0 cuid, 0 version, 0 created_at, 0 updated_at, '' attributes, '' changed_at, 0 head, '' sole_actor WHERE 0)"
)
"""Replaces the user table of a project that has none yet."""
