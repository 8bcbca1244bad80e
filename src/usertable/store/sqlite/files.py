"""The files of a SQLite store: the database, its WAL and the WAL's index next to it, and the lock of its server."""

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
"""Seconds to wait for a process that has the database open to end."""
Identity = tuple[int, int]
"""Device and inode."""
_FAILED, _OVERWRITTEN, _RESTORING = "disk-failed", "overwritten", "restoring"
_LOG_HEAD, _FRAME_HEAD = 32, 24
"""Bytes before the WAL's first page, and before each page, which begin with its number:
https://sqlite.org/walformat.html."""
_PENDING_BYTE = 2**30
"""Byte offset whose page contains SQLite's locks and is never written."""
_SHARED_FIRST, _SHARED_BYTES = _PENDING_BYTE + 2, 510
"""In that page, the bytes that each open connection to a database with a WAL keeps locked:
https://sqlite.org/fileformat.html#the_lock_byte_page.
"""


class StoreFiles:
    """The location of a store, and whether the store is still there.

    An open file can be deleted, or replaced by another of the same name. A process that has it open continues to read and
    write, and everything is lost when the last process ends. So the open files are compared with the files at their paths.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # SQLite puts its own files next to the target of a link, and the link may be changed later.
        self.real = os.path.realpath(path)
        named = Path(os.path.realpath(Path(path).parent), Path(path).name)
        self._lock_names = {f"{named}.lock", f"{self.real}.lock"}
        """Two names if the path is a link. Each names the same file, however the path is written."""
        self._locks: dict[str, int] = {}
        self._known: dict[str, Identity] = {}
        self._largest = 0
        self._is_cut_off = False
        self.disk_failed = False
        """Whether the last server ended because the disk failed, according to the lock file."""

    @property
    def log(self) -> str:
        return f"{self.real}-wal"

    @property
    def known(self) -> Mapping[str, Identity]:
        """Return the open files, by their names when they were opened."""
        return self._known

    def make_ready(self, *, create: bool) -> None:
        """Make sure that the database is writable, and create an empty one if there is none.

        Raises:
            StoreFault: it is not writable; or there is none, and `create` is false.
        """
        try:
            self.check_place()
            if self.is_empty():
                if not create:
                    raise StoreFault(f"the store {self.path} is gone: it was deleted or moved while its server ran")
                # The file contains personal data, so only its owner may read it. SQLite gives its other files the same mode.
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            elif not os.access(self.path, os.R_OK | os.W_OK):
                # Only to get the reason: closing a descriptor of a database releases the locks that this process has on it.
                os.close(os.open(self.path, os.O_RDWR))
        except OSError as error:
            raise StoreFault(f"the store {self.path} cannot be written: {error.strerror}") from error

    def check_place(self) -> None:
        """Raise StoreFault if there cannot be a database at the path."""
        file = Path(self.path)
        if file.is_dir():
            raise StoreFault(f"{self.path} is a folder; name a file in it")
        if not file.parent.is_dir():
            raise StoreFault(f"the folder {file.parent} does not exist; create it, or name another file")

    def is_empty(self) -> bool:
        """Return whether there is no store yet.

        Raises:
            StoreFault: the database is missing, but its WAL exists.
        """
        try:
            if Path(self.path).stat().st_size:
                return False
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            # Opening it will report what is wrong.
            return False
        if self.has_log():
            # SQLite would treat the WAL as a leftover and delete it.
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
        """Return the size of the files, and the free space."""
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
        """Sync what a killed process wrote to the WAL, before anything is answered from it.

        Call it while this process has no lock on it; SQLite has none on the WAL.
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
            replacing: the database and its WAL will be replaced, so notes about them do not matter.

        Raises:
            StoreFault: there is another server.
        """
        # There are two names if the path is a link. A process that uses either of them must find the other's lock.
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
        """Leave a note for the next server, which must start by copying the whole WAL."""
        self._note(_FAILED)

    def note_overwriting(self) -> None:
        """Leave a note for this store's server, and the next one, that the WAL does not belong to the database."""
        self._note(_OVERWRITTEN)

    def _note(self, word: str) -> None:
        for name in self._lock_names:
            with contextlib.suppress(OSError):
                lock = os.open(name, os.O_RDWR)
                if word not in (found := _content(lock)):
                    _write_content(lock, *found, word)
                os.close(lock)

    def _notes(self) -> Iterator[list[str]]:
        """Yield the notes in each existing lock file."""
        for name in self._lock_names:
            with contextlib.suppress(OSError):
                lock = os.open(name, os.O_RDONLY)
                _, *notes = _content(lock)
                os.close(lock)
                yield notes

    def trouble_noted(self) -> str | None:
        """Return the last server's note for the next one; None if there is none."""
        notes = {note for found in self._notes() for note in found}
        if _OVERWRITTEN in notes:
            return f"{self.path} was overwritten while its last server had it open"
        if _FAILED in notes:
            return f"the disk of {self.path} failed under its last server; the next start recovers what it did not keep"
        return None

    def overwriting_is_noted(self) -> bool:
        """Return whether this server or its writer found the database overwritten."""
        return any(_OVERWRITTEN in _content(lock) for lock in self._locks.values())

    def forget_notes(self) -> None:
        """Delete the notes, after the whole WAL has been copied and synced, or the database was replaced."""
        self.disk_failed = False
        for lock in self._locks.values():
            _write_content(lock, str(os.getpid()))

    @contextlib.contextmanager
    def held(self, *, replacing: bool = False) -> Iterator[None]:
        """Prevent any server from starting during the block. A server holds the lock itself. See :meth:`lock`."""
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
        """Prevent every process from opening the database during the block.

        Raises:
            StoreFault: a process has it open.
        """
        if not Path(self.real).exists():
            yield
            return
        file = os.open(self.real, os.O_RDWR)
        # The writer of a killed server ends a moment later.
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
        """Return whether there is any file of a store, complete or not."""
        return _has_content(self.real) or self.has_log()

    def has_log(self) -> bool:
        """Return whether there is a WAL that is not empty."""
        return _has_content(self.log)

    @contextlib.contextmanager
    def set_aside(self, kept: str) -> Iterator[None]:
        """Rename the database, its WAL and its index while the block puts another database in their place.

        If the block raises, they get their names back. If not, the caller calls :meth:`forget_notes` at the end. The caller
        has the lock, and has no file open.

        Args:
            kept: the database's new path, which does not exist yet. The other files are named after it as SQLite does.
        """
        # Without this note, if the machine stops in between, it would look as if there had never been a store.
        self._note(_RESTORING)
        for lock in self._locks.values():
            os.fsync(lock)
        renamed = []
        try:
            # The database first: a WAL without a database is refused, a database without its WAL is not.
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
        """Give the lock file to the owner, as root must do for a server that does not run as root."""
        for lock in self._locks.values():
            os.fchown(lock, owner.st_uid, owner.st_gid)

    def server(self) -> str | None:
        """Return the process ID of another process that is this store's server; None if there is none."""
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
        """Record the files at the paths as the open ones; for a writer, those that its server has open.

        Call it immediately after the database was opened and read.
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
        """Return what was deleted, replaced or truncated since it was opened; None if nothing was.

        Args:
            lacks_pages: returns whether there are pages that are neither in the database nor in the WAL; None if that cannot
                be determined now. Called only if the file became smaller.
        """
        for name, known in self._known.items():
            try:
                found = Path(name).stat()
            except OSError as error:
                return f"{name} was deleted or moved while it was open ({error.strerror})"
            if _identity(found) != known:
                return f"{name} was replaced by another file while it was open"
            if name == self.real:
                # VACUUM makes it smaller too.
                lacks = found.st_size < self._largest and lacks_pages()
                self._is_cut_off = self._is_cut_off or lacks is True
                if self._is_cut_off:
                    # Permanent: a checkpoint restores the file's size, with empty pages where data was.
                    return f"{name} was truncated while it was open"
                if lacks is not None:
                    self._largest = found.st_size
        return None

    def lacks_pages(self, pages: int, page_bytes: int, frames: int, copied: int) -> bool:
        """Return whether a page is neither in the database nor in the WAL.

        Args:
            pages: number of the database's pages, in a snapshot that is held during this call: until its end, no checkpoint
                copies newer pages, or truncates the file accordingly.
            page_bytes: bytes per page.
            frames: number of pages in the WAL.
            copied: number of those, from its beginning, that are in the database.
        """
        waiting = {_PENDING_BYTE // page_bytes + 1}
        with Path(self.log).open("rb", buffering=0) as log:
            for frame in range(copied, frames):
                log.seek(_LOG_HEAD + frame * (_FRAME_HEAD + page_bytes))
                waiting.add(int.from_bytes(log.read(4)))
        first = Path(self.real).stat().st_size // page_bytes + 1
        return any(page not in waiting for page in range(first, pages + 1))

    def read_only(self) -> str | None:
        """Return a message if the file system is read-only, or its state cannot be read."""
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
    """Return the content of a lock file, `4711` or `4711 disk-failed`: the process, and its notes about the store."""
    return os.pread(lock, 64, 0).decode(errors="replace").split() or ["unknown"]


def _write_content(lock: int, *words: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, " ".join(dict.fromkeys(words)).encode(), 0)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
