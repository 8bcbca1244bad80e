"""Browsing the user table, one chunk at a time; see :class:`usertable.store.protocol.Browsable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from usertable.domain.condition import Condition, meets
from usertable.domain.profile import Profile
from usertable.store.encoding import decode_attributes, decode_column
from usertable.store.queries import load_queries
from usertable.store.records import ColumnValues, FilledCount, MatchCount, Selection, User
from usertable.store.sqlite.filter import Predicate, json_path, translate
from usertable.store.sqlite.reads import users_where

_SQL = load_queries("usertable.store.sqlite", "scans.sql")


def select(
    db: apsw.Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    limit: int,
    examine: int,
    descending: bool,
) -> Selection:
    matching = translate(conditions)
    order = "DESC" if descending else "ASC"
    chunk = _chunk(db, project, after, examine, descending)
    users: list[User] = []
    while len(users) < limit:
        wanted = limit - len(users)
        where = chunk.range & matching.maybe
        found = users_where(
            db,
            project,
            f"{where.sql} ORDER BY cuid {order} LIMIT ?",
            (*where.parameters, wanted),
            # Filters differ, and each would be cached with hundreds of kilobytes.
            can_cache=not conditions,
        )
        users += [user for user in found if matching.exact or meets(user.cuid, user.profile, conditions)]
        if len(found) < wanted:
            return Selection(users, chunk.examined, chunk.end)
        chunk.after = found[-1].cuid
    after_begin = chunk.after_begin
    more = db.execute(f"SELECT 1 FROM user_{project} WHERE {after_begin.sql} LIMIT 1", after_begin.parameters).fetchone()
    return Selection(users, chunk.examined, chunk.after if more else None)


def count_matching(
    db: apsw.Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    examine: int,
    keep: int,
    oldest: bool,
) -> MatchCount:
    matching = translate(conditions)
    chunk = _chunk(db, project, after, examine)
    where = chunk.range & matching.maybe
    statement = _filled("count_matching", project, where, order="ASC" if oldest else "DESC", sure=matching.sure.sql)
    parameters = (*matching.sure.parameters, *where.parameters, max(1, keep))
    rows = list(db.execute(statement, parameters, can_cache=not conditions))
    top = [
        (updated_at, cuid)
        for updated_at, cuid, _, attributes in rows
        if attributes is None or meets(cuid, Profile(0, 0, updated_at, decode_attributes(attributes), {}), conditions)
    ]
    sure = sum(attributes is None for *_, attributes in rows)
    matched = len(top) - sure + max((count for _, _, count, _ in rows), default=0)
    top.sort(reverse=not oldest)
    return MatchCount(matched, chunk.examined, chunk.end, top[:keep])


def column_values(db: apsw.Connection, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
    chunk = _chunk(db, project, after, examine)
    where = chunk.range
    rows = list(db.execute(_filled("column_values", project, where, path=json_path(attribute)), where.parameters))
    return ColumnValues(decode_column(attribute, [text for (text,) in rows]), chunk.examined, chunk.end)


def count_filled(db: apsw.Connection, project: int, after: int | None, examine: int) -> FilledCount:
    chunk = _chunk(db, project, after, examine)
    where = chunk.range
    rows = db.execute(_filled("count_filled", project, where), where.parameters)
    return FilledCount(dict(rows), chunk.examined, chunk.end)


def cuid_range(db: apsw.Connection, project: int) -> tuple[int, int] | None:
    # Each is at an end of the table. In one query, SQLite would scan the whole table for both.
    first, last = (db.execute(f"SELECT {end}(cuid) FROM user_{project}").get for end in ("min", "max"))
    return None if first is None else (first, last)


@dataclass
class _Chunk:
    """A chunk of a project's users."""

    after: int | None
    """It begins after this CUID."""
    last: int | None
    """The last CUID in it; None if it is empty."""
    examined: int
    end: int | None
    descending: bool

    @property
    def after_begin(self) -> Predicate:
        """The predicate for all users after its beginning."""
        return Predicate("1") if self.after is None else Predicate(f"cuid {'<' if self.descending else '>'} ?", [self.after])

    @property
    def range(self) -> Predicate:
        """The predicate for the users in it."""
        if self.last is None:
            return Predicate("0")
        return self.after_begin & Predicate(f"cuid {'>=' if self.descending else '<='} ?", [self.last])


def _chunk(db: apsw.Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Chunk:
    chunk = _Chunk(after, None, 0, None, descending)
    last, order = ("min", "DESC") if descending else ("max", "ASC")
    after_begin = chunk.after_begin
    statement = _filled("chunk", project, after_begin, last=last, order=order)
    chunk.last, chunk.examined = db.execute(statement, (*after_begin.parameters, examine)).get
    if chunk.examined == examine and chunk.last is not None:
        sign = "<" if descending else ">"
        more = db.execute(f"SELECT 1 FROM user_{project} WHERE cuid {sign} ? LIMIT 1", (chunk.last,)).fetchone()
        chunk.end = chunk.last if more else None
    return chunk


def _filled(name: str, project: int, where: Predicate, **parts: str) -> str:
    """Return a statement with its conditions and other named parts filled in."""
    return _SQL[name].format(project=project, where=where.sql, **parts)
