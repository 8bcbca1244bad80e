"""The connections that a process has to a store's file: WAL, with `synchronous=FULL`."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import NoReturn

import apsw

from usertable.domain.errors import StoreDown, StoreFault
from usertable.store.disk_failure import end_process
from usertable.store.sqlite.checkpoint import Checkpointer, copied_frames, copy_log, described, is_failed_sync
from usertable.store.sqlite.files import Identity, StoreFiles
from usertable.store.sqlite.migrations import migrate
from usertable.store.sqlite.watch import Watch

log = logging.getLogger("usertable.store")

BUSY_SECONDS = 5.0
STATEMENTS = 64
"""Prepared statements that a connection keeps."""
WRITER_STATEMENTS = 256
"""The writer's: it has some of up to 256 rows for each project, with up to 170 kB."""
CHECKPOINT_ROWS = 2_500
"""So many written rows make a checkpoint due, which copies them beside the commits."""
WAL_ROWS = 20_000
"""So many written rows make it due to sync the file and begin the WAL anew. Commits wait for the latter, a moment."""
CHECKPOINT_IDLE_SECONDS = 1.0
SERVER_CHECKPOINT_PAGES = 20_000
"""Checkpoint threshold for the server's own connections. The writer process normally checkpoints first."""
IMPORT_CHECKPOINT_PAGES = 16_384
"""An import lets the WAL grow to 32 MiB before it is copied: larger, and so fewer, copies."""


class Connections:
    """One connection that writes, one for what need not survive a crash, and as many as there are who read at once.

    Args:
        path: the database file; it is created if it is missing, its folder is not.
        serving: hold the file's server lock.
        writing: this is the server's writer, which takes checkpoints off the write path with a thread of its own. The
            server has made the store, and is the last to close it.
        cache_mb: the most memory for the writer's pages, in MiB; other connections have 64 at most.
        may_migrate: bring a file of an older version to this one, unless it is served; if not, it is refused.
        known: what the server has open, for its writer.

    Raises:
        StoreFault: the file cannot be made or opened, is not ours, is too new, or another server holds it.
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
        self._has_stored = False
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
                raise StoreFault(f"{path} is not a store of usertable's: it is no SQLite database") from error
            raise StoreFault(f"the store {path} cannot be opened: {error}") from error
        except BaseException:
            self.files.unlock()
            raise

    def _open_file(self, *, serving: bool, may_migrate: bool, known: Mapping[str, Identity] | None) -> None:
        self.files.sync_log()
        self._writer = self._open(WRITER_STATEMENTS)
        before, version = migrate(self._writer, self.files, allowed=may_migrate)
        self._has_stored = before < version
        if before == 0 and serving:
            log.info("%s: there was no store, so a new one was made", self._path)
        # Only what reads opens the log.
        self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self.files.remember(known)
        if moved := self.files.moved(lambda: False):
            raise StoreFault(moved)
        # What it writes need not survive a crash, so nobody waits for the disk; WAL keeps the file whole all the same.
        self._unsynced = self._open()
        self._unsynced.execute("PRAGMA synchronous = NORMAL")
        self._unsynced.execute("PRAGMA cache_size = -2048")

    def _recover(self) -> None:
        """See that what was written before a crash is on the disk, because it is answered from now on."""
        if self.files.disk_failed and copied_frames(self._writer):
            raise StoreFault(
                f"{self._path}: the disk failed under the last server, and another process, such as an import, still has"
                " the store open, so what was lost cannot be recovered yet; end it, then start the server"
            )
        copy_log(self._writer, self._checkpoint_failed)
        if self.files.disk_failed:
            self.files.forget_notes()

    def _begin_checkpoints(self) -> None:
        # Closed last: to close any descriptor of a file ends the locks that SQLite holds on it.
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
        # A statement of many rows keeps the pages it changes until it ends; from 32 on, they would go to a file.
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def writer(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """A connection in a transaction that is durable when the block is left, or gone if it raises."""
        return self._transaction(self._writer)

    def unsynced_writer(self) -> contextlib.AbstractContextManager[apsw.Connection]:
        """The same, for what a crash may take away."""
        return self._transaction(self._unsynced)

    @contextlib.contextmanager
    def _transaction(self, db: apsw.Connection) -> Iterator[apsw.Connection]:
        with self._lock:
            if trouble := self._watch.trouble():
                raise StoreDown(trouble)
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
                self._has_stored = True
                if self._log_pages >= self._checkpoint_pages:
                    copy_log(db, self._checkpoint_failed)
            except apsw.Error as error:
                if is_failed_sync(error):
                    # Another connection's commit, which waits for this sync, may be what the disk did not keep.
                    self._checkpoint_failed(described(error))
                raise StoreDown(f"{self._path}: {error}") from error
            finally:
                if db.in_transaction:
                    with contextlib.suppress(apsw.Error):
                        db.execute("ROLLBACK")

    def count_written(self, written: int) -> None:
        """Tell the checkpoints' thread, if there is one, that so many rows were written."""
        if self._checkpointer:
            self._checkpointer.rows += written

    @contextlib.contextmanager
    def reader(self) -> Iterator[apsw.Connection]:
        """A connection that sees what was committed before; they are kept for the next who asks."""
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
        """A connection that sees one moment throughout."""
        with self.reader() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """The same, with a connection of its own, which is closed at the end."""
        with contextlib.closing(self._open()) as db:
            try:
                db.execute("PRAGMA query_only = 1")
                # From here to the end of the transaction this connection sees what was committed at its first read.
                db.execute("BEGIN")
                yield db
            except apsw.Error as error:
                raise StoreDown(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Raises StoreFault if what was stored is not where the store was."""
        if self._checkpointer:
            self._checkpointer.stop()
        moved = self._watch.moved()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        for db in (self._unsynced, self._writer):
            # The last connection to close checkpoints the whole WAL and removes it by its name. The writer leaves that to
            # the server, so that there is one process only whose disk can fail then.
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
        """SQLite's own hook here would make a checkpoint, and say nothing if it fails."""
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint_failed(self, failure: str) -> NoReturn:
        """The disk did not keep a checkpoint: this process makes no other, and leaves the WAL to the next one."""
        self.files.note_disk_failure()
        if self._is_server:
            end_process(f"{self._path}: {failure}")
        self._failed = True
        raise StoreFault(
            f"{self._path}: {failure}. Nothing that was stored is lost: the next command or server recovers it from the log"
            " beside the store. Check the disk"
        )

    def _lacks_pages(self) -> bool | None:
        """Whether pages of the database are nowhere any more; None if that cannot be told now."""
        try:
            # A connection asks about the log only outside of a transaction.
            with self.read_transaction() as db, self.reader() as other:
                pages, page_bytes = db.pragma("page_count"), db.pragma("page_size")
                frames, copied = other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                return self.files.lacks_pages(pages, page_bytes, frames, copied)
        except StoreDown as failure:
            # It may not even be readable any more.
            return None if isinstance(failure.__cause__, (apsw.BusyError, apsw.CantOpenError)) else True
        except OSError:
            return None


@contextlib.contextmanager
def opened_for_reading(files: StoreFiles) -> Iterator[apsw.Connection]:
    """A connection that reads a store, of any version, and leaves its files as they are."""
    with contextlib.closing(apsw.Connection(files.real, apsw.SQLITE_OPEN_READWRITE)) as db:
        db.set_busy_timeout(int(BUSY_SECONDS * 1000))
        db.execute("PRAGMA query_only = 1")
        try:
            yield db
        finally:
            if files.has_log():
                # That of a server that was killed is for the next one to recover.
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
