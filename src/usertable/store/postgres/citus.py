"""Citus, the distributed PostgreSQL: the layout of the tables, and the shard of each user.

A statement for a single shard is sent to one machine and commits there. One that touches several shards is many times
slower. So the store asks this module which writes belong together. An outdated map makes statements slow or refused, never
wrong.
"""

from __future__ import annotations

from bisect import bisect_right

from psycopg import errors

from usertable.domain.errors import StoreFault
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.failures import error_text

_MASK = 0xFFFFFFFF

_EVERYWHERE = ("project", "reported", "audit", "project_key", "history_since")
_WITH_USERS = ("user_identifier", "erased", "receipt", "history", "keyframe")
_DISTRIBUTED = (*_EVERYWHERE, "users", *_WITH_USERS, "identifier_value")


class ShardMap:
    """The shard of each CUID.

    Args:
        starts: the first hash of each shard, ascending.
    """

    def __init__(self, starts: list[int]) -> None:
        self._starts = starts
        self._lowest: dict[int, int] = {}
        """The lowest CUID of each shard, as far as they were looked at."""
        self._looked_at = 0

    def shard(self, cuid: int) -> int:
        """Return the index of the user's shard."""
        return bisect_right(self._starts, hash_bigint(cuid)) - 1

    def representative(self, cuid: int) -> int:
        """Return the lowest CUID of the user's shard: what belongs to the shard as a whole is stored beside it."""
        shard = self.shard(cuid)
        while shard not in self._lowest:
            self._looked_at += 1
            self._lowest.setdefault(self.shard(self._looked_at), self._looked_at)
        return self._lowest[shard]

    def representatives(self) -> list[int]:
        """Return those of all shards."""
        while len(self._lowest) < len(self._starts):
            self._looked_at += 1
            self._lowest.setdefault(self.shard(self._looked_at), self._looked_at)
        return list(self._lowest.values())


def hash_bigint(value: int) -> int:
    """Return PostgreSQL's `hashint8`, the hash by which Citus distributes a bigint column: -2^31 to 2^31 - 1.

    Bob Jenkins' `final` mix over the two halves, folded so that equal numbers of any integer type have one hash.
    """
    high = value >> 32 & _MASK
    folded = value & _MASK ^ (high if value >= 0 else ~high & _MASK)
    a = b = c = 0x9E3779B9 + 4 + 3923095 & _MASK
    a = a + folded & _MASK
    c = (c ^ b) - _rotated(b, 14) & _MASK
    a = (a ^ c) - _rotated(c, 11) & _MASK
    b = (b ^ a) - _rotated(a, 25) & _MASK
    c = (c ^ b) - _rotated(b, 16) & _MASK
    a = (a ^ c) - _rotated(c, 4) & _MASK
    b = (b ^ a) - _rotated(a, 14) & _MASK
    c = (c ^ b) - _rotated(b, 24) & _MASK
    return c - 2**32 if c >= 2**31 else c


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _MASK


def load_shards(db: Connection) -> ShardMap | None:
    """Return the shards of the users; None if the tables are not distributed."""
    if not is_distributed(db):
        return None
    rows = db.execute(
        "SELECT shardminvalue::int FROM pg_dist_shard WHERE logicalrelid = 'usertable.users'::regclass ORDER BY 1"
    )
    return ShardMap([start for (start,) in rows])


def distribute(db: Connection, display_url: str, shards: int) -> bool:
    """Convert the tables, filled or empty, to the distributed layout, completely or not at all.

    Return False if they have it.

    Users and everything that belongs to one are distributed by CUID, identifier values by value, so that they stay unique.
    Projects are on every machine; counters stay on the coordinator.

    Raises:
        StoreFault: the database has no Citus, or Citus refused.
    """
    if not db.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone():
        raise StoreFault(
            f"{display_url} has no Citus: run CREATE EXTENSION citus on every machine and add them with citus_add_node"
        )
    if is_distributed(db):
        return False
    try:
        with db.transaction():
            # A unique key of a distributed table must contain the distribution column.
            db.execute("ALTER TABLE usertable.receipt DROP CONSTRAINT receipt_pkey")
            db.execute("ALTER TABLE usertable.receipt ADD CONSTRAINT receipt_pkey PRIMARY KEY (project, key, cuid)")
            # First, because after a table Citus requires them to be distributed one machine after the other.
            _distribute_functions(db)
            db.execute("SELECT create_distributed_table('usertable.users', 'cuid', shard_count => %s)", (shards,))
            db.execute(
                "SELECT create_distributed_table('usertable.identifier_value', 'value', colocate_with => 'none',"
                " shard_count => %s)",
                (shards,),
            )
            _distribute_tables(db)
        remove_local_rows(db)
    except errors.Error as error:
        raise StoreFault(f"{display_url} could not be distributed: {error_text(error)}") from error
    return True


def distribute_new(db: Connection) -> None:
    """Distribute what a migration of a distributed store has created. Machines that join later get it too.

    A table is distributed if `_EVERYWHERE` or `_WITH_USERS` names it; otherwise it stays on the coordinator. Its rows are
    distributed too. Copies of them stay on the coordinator, hidden, until :func:`remove_local_rows`.
    """
    _distribute_functions(db)
    _distribute_tables(db)


def remove_local_rows(db: Connection) -> None:
    """Remove the hidden rows that the coordinator had before tables were distributed. Not in a transaction."""
    for table in _DISTRIBUTED:
        db.execute("SELECT truncate_local_data_after_distributing_table(%s)", (f"usertable.{table}",))


def _distribute_functions(db: Connection) -> None:
    """Distribute the schema's functions. Citus does this itself, but only for functions created while it is installed."""
    functions = db.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'usertable'::regnamespace")
    for (function,) in functions.fetchall():
        db.execute("SELECT create_distributed_function(%s)", (function,))


def _distribute_tables(db: Connection) -> None:
    """Distribute the tables that belong to the users, who are already distributed."""
    distributed = {name for (name,) in db.execute("SELECT logicalrelid::text FROM pg_dist_partition")}
    for table in (f"usertable.{name}" for name in _EVERYWHERE):
        if table not in distributed:
            db.execute("SELECT create_reference_table(%s)", (table,))
    for table in (f"usertable.{name}" for name in _WITH_USERS):
        if table not in distributed:
            db.execute("SELECT create_distributed_table(%s, 'cuid', colocate_with => 'usertable.users')", (table,))


def is_distributed(db: Connection) -> bool:
    """Return whether the users are distributed over the machines of a cluster."""
    if db.execute("SELECT to_regclass('pg_dist_partition')").fetchall()[0][0] is None:
        return False
    found = db.execute("SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass('usertable.users')")
    return found.fetchone() is not None
