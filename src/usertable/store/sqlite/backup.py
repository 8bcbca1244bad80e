"""Copying a store that is in use to one file, and restoring such a file."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from usertable.domain.errors import StoreFault, StoreMissing
from usertable.domain.identity import MAX_CUID
from usertable.folders import PartFile, part_file
from usertable.store.backup import BackupContent, Progress, Restored
from usertable.store.sqlite.checkpoint import described
from usertable.store.sqlite.connection import opened_for_reading
from usertable.store.sqlite.files import StoreFiles
from usertable.store.sqlite.migrations import check_ours

STEP_BYTES = 2**21
"""Bytes that are copied and synced at a time. A server's commits wait for the sync."""
_STEPS_BETWEEN_SIGNALS = 100_000
"""Steps of SQLite's virtual machine after which a long statement checks for signals: some milliseconds."""


def back_up(path: str, target: Path, progress: Progress) -> BackupContent:
    """See :func:`usertable.store.back_up`."""
    files = StoreFiles(path)
    if files.is_empty():
        raise StoreMissing(f"there is no store at {path}")
    StoreFiles(str(target)).check_place()
    if target.exists():
        raise StoreFault(f"{target} exists, and is not overwritten; name another file")
    with part_file(target, replace=False) as part:
        try:
            with opened_for_reading(files) as source:
                check_ours(source, path)
                _let_signals_through(source)
                # From its first read on, the connection sees one moment, however long the copy takes. Without a transaction,
                # SQLite would restart the copy after every commit of another process, and it might never end.
                source.execute("BEGIN")
                rows = _count_rows(source)
                _copy(source, part, files, progress)
                source.execute("COMMIT")
            with _opened_alone(part) as copy:
                _check(copy, f"the copy of {path}")
                if (copied := _count_rows(copy)) != rows:
                    raise StoreFault(f"the copy of {path} has different row counts: {_differences(rows, copied)}")
                return _content(copy, copied)
        except apsw.Error as error:
            raise StoreFault(f"{path} could not be backed up to {target}: {described(error)}") from error


def restore(path: str, source: Path, *, replace: bool, stamp: str, skip_cuids: int, progress: Progress) -> Restored:
    """See :func:`usertable.store.restore`."""
    files = StoreFiles(path)
    files.check_place()
    target = Path(files.real)
    _check_source(source, target)
    with files.held(replacing=True), files.closed_to_others(), contextlib.ExitStack() as swap:
        kept = Path(f"{target}.replaced-{stamp}") if files.has_store() else None
        if kept and not replace:
            raise StoreFault(
                f"there is already a store at {path}; nothing was changed. Name another one with --store, or add --replace,"
                " which renames and keeps the existing store"
            )
        if kept and kept.exists():
            raise StoreFault(f"{kept} exists; nothing was changed. Move it away first")
        # Another command may create a store meanwhile.
        with part_file(target, replace=target.exists()) as part:
            _copy_file(source, part, progress)
            try:
                content = _prepare(part, source, skip_cuids)
            except apsw.Error as error:
                raise StoreFault(f"{source} cannot be restored: {described(error)}") from error
            _give_as(target, part, files)
            # All of it is on disk before the existing store is renamed.
            os.fsync(part.descriptor)
            if kept:
                swap.enter_context(files.set_aside(str(kept)))
        files.forget_notes()
    return Restored(content, kept)


@contextlib.contextmanager
def _opened_alone(part: PartFile) -> Iterator[apsw.Connection]:
    """Open a connection to a file that no other process knows, so that reading it needs no other file."""
    # Without locks, which some file systems for backups do not have.
    with contextlib.closing(apsw.Connection(str(part.path), apsw.SQLITE_OPEN_READWRITE, vfs="unix-none")) as db:
        _let_signals_through(db)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = OFF")
        yield db


def _let_signals_through(db: apsw.Connection) -> None:
    # Python runs signal handlers in between.
    db.set_progress_handler(lambda: False, _STEPS_BETWEEN_SIGNALS)


