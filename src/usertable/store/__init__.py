"""Where the user tables live: one protocol (:mod:`usertable.store.protocol`), one file per engine."""

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
    """Whether several servers may have the store open at once."""
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
    """Open the store a URL names, and create or migrate it as needed.

    Args:
        url: `memory:`; `sqlite:///path/file.db` (three slashes and a relative path, four and an absolute one), with
            `?cache_mb=N` for the most memory that SQLite may keep pages in; `postgresql://user@host/database` with libpq's
            parameters, and `pool_size=N`.
        serving: this process will be the store's server; engines that allow one only refuse a second.
        alone: refuse if a server uses the store.
        migrate: bring a store of an older version to this one; if not, it is refused. Nothing migrates a SQLite file that
            a server serves.
        writing: this process is a server's writer; the server has opened the store before.
        create: make the store if there is none.
        files: for a writer, the files that the server has open, by name, where the store is files.

    Raises:
        StoreMissing: there is none, and `create` is false.
        StoreFault: an unknown scheme, a location that cannot be used, a store that is not ours, or one that is too new.
    """
    scheme = _scheme(url)
    # An engine's module is imported when it is asked for: drivers are slow to import.
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
    """Turn a PostgreSQL store on Citus into the distributed layout; False if it has it already.

    Raises:
        StoreFault: another engine, no Citus, or a server that uses the store.
    """
    if not is_shareable(url):
        raise StoreFault(f"only a PostgreSQL store with the Citus extension can be distributed, not {redacted_url(url)}")
    from usertable.store.postgres import distribute_store

    return distribute_store(url, shards)


def stored_version(url: str) -> int:
    """The number of a store's newest migration, 0 for none. Changes nothing.

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
    """The engine that a store's URL names, and the number of its newest migration in this usertable; 0 in memory.

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
    """Copy a SQLite store, as it is at one moment, into a new file, while others read and write it.

    Raises:
        StoreMissing: there is no store.
        StoreFault: the store cannot be read, or the copy is not whole or differs in its number of rows.
        FileExistsError: there is a file at `target`.
    """
    from usertable.store.sqlite import backup

    return backup.back_up(sqlite_file(url)[0], target, progress)


def restore(url: str, source: Path, *, replace: bool, stamp: str, skip_cuids: int, progress: Progress) -> Restored:
    """Make a backup the SQLite store that the URL names.

    Args:
        replace: a store that is there is renamed; if not, it is refused.
        stamp: what the renamed one has at the end of its name, for example `20261130T151700.123456Z`.
        skip_cuids: so many CUIDs of each project are not given, because they may have been after the backup.

    Raises:
        StoreFault: the backup is not whole or not ours; there is a store and it is not to be replaced, or a process has it
            open. Nothing was changed.
    """
    from usertable.store.sqlite import backup

    return backup.restore(
        sqlite_file(url)[0], source, replace=replace, stamp=stamp, skip_cuids=skip_cuids, progress=progress
    )


def database_tools(url: str, file: Path, *, restore: bool) -> DatabaseTools:
    """Look for the programs that back a PostgreSQL store up to that file, or restore it from there.

    Raises:
        StoreFault: the database cannot be reached.
    """
    from usertable.store.postgres import backup

    return backup.database_tools(url, file, restore=restore)


def diagnose(url: str, now_ms: int, workers: int) -> Iterator[Finding]:
    """Look at a store and what it is on, and change nothing.

    Args:
        now_ms: this machine's clock, in milliseconds since 1970 UTC.
        workers: server processes that are to use it.

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
        # Not shown: it may hold a password, which cannot be told apart in it.
        raise StoreFault(
            f"unusable store URL ({error}): write the characters [ ] @ / : of a user or password as %5B %5D %40 %2F %3A"
        ) from error


def _unknown(url: str) -> StoreFault:
    return StoreFault(
        f"unknown store URL {redacted_url(url)!r}: the scheme {urlsplit(url).scheme!r} is none of memory, sqlite,"
        " postgresql."
        " Examples: sqlite:///usertable.db, postgresql://user@host/database"
    )
