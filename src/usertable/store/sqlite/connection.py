"""A process's connections to a store's file: WAL, with `synchronous=FULL`."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NoReturn

import apsw

from usertable.domain.errors import StoreDown, StoreFault
from usertable.store.disk_failure import end_process
from usertable.store.records import Migration
from usertable.store.sqlite.checkpoint import Checkpointer, copied_frames, copy_log, described, is_failed_sync, truncate_log
from usertable.store.sqlite.files import Identity, StoreFiles
from usertable.store.sqlite.migrations import migrate
from usertable.store.sqlite.watch import Watch

log = logging.getLogger("usertable.store")

BUSY_SECONDS = 5.0
POLL_SECONDS = 0.002
"""Time between attempts to get SQLite's lock for what is not urgent. SQLite itself waits up to 0.1 s, and then hardly ever
gets it beside a busy writer, which releases it for moments only."""
STATEMENTS = 64
"""Number of prepared statements that a connection caches."""
WRITER_STATEMENTS = 256
"""Number for the writer, which has statements of up to 256 rows for each project, with up to 170 kB."""
CHECKPOINT_ROWS = 2_500
"""Number of written rows after which a checkpoint copies them, concurrently with commits."""
WAL_ROWS = 20_000
"""Number of written rows after which the file is synced and the WAL restarted. Commits wait a moment for the latter."""
CHECKPOINT_IDLE_SECONDS = 1.0
SERVER_CHECKPOINT_PAGES = 20_000
"""Checkpoint threshold for the server's own connections, in pages. The writer process normally checkpoints first."""
IMPORT_CHECKPOINT_PAGES = 16_384
"""Checkpoint threshold for an import, in pages: the WAL grows to 32 MiB, so that there are larger and fewer copies."""


