"""Connection pools, retries of transactions, and the detection of a database that is down."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import LiteralString, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from usertable.domain.errors import StoreDown
from usertable.store.postgres import reads
from usertable.store.postgres.citus import ShardMap, load_shards
from usertable.store.postgres.connection import Connection, PooledConnection, configure, time_limits, why_read_only
from usertable.store.postgres.failures import CONFLICTS, DOWN, error_text
from usertable.store.postgres.url import CONNECT_SECONDS
from usertable.store.records import PoolFigures, StoreFigures

SCANNING_CONNECTIONS = 2
"""Additional connections of a server process for browsing the user table, so that browsing never delays a write."""
POOL_SECONDS = 1.0
"""Seconds of waiting for a connection after which a caller checks whether the database is up."""
DOWN_SECONDS = 0.5
"""Seconds between two checks whether a database is up again. Meanwhile callers fail at once."""
RENEW_SECONDS = 1.0
"""Minimum seconds between two replacements of connections that are read-only."""
RENEWALS_TOLD_SECONDS = 60.0
"""Minimum seconds between two log lines about such replacements. Each refused write is logged separately."""
BROKEN_CONNECTIONS = 5
"""Number of consecutive broken connections after which the database counts as down."""
CONFLICT_SECONDS = 30
"""Seconds for which a transaction that conflicts with others is retried before it fails."""
_ONE_MOMENT: LiteralString = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SCAN_TIMEOUT: LiteralString = "SET LOCAL statement_timeout = '10s'"

log = logging.getLogger("usertable.store")
# The pool logs each attempt to connect, in several lines. Callers report that the database is down.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
# A pipeline logs a warning about a lost connection, in addition to raising the error that is reported.
logging.getLogger("psycopg").setLevel(logging.ERROR)
# The pool's messages go to a server's log, but not to a command's terminal, where the command reports the failure.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

T = TypeVar("T")
Pool = ConnectionPool[PooledConnection]


class _Unknown(Enum):
    UNKNOWN = 0


_UNKNOWN = _Unknown.UNKNOWN


class TrackedConnection:
    """A connection, and whether COMMIT was sent."""

    __slots__ = ("committing", "db")

    def __init__(self, db: PooledConnection) -> None:
        self.db = db
        self.committing = False

    def begin(self, begin: LiteralString = "BEGIN") -> None:
        """Begin a transaction, and check the host. In a pipeline, call `check_host` after its end."""
        self.db.execute(begin)
        self.check_host()

    def check_host(self) -> None:
        """Raise ReadOnlySqlTransaction if the host was demoted, so that no outdated data is read from it.

        Costs no round trip: the last answer reports it.
        """
        if self.db.demoted:
            raise errors.ReadOnlySqlTransaction("is read-only, and was not when this connection was opened")

    def commit(self) -> None:
        self.committing = True
        self.db.execute("COMMIT")


class Connections:
    """A store's connections.

    Args:
        conninfo: libpq's connection parameters.
        size: maximum number of connections, without those for browsing the user table.
        display_url: the store's URL without passwords.
        scanning: whether the user table is browsed.
    """

    def __init__(self, conninfo: str, size: int, display_url: str, *, scanning: bool) -> None:
        self._display_url = display_url
        self.pool = _pool(conninfo, size)
        self._scanning = _pool(conninfo, SCANNING_CONNECTIONS) if scanning else self.pool
        self._shards: ShardMap | _Unknown | None = _UNKNOWN
        self._renewed = -RENEW_SECONDS
        self._renewal_logged = -RENEWALS_TOLD_SECONDS
        self._probing = threading.Lock()
        self._down: StoreDown | None = None
        """Why the database could not be reached at the last check; None if it could."""
        self._look_at = 0.0
        """When to check again."""

    def shards(self) -> ShardMap | None:
        """Return the users' shards, on Citus."""
        if self._shards is _UNKNOWN:
            self._shards = self.read(load_shards)
        return self._shards

    def forget_shards(self) -> None:
        """Load the shards again on the next use, because they may have been split."""
        self._shards = _UNKNOWN

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction with a single snapshot."""
        return self.change(work, _ONE_MOMENT)

    def fetch(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, by one statement: it is a transaction of its own, without the round trips of one."""

        def whole(connection: TrackedConnection) -> T:
            found = work(connection.db)
            connection.check_host()
            return found

        return self.run(whole)

    def scan(self, work: Callable[[Connection], T]) -> T:
        """Run `work` like `read`, for browsing the table: on few separate connections, and with a time limit."""

        def bounded(db: Connection) -> T:
            db.execute(_SCAN_TIMEOUT)
            return work(db)

        return self.change(bounded, _ONE_MOMENT, self._scanning)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a connection in a transaction with a single snapshot, for the length of the block. Never retried."""
        limits = ""
        try:
            with self._at_primary() as db:
                limits = time_limits(db)
                try:
                    yield db
                finally:
                    # Everything has been read by now, or there is already a failure.
                    with suppress(psycopg.Error):
                        db.execute("ROLLBACK")
        except PoolTimeout as failure:
            raise self.down(f"no connection within {CONNECT_SECONDS} s") from failure
        except DOWN as failure:
            # When the database ends a connection, it does not always send the reason.
            hint = f"; the database ends what takes longer than {limits}: set that to 0 for this role" if limits else ""
            raise self.down(f"{error_text(failure)}{hint}") from failure

    @contextmanager
    def _at_primary(self) -> Iterator[Connection]:
        """Begin a transaction with a single snapshot, for the length of the block, on a host that was not demoted."""
        while True:
            with self.pool.connection() as db:
                db.execute(_ONE_MOMENT)
                if not db.demoted:
                    yield db
                    return
                db.close()
            self.renew()

    def change(self, work: Callable[[Connection], T], begin: LiteralString = "BEGIN", pool: Pool | None = None) -> T:
        """Run `work` in a transaction, which is committed when it returns, and rolled back if it raises."""

        def whole(connection: TrackedConnection) -> T:
            connection.begin(begin)
            result = work(connection.db)
            connection.commit()
            return result

        return self.run(whole, pool)

    def run(self, work: Callable[[TrackedConnection], T], pool: Pool | None = None) -> T:
        """Run `work`, which begins and commits. Retry if its transaction was lost and cannot have changed anything."""
        pool = pool or self.pool
        self._check_down()
        attempts = _Attempts(self, pool)
        while True:
            connection: TrackedConnection | None = None
            try:
                with pool.connection(timeout=POOL_SECONDS) as db:
                    connection = TrackedConnection(db)
                    try:
                        return work(connection)
                    except errors.ReadOnlySqlTransaction:
                        if not db.closed and db.demoted:
                            # The pool replaces it, even if `renew` was called just before and therefore does nothing.
                            db.close()
                        raise
            except psycopg.Error as failure:
                attempts.prepare_next(failure, connection)

    def down(self, reason: str | Exception) -> StoreDown:
        """Return the failure of a store that cannot be used now."""
        return StoreDown(f"{self._display_url}: {reason if isinstance(reason, str) else error_text(reason)}")

    def renew(self) -> None:
        """Replace all connections, at once or when they are returned; at most once in `RENEW_SECONDS`."""
        now = time.monotonic()
        if now - self._renewed < RENEW_SECONDS:
            return
        self._renewed = now
        if now - self._renewal_logged >= RENEWALS_TOLD_SECONDS:
            self._renewal_logged = now
            log.warning("%s: the database takes no writes; looking for one that does, by new connections", self._display_url)
        for pool in {self.pool, self._scanning}:
            pool.drain()

    def may_be_done(self, failure: psycopg.Error) -> bool:
        """Return whether a failed COMMIT may have succeeded: on Citus, on another machine whose answer was lost."""
        return self._shards is not None and isinstance(failure, (errors.QueryCanceled, psycopg.InternalError))

    def probe(self) -> None:
        """Return if the database accepts connections; otherwise raise StoreDown with the reason."""
        try:
            psycopg.connect(self.pool.conninfo).close()  # type: ignore[arg-type]
        except psycopg.OperationalError as failure:
            self._down = self.down(failure)
            self._look_at = time.monotonic() + DOWN_SECONDS
            raise self._down from failure
        self._down = None

    def _check_down(self) -> None:
        """Raise at once while the database is known to be down. One caller at a time checks whether it is up again."""
        down = self._down
        if down is None:
            return
        if time.monotonic() < self._look_at or not self._probing.acquire(blocking=False):
            raise StoreDown(str(down))
        try:
            self.probe()
        finally:
            self._probing.release()

    def epoch(self) -> int:
        """See :meth:`usertable.store.protocol.Store.epoch`."""
        epoch, read_only = self.fetch(reads.epoch)
        if read_only:
            # The URL allows connections to a read-only host. By new ones, a primary is found when there is one.
            self.renew()
        return epoch

    def ping(self) -> None:
        """See :meth:`usertable.store.protocol.Store.ping`."""

        def work(connection: TrackedConnection) -> None:
            if reads.epoch(connection.db)[1]:
                raise errors.ReadOnlySqlTransaction(why_read_only(connection.db))

        self.run(work)

    def figures(self) -> StoreFigures:
        """Return the number of connections, and how many are in use."""
        engine = "postgresql" if self._shards is None or self._shards is _UNKNOWN else "citus"
        return StoreFigures(engine, pools={"main": _figures(self.pool), "scans": _figures(self._scanning)})

    def close(self) -> None:
        self._scanning.close()
        self.pool.close()


class _Attempts:
    """The attempts of one transaction, and which failures are retried.

    A database that answers is never down: conflicting transactions, and a pool whose connections are all in use, are waited
    for.
    """

    def __init__(self, connections: Connections, pool: Pool) -> None:
        self._connections = connections
        self._pool = pool
        self._deadline = time.monotonic() + CONFLICT_SECONDS
        self._broken = 0
        self._renewed = False

    def prepare_next(self, failure: psycopg.Error, connection: TrackedConnection | None) -> None:
        """Return when the transaction, which changed nothing, may be retried; otherwise raise StoreDown, or a defect."""
        committing = connection is not None and connection.committing
        if isinstance(failure, CONFLICTS):
            self._wait_for_others(failure, committing)
        elif isinstance(failure, PoolTimeout):
            self._wait_for_connection(failure)
        elif isinstance(failure, errors.ReadOnlySqlTransaction):
            self._look_for_primary(failure, connection is not None and connection.db.closed)
        elif isinstance(failure, DOWN):
            self._reconnect(failure, connection is not None and connection.db.closed, committing)
        elif isinstance(failure, psycopg.InternalError) and self._connections.may_be_done(failure):
            raise self._connections.down(failure) from failure
        else:
            raise failure

    def _wait_for_others(self, failure: psycopg.Error, committing: bool) -> None:
        """Wait after the database rolled back a conflicting transaction.

        The next attempt sees what was committed meanwhile.
        """
        if committing and self._connections.may_be_done(failure):
            raise self._connections.down(f"cancelled during COMMIT: {error_text(failure)}") from failure
        if time.monotonic() > self._deadline or self._pool is not self._connections.pool:
            raise self._connections.down(failure) from failure
        time.sleep(random.uniform(0, 0.01))

    def _wait_for_connection(self, failure: psycopg.Error) -> None:
        self._connections.probe()
        if time.monotonic() > self._deadline:
            raise self._connections.down("all connections are busy") from failure

    def _look_for_primary(self, failure: psycopg.Error, left: bool) -> None:
        """Replace connections, if needed, after a failure that changed nothing.

        A demoted host may keep its connections; new ones find the primary.

        Args:
            left: the host was demoted since the connection was opened, so the connection was closed. Each of the others may
                be open to the same host.
        """
        if time.monotonic() > self._deadline or (self._renewed and not left):
            raise self._connections.down(failure) from failure
        self._renewed = True
        self._connections.renew()

    def _reconnect(self, failure: psycopg.Error, lost: bool, committing: bool) -> None:
        if lost and committing:
            reason = "the connection broke during COMMIT, so it is not known whether it was done"
            raise self._connections.down(reason) from failure
        self._broken += 1
        if not lost or self._broken == BROKEN_CONNECTIONS:
            raise self._connections.down(failure) from failure
        # Its neighbors in the pool have probably broken with it.
        self._pool.check()


def _figures(pool: Pool) -> PoolFigures:
    # The pool omits counters that are zero.
    stats = pool.get_stats()
    names = ("pool_max", "pool_size", "pool_available", "requests_waiting", "requests_num", "requests_queued")
    return PoolFigures(*(stats.get(name, 0) for name in (*names, "requests_errors")))


def _pool(conninfo: str, size: int) -> Pool:
    return ConnectionPool(
        conninfo,
        min_size=0,
        max_size=size,
        connection_class=PooledConnection,
        kwargs={"autocommit": True},
        configure=configure,
        timeout=CONNECT_SECONDS,
        # After so long without success a waiting caller gets an error, and the next one starts new attempts.
        reconnect_timeout=CONNECT_SECONDS,
        max_idle=300,
        name="usertable",
        open=True,
    )
