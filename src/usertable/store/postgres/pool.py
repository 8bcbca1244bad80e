"""The database through pools of connections: transactions that are retried, and a database that is away."""

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
from usertable.store.postgres.connection import Connection, configure, time_limits, why_read_only
from usertable.store.postgres.failures import CONFLICTS, DOWN, error_text
from usertable.store.postgres.url import CONNECT_SECONDS
from usertable.store.records import PoolFigures, StoreFigures

SCANNING_CONNECTIONS = 2
"""Further connections of a server process, for those who look through the user table: they never keep a write waiting."""
POOL_SECONDS = 1.0
"""Seconds of waiting for a connection after which a caller checks whether the database is there at all."""
DOWN_SECONDS = 0.5
"""Seconds between two checks whether a database that is down is back. Meanwhile callers fail at once."""
RENEW_SECONDS = 1.0
"""Minimum seconds between two replacements of connections that take no writes."""
RENEWALS_TOLD_SECONDS = 60.0
"""Minimum seconds between two log lines about such replacements. Each refused write is in the log by itself."""
BROKEN_CONNECTIONS = 5
"""After so many that broke, one after the other, the database counts as down."""
CONFLICT_SECONDS = 30
"""Seconds for which a transaction that conflicts with others is retried before it fails."""
_ONE_MOMENT: LiteralString = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_SCAN_TIMEOUT: LiteralString = "SET LOCAL statement_timeout = '10s'"

log = logging.getLogger("usertable.store")
# It tells of every attempt to connect, in several lines. That the database is away is told by those who need it.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
# What the pool says goes to a server's log, but not to the terminal of a command, which tells itself what failed.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

T = TypeVar("T")
Pool = ConnectionPool[Connection]


class _Unknown(Enum):
    UNKNOWN = 0


_UNKNOWN = _Unknown.UNKNOWN


class TrackedConnection:
    """A connection, and whether COMMIT was sent."""

    __slots__ = ("committing", "db")

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.committing = False

    def begin(self, begin: LiteralString = "BEGIN") -> None:
        self.db.execute(begin)

    def commit(self) -> None:
        self.committing = True
        self.db.execute("COMMIT")


