"""Reading projects, users and identifier values over a connection; see :class:`usertable.store.protocol.Store`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import apsw
import msgspec

from usertable.domain.audit import AuditEntry, AuditFilter
from usertable.domain.key import Key
from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.store.encoding import (
    audit_parameters,
    decode_audit,
    decode_key,
    decode_project,
    decode_user_profiles,
    values_by_user,
)
from usertable.store.queries import load_queries
from usertable.store.records import User
from usertable.store.sqlite.statements import for_project, json_array

_SQL = load_queries("usertable.store.sqlite", "reads.sql")
_BY_CUIDS = "cuid IN (SELECT value FROM json_each(?))"


def user(db: apsw.Connection, project: int, cuid: int) -> User | None:
    users = users_where(db, project, "cuid = ?", (cuid,))
    return users[0] if users else None


def read_many(db: apsw.Connection, project: int, cuids: Sequence[int]) -> list[User]:
    users = {user.cuid: user for user in users_where(db, project, _BY_CUIDS, (json_array(cuids),))}
    return [users[cuid] for cuid in cuids if cuid in users]


def users_where(
    db: apsw.Connection, project: int, where: str, parameters: Sequence[Any], *, can_cache: bool = True
) -> list[User]:
    """Return the users that meet a condition in SQL. `can_cache`: whether the statement is worth caching."""
    users = {
        cuid: User(cuid, profile)
        for cuid, profile in _profiles_where(db, project, where, parameters, can_cache=can_cache).items()
    }
    for cuid, values in values_of_users(db, project, users).items():
        users[cuid].identifiers = values
    return list(users.values())


def profiles(db: apsw.Connection, project: int, cuids: Iterable[int]) -> dict[int, Profile]:
    """Return the profiles of the users that exist."""
    return _profiles_where(db, project, _BY_CUIDS, (json_array(cuids),), can_cache=True)


def _profiles_where(
    db: apsw.Connection, project: int, where: str, parameters: Sequence[Any], *, can_cache: bool
) -> dict[int, Profile]:
    statement = for_project(_SQL["users"], project).replace("{where}", where)
    return decode_user_profiles(list(db.execute(statement, parameters, can_cache=can_cache)))


def values_of_users(db: apsw.Connection, project: int, cuids: Iterable[int]) -> dict[int, dict[str, list[str]]]:
    """Return the identifier values of users, by CUID and identifier."""
    return values_by_user(db.execute(_SQL["values_of_users"], (project, json_array(cuids))))


def owners(db: apsw.Connection, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
    """Return the CUIDs that own the values. Values without an owner are left out."""
    return dict(db.execute(_SQL["owners"], (project, identifier, msgspec.json.encode(values).decode())))


def job(db: apsw.Connection, project: int, name: str) -> str | None:
    found = db.execute("SELECT state FROM import_job WHERE project = ? AND name = ?", (project, name)).fetchone()
    return found[0] if found else None


def projects(db: apsw.Connection) -> list[Project]:
    return _projects_where(db, "1 ORDER BY number", ())


def project_by_id(db: apsw.Connection, project_id: str) -> Project | None:
    """Return the project with this ID, as callers send it."""
    found = _projects_where(db, "id = ?", (project_id,))
    return found[0] if found else None


def project_by_number(db: apsw.Connection, number: int) -> Project:
    """Return the project with this number, which must exist."""
    (project,) = _projects_where(db, "number = ?", (number,))
    return project


def _projects_where(db: apsw.Connection, where: str, parameters: tuple[Any, ...]) -> list[Project]:
    rows = list(db.execute(f"SELECT number, id, version, document FROM project WHERE {where}", parameters))
    projects = []
    for number, project_id, version, document in rows:
        reported = db.execute("SELECT attribute FROM reported WHERE project = ?", (number,))
        keys = db.execute(_SQL["keys"], {"project": number})
        project = decode_project(number, project_id, version, document, (name for (name,) in reported), keys)
        identifying = frozenset(i.name for i in project.schema.identifiers if _has_values(db, number, i.name))
        projects.append(replace(project, identifying=identifying))
    return projects


def stored_key(db: apsw.Connection, project: int, name: str) -> Key | None:
    found = db.execute("SELECT name, document FROM project_key WHERE project = ? AND name = ?", (project, name)).fetchone()
    return None if found is None else decode_key(*found)


def revoked_keys(db: apsw.Connection, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
    at, name = after or (None, "")
    found = db.execute(_SQL["revoked_keys"], {"project": project, "at": at, "name": name, "limit": limit})
    return [decode_key(*row) for row in found]


def _has_values(db: apsw.Connection, project: int, identifier: str) -> bool:
    return db.execute(_SQL["has_values"], (project, identifier)).fetchone() is not None


def next_cuid(db: apsw.Connection, project: int) -> int:
    number: int = db.execute("SELECT next_cuid FROM project WHERE number = ?", (project,)).get
    return number


def epoch(db: apsw.Connection) -> int:
    value: int = db.execute("SELECT value FROM epoch").get
    return value


def versions(db: apsw.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT id, version FROM project"))


_AUDIT_CONDITIONS = {
    "project": "project = :project",
    "actor": "actor = :actor",
    "kinds": "kind IN (SELECT value FROM json_each(:kinds))",
    "subject": "subject = :subject",
    "since": "at >= :since",
    "until": "at < :until",
    "before": "number < :before",
    "after": "number > :after",
}


def audit(
    db: apsw.Connection, project: int, wanted: AuditFilter, limit: int, before: int | None, after: int | None
) -> list[AuditEntry]:
    values = audit_parameters(project, wanted, before, after)
    where = " AND ".join(_AUDIT_CONDITIONS[name] for name in values)
    query = _SQL["audit"].replace("{where}", where).replace("{order}", "DESC" if after is None else "ASC")
    if wanted.kinds:
        values["kinds"] = msgspec.json.encode(values["kinds"]).decode()
    return [decode_audit(row) for row in db.execute(query, {**values, "limit": limit})]