class Connections:
    """One connection that writes, one for what need not survive a crash, and one per concurrent reader.

    Args:
        path: the database file; created if missing, but not its folder.
        serving: hold the file's server lock.
        writing: this is the server's writer, which runs checkpoints in a thread instead of in commits. The server has
            created the store, and closes it last.
        cache_mb: maximum memory for the writer's pages, in MiB; other connections have at most 64.
        may_migrate: migrate a file of an older version, unless it is served; if false, refuse it.
        known: the files that the server has open, for its writer.

    Raises:
        StoreFault: the file cannot be created or opened, is not a store, is too new, or another server has the lock.
    """

    def __init__(
        self,
        path: str,
        *,
        serving: bool,
        writing: bool,
        cache_mb: int,
        may_migrate: bool,
        known: Mapping[str, Identity] | None,
    ) -> None:
        self._path = path
        self._cache_mb = cache_mb if writing else min(cache_mb, 64)
        self._lock = threading.Lock()
        self._readers: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        self._is_server = serving or writing
        self._checkpointer: Checkpointer | None = None
        self._checkpoint_pages = SERVER_CHECKPOINT_PAGES if serving else IMPORT_CHECKPOINT_PAGES
        self._log_pages = 0
        self._failed = False
        self.locked_at = 0.0
        """Monotonic time at which the last transaction got SQLite's lock."""
        self._has_stored = False
        self.migration: Migration | None = None
        self.has_erased = False
        """Whether users were erased since the WAL was emptied."""
        self._erased: int | None = None
        """Number of erased users that :meth:`notice_erased` found last."""
        self.files = StoreFiles(path)
        self._watch = Watch(self.files, self._lacks_pages)
        self.files.make_ready(create=known is None)
        if serving:
            self.files.lock()
        try:
            self._open_file(serving=serving, may_migrate=may_migrate, known=known)
            for db in (self._writer, self._unsynced):
                db.wal_autocheckpoint(0)
                if not writing:
                    db.set_wal_hook(self._log_grew)
            if self._is_server:
                self._recover()
                self._watch.compare_content()
            if writing:
                self._begin_checkpoints()
        except OSError as error:
            self.files.unlock()
            raise StoreFault(f"the store {path} cannot be opened: {error.strerror}") from error
        except apsw.Error as error:
            self.files.unlock()
            if isinstance(error, apsw.NotADBError):
                raise StoreFault(f"{path} is not a usertable store: it is not a SQLite database") from error
            raise StoreFault(f"the store {path} cannot be opened: {error}") from error
        except BaseException:
            self.files.unlock()
            raise

    def _open_file(self, *, serving: bool, may_migrate: bool, known: Mapping[str, Identity] | None) -> None:
        self.files.sync_log()
        self._writer = self._open(WRITER_STATEMENTS)
        before, version = migrate(self._writer, self.files, allowed=may_migrate)
        if 0 < before < version:
            self.migration = Migration(before, version)
        self._has_stored = before < version
        if before == 0 and serving:
            log.info("%s: there was no store, so a new one was created", self._path)
        # Only a read opens the WAL.
        self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self.files.remember(known)
        if moved := self.files.moved(lambda: False):
            raise StoreFault(moved)
        # Its writes need not survive a crash, so nothing waits for the disk. WAL keeps the file consistent anyway.
        self._unsynced = self._open()
        self._unsynced.execute("PRAGMA synchronous = NORMAL")
        self._unsynced.set_busy_handler(_wait_for_lock)
        self._unsynced.execute("PRAGMA cache_size = -2048")
        # It removes old history, of which nothing may be left in the file when a user is erased later.
        self._unsynced.execute("PRAGMA secure_delete = 1")

    def _recover(self) -> None:
        """Make sure that everything written before a crash is on disk, because it is answered from now on."""
        if self.files.disk_failed and copied_frames(self._writer):
            raise StoreFault(
                f"{self._path}: the disk failed under the last server, and another process, such as an import, still has"
                " the store open, so what was lost cannot be recovered yet; end it, then start the server"
            )
        copy_log(self._writer, self._checkpoint_failed)
        if self.files.disk_failed:
            self.files.forget_notes()

    def _begin_checkpoints(self) -> None:
        # Closed last: closing any descriptor of a file releases the locks that SQLite has on it.
        self._file = os.open(self.files.real, os.O_RDWR)
        self._checkpointer = Checkpointer(
            self._open(),
            self._file,
            self._lock,
            copy_rows=CHECKPOINT_ROWS,
            sync_rows=WAL_ROWS,
            idle_seconds=CHECKPOINT_IDLE_SECONDS,
            is_halted=lambda: self._watch.is_overwritten() or self._watch.trouble(),
            fail=self._checkpoint_failed,
        )

    def _open(self, statements: int = STATEMENTS) -> apsw.Connection:
        db = apsw.Connection(self.files.real, apsw.SQLITE_OPEN_READWRITE, statementcachesize=statements)
        db.set_busy_timeout(int(BUSY_SECONDS * 1000))
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{self._cache_mb * 1024}")
        # What is deleted or replaced is overwritten with zeros, so that nothing of an erased user is left in the file.
        db.pragma("secure_delete", True)
        # A statement with many rows keeps the pages it changes until it ends; from 32 on, they would go to a file.
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def writer(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """Open a transaction for the block. It is durable after the block, and rolled back if the block raises."""
        return self._transaction(self._writer)

    def unsynced_writer(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """Open a transaction for the block that a crash may undo."""
        return self._transaction(self._unsynced)

    @contextlib.contextmanager
    def _transaction(self, db: apsw.Connection) -> Iterator[apsw.Connection]:
        with self._lock:
            if trouble := self._watch.trouble():
                raise StoreDown(trouble)
            try:
                db.execute("BEGIN IMMEDIATE")
                self.locked_at = time.monotonic()
                yield db
                db.execute("COMMIT")
                self._has_stored = True
                if self._log_pages >= self._checkpoint_pages:
                    copy_log(db, self._checkpoint_failed)
            except apsw.Error as error:
                if is_failed_sync(error):
                    # The disk may have lost the commit of another connection, which waits for this sync.
                    self._checkpoint_failed(described(error))
                raise StoreDown(f"{self._path}: {error}") from error
            finally:
                # It is closed already if a signal ended the process on the way into the block.
                with contextlib.suppress(apsw.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")

    def truncate_log(self) -> None:
        """Empty the WAL if users were erased since: it still has what it said of them."""
        if self.has_erased and not self._failed:
            with self._lock:
                if self._watch.trouble() is None:
                    self.has_erased = not truncate_log(self._writer, self._checkpoint_failed)
                    self._writer.set_busy_timeout(int(BUSY_SECONDS * 1000))

    def notice_erased(self) -> None:
        """Take note of users that other processes have erased.

        One that was killed, or could not empty the WAL at its end, leaves that to the server. Before the first call, it may
        have been the server before.
        """
        with self.reader() as db:
            erased = db.execute("SELECT count(*) FROM erased").get
        if erased != self._erased:
            self.has_erased, self._erased = True, erased

    def count_written(self, written: int) -> None:
        """Report written rows to the checkpoints' thread, if there is one."""
        if self._checkpointer:
            self._checkpointer.rows += written

    @contextlib.contextmanager
    def reader(self) -> Iterator[apsw.Connection]:
        """Return a connection that sees what was committed before. Connections are reused."""
        try:
            try:
                db = self._readers.get_nowait()
            except queue.Empty:
                db = self._open()
                db.execute("PRAGMA query_only = 1")
                if moved := self.files.moved(lambda: False):
                    raise StoreDown(moved) from None
            self._watch.trouble()
            yield db
            self._readers.put(db)
        except apsw.Error as error:
            raise StoreDown(f"{self._path}: {error}") from error

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[apsw.Connection]:
        """Return a connection with a single snapshot."""
        with self.reader() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """Return a separate connection with a single snapshot, closed at the end of the block."""
        with contextlib.closing(self._open()) as db:
            try:
                db.execute("PRAGMA query_only = 1")
                # Until the end of the transaction, this connection sees what was committed at its first read.
                db.execute("BEGIN")
                yield db
            except apsw.Error as error:
                raise StoreDown(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the connections. Raises StoreFault if the stored data is not at the store's path."""
        if self._checkpointer:
            self._checkpointer.stop()
        moved = self._watch.moved()
        if not moved:
            self.truncate_log()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        for db in (self._unsynced, self._writer):
            # The last connection to close checkpoints the whole WAL and removes it by its name. The writer leaves that to
            # the server, so that the disk can fail in only one process then.
            if moved or self._failed or self._checkpointer:
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close()
        if self._checkpointer:
            os.close(self._file)
        self._watch.close()
        self.files.unlock()
        if moved and self._is_server:
            raise StoreFault(f"{moved}: what was answered before may not be in the store")
        if moved and self._has_stored:
            raise StoreFault(
                f"{moved}: what this command stored is in the files that were open, and not in the store; put them back, if"
                " they were moved, and it is there"
            )

    def _log_grew(self, db: apsw.Connection, name: str, pages: int) -> int:
        """Replace SQLite's own hook, which would run a checkpoint and ignore its failure."""
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint_failed(self, failure: str) -> NoReturn:
        """Handle a disk that failed in a checkpoint: this process runs no other, and leaves the WAL to the next one."""
        self.files.note_disk_failure()
        if self._is_server:
            end_process(f"{self._path}: {failure}")
        self._failed = True
        raise StoreFault(
            f"{self._path}: {failure}. Nothing that was stored is lost: the next command or server recovers it from the log"
            " beside the store. Check the disk"
        )

    def _lacks_pages(self) -> bool | None:
        """Return whether pages of the database are lost; None if that cannot be determined now."""
        try:
            # A connection can query the WAL only outside of a transaction.
            with self.read_transaction() as db, self.reader() as other:
                pages, page_bytes = db.pragma("page_count"), db.pragma("page_size")
                frames, copied = other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                return self.files.lacks_pages(pages, page_bytes, frames, copied)
        except StoreDown as failure:
            # It may not even be readable any more.
            return None if isinstance(failure.__cause__, (apsw.BusyError, apsw.CantOpenError)) else True
        except OSError:
            return None


def _wait_for_lock(attempts: int) -> bool:
    """Wait a moment for SQLite's lock. Returns whether to try again."""
    time.sleep(POLL_SECONDS)
    return attempts < BUSY_SECONDS / POLL_SECONDS


@contextlib.contextmanager
def opened_for_reading(files: StoreFiles) -> Iterator[apsw.Connection]:
    """Open a connection that reads a store of any version, and does not change its files."""
    with contextlib.closing(apsw.Connection(files.real, apsw.SQLITE_OPEN_READWRITE)) as db:
        db.set_busy_timeout(int(BUSY_SECONDS * 1000))
        db.execute("PRAGMA query_only = 1")
        try:
            yield db
        finally:
            if files.has_log():
                # The WAL of a killed server is left for the next one to recover.
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
