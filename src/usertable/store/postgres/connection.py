"""One connection: how it is made, what it is told, and which databases are refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from usertable.domain.errors import StoreFault
from usertable.store.postgres.failures import error_text
from usertable.store.postgres.url import ENCODING
from usertable.store.queries import load_queries

OLDEST_SERVER = 15
LEAVING_SECONDS = 1.0
"""Seconds for which connections of others may still end before the database counts as in use."""
POOLER_PROBES = 5
"""Number of probes after which a pooler that never lends the client's connection counts as pooling by session."""
_LIMITS = ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
"""Settings of the database by which it ends what takes long."""

Connection = psycopg.Connection[tuple[Any, ...]]

log = logging.getLogger("usertable.store")
_SQL = load_queries("usertable.store.postgres", "connection.sql")


@contextmanager
def opened(conninfo: str, display_url: str) -> Iterator[Connection]:
    """A connection to a database that can be our store, for a while."""
    try:
        with connect(conninfo, display_url) as db:
            _check_pooler(db, conninfo, display_url)
            yield db
    except (errors.InsufficientPrivilege, psycopg.OperationalError) as error:
        raise StoreFault(f"the store {display_url} cannot be opened: {error_text(error)}") from error


def connect(conninfo: str, display_url: str) -> Connection:
    """A new connection to a database that can be our store. Raises StoreFault if it cannot."""
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


def configure(db: Connection) -> None:
    """Make a new connection one of ours."""
    _begin_session(db)
    plan_by_index(db)


def plan_by_index(db: Connection) -> None:
    """Have the database look up rows by index, whatever it believes about the size of tables."""
    db.execute(_SQL["plan_by_index"])


def _begin_session(db: Connection) -> None:
    """Have statements on a new connection mean what we mean by them.

    Raises:
        StoreFault: it is not in UTF-8, though it was asked for.
    """
    encoding = db.info.parameter_status("client_encoding")
    if encoding != ENCODING:
        raise StoreFault(f"the connection has the encoding {encoding} in place of {ENCODING}; is there a pooler between?")
    db.execute(_SQL["begin_session"])


def _check_pooler(db: Connection, conninfo: str, display_url: str) -> None:
    """Refuse a pooler that gives each transaction a connection of its choice.

    Statements that are prepared, and settings that are made, are another client's there, and that one's are ours.

    Raises:
        StoreFault: there is such a one.
    """

    def process(session: Connection) -> int:
        number: int = session.execute("SELECT pg_backend_pid()").fetchall()[0][0]
        return number

    first = process(db)
    if first == db.info.backend_pid:
        # Whoever answered the connection is the database.
        return
    for _ in range(POOLER_PROBES):
        # To the same pooler, if there are several hosts.
        same = make_conninfo(conninfo, host=db.info.host, hostaddr=db.info.hostaddr, port=db.info.port)
        with psycopg.connect(same, autocommit=True) as other:
            other.execute("BEGIN")
            # While `db` is open, nobody else is given its connection, unless it is lent for each transaction.
            if process(other) == first or process(db) != first:
                raise StoreFault(
                    f"{display_url} leads to a pooler that pools by transaction, which loses what is prepared and set on a"
                    " connection; set pool_mode = session in it, or name the database itself"
                )


def warn_of_losses(db: Connection, display_url: str) -> None:
    """Log which settings of the database let it lose what it has committed."""
    for name in lossy_settings(db):
        log.warning(
            "%s: %s is off in the database, so a crash of its machine can lose or damage what was answered",
            display_url,
            name,
        )


def lossy_settings(db: Connection) -> list[str]:
    """Settings that are off, so that the database can lose what it has committed, and that no connection can change."""
    names = ("fsync", "full_page_writes")
    return [name for name in names if db.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0] == "off"]


def is_read_only(db: Connection) -> bool:
    """Whether the database takes no writes: a standby, or one that was told so. Outside a transaction only."""
    said: str = db.execute("SELECT current_setting('transaction_read_only')").fetchall()[0][0]
    return said == "on"


def why_read_only(db: Connection) -> str:
    """What to tell of a database that takes no writes."""
    if db.execute("SELECT pg_is_in_recovery()").fetchall()[0][0]:
        why = "is read-only, a standby"
    else:
        why = "is read-only, by its setting default_transaction_read_only"
    return why + "; name the primary, or all hosts with target_session_attrs=read-write"


def check_alone(db: Connection, display_url: str) -> None:
    """Raises StoreFault if another connection uses the database."""
    # A connection that was closed is there for a moment more.
    deadline = time.monotonic() + LEAVING_SECONDS
    while others := db.execute(_SQL["other_connections"]).fetchall()[0][0]:
        if time.monotonic() > deadline:
            raise StoreFault(f"{display_url} is in use by {others} connections of usertable; stop the servers first")
        time.sleep(0.05)


def time_limits(db: Connection) -> str:
    """Which settings end what takes long, and how long that is: `transaction_timeout (5s)`; empty if none does."""
    rows = db.execute(_SQL["time_limits"], {"names": _LIMITS})
    return " or ".join(f"{name} ({value})" for name, value in rows)
