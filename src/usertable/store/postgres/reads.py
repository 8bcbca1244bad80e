"""Reading projects, users and identifier values over a connection; see :class:`usertable.store.protocol.Store`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import LiteralString

import psycopg

from usertable.domain.audit import AuditEntry, AuditFilter
from usertable.domain.key import Key
from usertable.domain.schema import Project
from usertable.store.encoding import (
    audit_parameters,
    decode_audit,
    decode_key,
    decode_project,
    decode_user_profiles,
    has_nul,
)
from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.connection import Connection
from usertable.store.queries import load_queries
from usertable.store.records import User
from usertable.store.tables import Row

_SQL = load_queries("usertable.store.postgres", "reads.sql")

Rows = psycopg.Cursor[Row]


def user(db: Connection, shards: ShardMap | None, project: int, cuid: int) -> User | None:
    found = users_of_rows(db, shards, project, db.execute(_SQL["user"], {"project": project, "cuid": cuid}))
    return found[0] if found else None


def read_many(db: Connection, shards: ShardMap | None, project: int, cuids: Sequence[int]) -> list[User]:
    query = _SQL["users" if shards is None else "users_in_shards"]
    found = users_of_rows(db, shards, project, db.execute(query, {"project": project, "cuids": list(set(cuids))}))
    users = {user.cuid: user for user in found}
    return [users[cuid] for cuid in cuids if cuid in users]


def users_of_rows(db: Connection, shards: ShardMap | None, project: int, rows: Rows) -> list[User]:
    """Return users and identifier values, from rows of CUID and a profile's columns."""
    users = {cuid: User(cuid, profile) for cuid, profile in decode_user_profiles(rows).items()}
    for cuid, identifier, value in values_of_users(db, shards, project, list(users)):
        users[cuid].identifiers.setdefault(identifier, []).append(value)
    return list(users.values())


def values_of_users(db: Connection, shards: ShardMap | None, project: int, cuids: Sequence[int]) -> Rows:
    """Return the identifier values of some users, none of them twice: rows of CUID, identifier and value."""
    query = _SQL["values_of_users" if shards is None else "values_of_users_in_shards"]
    return db.execute(query, {"project": project, "cuids": cuids})


def owners(db: Connection, shards: ShardMap | None, project: int, identifier: str, values: Sequence[str]) -> Rows:
    """Return the owners of the values: rows of value and CUID."""
    query = _SQL["owners" if shards is None else "owners_in_shards"]
    return db.execute(query, {"project": project, "identifier": identifier, "values": list(values)})


def projects(db: Connection) -> list[Project]:
    return _whole(db, db.execute(_SQL["projects"]))


def project_number(db: Connection, project_id: str) -> int | None:
    """Return the number of the project with this ID from a request; None if there is none."""
    # No project's ID contains NUL, and PostgreSQL rejects it.
    if "\0" in project_id:
        return None
    found = db.execute("SELECT number FROM usertable.project WHERE id = %s", (project_id,)).fetchone()
    return found[0] if found else None


def project_by_id(db: Connection, project_id: str) -> Project | None:
    """Return the project with this ID from a request."""
    number = project_number(db, project_id)
    return None if number is None else project_by_number(db, number)


def project_by_number(db: Connection, number: int) -> Project:
    """Return the project with this number, which must exist."""
    (project,) = _whole(db, db.execute(_SQL["project_by_number"], {"project": number}))
    return project


def _whole(db: Connection, rows: Rows) -> list[Project]:
    """Return projects including `identifying`."""
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


def stored_key(db: Connection, project: int, name: str) -> Key | None:
    # No key's name contains NUL, and PostgreSQL rejects it.
    if "\0" in name:
        return None
    found = db.execute(_SQL["stored_key"], {"project": project, "name": name}).fetchone()
    return None if found is None else decode_key(*found)


def revoked_keys(db: Connection, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
    at, name = after or (None, "")
    found = db.execute(_SQL["revoked_keys"], {"project": project, "at": at, "name": name, "limit": limit})
    return [decode_key(*row) for row in found]


def versions(db: Connection) -> dict[str, int]:
    return dict(db.execute("SELECT id, version FROM usertable.project").fetchall())


_AUDIT_CONDITIONS: Mapping[str, LiteralString] = {
    "project": "project = %(project)s",
    "actor": "actor = %(actor)s",
    "kinds": "kind = ANY(%(kinds)s)",
    "subject": "subject = %(subject)s",
    "since": "at >= %(since)s",
    "until": "at < %(until)s",
    "before": "number < %(before)s",
    "after": "number > %(after)s",
}


def audit(
    db: Connection, project: int, wanted: AuditFilter, limit: int, before: int | None, after: int | None
) -> list[AuditEntry]:
    if has_nul(wanted):
        return []
    values = audit_parameters(project, wanted, before, after)
    where = " AND ".join([_AUDIT_CONDITIONS[name] for name in values])
    query = _SQL["audit" if after is None else "audit_after"].replace("{where}", where)
    return [decode_audit(row) for row in db.execute(query, {**values, "limit": limit})]


def job(db: Connection, project: int, name: str) -> str | None:
    found = db.execute("SELECT state FROM usertable.import_job WHERE project = %s AND name = %s", (project, name)).fetchone()
    return found[0] if found else None


def next_cuid(db: Connection, project: int) -> int:
    found: int = db.execute("SELECT next_cuid FROM usertable.cuid_counter WHERE project = %s", (project,)).fetchall()[0][0]
    return found


def epoch(db: Connection) -> tuple[int, bool]:
    """Return the epoch, and whether the database is read-only."""
    value, read_only = db.execute(_SQL["epoch"]).fetchall()[0]
    return value, read_only == "on"
