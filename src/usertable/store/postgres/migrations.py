"""Bringing a database's tables to the newest version. The scripts stand in `migrations/`."""

from __future__ import annotations

from usertable.domain.errors import StoreFault
from usertable.store.migrations import migrations, outdated
from usertable.store.postgres.citus import distribute_new, is_distributed
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.locks import LOCK_MIGRATIONS, lock


def migrate(db: Connection, display_url: str, *, allowed: bool = True) -> None:
    """Bring the database to the newest version; several processes may try at once.

    Raises:
        StoreFault: the store is older, and that is not allowed; or it is too new.
    """
    scripts = migrations("postgres")
    version = stored_version(db, display_url)
    if version == len(scripts):
        return
    if version and not allowed:
        raise outdated(display_url, version, len(scripts))
    with db.transaction():
        lock(db, LOCK_MIGRATIONS)
        version = stored_version(db, display_url)
        if not version:
            db.execute("CREATE SCHEMA IF NOT EXISTS usertable")
            db.execute(
                "CREATE TABLE usertable.migration (number int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        # So that Citus changes tables and functions in one transaction. Elsewhere it means nothing.
        db.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        for number, script in enumerate(scripts[version:], start=version + 1):
            db.execute(script)
            db.execute("INSERT INTO usertable.migration (number) VALUES (%s)", (number,))
        if is_distributed(db):
            distribute_new(db)


def stored_version(db: Connection, display_url: str) -> int:
    """The number of the last migration that was applied; 0 for none.

    Raises:
        StoreFault: it is newer than ours.
    """
    newest = len(migrations("postgres"))
    # Not by to_regclass, which may answer from what it knew before the wait for the lock.
    there = db.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'usertable' AND tablename = 'migration'")
    if not there.fetchone():
        return 0
    version: int = db.execute("SELECT coalesce(max(number), 0) FROM usertable.migration").fetchall()[0][0]
    if version > newest:
        raise StoreFault(
            f"{display_url} was written by a newer usertable (store version {version}, this one knows {newest})"
        )
    return version
