"""Stores: one protocol (:mod:`usertable.store.protocol`), and one module or package per engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from usertable.domain.errors import StoreFault, StoreMissing
from usertable.store.backup import BackupContent, DatabaseTools, Progress, Restored
from usertable.store.diagnosis import Finding
from usertable.store.migrations import migrations
from usertable.store.protocol import Store
from usertable.store.urls import redacted_url, sqlite_file

Engine = Literal["memory", "postgresql", "sqlite"]

__all__ = [
    "Engine",
    "Store",
    "back_up",
    "database_tools",
    "diagnose",
    "distribute",
    "is_shareable",
    "newest_version",
    "open_store",
    "redacted_url",
    "restore",
    "stored_version",
]


def is_shareable(url: str) -> bool:
    """Return whether several servers can have the store open at once."""
    return _scheme(url) in ("postgresql", "postgres")


def open_store(
    url: str,
    *,
    serving: bool = False,
    writing: bool = False,
    alone: bool = False,
    create: bool = True,
    migrate: bool = True,
    files: Mapping[str, tuple[int, int]] | None = None,
) -> Store:
    """Open the store at a URL. Create or migrate it if needed.

    Args:
        url: `memory:`; `sqlite:///path/file.db` (three slashes and a relative path, four and an absolute one), with
            `?cache_mb=N` for SQLite's page cache; `postgresql://user@host/database` with libpq's parameters, and
            `pool_size=N`.
        serving: this process will be the store's server. Engines that allow one only refuse a second.
        alone: refuse if a server uses the store.
        migrate: migrate a store of an older version; if false, refuse it. A SQLite file that a server serves is never
            migrated.
        writing: this process is a server's writer. The server has opened the store before.
        create: create the store if it does not exist.
        files: for a writer, the files that the server has open, by name, if the store consists of files.

    Raises:
        StoreMissing: the store does not exist, and `create` is false.
        StoreFault: an unknown scheme, an unusable location, a store of another program, or one that is too new.
    """
    scheme = _scheme(url)
    # An engine's module is imported on use, because drivers are slow to import.
    if scheme == "memory":
        from usertable.store.memory import MemoryStore

        return MemoryStore()
    if scheme == "sqlite":
        from usertable.store.sqlite import SQLiteStore
        from usertable.store.sqlite.files import StoreFiles

        path, cache_mb = sqlite_file(url)
        if not create and StoreFiles(path).is_empty():
            raise StoreMissing(f"there is no store at {redacted_url(url)}")
        return SQLiteStore(path, serving=serving or alone, writing=writing, cache_mb=cache_mb, migrate=migrate, files=files)
    if is_shareable(url):
        from usertable.store.postgres import PostgresStore

        return PostgresStore(url, serving=serving, writing=writing, alone=alone, create=create, migrate=migrate)
    raise _unknown(url)


def distribute(url: str, shards: int) -> bool:
    """Convert a PostgreSQL store on Citus to the distributed layout. Return False if it already has it.

    Raises:
        StoreFault: another engine, no Citus, or a server uses the store.
    """
    if not is_shareable(url):
        raise StoreFault(f"only a PostgreSQL store with the Citus extension can be distributed, not {redacted_url(url)}")
    from usertable.store.postgres import distribute_store

    return distribute_store(url, shards)


def stored_version(url: str) -> int:
    """Return the number of a store's newest migration, 0 for none. Changes nothing.

    Raises:
        StoreFault: the store cannot be used.
    """
    scheme = _scheme(url)
    if scheme == "sqlite":
        from usertable.store import sqlite

        return sqlite.stored_version(sqlite_file(url)[0])
    if is_shareable(url):
        from usertable.store import postgres

        return postgres.stored_version(url)
    if scheme == "memory":
        return 0
    raise _unknown(url)


def newest_version(url: str) -> tuple[Engine, int]:
    """Return the engine of a URL, and the number of its newest migration in this usertable; 0 for memory.

    Raises:
        StoreFault: an unknown scheme.
    """
    scheme = _scheme(url)
    if scheme == "sqlite":
        return "sqlite", len(migrations("sqlite"))
    if is_shareable(url):
        return "postgresql", len(migrations("postgres"))
    if scheme == "memory":
        return "memory", 0
    raise _unknown(url)


def back_up(url: str, target: Path, progress: Progress) -> BackupContent:
    """Copy a SQLite store, as of one moment, to a new file, while other processes read and write it.

    Raises:
        StoreMissing: the store does not exist.
        StoreFault: the store cannot be read, or the copy is damaged or has another number of rows.
        FileExistsError: a file exists at `target`.
    """
    from usertable.store.sqlite import backup

    return backup.back_up(sqlite_file(url)[0], target, progress)


def restore(url: str, source: Path, *, replace: bool, stamp: str, skip_cuids: int, progress: Progress) -> Restored:
    """Restore a backup as the SQLite store at the URL.

    Args:
        replace: rename an existing store; if false, refuse.
        stamp: suffix of the renamed store, for example `20261130T151700.123456Z`.
        skip_cuids: number of CUIDs per project that are not assigned, because they may have been assigned after the backup.

    Raises:
        StoreFault: the backup is damaged or not usertable's; or a store exists and is not to be replaced, or a process has
            it open. Nothing was changed.
    """
    from usertable.store.sqlite import backup

    return backup.restore(
        sqlite_file(url)[0], source, replace=replace, stamp=stamp, skip_cuids=skip_cuids, progress=progress
    )


def database_tools(url: str, file: Path, *, restore: bool) -> DatabaseTools:
    """Find the programs that back up a PostgreSQL store to this file, or restore it from there.

    Raises:
        StoreFault: the database cannot be reached.
    """
    from usertable.store.postgres import backup

    return backup.database_tools(url, file, restore=restore)


def diagnose(url: str, now_ms: int, workers: int) -> Iterator[Finding]:
    """Examine a store and its environment without changing anything.

    Args:
        now_ms: this machine's clock, in milliseconds since 1970 UTC.
        workers: number of server processes that will use it.

    Raises:
        StoreFault: the URL cannot be used.
    """
    engine, _ = newest_version(url)
    if engine == "sqlite":
        from usertable.store.sqlite import diagnosis as sqlite

        yield from sqlite.diagnose(sqlite_file(url)[0], now_ms)
    elif engine == "postgresql":
        from usertable.store.postgres import diagnosis as postgres

        yield from postgres.diagnose(url, now_ms, workers)
    else:
        yield Finding("store", "warning", "memory: keeps nothing", "Name a store with --store, such as sqlite:///users.db")


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        # Not shown: it may contain a password, which cannot be found in a malformed URL.
        raise StoreFault(
            f"unusable store URL ({error}): write the characters [ ] @ / : of a user or password as %5B %5D %40 %2F %3A"
        ) from error


def _unknown(url: str) -> StoreFault:
    return StoreFault(
        f"unknown store URL {redacted_url(url)!r}: the scheme {urlsplit(url).scheme!r} is none of memory, sqlite,"
        " postgresql."
        " Examples: sqlite:///usertable.db, postgresql://user@host/database"
    )
