"""Copying SQLite's WAL into the database file."""

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
"""Told how the disk failed in a checkpoint; there may be no other by this process."""


def copy_log(db: apsw.Connection, fail: Fail) -> bool:
    """Copy what no reader keeps from it, unless all of the WAL is copied. Says whether all of it is now.

    With all of it copied, no checkpoint begins: SQLite before 3.51.3 can lose a commit that comes at that moment,
    https://sqlite.org/wal.html#the_wal_reset_bug. We bring a newer one along, and do without it all the same.
    """
    try:
        frames, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        return copied >= frames or checkpoint(db)
    except apsw.Error as error:
        # Anything else, such as a full disk or another process that is at it, a later checkpoint may try again: what could
        # not be written does not count as written.
        if is_failed_sync(error):
            fail(f"a checkpoint failed: {described(error)}")
        failure = described(error)
        if not isinstance(error, apsw.BusyError) and failure not in _logged:
            # Once: the log must not fill a full disk.
            _logged.add(failure)
            log.warning("a checkpoint failed, a later one tries again: %s", failure)
        return False


def copied_frames(db: apsw.Connection) -> int:
    """How much of the WAL counts as copied. None of it where nobody else has the store open: then it is all recovered."""
    return db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[1]


def checkpoint(db: apsw.Connection) -> bool:
    """Begin one that waits for nobody. Says whether it copied all."""
    frames, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return copied >= frames


def is_failed_sync(error: apsw.Error) -> bool:
    """Whether the disk did not keep what it had been given: what is not on it, nobody knows."""
    return _code(error) in _SYNCS


def described(error: apsw.Error) -> str:
    """What SQLite says, and its name for it."""
    code = _code(error)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code, "no code")
    return f"{error} ({name})"


def _code(error: apsw.Error) -> int:
    # Its type does not tell that it has one.
    code: int = getattr(error, "extendedresult", 0)
    return code


class Checkpointer:
    """Copies the WAL while writes go on, so that no commit has to.

    A checkpoint that ends while a writer appends is never complete, and the WAL would grow for ever. So the bulk is copied
    beside the writes, and only the small rest under the lock, after which SQLite starts the WAL anew.

    SQLite syncs the file only in a complete checkpoint: under the lock, for all that was copied since the last one. Most of
    it is therefore synced here before the lock is taken.

    Args:
        db: a connection of its own.
        file: a descriptor of the database.
        lock: held by whoever commits.
        copy_rows: so many written rows make a checkpoint due, which copies them beside the commits.
        sync_rows: so many make it due to sync the file and begin the WAL anew.
        idle_seconds: without a write for so long, all is copied.
        is_halted: whether nothing may be copied now.
        fail: told when the disk fails.
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
        """Rows written so far, more or less."""
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
                # What comes during the first sync is little, and what comes during the second is less.
                for _ in range(2):
                    copy_log(self._db, self._fail)
                    self._sync()
                with self._lock:
                    all_copied = copy_log(self._db, self._fail)
                    copied = synced = self.rows
                # What a reader or another process kept from it is tried again after as long a rest.
                waited = 0.0

    def _sync(self) -> None:
        try:
            # Not every system has `fdatasync`.
            getattr(os, "fdatasync", os.fsync)(self._file)
        except OSError as error:
            self._fail(f"syncing the store failed: {error.strerror}")
