"""Browsing the user table, one chunk at a time; see :class:`usertable.store.protocol.Browsable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usertable.domain.condition import Condition
from usertable.domain.identity import MAX_CUID
from usertable.store.encoding import decode_values
from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.filter import translate
from usertable.store.postgres.reads import users_of_rows
from usertable.store.queries import load_queries
from usertable.store.records import ColumnValues, FilledCount, MatchCount, Selection

_SQL = load_queries("usertable.store.postgres", "scans.sql")


def select(
    db: Connection,
    shards: ShardMap | None,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    limit: int,
    examine: int,
    descending: bool,
) -> Selection:
    predicate, parameters = translate(conditions)
    chunk = _chunk(db, project, after, examine, descending)
    query = _SQL["select_downward" if descending else "select_upward"].replace("{conditions}", predicate)
    # One more than requested, to know whether there are more.
    rows = db.execute(query, {**chunk.parameters, **parameters, "limit": limit + 1})
    users = users_of_rows(db, shards, project, rows)
    if len(users) <= limit:
        return Selection(users, chunk.examined, chunk.end)
    return Selection(users[:limit], chunk.examined, users[limit - 1].cuid if limit else after)


def count_matching(
    db: Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    examine: int,
    keep: int,
    oldest: bool,
) -> MatchCount:
    predicate, parameters = translate(conditions)
    chunk = _chunk(db, project, after, examine)
    query = _SQL["count_matching_oldest" if oldest else "count_matching_newest"].replace("{conditions}", predicate)
    # Without a row there would be no count.
    rows = db.execute(query, {**chunk.parameters, **parameters, "limit": max(keep, 1)}).fetchall()
    top = [(updated_at, cuid) for updated_at, cuid, _ in rows[:keep]]
    return MatchCount(rows[0][2] if rows else 0, chunk.examined, chunk.end, top)


def column_values(db: Connection, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
    chunk = _chunk(db, project, after, examine)
    rows = db.execute(_SQL["column_values"], {**chunk.parameters, "attribute": attribute})
    return ColumnValues(decode_values(text for (text,) in rows), chunk.examined, chunk.end)


def count_filled(db: Connection, project: int, after: int | None, examine: int) -> FilledCount:
    chunk = _chunk(db, project, after, examine)
    rows = db.execute(_SQL["count_filled"], chunk.parameters).fetchall()
    return FilledCount(dict(rows), chunk.examined, chunk.end)


def cuid_range(db: Connection, project: int) -> tuple[int, int] | None:
    first, last = db.execute(_SQL["cuid_range"], {"project": project}).fetchall()[0]
    return None if first is None else (first, last)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of a project's users."""

    parameters: dict[str, object]
    """The project, and the CUIDs at both ends."""
    examined: int
    end: int | None


def _chunk(db: Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Chunk:
    if descending:
        query, begin = _SQL["chunk_downward"], MAX_CUID if after is None else after - 1
    else:
        query, begin = _SQL["chunk_upward"], after or 0
    first, last, count = db.execute(query, {"project": project, "begin": begin, "examine": examine}).fetchall()[0]
    if not count:
        return _Chunk({"project": project, "first": 1, "last": 0}, 0, None)
    begin, end = (first - 1, first) if descending else (last, last)
    more = count == examine and db.execute(query, {"project": project, "begin": begin, "examine": 1}).fetchall()[0][2]
    return _Chunk({"project": project, "first": first, "last": last}, count, end if more else None)
