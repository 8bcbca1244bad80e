"""The PostgreSQL engine whole: each call takes a connection, and leaves the work to the module of its topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg import errors

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind, StoreMissing, refusal
from usertable.domain.schema import Attribute, Project
from usertable.store.postgres import activity, citus, copy, migrations, reads, scans
from usertable.store.postgres.citus_writes import CitusWrites
from usertable.store.postgres.connection import check_alone, opened, warn_of_losses
from usertable.store.postgres.pool import Connections, TrackedConnection
from usertable.store.postgres.transaction import PostgresTransaction, expire_receipts
from usertable.store.postgres.url import connection_parameters
from usertable.store.protocol import Snapshot, T
from usertable.store.records import (
    ColumnValues,
    FilledCount,
    MatchCount,
    Result,
    SchemaChange,
    Selection,
    StoreFigures,
    User,
    Write,
)
from usertable.store.tables import Row, TableSpec
from usertable.store.transaction import Transaction, WriteCommand
from usertable.store.urls import redacted_url


class PostgresStore:
    """See :class:`usertable.store.protocol.Store`.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters, and `pool_size=N`.
        serving: this is a server: it says in its log what may lose writes that were answered.
        alone: refuse if a server uses the database.
        create: make the tables if there are none.
        migrate: bring tables of an older version to this one; if not, they are refused.
        writing: this is a server's writer, which the server has checked and migrated the store for. It need not be
            reachable now.

    Raises:
        StoreMissing: there are no tables, and `create` is false.
        StoreFault: the database cannot be used: unreachable, too old, a standby, too new a store, or no right to migrate.
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
        if not writing:
            with opened(conninfo, display_url) as db:
                if alone:
                    check_alone(db, display_url)
                if not create and not migrations.stored_version(db, display_url):
                    raise StoreMissing(f"there is no store at {display_url}")
                migrations.migrate(db, display_url, allowed=migrate)
                if serving:
                    warn_of_losses(db, display_url)
        # A writer never looks through the table.
        self.connections = Connections(conninfo, size, display_url, scanning=not writing)
        self._reported: dict[int, set[str]] = {}
        """Attributes that are known to be stored as reported, by project: they are not stored again."""
        self._citus = CitusWrites(self.connections, self._reported, size, display_url)

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        shards = self.connections.shards()

        def work(connection: TrackedConnection) -> T:
            return PostgresTransaction(connection, self._reported, shards).run(command)

        try:
            return self.connections.run(work)
        except errors.FeatureNotSupported:
            # On Citus the shards were split since, perhaps: they are looked up again for the next command.
            self.connections.forget_shards()
            raise

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        shards = self.connections.shards()
        if shards is not None:
            return self._citus.write(shards, writes, command)
        return self.transact(lambda transaction: command(transaction, writes))

    def read(self, project: int, cuid: int) -> User | None:
        return self.connections.read(lambda db: reads.user(db, project, cuid))

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        return self.connections.scan(lambda db: reads.read_many(db, project, cuids))

    def job(self, project: int, name: str) -> str | None:
        return self.connections.read(lambda db: reads.job(db, project, name))

    @contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        with self.connections.snapshot() as db:
            project = reads.project_by_id(db, project_id)
            if project is None:
                raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
            yield reads.PostgresSnapshot(project, db)

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        return self.connections.read(lambda db: dict(reads.owners(db, project, identifier, values).fetchall()))

    def epoch(self) -> int:
        return self.connections.epoch()

    def versions(self) -> dict[str, int]:
        return self.connections.read(reads.versions)

    def projects(self) -> list[Project]:
        return self.connections.read(reads.projects)

    def project(self, project_id: str) -> Project | None:
        return self.connections.read(lambda db: reads.project_by_id(db, project_id))

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        found = self.connections.read(lambda db: reads.project_by_number(db, project))
        return found.version, found.schema.attributes

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        return self.connections.read(lambda db: reads.schema_changes(db, project, limit))

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        return self.connections.scan(lambda db: scans.select(db, project, conditions, after, limit, examine, descending))

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

    def expire_arrivals(self, before: int) -> None:
        self.connections.change(lambda db: activity.expire_arrivals(db, before))

    def expire_receipts(self, before: int) -> int:
        return self.connections.change(lambda db: expire_receipts(db, before))

    def count(self, project: int, spec: TableSpec) -> int:
        return self.connections.read(lambda db: copy.count(db, project, spec))

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int) -> list[Row]:
        return self.connections.read(lambda db: copy.rows(db, project, spec, after, limit))

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
    """The number of the last migration that was applied; 0 for none."""
    display_url = redacted_url(url)
    with opened(connection_parameters(url)[0], display_url) as db:
        return migrations.stored_version(db, display_url)
