"""Files that are replaced whole, held by one process at a time, or have no name."""

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
    """A copy of a stream in a file without a name, for what must be sought in or handed on.

    It is in the folder for temporary files, or in memory if no such folder can be written.
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
    """A file that is there, durable and whole, when the block is left; if the block raises, what was there before."""
    with part_file(path) as part, os.fdopen(part.descriptor, "w+b", buffering=2**20, closefd=False) as stream:
        yield stream


def hold(path: Path) -> IO[bytes] | None:
    """Open a file, made if it is not there, which no other process holds until it is closed; None if one does."""
    while True:
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        if not lock(stream):
            return None
        # Whoever held it may have replaced it, or taken it away, since it was opened.
        if is_named(stream, path):
            return stream
        stream.close()


def lock(stream: IO[bytes]) -> bool:
    """Hold an open file until it is closed; if another process holds it, close it and say no."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    return True


def is_named(stream: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there, ours = path.stat(), os.fstat(stream.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
