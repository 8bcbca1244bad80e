"""Files that are replaced atomically, locked by one process at a time, or without a name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from usertable.folders import file_in_memory, part_file


def spooled(stream: IO[bytes]) -> IO[bytes]:
    """Copy a stream to a file without a name, so that it can seek or be passed to another process.

    The file is in the folder for temporary files, or in memory if no such folder is writable.
    """
    copy: IO[bytes]
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115
    except FileNotFoundError:
        copy = file_in_memory()
    shutil.copyfileobj(stream, copy, 2**20)
    copy.flush()
    copy.seek(0)
    return copy


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears, complete and durable, at the end of the block. If the block raises, the old file stays."""
    with part_file(path) as part, os.fdopen(part.descriptor, "w+b", buffering=2**20, closefd=False) as stream:
        yield stream


def hold(path: Path) -> IO[bytes] | None:
    """Open a file, created if missing, and lock it until it is closed. None if another process has locked it."""
    while True:
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        if not lock(stream):
            return None
        # The previous owner of the lock may have replaced or removed the file since it was opened.
        if is_named(stream, path):
            return stream
        stream.close()


def lock(stream: IO[bytes]) -> bool:
    """Lock an open file until it is closed. If another process has locked it, close it and return False."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    return True


def is_named(stream: IO[bytes], path: Path) -> bool:
    """Return whether the path still names the open file."""
    try:
        there, ours = path.stat(), os.fstat(stream.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
