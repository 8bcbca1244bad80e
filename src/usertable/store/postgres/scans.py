"""Looking through the user table, a stretch of it at a time; see :class:`usertable.store.protocol.Browsable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usertable.domain.condition import Condition
from usertable.domain.identity import MAX_CUID
from usertable.store.encoding import decode_values
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.filter import translate
from usertable.store.postgres.reads import users_of_rows
from usertable.store.queries import load_queries
from usertable.store.records import Column, Fill, Selection, Tally

_SQL = load_queries("usertable.store.postgres", "scans.sql")


def select(
    db: Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    limit: int,
    examine: int,
    descending: bool,
) -> Selection:
    """The first users of the stretch that meet all conditions."""
    predicate, parameters = translate(conditions)
    stretch = _stretch(db, project, after, examine, descending)
    query = _SQL["select_downward" if descending else "select_upward"].replace("{conditions}", predicate)
    # One more than asked for tells whether there are more.
    users = users_of_rows(db, project, db.execute(query, {**stretch.parameters, **parameters, "limit": limit + 1}))
    if len(users) <= limit:
        return Selection(users, stretch.examined, stretch.end)
    return Selection(users[:limit], stretch.examined, users[limit - 1].cuid if limit else after)


def tally(
    db: Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    examine: int,
    keep: int,
    oldest: bool,
) -> Tally:
    """Count the users of the stretch that meet all conditions; the outermost by `updated_at`."""
    predicate, parameters = translate(conditions)
    stretch = _stretch(db, project, after, examine)
    query = _SQL["tally_oldest" if oldest else "tally_newest"].replace("{conditions}", predicate)
    # Without a row there would be no count.
    rows = db.execute(query, {**stretch.parameters, **parameters, "limit": max(keep, 1)}).fetchall()
    edge = [(updated_at, cuid) for updated_at, cuid, _ in rows[:keep]]
    return Tally(rows[0][2] if rows else 0, stretch.examined, stretch.end, edge)


def column(db: Connection, project: int, attribute: str, after: int | None, examine: int) -> Column:
    """The values of an attribute in the stretch, by CUID."""
    stretch = _stretch(db, project, after, examine)
    rows = db.execute(_SQL["column"], {**stretch.parameters, "attribute": attribute})
    return Column(decode_values(text for (text,) in rows), stretch.examined, stretch.end)


def fill(db: Connection, project: int, after: int | None, examine: int) -> Fill:
    """Count, by attribute, the users of the stretch that have a value."""
    stretch = _stretch(db, project, after, examine)
    rows = db.execute(_SQL["fill"], stretch.parameters).fetchall()
    return Fill(dict(rows), stretch.examined, stretch.end)


def extent(db: Connection, project: int) -> tuple[int, int] | None:
    """The first and the last CUID that a user has; None if there is no user."""
    first, last = db.execute(_SQL["extent"], {"project": project}).fetchall()[0]
    return None if first is None else (first, last)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of a project's users that is looked at."""

    parameters: dict[str, object]
    """The project, and the CUIDs at both ends."""
    examined: int
    end: int | None


def _stretch(db: Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Stretch:
    if descending:
        query, begin = _SQL["stretch_downward"], MAX_CUID if after is None else after - 1
    else:
        query, begin = _SQL["stretch_upward"], after or 0
    first, last, count = db.execute(query, {"project": project, "begin": begin, "examine": examine}).fetchall()[0]
    if not count:
        return _Stretch({"project": project, "first": 1, "last": 0}, 0, None)
    begin, end = (first - 1, first) if descending else (last, last)
    more = count == examine and db.execute(query, {"project": project, "begin": begin, "examine": 1}).fetchall()[0][2]
    return _Stretch({"project": project, "first": first, "last": last}, count, end if more else None)
