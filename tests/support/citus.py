"""Databases on a Citus cluster, for the tests that run on one: see CONTRIBUTING.md."""

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
"""Appended to a URL: created tables stay on the coordinator, as before Citus was installed, so that only `distribute`
distributes them."""
_STRUCTURE = """
SELECT md5(string_agg(part, E'\\n' ORDER BY part))
FROM (
  SELECT attrelid::regclass || ' ' || attname || ' ' || atttypid::regtype FROM pg_attribute
  JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = to_regnamespace('usertable') AND attnum > 0
  UNION ALL
  SELECT oid::regprocedure || prosrc FROM pg_proc WHERE pronamespace = to_regnamespace('usertable')
  UNION ALL
  SELECT logicalrelid || ' ' || shardminvalue FROM pg_dist_shard WHERE shardminvalue IS NOT NULL
) parts (part)
"""


class CitusCluster:
    """A database for each test that requests one, as many as are needed at a time.

    The tables of the previous test are emptied, which is much faster than creating new ones.

    Args:
        url: a database on the coordinator with the extension and the workers. More are created like it when needed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._free = [url]
        self._made = 1
        self._structure: str | None = None
        """The structure of new tables, to detect whether a test has changed them."""

    @contextmanager
    def database(self) -> Iterator[str]:
        """Return a database with empty tables, distributed over a few shards."""
        url = self._free.pop() if self._free else self._make()
        with psycopg.connect(url, autocommit=True) as db:
            # A process killed by a test may have left users locked.
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
        """Create another database like the first, on the same machines. It stays there for the next run."""
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


def split_shard(url: str, cuid: int) -> None:
    """Split the shard of a user into two of the same size, on two machines."""
    with psycopg.connect(url, autocommit=True) as db:
        shard, middle = db.execute(
            "SELECT shardid, (shardminvalue::bigint + shardmaxvalue::bigint) / 2 FROM pg_dist_shard"
            " WHERE shardid = get_shard_id_for_distribution_column('usertable.users', %s::bigint)",
            (cuid,),
        ).fetchall()[0]
        nodes = [node for (node,) in db.execute("SELECT nodeid FROM pg_dist_node WHERE shouldhaveshards ORDER BY 1 LIMIT 2")]
        db.execute(
            "SELECT citus_split_shard_by_split_points(%s, ARRAY[%s::text], %s::int[], 'block_writes')",
            (shard, middle, nodes),
        )


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