class Connections:
    """A store's connections.

    Args:
        conninfo: libpq's connection parameters.
        size: how many for all but those who look through the user table.
        display_url: the store's URL as it may be shown.
        scanning: whether anybody looks through the user table.
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
        """Why the database could not be reached when it was looked for last; None if it could."""
        self._look_at = 0.0
        """When to look for it again."""

    def shards(self) -> ShardMap | None:
        """Where the users are, on Citus."""
        if self._shards is _UNKNOWN:
            self._shards = self.read(load_shards)
        return self._shards

    def forget_shards(self) -> None:
        """Load them again when they are asked for next: they were split, perhaps."""
        self._shards = _UNKNOWN

    def read(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction that sees one moment throughout."""
        return self.change(work, _ONE_MOMENT)

    def scan(self, work: Callable[[Connection], T]) -> T:
        """Like `read`, for those who look through the table: on few connections of their own, and not for long."""

        def bounded(db: Connection) -> T:
            db.execute(_SCAN_TIMEOUT)
            return work(db)

        return self.change(bounded, _ONE_MOMENT, self._scanning)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection in a transaction that sees one moment throughout, for as long as it is needed; never retried."""
        limits = ""
        try:
            with self.pool.connection() as db:
                limits = time_limits(db)
                db.execute(_ONE_MOMENT)
                try:
                    yield db
                finally:
                    # All was read by now, or there is a failure already.
                    with suppress(psycopg.Error):
                        db.execute("ROLLBACK")
        except PoolTimeout as failure:
            raise self.down(f"no connection within {CONNECT_SECONDS} s") from failure
        except DOWN as failure:
            # A connection that the database ends does not always bring along the reason.
            hint = f"; the database ends what takes longer than {limits}: set that to 0 for this role" if limits else ""
            raise self.down(f"{error_text(failure)}{hint}") from failure

    def change(self, work: Callable[[Connection], T], begin: LiteralString = "BEGIN", pool: Pool | None = None) -> T:
        """`work` in a transaction, which is committed when it returns, and undone if it raises."""

        def whole(connection: TrackedConnection) -> T:
            connection.begin(begin)
            result = work(connection.db)
            connection.commit()
            return result

        return self.run(whole, pool)

    def run(self, work: Callable[[TrackedConnection], T], pool: Pool | None = None) -> T:
        """`work`, which begins and commits; again and again if its transaction was lost and can have changed nothing."""
        pool = pool or self.pool
        self._check_down()
        attempts = _Attempts(self, pool)
        while True:
            connection: TrackedConnection | None = None
            try:
                with pool.connection(timeout=POOL_SECONDS) as db:
                    connection = TrackedConnection(db)
                    return work(connection)
            except psycopg.Error as failure:
                attempts.prepare_next(failure, connection)

    def down(self, reason: str | Exception) -> StoreDown:
        """The failure of a store that cannot be used now."""
        return StoreDown(f"{self._display_url}: {reason if isinstance(reason, str) else error_text(reason)}")

    def renew(self) -> None:
        """Close all connections, at once or when they are given back, and make new ones; not twice in `RENEW_SECONDS`."""
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
        """Whether a COMMIT that failed so may have been done: on Citus, by another machine that was not heard any more."""
        return self._shards is not None and isinstance(failure, (errors.QueryCanceled, psycopg.InternalError))

    def probe(self) -> None:
        """Return if the database takes connections; else StoreDown tells why not."""
        try:
            psycopg.connect(self.pool.conninfo).close()  # type: ignore[arg-type]
        except psycopg.OperationalError as failure:
            self._down = self.down(failure)
            self._look_at = time.monotonic() + DOWN_SECONDS
            raise self._down from failure
        self._down = None

    def _check_down(self) -> None:
        """Raise at once while the database is known to be away. One caller at a time looks whether it is back."""
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
        epoch, read_only = self.run(lambda connection: reads.epoch(connection.db))
        if read_only:
            # Reads would continue on a demoted host, and never see what the new primary has.
            self.renew()
        return epoch

    def ping(self) -> None:
        """See :meth:`usertable.store.protocol.Store.ping`."""

        def work(connection: TrackedConnection) -> None:
            if reads.epoch(connection.db)[1]:
                raise errors.ReadOnlySqlTransaction(why_read_only(connection.db))

        self.run(work)

    def figures(self) -> StoreFigures:
        """How many connections there are, and are in use."""
        engine = "postgresql" if self._shards is None or self._shards is _UNKNOWN else "citus"
        return StoreFigures(engine, pools={"main": _figures(self.pool), "scans": _figures(self._scanning)})

    def close(self) -> None:
        self._scanning.close()
        self.pool.close()


class _Attempts:
    """The attempts of one transaction, and which failures are followed by another.

    A database that answers is never down: others that get in the way, and a pool whose connections are all in use, are
    waited for.
    """

    def __init__(self, connections: Connections, pool: Pool) -> None:
        self._connections = connections
        self._pool = pool
        self._deadline = time.monotonic() + CONFLICT_SECONDS
        self._broken = 0
        self._renewed = False

    def prepare_next(self, failure: psycopg.Error, connection: TrackedConnection | None) -> None:
        """Return when the transaction, which changed nothing, may be begun again; else raise StoreDown, or a defect."""
        committing = connection is not None and connection.committing
        if isinstance(failure, CONFLICTS):
            self._wait_for_others(failure, committing)
        elif isinstance(failure, PoolTimeout):
            self._wait_for_connection(failure)
        elif isinstance(failure, errors.ReadOnlySqlTransaction):
            self._look_for_primary(failure)
        elif isinstance(failure, DOWN):
            self._reconnect(failure, connection is not None and connection.db.closed, committing)
        elif isinstance(failure, psycopg.InternalError) and self._connections.may_be_done(failure):
            raise self._connections.down(failure) from failure
        else:
            raise failure

    def _wait_for_others(self, failure: psycopg.Error, committing: bool) -> None:
        """The database undid it. What was taken in the meantime is seen by the next attempt."""
        if committing and self._connections.may_be_done(failure):
            raise self._connections.down(f"cancelled during COMMIT: {error_text(failure)}") from failure
        if time.monotonic() > self._deadline or self._pool is not self._connections.pool:
            raise self._connections.down(failure) from failure
        time.sleep(random.uniform(0, 0.01))

    def _wait_for_connection(self, failure: psycopg.Error) -> None:
        self._connections.probe()
        if time.monotonic() > self._deadline:
            raise self._connections.down("all connections are busy") from failure

    def _look_for_primary(self, failure: psycopg.Error) -> None:
        """Nothing was done. A host that was demoted may keep its connections; new ones find the primary."""
        if self._renewed:
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
        # Its neighbours in the pool are likely to have broken with it.
        self._pool.check()


def _figures(pool: Pool) -> PoolFigures:
    # The pool leaves out what is zero.
    stats = pool.get_stats()
    names = ("pool_max", "pool_size", "pool_available", "requests_waiting", "requests_num", "requests_queued")
    return PoolFigures(*(stats.get(name, 0) for name in (*names, "requests_errors")))


def _pool(conninfo: str, size: int) -> Pool:
    return ConnectionPool(
        conninfo,
        min_size=0,
        max_size=size,
        kwargs={"autocommit": True},
        configure=configure,
        timeout=CONNECT_SECONDS,
        # After so long without success a waiting caller gets an error, and the next one starts new attempts.
        reconnect_timeout=CONNECT_SECONDS,
        max_idle=300,
        name="usertable",
        open=True,
    )
