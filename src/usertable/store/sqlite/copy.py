"""Rows as they are, out of the store and into it; see :class:`usertable.store.protocol.Copyable`."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from usertable.domain.schema import Project
from usertable.store.encoding import decode_user, encode_project, encode_user
from usertable.store.sqlite.transaction import make_user_table
from usertable.store.tables import CHANGES, RECEIPTS, USERS, Row, TableSpec


def count(db: apsw.Connection, project: int, spec: TableSpec) -> int:
    found: int = db.execute(f"SELECT count(*) FROM ({_rows_query(db, project, spec)})").get
    return found


def rows(db: apsw.Connection, project: int, spec: TableSpec, after: Row | None, limit: int) -> list[Row]:
    key = ", ".join(spec.columns[: spec.key])
    after_key = f"WHERE ({key}) > ({', '.join('?' * spec.key)})" if after is not None else ""
    found = list(
        db.execute(
            f"SELECT {', '.join(spec.columns)} FROM ({_rows_query(db, project, spec)}) {after_key} ORDER BY {key} LIMIT ?",
            (*(after or ()), limit),
        )
    )
    if spec is USERS:
        return list(map(decode_user, found))
    if spec is RECEIPTS:
        return [(*row[:4], bool(row[4]), row[5]) for row in found]
    return found


def last(db: apsw.Connection, project: int, spec: TableSpec) -> Row | None:
    key = spec.columns[: spec.key]
    order = ", ".join(f"{column} DESC" for column in key)
    found: Row | None = db.execute(
        f"SELECT {', '.join(key)} FROM ({_rows_query(db, project, spec)}) ORDER BY {order} LIMIT 1"
    ).fetchone()
    return found


def load(db: apsw.Connection, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
    table: str = spec.table
    columns: Sequence[str] = ("project", *spec.columns)
    values: Sequence[Row] = [(project, *row) for row in rows]
    if spec is USERS:
        make_user_table(db, project)
        table = f"user_{project}"
        columns = spec.columns
        values = list(map(encode_user, rows))
    elif spec is CHANGES:
        # Its own number is one for all projects.
        columns = ("project", *spec.columns[1:])
        values = [(project, *row[1:]) for row in rows]
    db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values)


def finish_copy(db: apsw.Connection, project: Project, next_cuid: int) -> None:
    make_user_table(db, project.number)
    db.execute(
        "INSERT INTO project (number, id, version, next_cuid, document) VALUES (?, ?, ?, ?, ?)",
        (project.number, project.id, project.version, next_cuid, encode_project(project)),
    )
    db.execute("UPDATE epoch SET value = value + 1")


def _rows_query(db: apsw.Connection, project: int, spec: TableSpec) -> str:
    """A query for the rows of a spec, in its columns."""
    if spec is CHANGES:
        return (
            f"SELECT row_number() OVER (ORDER BY id) AS number, at, who, what FROM schema_change WHERE project = {project}"
        )
    if spec is USERS:
        columns = ", ".join(spec.columns)
        there = db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"user_{project}",)).fetchone()
        return f"SELECT {columns} FROM user_{project}" if there else f"SELECT {columns} FROM {_NO_USERS}"
    return f"SELECT {', '.join(spec.columns)} FROM {spec.table} WHERE project = {project}"


_NO_USERS = "(SELECT 0 cuid, 0 version, 0 created_at, 0 updated_at, '' attributes, '' changed_at WHERE 0)"
"""In place of the table of a project that has none yet."""
