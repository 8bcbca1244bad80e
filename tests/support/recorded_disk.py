"""A disk below SQLite, in every process of a real server: it records what is written and synced, and fails on request.

`below` returns the environment for a server, whose processes then import this module at their start. :class:`Disk` replays
the record up to any moment, to a state that a power cut may leave: what was not synced is on the disk, or not, or in part.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

RECORD, FAILING = "record", "failing"
_HEAD = struct.Struct("!I")
_TUNED = {"CHECKPOINT_ROWS": 15, "WAL_ROWS": 60, "CHECKPOINT_IDLE_SECONDS": 0.1, "SERVER_CHECKPOINT_PAGES": 400}
"""So that short runs have many checkpoints."""


def below(folder: Path, store: Path) -> dict[str, str]:
    """Return environment variables that put the disk below a server of the store. It writes its record to the folder."""
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parent.parent)!r})\n"
        "from support import recorded_disk\nrecorded_disk.install()\n"
    )
    shutil.copyfile(store, folder / "durable")
    modules = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": modules, "RECORDED_DISK": str(folder), "RECORDED_STORE": str(store)}


def install() -> None:
    """Put the disk below SQLite in this process."""
    from usertable.store.sqlite import connection

    for name, value in _TUNED.items():
        assert hasattr(connection, name), name
        setattr(connection, name, value)
    disk = _Recording(Path(os.environ["RECORDED_DISK"]), Path(os.environ["RECORDED_STORE"]))
    os.fdatasync = disk.synced_by_descriptor(os.fdatasync)
    os.fsync = disk.synced_by_descriptor(os.fsync)
    disk.vfs = _VFS(disk)


class _Recording:
    vfs: Any

    def __init__(self, folder: Path, store: Path) -> None:
        self.note = Notes(folder)
        self._failing = folder / FAILING
        self._durable = folder / "durable"
        self._store = store
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def sync(self, path: str, work: Any) -> None:
        token = (os.getpid(), next(self._numbers))
        name = Path(path).name
        if path == str(self._store) and self._failing.exists():
            # What was written since the last sync never reached the disk, and the system has dropped it from memory.
            with self._lock:
                before = self._durable.read_bytes()
                with self._store.open("r+b") as file:
                    file.write(before)
            self.note("failed", name)
            raise OSError(5, "Input/output error")
        self.note("begin", name, token)
        work()
        if path == str(self._store):
            shutil.copyfile(self._store, self._durable)
        self.note("synced", name, token)

    def synced_by_descriptor(self, sync: Any) -> Any:
        def recorded(descriptor: int) -> None:
            self.sync(str(Path(f"/proc/self/fd/{descriptor}").readlink()), lambda: sync(descriptor))

        return recorded


class _File(apsw.VFSFile):
    def __init__(self, disk: _Recording, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = str(name.filename() if isinstance(name, apsw.URIFilename) else name)
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.note("write", Path(self._path).name, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.note("truncate", Path(self._path).name, newsize)

    def xSync(self, flags: int) -> None:
        try:
            self._disk.sync(self._path, lambda: super(_File, self).xSync(flags))
        except OSError as error:
            failure = apsw.IOError()
            setattr(failure, "extendedresult", apsw.SQLITE_IOERR_FSYNC)  # noqa: B010
            raise failure from error


class _VFS(apsw.VFS):
    def __init__(self, disk: _Recording) -> None:
        self._disk = disk
        super().__init__("recorded", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._disk.note("delete", Path(filename).name)


class Notes:
    """The record, to which all processes append."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, *what: object) -> None:
        packed = pickle.dumps(what)
        os.write(self._file, _HEAD.pack(len(packed)) + packed)

    @staticmethod
    def read(folder: Path) -> Iterator[tuple[Any, ...]]:
        """Yield the recorded entries, in order."""
        with (folder / RECORD).open("rb") as file:
            while head := file.read(_HEAD.size):
                yield pickle.loads(file.read(_HEAD.unpack(head)[0]))


class Disk:
    """By file, what is certainly on the disk, and what may be."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._sure = {name: bytearray(content) for name, content in files.items()}
        self._pending: dict[str, list[tuple[int, int, bytes | None]]] = {}
        self._begun: dict[object, int] = {}
        self._number = 0

    def play(self, what: str, name: str, *rest: Any) -> None:
        """Replay one entry of the record."""
        self._number += 1
        if what == "write":
            self._pending.setdefault(name, []).append((self._number, rest[0], rest[1]))
        elif what == "truncate":
            self._pending.setdefault(name, []).append((self._number, rest[0], None))
        elif what == "begin":
            self._begun[rest[0]] = self._number
        elif what == "synced":
            begun = self._begun.pop(rest[0])
            there = self._sure.setdefault(name, bytearray())
            waiting = self._pending.get(name, [])
            for number, offset, data in waiting:
                if number < begun:
                    _apply(there, offset, data)
            self._pending[name] = [change for change in waiting if change[0] >= begun]
        elif what == "delete":
            self._sure.pop(name, None)
            self._pending.pop(name, None)

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return the files as they may be found after a power cut now."""
        found = {}
        for name in {*self._sure, *self._pending}:
            content = bytearray(self._sure.get(name, b""))
            share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            torn = chance.random() < 0.5
            for _, offset, data in self._pending.get(name, []):
                if data is None or not torn:
                    if chance.random() < share:
                        _apply(content, offset, data)
                    continue
                # In sectors, each of which is present or not.
                first = offset - offset % 512
                for sector in range(first, offset + len(data), 512):
                    begin, end = max(sector, offset), min(sector + 512, offset + len(data))
                    if chance.random() < share:
                        _apply(content, begin, data[begin - offset : end - offset])
            found[name] = bytes(content)
        return found


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
