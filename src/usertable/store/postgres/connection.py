"""A single connection: opening and configuring it, and which databases are refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import Params, Query
from psycopg.conninfo import make_conninfo

from usertable.domain.errors import StoreFault
from usertable.store.postgres.failures import error_text
from usertable.store.postgres.url import ENCODING
from usertable.store.queries import load_queries
from usertable.store.tables import Row, up_to

OLDEST_SERVER = 15
FETCHED_ROWS = 32
"""Number of rows that are received together at first if their size is limited. Then twice as many, and so on."""
MOST_FETCHED_ROWS = 128
"""Maximum number of rows that are received together."""
LEAVING_SECONDS = 1.0
"""Seconds to wait for other connections to end before the database counts as in use."""
POOLER_PROBES = 5
"""Number of probes after which a pooler that never lends the client's connection counts as session pooling."""
_LIMITS = ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
"""The database's settings that end long transactions."""

Connection = psycopg.Connection[tuple[Any, ...]]


class PooledConnection(Connection):
    """A connection of a pool, which can tell whether its host was demoted since it was opened."""

    opened_writable = False

    @property
    def demoted(self) -> bool:
        """Whether the host accepted writes when this connection was opened, and no longer does.

        As of the last round trip, because the database reports changes of these settings with its answers. Does not send
        anything. False if the connection was opened to a read-only database, which its URL then allows.
        """
        return self.opened_writable and not _accepts_writes(self)


log = logging.getLogger("usertable.store")
_SQL = load_queries("usertable.store.postgres", "connection.sql")


@contextmanager
def opened(conninfo: str, display_url: str) -> Iterator[Connection]:
    """Open a connection to a database that can be a store, for the length of the block."""
    try:
        with connect(conninfo, display_url) as db:
            _check_pooler(db, conninfo, display_url)
            yield db
    except (errors.InsufficientPrivilege, psycopg.OperationalError) as error:
        raise StoreFault(f"the store {display_url} cannot be opened: {error_text(error)}") from error


def connect(conninfo: str, display_url: str) -> Connection:
    """Open a connection to a database that can be a store. Raises StoreFault if it cannot."""
    db = psycopg.connect(conninfo, autocommit=True)
    try:
        version = db.info.server_version // 10_000
        if version < OLDEST_SERVER:
            raise StoreFault(f"{display_url} is PostgreSQL {version}; {OLDEST_SERVER} or newer is needed")
        encoding = db.info.parameter_status("server_encoding")
        if encoding != ENCODING:
            raise StoreFault(
                f"the database {display_url} has the encoding {encoding}; create one with ENCODING '{ENCODING}'"
            )
        if is_read_only(db):
            raise StoreFault(f"{display_url} {why_read_only(db)}")
        _begin_session(db)
    except BaseException:
        db.close()
        raise
    return db


def configure(db: PooledConnection) -> None:
    """Configure a new connection."""
    _begin_session(db)
    plan_by_index(db)
    db.opened_writable = _accepts_writes(db)


def plan_by_index(db: Connection) -> None:
    """Make the database look up rows by index, whatever its statistics say about the size of tables."""
    db.execute(_SQL["plan_by_index"])


def _begin_session(db: Connection) -> None:
    """Set what statements on a new connection depend on.

    Raises:
        StoreFault: the connection is not in UTF-8, although that was requested.
    """
    encoding = db.info.parameter_status("client_encoding")
    if encoding != ENCODING:
        raise StoreFault(f"the connection has the encoding {encoding} in place of {ENCODING}; check for a pooler in between")
    db.execute(_SQL["begin_session"])


def _check_pooler(db: Connection, conninfo: str, display_url: str) -> None:
    """Refuse a pooler that chooses a connection for each transaction.

    With such a pooler, prepared statements and settings would leak between this client and others.

    Raises:
        StoreFault: there is such a pooler.
    """

    def process(session: Connection) -> int:
        number: int = session.execute("SELECT pg_backend_pid()").fetchall()[0][0]
        return number

    first = process(db)
    if first == db.info.backend_pid:
        # The process that answered is the database's own.
        return
    for _ in range(POOLER_PROBES):
        # Connect to the same pooler, if there are several hosts.
        same = make_conninfo(conninfo, host=db.info.host, hostaddr=db.info.hostaddr, port=db.info.port)
        with psycopg.connect(same, autocommit=True) as other:
            other.execute("BEGIN")
            # While `db` is open, nobody else gets its connection, unless it is lent per transaction.
            if process(other) == first or process(db) != first:
                raise StoreFault(
                    f"{display_url} is a pooler in transaction mode, which loses prepared statements and session settings;"
                    " set pool_mode = session in it, or name the database itself"
                )


def warn_of_losses(db: Connection, display_url: str) -> None:
    """Log the settings with which the database may lose committed transactions."""
    for name in lossy_settings(db):
        log.warning(
            "%s: %s is off in the database, so a crash of its machine can lose or damage what was answered",
            display_url,
            name,
        )


def lossy_settings(db: Connection) -> list[str]:
    """Return the server-wide settings that are off, with which the database may lose committed transactions."""
    names = ("fsync", "full_page_writes")
    return [name for name in names if db.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0] == "off"]


def is_read_only(db: Connection) -> bool:
    """Return whether the database is read-only: a standby, or configured so. Not in a transaction."""
    said: str = db.execute("SELECT current_setting('transaction_read_only')").fetchall()[0][0]
    return said == "on"


def _accepts_writes(db: Connection) -> bool:
    """Return what the database last reported about writes."""
    settings = (b"default_transaction_read_only", b"in_hot_standby")
    return not any(db.pgconn.parameter_status(name) == b"on" for name in settings)


def why_read_only(db: Connection) -> str:
    """Return the message for a read-only database."""
    if db.execute("SELECT pg_is_in_recovery()").fetchall()[0][0]:
        why = "is read-only, a standby"
    else:
        why = "is read-only, by its setting default_transaction_read_only"
    return why + "; name the primary, or all hosts with target_session_attrs=read-write"


def check_alone(db: Connection, display_url: str) -> None:
    """Raise StoreFault if another connection uses the database."""
    # A closed connection is still listed for a moment.
    deadline = time.monotonic() + LEAVING_SECONDS
    while others := db.execute(_SQL["other_connections"]).fetchall()[0][0]:
        if time.monotonic() > deadline:
            raise StoreFault(f"{display_url} is in use by {others} connections of usertable; stop the servers first")
        time.sleep(0.05)


def first_rows(db: Connection, query: Query, parameters: Params, size: int) -> list[Row]:
    """Return the rows of a query, up to the one with which they have this many characters and bytes.

    No more than :data:`MOST_FETCHED_ROWS` others are received. In a transaction.
    """
    with db.cursor(name="first_rows") as cursor:
        return list(up_to(size, _fetched(cursor.execute(query, parameters))))


def _fetched(cursor: psycopg.ServerCursor[Row]) -> Iterator[Row]:
    count = FETCHED_ROWS
    while rows := cursor.fetchmany(count):
        yield from rows
        if len(rows) < count:
            return
        count = min(2 * count, MOST_FETCHED_ROWS)


def time_limits(db: Connection) -> str:
    """Return the settings that end long transactions, and their values: `transaction_timeout (5s)`; empty if none does."""
    rows = db.execute(_SQL["time_limits"], {"names": _LIMITS})
    return " or ".join(f"{name} ({value})" for name, value in rows)
