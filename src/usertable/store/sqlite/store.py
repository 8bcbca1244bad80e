"""The SQLite engine: each call opens a connection or a transaction and delegates to the module for its topic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.audit import AuditEntry, AuditFilter
from usertable.domain.change import Change
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.schema import Attribute, Project
from usertable.store.history import (
    BlockSize,
    HistoryBlock,
    HistoryFigures,
    HistoryGrowth,
    PackedHistory,
    PrunedHistory,
    pack_blocks,
)
from usertable.store.protocol import Snapshot, T
from usertable.store.records import (
    ColumnValues,
    FilledCount,
    MatchCount,
    Migration,
    Result,
    Selection,
    StoreFigures,
    User,
    Write,
)
from usertable.store.sqlite import activity, copy, history, people, reads, scans
from usertable.store.sqlite.connection import Connections
from usertable.store.sqlite.files import Identity
from usertable.store.sqlite.snapshot import SQLiteSnapshot
from usertable.store.sqlite.statements import SQLITE_LENGTH
from usertable.store.sqlite.transaction import RowsTooLarge, SQLiteTransaction, expire_receipts
from usertable.store.tables import ROWS_BYTES, Row, TableSpec
from usertable.store.transaction import Transaction, WriteCommand
from usertable.store.urls import CACHE_MB

LOADED_BYTES = 16 * 2**20
"""Bytes of users' rows above which a batch is written in halves, so that large rows do not block others for long."""


