"""Migrating a file to the newest version, which is in `user_version`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import apsw

from usertable.domain.errors import StoreFault
from usertable.store.migrations import migrations, outdated
from usertable.store.sqlite.files import StoreFiles

APPLICATION_ID = 0x75746231
"""Marks a SQLite file as a usertable store ("utb1")."""
PAGE_BYTES = 2048
"""Bytes per page. Writes to random users dirty one page each in the WAL and the file; half of SQLite's default saves a
fifth."""
SLICE = 256
"""Number of rows that a statement of a script changes at a time, if it says so."""


def migrate(db: apsw.Connection, files: StoreFiles, *, allowed: bool) -> tuple[int, int]:
    """Migrate the file to the newest version. Return its version before, 0 for a new file, and after.

    An older server that serves the file could no longer write to it.

    Raises:
        StoreFault: the file is not a store, is too new, is served, or may not be migrated.
    """
    newest = len(migrations("sqlite"))
    check_ours(db, files.path)
    version = db.pragma("user_version")
    if 0 < version < newest:
        if server := files.server():
            raise StoreFault(
                f"{files.path} has store version {version} and is served by an older usertable (process {server}), which"
                f" could not write to it at version {newest} any more; nothing was changed."
                " Stop that server, back up the store, install this version there, then start it"
            )
        if not allowed:
            raise outdated(files.path, version, newest)
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    # Every time: a copy made by VACUUM INTO has lost the mode. It has no effect if already set.
    db.execute("PRAGMA journal_mode = WAL")
    if version < newest:
        with files.held() if version else contextlib.nullcontext():
            _run_scripts(db)
    return version, newest


def stored_version(path: str) -> int:
    """Return the number of the last migration applied to a file; 0 for none, or no file."""
    files = StoreFiles(path)
    if files.is_empty():
        return 0
    try:
        with contextlib.closing(apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE)) as db:
            check_ours(db, path)
            version: int = db.pragma("user_version")
            return version
    except apsw.Error as error:
        raise StoreFault(f"{path} is not a usertable store: {error}") from error


def check_ours(db: apsw.Connection, path: str) -> None:
    """Raise StoreFault if the file belongs to another program, or to a newer usertable."""
    application = db.pragma("application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (application or tables):
        raise StoreFault(f"{path} is not a usertable store: it is a SQLite database of another program")
    version, newest = db.pragma("user_version"), len(migrations("sqlite"))
    if version > newest:
        raise StoreFault(f"{path} was written by a newer usertable (store version {version}, this one knows {newest})")


def _run_scripts(db: apsw.Connection) -> None:
    """Run the missing scripts. Safe to run concurrently.

    A statement about `{users}` runs for each project's user table. One about a `{slice}` of a table's rows runs until it
    finds none.
    """
    db.execute("BEGIN EXCLUSIVE")
    version = db.pragma("user_version")
    for number, script in enumerate(migrations("sqlite")[version:], start=version + 1):
        for statement in _statements(script):
            for table in _user_tables(db) if "{users}" in statement else [""]:
                sliced = statement.replace("{users}", table).replace("{slice}", str(SLICE))
                db.execute(sliced)
                while "{slice}" in statement and db.changes():
                    db.execute(sliced)
        db.execute(f"PRAGMA user_version = {number}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if apsw.complete(statement):
            yield statement
            statement = ""


def _user_tables(db: apsw.Connection) -> list[str]:
    """Return the user tables, including those of projects that are being copied."""
    return [
        name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'user_[0-9]*'")
    ]
