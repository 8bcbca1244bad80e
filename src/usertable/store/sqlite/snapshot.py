"""A snapshot of a project; see :class:`usertable.store.protocol.Snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import apsw
import msgspec

from usertable.domain.change import Change
from usertable.domain.schema import Project
from usertable.store.encoding import values_by_user
from usertable.store.history import HistoryBlock
from usertable.store.protocol import T
from usertable.store.queries import load_queries
from usertable.store.records import Page, User
from usertable.store.sqlite import history
from usertable.store.sqlite.statements import SQLITE_LENGTH, for_project

SNAPSHOT_ROWS = 5000
SNAPSHOT_BYTES = 8 * 2**20
"""Maximum rows, and bytes, of a snapshot's page. A larger row has a page of its own."""
_SQL = load_queries("usertable.store.sqlite", "reads.sql")
_cuids_decoder = msgspec.json.Decoder(list[int])


class SQLiteSnapshot:
    """See :class:`usertable.store.protocol.Snapshot`.

    Args:
        project: as of the snapshot.
        db: a connection in a transaction that has read.
    """

    def __init__(self, project: Project, db: apsw.Connection) -> None:
        self.project = project
        self._db = db

    def history_since(self) -> int | None:
        return history.since(self._db, self.project.number)

    def history_blocks(self) -> Iterator[HistoryBlock]:
        self._db.limit(apsw.SQLITE_LIMIT_LENGTH, SQLITE_LENGTH)
        return history.all_blocks(self._db, self.project.number)

    def with_changes(self, cuid: int, work: Callable[[User | None, Iterator[Change]], T], after: int) -> T:
        self._db.limit(apsw.SQLITE_LIMIT_LENGTH, SQLITE_LENGTH)
        return history.with_changes(self._db, self.project.number, cuid, work, after=after)

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
                # Too large for a page.
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
