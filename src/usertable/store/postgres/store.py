"""The PostgreSQL engine: each call takes a connection and delegates to the module for its topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg import errors

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.audit import AuditEntry, AuditFilter
from usertable.domain.change import Change
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind, StoreMissing, refusal
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.schema import Attribute, Project
from usertable.store.history import HistoryBlock, HistoryFigures, HistoryGrowth, PackedHistory, PrunedHistory
from usertable.store.postgres import activity, citus, copy, history, migrations, people, reads, scans
from usertable.store.postgres.citus_writes import CitusWrites
from usertable.store.postgres.connection import Connection, check_alone, opened, warn_of_losses
from usertable.store.postgres.merge import UserKey, forget_undone
from usertable.store.postgres.pool import Connections, TrackedConnection
from usertable.store.postgres.snapshot import PostgresSnapshot
from usertable.store.postgres.transaction import PostgresTransaction, expire_receipts
from usertable.store.postgres.url import connection_parameters
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
from usertable.store.tables import HISTORY, ROWS_BYTES, Row, TableSpec
from usertable.store.transaction import Transaction, WriteCommand
from usertable.store.urls import redacted_url


class PostgresStore:
    """See :class:`usertable.store.protocol.Store`.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters, and `pool_size=N`.
        serving: this is a server: it logs settings that may lose answered writes.
        alone: refuse if a server uses the database.
        create: create missing tables.
        migrate: migrate tables of an older version; if false, refuse them.
        writing: this is a server's writer, for which the server has checked and migrated the store. The database need not be
            reachable now.

    Raises:
        StoreMissing: there are no tables, and `create` is false.
        StoreFault: the database cannot be used: unreachable, too old, a standby, with too new a store, or without the right
            to migrate.
    """

    def __init__(
        self,
        url: str,
        *,
        serving: bool = False,
        writing: bool = False,
        alone: bool = False,
        create: bool = True,
        migrate: bool = True,
    ) -> None:
        display_url = redacted_url(url)
        conninfo, size = connection_parameters(url)
        self.migration: Migration | None = None
        if not writing:
            with opened(conninfo, display_url) as db:
                if alone:
                    check_alone(db, display_url)
                if not create and not migrations.stored_version(db, display_url):
                    raise StoreMissing(f"there is no store at {display_url}")
                self.migration = migrations.migrate(db, display_url, allowed=migrate)
                if serving:
                    warn_of_losses(db, display_url)
        # A writer never browses the table.
        self.connections = Connections(conninfo, size, display_url, scanning=not writing)
        self._reported: dict[int, set[str]] = {}
        """By project, attributes that are known to be stored as reported, and need not be stored again."""
        self.packer = history.Packer()
        self._places: dict[int, list[int]] = {}
        """By project, where its history is, while it is copied."""
        self._citus = CitusWrites(self.connections, self._reported, size, display_url)

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        return self._transact(command, set())

    def _transact(self, command: Callable[[Transaction], T], unknown: set[UserKey]) -> T:
        try:
            return self._run(command, unknown)
        except errors.FeatureNotSupported:
            # On Citus the shards may have been split. What is refused has changed nothing.
            self.connections.forget_shards()
        return self._run(command, unknown)

    def _run(self, command: Callable[[Transaction], T], unknown: set[UserKey]) -> T:
        shards = self.connections.shards()

        def work(connection: TrackedConnection) -> T:
            return PostgresTransaction(connection, self._reported, shards, unknown=unknown).run(command)

        return self.connections.run(work)

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        shards = self.connections.shards()
        if shards is not None:
            return self._citus.write(shards, writes, command)
        unknown: set[UserKey] = set()
        results = self._transact(lambda transaction: command(transaction, writes), unknown)
        forget_undone(self.connections, shards, unknown)
        return results

    def read(self, project: int, cuid: int) -> User | None:
        shards = self.connections.shards()
        return self.connections.read(lambda db: reads.user(db, shards, project, cuid))

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        shards = self.connections.shards()
        return self.connections.scan(lambda db: reads.read_many(db, shards, project, cuids))

    def job(self, project: int, name: str) -> str | None:
        return self.connections.read(lambda db: reads.job(db, project, name))

    @contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        shards = self.connections.shards()
        with self.connections.snapshot() as db:
            project = reads.project_by_id(db, project_id)
            if project is None:
                raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
            yield PostgresSnapshot(project, db, shards)

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        shards = self.connections.shards()
        return self.connections.read(lambda db: dict(reads.owners(db, shards, project, identifier, values).fetchall()))

    def epoch(self) -> int:
        return self.connections.epoch()

    def versions(self) -> dict[str, int]:
        return self.connections.read(reads.versions)

    def projects(self) -> list[Project]:
        return self.connections.read(reads.projects)

    def project(self, project_id: str) -> Project | None:
        return self.connections.read(lambda db: reads.project_by_id(db, project_id))

    def stored_key(self, project: int, name: str) -> Key | None:
        return self.connections.read(lambda db: reads.stored_key(db, project, name))

    def revoked_keys(self, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
        return self.connections.read(lambda db: reads.revoked_keys(db, project, after, limit))

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        found = self.connections.read(lambda db: reads.project_by_number(db, project))
        return found.version, found.schema.attributes

    def audit(
        self, project: int, wanted: AuditFilter, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        return self.connections.read(lambda db: reads.audit(db, project, wanted, limit, before, after))

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        shards = self.connections.shards()

        def select(db: Connection) -> Selection:
            return scans.select(db, shards, project, conditions, after, limit, examine, descending)

        return self.connections.scan(select)

    def count_matching(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> MatchCount:
        return self.connections.scan(lambda db: scans.count_matching(db, project, conditions, after, examine, keep, oldest))

    def column_values(self, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
        return self.connections.scan(lambda db: scans.column_values(db, project, attribute, after, examine))

    def count_filled(self, project: int, after: int | None, examine: int) -> FilledCount:
        return self.connections.scan(lambda db: scans.count_filled(db, project, after, examine))

    def cuid_range(self, project: int) -> tuple[int, int] | None:
        return self.connections.scan(lambda db: scans.cuid_range(db, project))

    def with_changes(
        self,
        project: int,
        cuid: int,
        work: Callable[[User | None, Iterator[Change]], T],
        *,
        start: int | None = None,
        after: int | None = None,
    ) -> T:
        shards = self.connections.shards()

        def read(db: Connection) -> T:
            return history.with_changes(db, shards, project, cuid, work, start=start, after=after)

        return self.connections.read(read)

    def history_figures(self, project: int) -> HistoryFigures:
        return self.connections.read(lambda db: history.figures(db, project))

    def history_growth(self, project: int, since: int) -> HistoryGrowth:
        return self.connections.read(lambda db: history.growth(db, project, since))

    def prune_history(self, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
        return self.connections.change(lambda db: history.prune(db, project, before, excess, now))

    def forget_erased(self, project: int) -> None:
        shards, packer = self.connections.shards(), self.packer
        self.connections.change(packer.observe)
        self.connections.read(packer.settle)
        while self.connections.change(lambda db: packer.forget_erased(db, shards, project)):
            pass

    def pack_history(self, project: int, before: int) -> PackedHistory:
        shards, packer = self.connections.shards(), self.packer

        def pack() -> PackedHistory:
            return self.connections.change(lambda db: packer.pack(db, shards, project, before))

        packed = pack()
        if packed.blocks or packed.is_busy:
            return packed
        self.connections.change(packer.observe)
        return pack() if self.connections.read(packer.settle) else packed

    def history_since(self, project: int) -> int | None:
        return self.connections.fetch(lambda db: history.since(db, project))

    def history_blocks(self, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
        return self.connections.read(lambda db: history.blocks(db, project, below, limit))

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        self.connections.change(lambda db: activity.keep_arrivals(db, batch))

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        return self.connections.read(lambda db: activity.arrivals(db, project, after, limit, refused))

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        return self.connections.read(lambda db: activity.rates(db, project, since, step))

    def refusals(self, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
        return self.connections.read(lambda db: activity.refusals(db, project, since))

    def last_writes(self, project: int) -> dict[str, int]:
        return self.connections.read(lambda db: activity.last_writes(db, project))

    def key_uses(self, project: int, names: Sequence[str]) -> dict[str, int]:
        return self.connections.read(lambda db: activity.key_uses(db, project, names))

    def expire_arrivals(self, before: int) -> None:
        self.connections.change(lambda db: activity.expire_arrivals(db, before))

    def people(self) -> list[Person]:
        return self.connections.read(people.people)

    def person(self, id: str) -> Person | None:
        return self.connections.read(lambda db: people.person(db, id))

    def person_by_email(self, email: str) -> Person | None:
        return self.connections.read(lambda db: people.person_by_email(db, email))

    def session(self, digest: bytes) -> tuple[Session, Person | None] | None:
        return self.connections.read(lambda db: people.session(db, digest))

    def sessions(self, person: str) -> list[Session]:
        return self.connections.read(lambda db: people.sessions(db, person))

    def see_sessions(self, seen: Mapping[bytes, int]) -> None:
        self.connections.change(lambda db: people.see_sessions(db, seen))

    def expire_sessions(self, before: int, limit: int) -> int:
        return self.connections.change(lambda db: people.expire_sessions(db, before, limit))

    def expire_receipts(self, before: int) -> int:
        return self.connections.change(lambda db: expire_receipts(db, before))

    def count(self, project: int, spec: TableSpec) -> int:
        return self.connections.read(lambda db: copy.count(db, project, spec))

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int, size: int = ROWS_BYTES) -> list[Row]:
        if spec is HISTORY:
            return self._history_rows(project, after, limit, size)
        return self.connections.read(lambda db: copy.rows(db, project, spec, after, limit, size))

    def _history_rows(self, project: int, after: Row | None, limit: int, size: int) -> list[Row]:
        shards = self.connections.shards()
        if after is None or project not in self._places:
            # Once for all pages, because on Citus it reads all of the index.
            self._places[project] = self.connections.read(lambda db: history.places(db, shards, project))
        places = self._places[project]
        return self.connections.read(lambda db: copy.history_rows(db, places, project, after, limit, size))

    def last(self, project: int, spec: TableSpec) -> Row | None:
        return self.connections.read(lambda db: copy.last(db, project, spec))

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        self.connections.change(lambda db: copy.load(db, project, spec, rows))

    def next_cuid(self, project: int) -> int:
        return self.connections.read(lambda db: reads.next_cuid(db, project))

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        self.connections.change(lambda db: copy.finish_copy(db, project, next_cuid))

    def ping(self) -> None:
        self.connections.ping()

    def figures(self) -> StoreFigures:
        return self.connections.figures()

    def close(self) -> None:
        self._citus.close()
        self.connections.close()


def distribute_store(url: str, shards: int) -> bool:
    """See :func:`usertable.store.distribute`."""
    display_url = redacted_url(url)
    with opened(connection_parameters(url)[0], display_url) as db:
        check_alone(db, display_url)
        migrations.migrate(db, display_url)
        return citus.distribute(db, display_url, shards)


def stored_version(url: str) -> int:
    """Return the number of the last applied migration; 0 for none."""
    display_url = redacted_url(url)
    with opened(connection_parameters(url)[0], display_url) as db:
        return migrations.stored_version(db, display_url)
