"""Diagnosis of a PostgreSQL store, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

from usertable.domain.errors import StoreFault
from usertable.store.diagnosis import MIB, Finding, compare_clocks, newest_moment
from usertable.store.migrations import migrations
from usertable.store.postgres.citus import load_shards
from usertable.store.postgres.connection import Connection, lossy_settings, opened, time_limits
from usertable.store.postgres.failures import DOWN, error_text
from usertable.store.postgres.migrations import stored_version
from usertable.store.postgres.url import connection_parameters
from usertable.store.queries import load_queries
from usertable.store.urls import redacted_url

NEWEST_TRIED = 18
_SQL = load_queries("usertable.store.postgres", "diagnosis.sql")
_RESERVE = 10
"""Number of connections of the database that should be left for others."""


def diagnose(url: str, now_ms: int, workers: int) -> Iterator[Finding]:
    """See :func:`usertable.store.diagnose`."""
    conninfo, pool_size = connection_parameters(url)
    display_url = redacted_url(url)
    try:
        with opened(conninfo, display_url) as db:
            yield Finding("store", "ok", f"{display_url} can be reached")
            yield _engine(db)
            yield from _content(db, display_url, now_ms)
            yield from _settings(db)
            yield _connections(db, workers * (2 * pool_size + 4))
            yield _encryption(db)
    except StoreFault as fault:
        yield Finding("store", "problem", str(fault), "Do what it says, then run usertable doctor again")
    except DOWN as error:
        yield Finding("store", "problem", f"{display_url}: {error_text(error)}", "Look at the database and its log")


def _engine(db: Connection) -> Finding:
    version: str = db.execute("SELECT current_setting('server_version')").fetchall()[0][0]
    shown = f"PostgreSQL {version.partition(' ')[0]}" + (", distributed by Citus" if load_shards(db) else "")
    if db.info.server_version // 10_000 > NEWEST_TRIED:
        return Finding(
            "engine", "warning", f"{shown}; usertable was tried with up to {NEWEST_TRIED}", "Test it before you rely on it"
        )
    return Finding("engine", "ok", shown)


def _content(db: Connection, display_url: str, now_ms: int) -> Iterator[Finding]:
    version, newest = stored_version(db, display_url), len(migrations("postgres"))
    ahead = db.execute(_SQL["clock"]).fetchall()[0][0] - now_ms
    yield compare_clocks(
        "database's clock", ahead / 1000, "the database's clock", "Synchronize the clocks of both machines with NTP"
    )
    if version == 0:
        yield Finding("store version", "warning", "the database has no tables yet", "usertable serve creates them")
    elif version < newest:
        yield Finding(
            "store version",
            "warning",
            f"{version}; this usertable needs {newest}",
            "Back the database up, then run usertable migrate, or start the new server",
        )
    else:
        yield Finding("store version", "ok", f"{version}")
        moment = db.execute(_SQL["newest_moment"]).fetchall()[0][0]
        yield newest_moment(moment, now_ms)
        size = db.execute("SELECT pg_database_size(current_database())").fetchall()[0][0]
        yield Finding("size", "ok", f"{size / MIB:,.0f} MiB in the database; its disk is not visible from here")


def _settings(db: Connection) -> Iterator[Finding]:
    off = lossy_settings(db)
    if off:
        yield Finding(
            "durability",
            "problem",
            f"{' and '.join(off)} off: a crash of the database's machine can lose or damage what was answered",
            "Turn it on in postgresql.conf, and restart the database",
        )
    else:
        yield Finding("durability", "ok", "fsync and full_page_writes are on")
    if limits := time_limits(db):
        yield Finding(
            "time limits",
            "warning",
            f"{limits} cancels exports and large imports",
            "Set it to 0 for this role, or in the URL",
        )
    if db.execute("SELECT current_setting('autovacuum')").fetchall()[0][0] == "off":
        yield Finding(
            "autovacuum", "warning", "off: the space of old row versions is not freed", "Turn it on in postgresql.conf"
        )


def _connections(db: Connection, needed: int) -> Finding:
    maximum, others, ours = db.execute(_SQL["connections"]).fetchall()[0]
    shown = f"{maximum} allowed, {others + ours} in use, {ours} of them by usertable; this server needs up to {needed}"
    if needed + others + _RESERVE > maximum:
        advice = f"Raise max_connections to {needed + others + _RESERVE} or more, or lower pool_size in the URL, or workers"
        return Finding("connections", "warning", shown, advice)
    return Finding("connections", "ok", shown)


def _encryption(db: Connection) -> Finding:
    host = db.info.host
    if db.pgconn.ssl_in_use:
        return Finding("encryption", "ok", "the connection to the database uses TLS")
    if not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1"):
        return Finding("encryption", "ok", "the database is on this machine")
    return Finding(
        "encryption",
        "warning",
        f"the connection to {host} is not encrypted",
        "Add ?sslmode=verify-full&sslrootcert=FILE to the URL, or keep the connection on a private network",
    )
