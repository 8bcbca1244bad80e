"""A snapshot of a project; see :class:`usertable.store.protocol.Snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import psycopg

from usertable.domain.change import Change
from usertable.domain.schema import Project
from usertable.store.encoding import values_by_user
from usertable.store.history import HistoryBlock
from usertable.store.postgres import history
from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.connection import Connection
from usertable.store.protocol import T
from usertable.store.queries import load_queries
from usertable.store.records import Page, User

SNAPSHOT_ROWS = 5000
_SQL = load_queries("usertable.store.postgres", "reads.sql")


class PostgresSnapshot:
    """See :class:`usertable.store.protocol.Snapshot`. The connection is in a transaction with a single snapshot."""

    def __init__(self, project: Project, db: Connection, shards: ShardMap | None) -> None:
        self.project = project
        self._db = db
        self._shards = shards

    def history_since(self) -> int | None:
        return history.since(self._db, self.project.number)

    def history_blocks(self) -> Iterator[HistoryBlock]:
        return history.all_blocks(self._db, self._shards, self.project.number)

    def with_changes(self, cuid: int, work: Callable[[User | None, Iterator[Change]], T], after: int) -> T:
        return history.with_changes(self._db, self._shards, self.project.number, cuid, work, after=after)

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
