"""Databases on a Citus cluster, for the tests that are run on one: see CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from usertable.store import distribute, open_store
from usertable.store.postgres.connection import Connection

SHARDS = 4
_LOCALLY = "?options=-c%20citus.enable_ddl_propagation%3Doff"
"""Added to a URL: what is made stays on the coordinator, as before Citus was there, so that only `distribute` spreads it."""
_STRUCTURE = """
SELECT md5(string_agg(part, E'\\n' ORDER BY part))
FROM (
  SELECT attrelid::regclass || ' ' || attname || ' ' || atttypid::regtype FROM pg_attribute
  JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = to_regnamespace('usertable') AND attnum > 0
  UNION ALL
  SELECT oid::regprocedure || prosrc FROM pg_proc WHERE pronamespace = to_regnamespace('usertable')
) parts (part)
"""


class CitusCluster:
    """A database for each test that wants one, as many as are wanted at a time.

    The tables that the test before it had are emptied, which is much faster than to make new ones.

    Args:
        url: a database on the coordinator with the extension and the workers. More are made like it when they are needed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._free = [url]
        self._made = 1
        self._structure: str | None = None
        """What the tables that we made look like; a test may have changed them."""

    @contextmanager
    def database(self) -> Iterator[str]:
        """A database with empty tables, distributed over a few shards."""
        url = self._free.pop() if self._free else self._make()
        with psycopg.connect(url, autocommit=True) as db:
            # What a test has killed may have left users locked.
            db.execute("SELECT recover_prepared_transactions()")
            if self._structure is not None and _structure(db) == self._structure:
                _empty(db)
            else:
                db.execute("DROP SCHEMA IF EXISTS usertable CASCADE")
                open_store(url + _LOCALLY).close()
                distribute(url, SHARDS)
                self._structure = _structure(db)
        try:
            yield url
        finally:
            self._free.append(url)

    def _make(self) -> str:
        """Another database like the first, on the same machines; it stays there for the next run."""
        self._made += 1
        first = self._url.rpartition("/")[2]
        name = f"{first}_{self._made}"
        with psycopg.connect(self._url, autocommit=True) as db:
            nodes = db.execute("SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
            is_there = db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        url = self._url.removesuffix(first) + name
        if is_there:
            return url
        for host, port in nodes:
            with _connect(self._url, host, port, first) as db:
                db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with _connect(self._url, host, port, name) as db:
                db.execute("CREATE EXTENSION citus")
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("SELECT citus_set_coordinator_host(%s, %s)", nodes[0])
            for node in nodes[1:]:
                db.execute("SELECT citus_add_node(%s, %s)", node)
        return url


def _connect(url: str, host: str, port: int, database: str) -> Connection:
    return psycopg.connect(make_conninfo(url, host=host, port=port, dbname=database), autocommit=True)


def _structure(db: Connection) -> str:
    structure: str = db.execute(_STRUCTURE).fetchall()[0][0]
    return structure


def _empty(db: Connection) -> None:
    tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'usertable' AND tablename <> 'migration'")
    for (table,) in tables.fetchall():
        # Much faster than TRUNCATE for few rows.
        db.execute(sql.SQL("DELETE FROM usertable.{}").format(sql.Identifier(table)))
    db.execute("INSERT INTO usertable.epoch VALUES (0)")
    db.execute("ALTER SEQUENCE usertable.arrival_number RESTART")
