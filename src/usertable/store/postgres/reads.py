"""What is read of projects, users and identifier values over a connection; see :class:`usertable.store.protocol.Store`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import psycopg

from usertable.domain.schema import Project
from usertable.store.encoding import decode_changes, decode_project, decode_user_profiles, values_by_user
from usertable.store.postgres.connection import Connection
from usertable.store.queries import load_queries
from usertable.store.records import Page, SchemaChange, User
from usertable.store.tables import Row

SNAPSHOT_ROWS = 5000
_SQL = load_queries("usertable.store.postgres", "reads.sql")

VALUES_OF_USERS = _SQL["values_of_users"]
"""Rows of CUID, identifier and value, of `cuids` in `project`."""
Rows = psycopg.Cursor[Row]


def user(db: Connection, project: int, cuid: int) -> User | None:
    found = users_of_rows(db, project, db.execute(_SQL["user"], {"project": project, "cuid": cuid}))
    return found[0] if found else None


def read_many(db: Connection, project: int, cuids: Sequence[int]) -> list[User]:
    found = users_of_rows(db, project, db.execute(_SQL["users"], {"project": project, "cuids": list(cuids)}))
    users = {user.cuid: user for user in found}
    return [users[cuid] for cuid in cuids if cuid in users]


def users_of_rows(db: Connection, project: int, rows: Rows) -> list[User]:
    """Users with their identifier values, from rows of CUID, version, created_at, updated_at, attributes, changed_at."""
    users = {cuid: User(cuid, profile) for cuid, profile in decode_user_profiles(rows).items()}
    for cuid, identifier, value in db.execute(VALUES_OF_USERS, {"project": project, "cuids": list(users)}):
        users[cuid].identifiers.setdefault(identifier, []).append(value)
    return list(users.values())


def owners(db: Connection, project: int, identifier: str, values: Sequence[str]) -> Rows:
    """Whom the values point to: rows of value and CUID."""
    return db.execute(_SQL["owners"], {"project": project, "identifier": identifier, "values": list(values)})


def projects(db: Connection) -> list[Project]:
    return _whole(db, db.execute(_SQL["projects"]))


def project_number(db: Connection, project_id: str) -> int | None:
    """The number of the project with that id as a caller sent it; None if there is none."""
    # No project's id has a NUL in it, and PostgreSQL takes none.
    if "\0" in project_id:
        return None
    found = db.execute("SELECT number FROM usertable.project WHERE id = %s", (project_id,)).fetchone()
    return found[0] if found else None


def project_by_id(db: Connection, project_id: str) -> Project | None:
    """The project with that id as a caller sent it."""
    number = project_number(db, project_id)
    return None if number is None else project_by_number(db, number)


def project_by_number(db: Connection, number: int) -> Project:
    """The project with that number, which exists."""
    (project,) = _whole(db, db.execute(_SQL["project_by_number"], {"project": number}))
    return project


def _whole(db: Connection, rows: Rows) -> list[Project]:
    """Projects with `identifying`."""
    projects = [decode_project(*row) for row in rows.fetchall()]
    with db.pipeline():
        valued = [
            (identifier.name, db.execute(_SQL["has_values"], {"project": project.number, "identifier": identifier.name}))
            for project in projects
            for identifier in project.schema.identifiers
        ]
    found = iter(valued)
    return [
        replace(
            project,
            identifying=frozenset(
                name for name, rows in itertools.islice(found, len(project.schema.identifiers)) if rows.fetchone()
            ),
        )
        for project in projects
    ]


def versions(db: Connection) -> dict[str, int]:
    return dict(db.execute("SELECT id, version FROM usertable.project").fetchall())


def schema_changes(db: Connection, project: int, limit: int) -> list[SchemaChange]:
    rows = db.execute(_SQL["schema_changes"], {"project": project, "limit": limit})
    return [SchemaChange(at, actor, decode_changes(what)) for at, actor, what in rows]


def job(db: Connection, project: int, name: str) -> str | None:
    found = db.execute("SELECT state FROM usertable.import_job WHERE project = %s AND name = %s", (project, name)).fetchone()
    return found[0] if found else None


def next_cuid(db: Connection, project: int) -> int:
    found: int = db.execute("SELECT next_cuid FROM usertable.cuid_counter WHERE project = %s", (project,)).fetchall()[0][0]
    return found


def epoch(db: Connection) -> tuple[int, bool]:
    """The epoch, and whether the database is read-only."""
    value, read_only = db.execute(_SQL["epoch"]).fetchall()[0]
    return value, read_only == "on"


class PostgresSnapshot:
    """See :class:`usertable.store.protocol.Snapshot`. The connection is in a transaction that sees one moment throughout."""

    def __init__(self, project: Project, db: Connection) -> None:
        self.project = project
        self._db = db

    def count(self) -> int:
        number = self.project.number
        found: int = self._db.execute("SELECT count(*) FROM usertable.users WHERE project = %s", (number,)).fetchall()[0][0]
        return found

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        number = self.project.number
        users = self._db.cursor(name="users")
        try:
            users.execute(_SQL["snapshot_users"], {"project": number})
            while found := users.fetchmany(SNAPSHOT_ROWS):
                values: Mapping[int, Mapping[str, list[str]]] = {}
                span = {"project": number, "first": found[0][0], "last": found[-1][0]}
                if self.project.identifying:
                    values = values_by_user(self._db.execute(_SQL["values_of_span"], span))
                found_rows = self._db.execute(_SQL["snapshot_rows"], span).fetchall() if rows else None
                cuids, texts = zip(*found, strict=True)
                yield Page(cuids, "\n".join(texts).encode(), values, found_rows)
                if len(found) < SNAPSHOT_ROWS:
                    break
        finally:
            with suppress(psycopg.Error):
                users.close()
