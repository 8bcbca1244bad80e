"""What is read of projects, users and identifier values over a connection; see :class:`usertable.store.protocol.Store`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apsw
import msgspec

from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.store.encoding import decode_changes, decode_project, decode_user_profiles, values_by_user
from usertable.store.queries import load_queries
from usertable.store.records import Page, SchemaChange, User
from usertable.store.sqlite.statements import SQLITE_LENGTH, for_project, json_array

SNAPSHOT_ROWS = 5000
SNAPSHOT_BYTES = 8 * 2**20
"""A page of a snapshot has at most so many rows and bytes, or one row."""
_SQL = load_queries("usertable.store.sqlite", "reads.sql")
_BY_CUIDS = "cuid IN (SELECT value FROM json_each(?))"
_cuids_decoder = msgspec.json.Decoder(list[int])


def user(db: apsw.Connection, project: int, cuid: int) -> User | None:
    users = users_where(db, project, "cuid = ?", (cuid,))
    return users[0] if users else None


def read_many(db: apsw.Connection, project: int, cuids: Sequence[int]) -> list[User]:
    users = {user.cuid: user for user in users_where(db, project, _BY_CUIDS, (json_array(cuids),))}
    return [users[cuid] for cuid in cuids if cuid in users]


def users_where(
    db: apsw.Connection, project: int, where: str, parameters: Sequence[Any], *, can_cache: bool = True
) -> list[User]:
    """The users that meet a condition in SQL; `can_cache` says whether the statement is worth keeping."""
    users = {
        cuid: User(cuid, profile)
        for cuid, profile in _profiles_where(db, project, where, parameters, can_cache=can_cache).items()
    }
    for cuid, values in values_of_users(db, project, users).items():
        users[cuid].identifiers = values
    return list(users.values())


def profiles(db: apsw.Connection, project: int, cuids: Iterable[int]) -> dict[int, Profile]:
    """The profiles of those users that exist."""
    return _profiles_where(db, project, _BY_CUIDS, (json_array(cuids),), can_cache=True)


def _profiles_where(
    db: apsw.Connection, project: int, where: str, parameters: Sequence[Any], *, can_cache: bool
) -> dict[int, Profile]:
    statement = for_project(_SQL["users"], project).replace("{where}", where)
    return decode_user_profiles(list(db.execute(statement, parameters, can_cache=can_cache)))


def values_of_users(db: apsw.Connection, project: int, cuids: Iterable[int]) -> dict[int, dict[str, list[str]]]:
    """The identifier values of users, by CUID and identifier."""
    return values_by_user(db.execute(_SQL["values_of_users"], (project, json_array(cuids))))


def owners(db: apsw.Connection, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
    """The CUIDs that the values point to; one that points to nobody is left out."""
    return dict(db.execute(_SQL["owners"], (project, identifier, msgspec.json.encode(values).decode())))


def job(db: apsw.Connection, project: int, name: str) -> str | None:
    found = db.execute("SELECT state FROM import_job WHERE project = ? AND name = ?", (project, name)).fetchone()
    return found[0] if found else None


def projects(db: apsw.Connection) -> list[Project]:
    return _projects_where(db, "1 ORDER BY number", ())


def project_by_id(db: apsw.Connection, project_id: str) -> Project | None:
    """The project with that id as callers send it."""
    found = _projects_where(db, "id = ?", (project_id,))
    return found[0] if found else None


def project_by_number(db: apsw.Connection, number: int) -> Project:
    """The project with that number, which there is."""
    (project,) = _projects_where(db, "number = ?", (number,))
    return project


def _projects_where(db: apsw.Connection, where: str, parameters: tuple[Any, ...]) -> list[Project]:
    rows = list(db.execute(f"SELECT number, id, version, document FROM project WHERE {where}", parameters))
    projects = []
    for number, project_id, version, document in rows:
        reported = db.execute("SELECT attribute FROM reported WHERE project = ?", (number,))
        project = decode_project(number, project_id, version, document, (name for (name,) in reported))
        identifying = frozenset(i.name for i in project.schema.identifiers if _has_values(db, number, i.name))
        projects.append(replace(project, identifying=identifying))
    return projects


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


def schema_changes(db: apsw.Connection, project: int, limit: int) -> list[SchemaChange]:
    rows = db.execute(_SQL["schema_changes"], (project, limit))
    return [SchemaChange(at, actor, decode_changes(what)) for at, actor, what in rows]


class SQLiteSnapshot:
    """See :class:`usertable.store.protocol.Snapshot`.

    Args:
        project: as of the moment.
        db: a connection in a transaction that has read.
    """

    def __init__(self, project: Project, db: apsw.Connection) -> None:
        self.project = project
        self._db = db

    def count(self) -> int:
        found: int = self._db.execute(f"SELECT count(*) FROM user_{self.project.number}").get
        return found

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        db, number = self._db, self.project.number
        statement, of_rows = for_project(_SQL["page"], number), for_project(_SQL["page_rows"], number)
        after, size = 0, SNAPSHOT_ROWS
        while True:
            db.limit(apsw.SQLITE_LIMIT_LENGTH, SNAPSHOT_BYTES if size > 1 else SQLITE_LENGTH)
            try:
                ((found, lines),) = db.execute(statement, (after, size))
            except apsw.TooBigError:
                # Too much for a page.
                if size == 1:
                    raise
                size //= 2
                continue
            if found is None:
                return
            cuids = _cuids_decoder.decode(f"[{found}]")
            values: Mapping[int, Mapping[str, list[str]]] = {}
            if self.project.identifying:
                values = values_by_user(db.execute(_SQL["values_of_span"], (number, cuids[0], cuids[-1])))
            found_rows = list(db.execute(of_rows, (cuids[0], cuids[-1]))) if rows else None
            yield Page(cuids, lines, values, found_rows)
            after, size = cuids[-1], min(2 * size, SNAPSHOT_ROWS)
