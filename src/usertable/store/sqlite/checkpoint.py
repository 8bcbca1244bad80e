"""Checkpoints: copying SQLite's WAL to the database file."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import NoReturn

import apsw

log = logging.getLogger("usertable.store")

CHECKPOINT_SECONDS = 0.02
_logged: set[str] = set()
_SYNCS = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)

Fail = Callable[[str], NoReturn]
"""Called with the disk's failure in a checkpoint. This process must not run another one."""


def copy_log(db: apsw.Connection, fail: Fail) -> bool:
    """Copy as much of the WAL as readers allow, unless it is copied already. Return whether all of it is now copied.

    If it is copied already, no checkpoint begins: SQLite before 3.51.3 can lose a commit that comes at that moment,
    https://sqlite.org/wal.html#the_wal_reset_bug. usertable installs a newer one, and avoids it anyway.
    """
    try:
        frames, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        return copied >= frames or checkpoint(db)
    except apsw.Error as error:
        # A later checkpoint may retry after any other error, such as a full disk or a concurrent checkpoint: what could not
        # be written does not count as written.
        if is_failed_sync(error):
            fail(f"a checkpoint failed: {described(error)}")
        failure = described(error)
        if not isinstance(error, apsw.BusyError) and failure not in _logged:
            # Logged once: the log must not fill a full disk.
            _logged.add(failure)
            log.warning("a checkpoint failed; it is retried: %s", failure)
        return False


def truncate_log(db: apsw.Connection, fail: Fail) -> bool:
    """Copy all of the WAL and empty it, unless another connection uses it now. Return whether it is empty.

    Otherwise its old content stays in the file until later writes overwrite it.
    """
    if not copy_log(db, fail):
        return False
    try:
        db.set_busy_timeout(0)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error as error:
        if is_failed_sync(error):
            fail(f"a checkpoint failed: {described(error)}")
        return False
    return True


def copied_frames(db: apsw.Connection) -> int:
    """Return the copied frames of the WAL. Zero if no other process has the store open: then all of it is recovered."""
    return db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[1]


def checkpoint(db: apsw.Connection) -> bool:
    """Run a checkpoint that waits for nobody. Return whether it copied everything."""
    frames, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return copied >= frames


def is_failed_sync(error: apsw.Error) -> bool:
    """Return whether a sync failed, after which it is unknown what is on the disk."""
    return _code(error) in _SYNCS


def described(error: apsw.Error) -> str:
    """Return SQLite's message, and its name for the error."""
    code = _code(error)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code, "no code")
    return f"{error} ({name})"


def _code(error: apsw.Error) -> int:
    # Its type does not declare the attribute.
    code: int = getattr(error, "extendedresult", 0)
    return code


class Checkpointer:
    """Copies the WAL during writes, so that no commit has to.

    A checkpoint that ends while a writer appends is never complete, and the WAL would grow forever. So most of it is copied
    concurrently with writes, and only the small rest under the lock, after which SQLite restarts the WAL.

    SQLite syncs the file only in a complete checkpoint: under the lock, for everything copied since the last one. Most of it
    is therefore synced here before the lock is taken.

    Args:
        db: a connection for this thread only.
        file: a descriptor of the database.
        lock: held during commits.
        copy_rows: number of written rows after which a checkpoint copies them concurrently with commits.
        sync_rows: number of written rows after which it also syncs the file and restarts the WAL.
        idle_seconds: seconds without a write after which everything is copied.
        is_halted: returns whether nothing may be copied now.
        fail: called when the disk fails.
    """

    def __init__(
        self,
        db: apsw.Connection,
        file: int,
        lock: threading.Lock,
        *,
        copy_rows: int,
        sync_rows: int,
        idle_seconds: float,
        is_halted: Callable[[], object],
        fail: Fail,
    ) -> None:
        self.rows = 0
        """Approximate number of rows written so far."""
        self._db = db
        self._file = file
        self._lock = lock
        self._copy_rows = copy_rows
        self._sync_rows = sync_rows
        self._idle_seconds = idle_seconds
        self._is_halted = is_halted
        self._fail = fail
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._db.close()

    def _run(self) -> None:
        seen = copied = synced = 0
        waited, all_copied = 0.0, True
        while not self._stop.wait(CHECKPOINT_SECONDS):
            waited = 0.0 if self.rows != seen else waited + CHECKPOINT_SECONDS
            seen = self.rows
            if self._is_halted() or (seen == synced and all_copied):
                continue
            idle = waited >= self._idle_seconds
            if idle or seen - copied >= self._copy_rows:
                copy_log(self._db, self._fail)
                copied = seen
            if idle or seen - synced >= self._sync_rows:
                # Little is written during the first sync, and less during the second.
                for _ in range(2):
                    copy_log(self._db, self._fail)
                    self._sync()
                with self._lock:
                    all_copied = copy_log(self._db, self._fail)
                    copied = synced = self.rows
                # What a reader or another process blocked is tried again after the same pause.
                waited = 0.0

    def _sync(self) -> None:
        try:
            # Not every system has `fdatasync`.
            getattr(os, "fdatasync", os.fsync)(self._file)
        except OSError as error:
            self._fail(f"syncing the store failed: {error.strerror}")
