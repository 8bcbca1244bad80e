"""The files of a SQLite store: the database, its log and the log's index beside it, and the lock of its server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from usertable.domain.errors import StoreFault
from usertable.folders import sync_folder
from usertable.store.records import StoreFigures

LEAVING_SECONDS = 5.0
"""Seconds for which a process that has the database open may still end."""
Identity = tuple[int, int]
"""Device and inode."""
_FAILED, _OVERWRITTEN, _RESTORING = "disk-failed", "overwritten", "restoring"
_LOG_HEAD, _FRAME_HEAD = 32, 24
"""Bytes before the log's first page, and before each page, which begin with its number: https://sqlite.org/walformat.html."""
_PENDING_BYTE = 2**30
"""The page with this byte holds SQLite's locks and is never written."""
_SHARED_FIRST, _SHARED_BYTES = _PENDING_BYTE + 2, 510
"""Of that page, the bytes that a connection to a database with a log keeps locked as long as it is open:
https://sqlite.org/fileformat.html#the_lock_byte_page."""


class StoreFiles:
    """Where a store is, and whether it is still there.

    A file that is open can be deleted or replaced under another name. Whoever has it open reads and writes on, and all of it
    goes with the last process; so what is open is compared with what its name stands for.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # SQLite puts its own files beside what a link leads to; and a link may lead elsewhere later.
        self.real = os.path.realpath(path)
        named = Path(os.path.realpath(Path(path).parent), Path(path).name)
        self._lock_names = {f"{named}.lock", f"{self.real}.lock"}
        """Two if the path is a link. Each is one name for one file, however the path is written."""
        self._locks: dict[str, int] = {}
        self._known: dict[str, Identity] = {}
        self._largest = 0
        self._is_cut_off = False
        self.disk_failed = False
        """Whether the last server ended because the disk failed, by its note in the lock file."""

    @property
    def log(self) -> str:
        return f"{self.real}-wal"

    @property
    def known(self) -> Mapping[str, Identity]:
        """What is open, by the names it had when it was opened."""
        return self._known

    def make_ready(self, *, create: bool) -> None:
        """See that the database can be written, and make an empty one if there is none.

        Raises:
            StoreFault: it cannot, or there is none and none may be made.
        """
        try:
            self.check_place()
            if self.is_empty():
                if not create:
                    raise StoreFault(f"the store {self.path} is gone: it was deleted or moved while its server ran")
                # The file holds personal data, so nobody else may read it. SQLite gives its side files the same mode.
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            elif not os.access(self.path, os.R_OK | os.W_OK):
                # For the reason only: to close a descriptor of a database ends the locks that this process has on it.
                os.close(os.open(self.path, os.O_RDWR))
        except OSError as error:
            raise StoreFault(f"the store {self.path} cannot be written: {error.strerror}") from error

    def check_place(self) -> None:
        """Raises StoreFault if no database can be at the path."""
        file = Path(self.path)
        if file.is_dir():
            raise StoreFault(f"{self.path} is a folder; name a file in it")
        if not file.parent.is_dir():
            raise StoreFault(f"the folder {file.parent} does not exist; create it, or name another file")

    def is_empty(self) -> bool:
        """Whether no store is there yet.

        Raises:
            StoreFault: the database is missing, and its log is not.
        """
        try:
            if Path(self.path).stat().st_size:
                return False
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            # Whoever opens it is told what is wrong.
            return False
        if self.has_log():
            # SQLite would take the log for a leftover, and delete it.
            raise StoreFault(
                f"{self.path} is missing or empty, but its log {self.log} is there and holds writes that are in no other"
                " file; put the database back beside it, or move the log away to begin with an empty store"
            )
        if any(_RESTORING in notes for notes in self._notes()):
            raise StoreFault(
                f"a restore of {self.path} was interrupted, and there is no store yet; run it again, or delete"
                f" {self.real}.lock to begin with an empty store"
            )
        return True

    def figures(self) -> StoreFigures:
        """The size of the files, and the space beside them."""
        sizes = {}
        for name, path in (("database", self.real), ("log", self.log)):
            with contextlib.suppress(OSError):
                sizes[name] = Path(path).stat().st_size
        free = None
        with contextlib.suppress(OSError):
            disk = os.statvfs(Path(self.real).parent)
            free = disk.f_bavail * disk.f_frsize
        return StoreFigures("sqlite", sizes, free)

    def sync_log(self) -> None:
        """Bring to the disk what a killed process had written there and not synced yet, before anybody is answered by it.

        Call it while this process has no lock on it; SQLite has none on the log.
        """
        try:
            log = os.open(self.log, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            os.fsync(log)
        finally:
            os.close(log)

    def lock(self, *, replacing: bool = False) -> None:
        """Become the only server of the store.

        Args:
            replacing: the file and its log are about to be replaced, so it does not matter what is noted of them.

        Raises:
            StoreFault: there is another.
        """
        # The names differ if the path is a link. Whoever comes by one of them must meet the other's lock.
        for name in sorted(self._lock_names):
            try:
                self._locks[name] = self._taken(name, replacing=replacing)
            except BaseException:
                self.unlock()
                raise

    def _taken(self, name: str, *, replacing: bool) -> int:
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreFault(f"the lock file {name} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder, *_ = _content(lock)
            os.close(lock)
            raise StoreFault(
                f"another server (process {holder}) already serves {self.path}; stop it, or name another store."
                " Only one server can serve a SQLite file."
            ) from error
        _, *notes = _content(lock)
        if replacing:
            _write_content(lock, str(os.getpid()), *notes)
            return lock
        if _OVERWRITTEN in notes and self.has_log():
            os.close(lock)
            raise StoreFault(
                f"{self.path} was overwritten while its last server had it open, and the log {self.log} belongs to what was"
                " there before; move the log away to start with the file as it is, or put a backup in its place as well"
            )
        self.disk_failed = self.disk_failed or _FAILED in notes
        _write_content(lock, str(os.getpid()), *[_FAILED for note in notes if note == _FAILED])
        return lock

    def note_disk_failure(self) -> None:
        """Leave a note for the next server, whose start must begin with all of the log."""
        self._note(_FAILED)

    def note_overwriting(self) -> None:
        """Tell this store's server, and the next one, that the log does not belong to the file beside it."""
        self._note(_OVERWRITTEN)

    def _note(self, word: str) -> None:
        for name in self._lock_names:
            with contextlib.suppress(OSError):
                lock = os.open(name, os.O_RDWR)
                if word not in (found := _content(lock)):
                    _write_content(lock, *found, word)
                os.close(lock)

    def _notes(self) -> Iterator[list[str]]:
        """What is noted in each lock file that is there."""
        for name in self._lock_names:
            with contextlib.suppress(OSError):
                lock = os.open(name, os.O_RDONLY)
                _, *notes = _content(lock)
                os.close(lock)
                yield notes

    def trouble_noted(self) -> str | None:
        """What the last server left as a note for the next one; None if there is nothing."""
        notes = {note for found in self._notes() for note in found}
        if _OVERWRITTEN in notes:
            return f"{self.path} was overwritten while its last server had it open"
        if _FAILED in notes:
            return f"the disk of {self.path} failed under its last server; the next start recovers what it did not keep"
        return None

    def overwriting_is_noted(self) -> bool:
        """Whether this server or its writer found the database overwritten."""
        return any(_OVERWRITTEN in _content(lock) for lock in self._locks.values())

    def forget_notes(self) -> None:
        """All of the log has been copied, and the disk kept it; or another database took the place of this one."""
        self.disk_failed = False
        for lock in self._locks.values():
            _write_content(lock, str(os.getpid()))

    @contextlib.contextmanager
    def held(self, *, replacing: bool = False) -> Iterator[None]:
        """Keep every server away while the block runs. A server holds the lock by itself. See :meth:`lock`."""
        if self._locks:
            yield
            return
        self.lock(replacing=replacing)
        try:
            yield
        finally:
            self.unlock()

    def unlock(self) -> None:
        while self._locks:
            os.close(self._locks.popitem()[1])

    @contextlib.contextmanager
    def closed_to_others(self) -> Iterator[None]:
        """Keep every process from opening the database while the block runs.

        Raises:
            StoreFault: one has it open.
        """
        if not Path(self.real).exists():
            yield
            return
        file = os.open(self.real, os.O_RDWR)
        # The writer of a server that was killed ends a moment later.
        deadline = time.monotonic() + LEAVING_SECONDS
        try:
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_BYTES, _SHARED_FIRST)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise StoreFault(
                            f"another process, such as an import, has {self.path} open; nothing was changed."
                            " Wait for it, or end it"
                        ) from error
                time.sleep(0.05)
            yield
        finally:
            os.close(file)

    def has_store(self) -> bool:
        """Whether anything is there that a store was kept in, be it whole or not."""
        return _has_content(self.real) or self.has_log()

    def has_log(self) -> bool:
        """Whether there is a log with anything in it."""
        return _has_content(self.log)

    @contextlib.contextmanager
    def set_aside(self, kept: str) -> Iterator[None]:
        """Rename the database, its log and its index while the block puts another database in their place.

        If the block raises, they have their names again; if not, the caller calls :meth:`forget_notes` at the end. It holds
        the lock and has nothing open.

        Args:
            kept: the database's new path, which no file has; the others are named after it as SQLite does.
        """
        # Without this note, a store would be taken for one that never was, if the machine stops in between.
        self._note(_RESTORING)
        for lock in self._locks.values():
            os.fsync(lock)
        renamed = []
        try:
            # First the database: a log without one is refused, a database without its log is not.
            for suffix in ("", "-wal", "-shm"):
                if Path(self.real + suffix).exists():
                    Path(self.real + suffix).rename(kept + suffix)
                    renamed.append(suffix)
            sync_folder(Path(self.real).parent)
            yield
        except BaseException:
            for suffix in reversed(renamed):
                Path(kept + suffix).rename(self.real + suffix)
            for lock in self._locks.values():
                _write_content(lock, *(word for word in _content(lock) if word != _RESTORING))
            raise

    def give_to(self, owner: os.stat_result) -> None:
        """Let the lock be the owner's, as root must do for a server that is not."""
        for lock in self._locks.values():
            os.fchown(lock, owner.st_uid, owner.st_gid)

    def server(self) -> str | None:
        """The number of the other process that is this store's server; None if there is none."""
        for name in self._lock_names - self._locks.keys():
            try:
                lock = os.open(name, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _content(lock)[0]
            finally:
                os.close(lock)
        return None

    def remember(self, known: Mapping[str, Identity] | None) -> None:
        """Take what the names stand for now as what is open, or what another process has open, whose writer this is.

        Call it right after the database was opened and read.
        """
        self._largest = Path(self.real).stat().st_size
        if known is not None:
            self._known = dict(known)
            return
        for name in (self.path, self.real, self.log, f"{self.real}-shm"):
            self._known[name] = _identity(Path(name).stat())
        for name, lock in self._locks.items():
            self._known[name] = _identity(os.fstat(lock))

    def moved(self, lacks_pages: Callable[[], bool | None]) -> str | None:
        """What was deleted, replaced or cut off since it was opened; None if all is as it was.

        Args:
            lacks_pages: whether there are pages that are neither in the database's file nor in the log; None if that cannot
                be told now. Asked only if the file became smaller.
        """
        for name, known in self._known.items():
            try:
                found = Path(name).stat()
            except OSError as error:
                return f"{name} was deleted or moved while it was open ({error.strerror})"
            if _identity(found) != known:
                return f"{name} was replaced by another file while it was open"
            if name == self.real:
                # VACUUM makes it smaller, too.
                lacks = found.st_size < self._largest and lacks_pages()
                self._is_cut_off = self._is_cut_off or lacks is True
                if self._is_cut_off:
                    # For good: a checkpoint makes it as large as before, with nothing where pages were.
                    return f"{name} was cut off while it was open"
                if lacks is not None:
                    self._largest = found.st_size
        return None

    def lacks_pages(self, pages: int, page_bytes: int, frames: int, copied: int) -> bool:
        """Whether a page is neither in the database's file nor in the log.

        Args:
            pages: so many has the database, by a moment of it that is held while this runs: until then no checkpoint copies
                what is newer, or cuts the file for it.
            page_bytes: bytes of a page.
            frames: pages in the log.
            copied: so many of those, from its beginning, are in the file.
        """
        waiting = {_PENDING_BYTE // page_bytes + 1}
        with Path(self.log).open("rb", buffering=0) as log:
            for frame in range(copied, frames):
                log.seek(_LOG_HEAD + frame * (_FRAME_HEAD + page_bytes))
                waiting.add(int.from_bytes(log.read(4)))
        first = Path(self.real).stat().st_size // page_bytes + 1
        return any(page not in waiting for page in range(first, pages + 1))

    def read_only(self) -> str | None:
        """Says so if the file system takes no writes, or cannot be asked."""
        try:
            flags = os.statvfs(self.real).f_flag
        except OSError as error:
            return f"the file system of {self.path} cannot be asked whether it takes writes ({error.strerror})"
        if flags & os.ST_RDONLY:
            return f"{self.path} is on a file system that is mounted read-only"
        return None


def _has_content(name: str) -> bool:
    return Path(name).exists() and Path(name).stat().st_size > 0


def _content(lock: int) -> list[str]:
    """Of a lock file, `4711` or `4711 disk-failed`: the process, and what is noted of the store."""
    return os.pread(lock, 64, 0).decode(errors="replace").split() or ["unknown"]


def _write_content(lock: int, *words: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, " ".join(dict.fromkeys(words)).encode(), 0)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