def _copy(source: apsw.Connection, part: PartFile, files: StoreFiles, progress: Progress) -> None:
    """Copy all pages of the snapshot that `source` sees."""
    page_bytes = source.pragma("page_size")
    is_served = files.server() is not None
    with contextlib.closing(apsw.Connection(str(part.path), apsw.SQLITE_OPEN_READWRITE, vfs="unix-none")) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                began = time.monotonic()
                backup.step(max(1, STEP_BYTES // page_bytes))
                os.fsync(part.descriptor)
                progress((backup.page_count - backup.remaining) * page_bytes, backup.page_count * page_bytes)
                if is_served:
                    time.sleep(time.monotonic() - began)


def _copy_file(source: Path, part: PartFile, progress: Progress) -> None:
    with source.open("rb") as original, os.fdopen(part.descriptor, "r+b", closefd=False) as copy:
        total = os.fstat(original.fileno()).st_size
        while chunk := original.read(STEP_BYTES):
            copy.write(chunk)
            progress(copy.tell(), total)


def _check_source(source: Path, target: Path) -> None:
    """Raise StoreFault if a file cannot be restored."""
    if not source.is_file():
        raise StoreFault(f"{source} is not a file" if source.exists() else f"there is no backup at {source}")
    if target.exists() and target.samefile(source):
        raise StoreFault(f"{source} is the store itself; name the backup")
    files = StoreFiles(str(source))
    if files.server() or files.has_log():
        raise StoreFault(
            f"{source} is a store with a log beside it, not a backup; create one from it first:"
            f" usertable backup --store sqlite:///{source} FILE"
        )


def _prepare(part: PartFile, source: Path, skip_cuids: int) -> BackupContent:
    """Check a copy of a backup, and prepare it for use."""
    with _opened_alone(part) as db:
        check_ours(db, str(source))
        if not db.pragma("user_version"):
            raise StoreFault(f"{source} is empty, not a backup")
        _check(db, str(source))
        if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'console_session'").fetchone():
            # A session that was ended after the backup must not become valid again.
            db.execute("DELETE FROM console_session")
        if skip_cuids:
            db.execute("UPDATE project SET next_cuid = min(next_cuid, ?1 - ?2) + ?2", (MAX_CUID, skip_cuids))
        return _content(db, _count_rows(db))


def _check(db: apsw.Connection, what: str) -> None:
    """Raise StoreFault if SQLite's integrity check fails."""
    found = db.execute("PRAGMA integrity_check(3)").fetchall()
    if found != [("ok",)]:
        said = "; ".join(str(text) for (text,) in found).replace("\n", "; ")
        raise StoreFault(f"{what} is damaged. SQLite says: {said}")


def _count_rows(db: apsw.Connection) -> dict[str, int]:
    """Return the number of rows by table, for example `{"project": 1, "user_1": 1000000}`."""
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name")
    return {str(name): db.execute(f'SELECT count(*) FROM "{name}"').get for (name,) in tables.fetchall()}


def _content(db: apsw.Connection, rows: dict[str, int]) -> BackupContent:
    return BackupContent(
        bytes=db.pragma("page_count") * db.pragma("page_size"),
        version=db.pragma("user_version"),
        projects=rows["project"],
        users=sum(rows[f"user_{number}"] for (number,) in db.execute("SELECT number FROM project")),
        receipts=rows["receipt"],
    )


def _differences(rows: dict[str, int], copied: dict[str, int]) -> str:
    """Return the differences, for example `user_1: 1000000 and 999999`."""
    tables = sorted(rows.keys() | copied.keys())
    return ", ".join(f"{t}: {rows.get(t)} and {copied.get(t)}" for t in tables if rows.get(t) != copied.get(t))


def _give_as(target: Path, part: PartFile, files: StoreFiles) -> None:
    """Give the file the mode and, for root, the owner of the file that it replaces, or the owner of the folder."""
    owner = (target if target.exists() else target.parent).stat()
    if target.exists():
        os.fchmod(part.descriptor, stat.S_IMODE(owner.st_mode))
    if os.geteuid() == 0:
        os.fchown(part.descriptor, owner.st_uid, owner.st_gid)
        files.give_to(owner)
