"""Looking through the user table, a stretch of it at a time; see :class:`usertable.store.protocol.Browsable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from usertable.domain.condition import Condition, meets
from usertable.domain.profile import Profile
from usertable.store.encoding import decode_attributes, decode_column
from usertable.store.queries import load_queries
from usertable.store.records import Column, Fill, Selection, Tally, User
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
    """The first users of the stretch that meet all conditions."""
    matching = translate(conditions)
    order = "DESC" if descending else "ASC"
    stretch = _stretch(db, project, after, examine, descending)
    users: list[User] = []
    while len(users) < limit:
        wanted = limit - len(users)
        where = stretch.range & matching.maybe
        found = users_where(
            db,
            project,
            f"{where.sql} ORDER BY cuid {order} LIMIT ?",
            (*where.parameters, wanted),
            # Filters differ, and each would be kept with hundreds of kilobytes.
            can_cache=not conditions,
        )
        users += [user for user in found if matching.exact or meets(user.profile, conditions)]
        if len(found) < wanted:
            return Selection(users, stretch.examined, stretch.end)
        stretch.after = found[-1].cuid
    beyond = stretch.beyond
    more = db.execute(f"SELECT 1 FROM user_{project} WHERE {beyond.sql} LIMIT 1", beyond.parameters).fetchone()
    return Selection(users, stretch.examined, stretch.after if more else None)


def tally(
    db: apsw.Connection,
    project: int,
    conditions: Sequence[Condition],
    after: int | None,
    examine: int,
    keep: int,
    oldest: bool,
) -> Tally:
    """Count the users of the stretch that meet all conditions."""
    matching = translate(conditions)
    stretch = _stretch(db, project, after, examine)
    where = stretch.range & matching.maybe
    statement = _filled("tally", project, where, order="ASC" if oldest else "DESC", sure=matching.sure.sql)
    parameters = (*matching.sure.parameters, *where.parameters, max(1, keep))
    rows = list(db.execute(statement, parameters, can_cache=not conditions))
    edge = [
        (updated_at, cuid)
        for updated_at, cuid, _, attributes in rows
        if attributes is None or meets(Profile(0, 0, updated_at, decode_attributes(attributes), {}), conditions)
    ]
    sure = sum(attributes is None for *_, attributes in rows)
    matched = len(edge) - sure + max((count for _, _, count, _ in rows), default=0)
    edge.sort(reverse=not oldest)
    return Tally(matched, stretch.examined, stretch.end, edge[:keep])


def column(db: apsw.Connection, project: int, attribute: str, after: int | None, examine: int) -> Column:
    """The values of an attribute in the stretch, by CUID."""
    stretch = _stretch(db, project, after, examine)
    where = stretch.range
    rows = list(db.execute(_filled("column", project, where, path=json_path(attribute)), where.parameters))
    return Column(decode_column(attribute, [text for (text,) in rows]), stretch.examined, stretch.end)


def fill(db: apsw.Connection, project: int, after: int | None, examine: int) -> Fill:
    """Count, by attribute, the users of the stretch that have a value."""
    stretch = _stretch(db, project, after, examine)
    where = stretch.range
    rows = db.execute(_filled("fill", project, where), where.parameters)
    return Fill(dict(rows), stretch.examined, stretch.end)


def extent(db: apsw.Connection, project: int) -> tuple[int, int] | None:
    """The first and the last CUID that a user has; None if there is no user."""
    # Each is found at an end of the table; asked for together, both would be looked for in all of it.
    first, last = (db.execute(f"SELECT {end}(cuid) FROM user_{project}").get for end in ("min", "max"))
    return None if first is None else (first, last)


@dataclass
class _Stretch:
    """A stretch of a project's users that is looked at."""

    after: int | None
    """It begins after this CUID."""
    last: int | None
    """The CUID at its end; None if it holds nobody."""
    examined: int
    end: int | None
    descending: bool

    @property
    def beyond(self) -> Predicate:
        """The predicate for all users after its beginning."""
        return Predicate("1") if self.after is None else Predicate(f"cuid {'<' if self.descending else '>'} ?", [self.after])

    @property
    def range(self) -> Predicate:
        """The predicate for the users in it."""
        if self.last is None:
            return Predicate("0")
        return self.beyond & Predicate(f"cuid {'>=' if self.descending else '<='} ?", [self.last])


def _stretch(db: apsw.Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Stretch:
    stretch = _Stretch(after, None, 0, None, descending)
    last, order = ("min", "DESC") if descending else ("max", "ASC")
    beyond = stretch.beyond
    statement = _filled("stretch", project, beyond, last=last, order=order)
    stretch.last, stretch.examined = db.execute(statement, (*beyond.parameters, examine)).get
    if stretch.examined == examine and stretch.last is not None:
        sign = "<" if descending else ">"
        more = db.execute(f"SELECT 1 FROM user_{project} WHERE cuid {sign} ? LIMIT 1", (stretch.last,)).fetchone()
        stretch.end = stretch.last if more else None
    return stretch


def _filled(name: str, project: int, where: Predicate, **parts: str) -> str:
    """A statement with what its conditions are, and the other parts that it names."""
    return _SQL[name].format(project=project, where=where.sql, **parts)