class SQLiteStore:
    """See :class:`usertable.store.protocol.Store`, and for the arguments :class:`Connections`."""

    def __init__(
        self,
        path: str,
        *,
        serving: bool = False,
        writing: bool = False,
        cache_mb: int = CACHE_MB,
        migrate: bool = True,
        files: Mapping[str, Identity] | None = None,
    ) -> None:
        self._connections = Connections(
            path, serving=serving, writing=writing, cache_mb=cache_mb, may_migrate=migrate, known=files
        )
        self._reported: dict[int, set[str]] = {}
        """By project, attributes that are known to be stored as reported, and need not be stored again."""
        self._history_sizes = history.StoredSizes()
        self._packed: dict[int, int] = {}
        """By project, the number of its last packed block."""
        self._rest_until = 0.0
        """Monotonic time before which no background transaction begins: others get as much time as the last one held the
        lock."""

    @property
    def files(self) -> Mapping[str, Identity]:
        """The open files, by name."""
        return self._connections.files.known

    @property
    def migration(self) -> Migration | None:
        return self._connections.migration

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        return self._in_background(lambda: self._transact(command)) if background else self._transact(command)

    def _in_background(self, transaction: Callable[[], T]) -> T:
        # SQLite's lock is not fair: the server's writer gets it only while nobody else wants it.
        time.sleep(max(0.0, self._rest_until - time.monotonic()))
        answer = transaction()
        if self._connections.files.server():
            ended = time.monotonic()
            self._rest_until = ended + (ended - self._connections.locked_at)
        return answer

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        middle = _middle(writes)
        maximum_bytes = LOADED_BYTES if middle else SQLITE_LENGTH
        try:
            return self._transact(lambda transaction: command(transaction, writes), maximum_bytes)
        except RowsTooLarge:
            results = self.write(writes[:middle], command)
        if isinstance(results[-1], Exception):
            # A later write of a user must not be stored before an earlier one that may be retried.
            return results + [results[-1]] * (len(writes) - middle)
        # The first half is stored, so a failure of the second is the result of its own writes only.
        try:
            return results + self.write(writes[middle:], command)
        except Exception as failure:
            return results + [failure] * (len(writes) - middle)

    def _transact(self, command: Callable[[Transaction], T], maximum_bytes: int = SQLITE_LENGTH) -> T:
        with self._connections.writer() as db:
            transaction = SQLiteTransaction(db, self._reported, maximum_bytes)
            answer = command(transaction)
        for project, name in transaction.reported:
            self._reported.setdefault(project, set()).add(name)
        self._connections.count_written(transaction.rows)
        self._connections.has_erased |= transaction.has_erased
        return answer

    def read(self, project: int, cuid: int) -> User | None:
        with self._connections.read_transaction() as db:
            return reads.user(db, project, cuid)

    def with_changes(
        self,
        project: int,
        cuid: int,
        work: Callable[[User | None, Iterator[Change]], T],
        *,
        start: int | None = None,
        after: int | None = None,
    ) -> T:
        with self._connections.read_transaction() as db:
            return history.with_changes(db, project, cuid, work, start=start, after=after)

    def history_figures(self, project: int) -> HistoryFigures:
        with self._connections.read_transaction() as db:
            return self._history_sizes.figures(db, project)

    def history_growth(self, project: int, since: int) -> HistoryGrowth:
        with self._connections.read_transaction() as db:
            return self._history_sizes.growth(db, project, since)

    def prune_history(self, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
        def transaction() -> tuple[list[BlockSize], list[BlockSize]]:
            with self._connections.unsynced_writer() as db:
                return history.prune(db, project, before, excess, now)

        removed, keyframes = self._in_background(transaction)
        self._history_sizes.replaced(project, removed, keyframes=keyframes)
        return PrunedHistory.of(removed, sum(size.bytes for size in keyframes))

    def forget_erased(self, project: int) -> None:
        """It has nothing of them: only what was done is stored."""

    def pack_history(self, project: int, before: int) -> PackedHistory:
        with self._connections.reader() as db:
            if project not in self._packed:
                self._packed[project] = history.last_packed(db, project)
            blocks = history.unpacked(db, project, self._packed[project], before)
            if not blocks:
                self._history_sizes.refresh(db, project)
                return PackedHistory()
        # Compressing takes some ten times as long as storing, so others can write meanwhile.
        packed = pack_blocks(blocks)

        def transaction() -> bool:
            with self._connections.unsynced_writer() as db:
                return history.replace_blocks(db, project, blocks, packed)

        if not self._in_background(transaction):
            return PackedHistory(is_busy=True)
        self._packed[project] = packed.block
        self._history_sizes.replaced(project, map(BlockSize.of, blocks), [BlockSize.of(packed)])
        return PackedHistory.of(blocks)

    def history_since(self, project: int) -> int | None:
        with self._connections.reader() as db:
            return history.since(db, project)

    def history_blocks(self, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
        with self._connections.reader() as db:
            return history.blocks(db, project, below, limit)

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        with self._connections.read_transaction() as db:
            return reads.read_many(db, project, cuids)

    def job(self, project: int, name: str) -> str | None:
        with self._connections.reader() as db:
            return reads.job(db, project, name)

    @contextlib.contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        with self._connections.snapshot() as db:
            project = reads.project_by_id(db, project_id)
            if project is None:
                raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
            yield SQLiteSnapshot(project, db)

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        with self._connections.reader() as db:
            return reads.owners(db, project, identifier, values)

    def epoch(self) -> int:
        with self._connections.reader() as db:
            return reads.epoch(db)

    def versions(self) -> dict[str, int]:
        with self._connections.reader() as db:
            return reads.versions(db)

    def projects(self) -> list[Project]:
        with self._connections.reader() as db:
            return reads.projects(db)

    def project(self, project_id: str) -> Project | None:
        with self._connections.reader() as db:
            return reads.project_by_id(db, project_id)

    def stored_key(self, project: int, name: str) -> Key | None:
        with self._connections.reader() as db:
            return reads.stored_key(db, project, name)

    def revoked_keys(self, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
        with self._connections.reader() as db:
            return reads.revoked_keys(db, project, after, limit)

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        with self._connections.reader() as db:
            found = reads.project_by_number(db, project)
        return found.version, found.schema.attributes

    def audit(
        self, project: int, wanted: AuditFilter, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        with self._connections.reader() as db:
            return reads.audit(db, project, wanted, limit, before, after)

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        with self._connections.read_transaction() as db:
            return scans.select(db, project, conditions, after, limit, examine, descending)

    def count_matching(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> MatchCount:
        with self._connections.read_transaction() as db:
            return scans.count_matching(db, project, conditions, after, examine, keep, oldest)

    def column_values(self, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
        with self._connections.read_transaction() as db:
            return scans.column_values(db, project, attribute, after, examine)

    def count_filled(self, project: int, after: int | None, examine: int) -> FilledCount:
        with self._connections.read_transaction() as db:
            return scans.count_filled(db, project, after, examine)

    def cuid_range(self, project: int) -> tuple[int, int] | None:
        with self._connections.read_transaction() as db:
            return scans.cuid_range(db, project)

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        with self._connections.unsynced_writer() as db:
            activity.keep_arrivals(db, batch)

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        with self._connections.reader() as db:
            return activity.arrivals(db, project, after, limit, refused)

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        with self._connections.reader() as db:
            return activity.rates(db, project, since, step)

    def refusals(self, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
        with self._connections.reader() as db:
            return activity.refusals(db, project, since)

    def last_writes(self, project: int) -> dict[str, int]:
        with self._connections.reader() as db:
            return activity.last_writes(db, project)

    def key_uses(self, project: int, names: Sequence[str]) -> dict[str, int]:
        with self._connections.reader() as db:
            return activity.key_uses(db, project, names)

    def expire_arrivals(self, before: int) -> None:
        with self._connections.unsynced_writer() as db:
            activity.expire_arrivals(db, before)
        self._connections.notice_erased()
        self._connections.truncate_log()

    def people(self) -> list[Person]:
        with self._connections.reader() as db:
            return people.people(db)

    def person(self, id: str) -> Person | None:
        with self._connections.reader() as db:
            return people.person(db, id)

    def person_by_email(self, email: str) -> Person | None:
        with self._connections.reader() as db:
            return people.person_by_email(db, email)

    def session(self, digest: bytes) -> tuple[Session, Person | None] | None:
        with self._connections.reader() as db:
            return people.session(db, digest)

    def sessions(self, person: str) -> list[Session]:
        with self._connections.reader() as db:
            return people.sessions(db, person)

    def see_sessions(self, seen: Mapping[bytes, int]) -> None:
        with self._connections.unsynced_writer() as db:
            people.see_sessions(db, seen)

    def expire_sessions(self, before: int, limit: int) -> int:
        with self._connections.unsynced_writer() as db:
            return people.expire_sessions(db, before, limit)

    def expire_receipts(self, before: int) -> int:
        with self._connections.writer() as db:
            return expire_receipts(db, before)

    def count(self, project: int, spec: TableSpec) -> int:
        with self._connections.reader() as db:
            return copy.count(db, project, spec)

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int, size: int = ROWS_BYTES) -> list[Row]:
        with self._connections.reader() as db:
            return copy.rows(db, project, spec, after, limit, size)

    def last(self, project: int, spec: TableSpec) -> Row | None:
        with self._connections.reader() as db:
            return copy.last(db, project, spec)

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        with self._connections.writer() as db:
            copy.load(db, project, spec, rows)

    def next_cuid(self, project: int) -> int:
        with self._connections.reader() as db:
            return reads.next_cuid(db, project)

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        with self._connections.writer() as db:
            copy.finish_copy(db, project, next_cuid)

    def ping(self) -> None:
        # Only a write detects a full disk, or a read-only one, and only if it changes something. This row belongs to no
        # project, and nothing waits until it is on disk.
        with self._connections.unsynced_writer() as db:
            db.execute("REPLACE INTO last_write (project, attribute, at) VALUES (0, '', ?)", (time.time_ns(),))

    def figures(self) -> StoreFigures:
        return self._connections.files.figures()

    def close(self) -> None:
        self._connections.close()


def _middle(writes: Sequence[Write]) -> int:
    """Return where to cut a batch in two, near the middle and between writes to different users; 0 if impossible."""
    half = len(writes) // 2
    for distance in range(half + 1):
        for cut in (half - distance, half + distance):
            if 0 < cut < len(writes) and writes[cut].cuid != writes[cut - 1].cuid:
                return cut
    return 0
