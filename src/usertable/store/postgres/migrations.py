"""Migrating a database's tables to the newest version. The scripts are in `migrations/`."""

from __future__ import annotations

from usertable.domain.errors import StoreFault
from usertable.store.migrations import migrations, outdated
from usertable.store.postgres.citus import distribute_new, is_distributed, remove_local_rows
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.locks import LOCK_MIGRATIONS, lock, lock_audit
from usertable.store.queries import load_queries
from usertable.store.records import Migration

_SQL = load_queries("usertable.store.postgres", "migrations.sql")


def migrate(db: Connection, display_url: str, *, allowed: bool = True) -> Migration | None:
    """Migrate the database to the newest version. Safe to run concurrently. Return None if nothing was done or it is new.

    Raises:
        StoreFault: the store is older, and `allowed` is false; or it is too new.
    """
    scripts = migrations("postgres")
    version = stored_version(db, display_url)
    if version == len(scripts):
        if allowed:
            adopt_changes(db)
        return None
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
        # So that Citus can change tables and functions in one transaction. Without Citus it has no effect.
        db.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        for number, script in enumerate(scripts[version:], start=version + 1):
            db.execute(script)
            db.execute("INSERT INTO usertable.migration (number) VALUES (%s)", (number,))
        distributed = is_distributed(db)
        if distributed:
            distribute_new(db)
        adopt_changes(db)
    if distributed:
        remove_local_rows(db)
    return Migration(version, len(scripts)) if 0 < version < len(scripts) else None


def adopt_changes(db: Connection) -> None:
    """Convert changes recorded by servers of an older version to entries of the audit log.

    While hosts are upgraded one by one, an older server still records such changes. The next server to start converts them.
    """
    if not db.execute(_SQL["has_changes"]).fetchall()[0][0]:
        return
    with db.transaction():
        # No server records another one until these are moved.
        db.execute("LOCK TABLE usertable.schema_change IN SHARE ROW EXCLUSIVE MODE")
        for (project,) in db.execute(_SQL["projects_with_changes"]).fetchall():
            lock_audit(db, project)
            db.execute(_SQL["adopt_changes"], {"project": project})
        db.execute("DELETE FROM usertable.schema_change")


def stored_version(db: Connection, display_url: str) -> int:
    """Return the number of the last applied migration; 0 for none.

    Raises:
        StoreFault: it is newer than this usertable.
    """
    newest = len(migrations("postgres"))
    # Not by to_regclass, which may answer from a cache older than the wait for the lock.
    there = db.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'usertable' AND tablename = 'migration'")
    if not there.fetchone():
        return 0
    version: int = db.execute("SELECT coalesce(max(number), 0) FROM usertable.migration").fetchall()[0][0]
    if version > newest:
        raise StoreFault(
            f"{display_url} was written by a newer usertable (store version {version}, this one knows {newest})"
        )
    return version
