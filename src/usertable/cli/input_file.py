"""The input file of an import: a path, a pipe, or stdin."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from usertable.files.disk import spooled
from usertable.files.options import Format

_HEAD_BYTES = 65536
"""Bytes at the start of an unnamed stream that identify it. A resumed import also compares its first rows."""


def can_reopen(file: str) -> bool:
    """Return whether opening the path again gives the same content. False for stdin, a pipe, a device or a descriptor."""
    path = Path(file)
    if file == "-" or (path.exists() and not path.is_file()):
        return False
    return not str(path.absolute()).startswith(("/dev/fd/", "/dev/std", "/proc/"))


def job_for_content(stream: IO[bytes], form: Format) -> tuple[str, bytes]:
    """Return a job name derived from the stream's content, and the bytes read from a stream that is not seekable."""
    start = stream.tell() if stream.seekable() else None
    parts: list[bytes] = []
    left = _HEAD_BYTES
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    digest = hashlib.blake2b(head := b"".join(parts), digest_size=16)
    if form == "parquet":
        # The footer identifies a file better than its beginning.
        end = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, end - _HEAD_BYTES))
        digest.update(b"%d " % end + stream.read(_HEAD_BYTES))
    if start is not None:
        stream.seek(start)
        head = b""
    return f"content {digest.hexdigest()}", head


@contextlib.contextmanager
def opened_input(file: str, form: Format) -> Iterator[IO[bytes]]:
    """Open the file. Stdin is duplicated; it is copied to a temporary file if it must be seekable or has no descriptor."""
    if file != "-":
        with Path(file).open("rb", buffering=0) as stream:
            yield stream
        return
    stdin = sys.stdin.buffer
    try:
        descriptor = os.dup(stdin.fileno())
    except OSError:
        with spooled(stdin) as stream:
            yield stream
        return
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if form == "parquet" and not stream.seekable():
            with spooled(stream) as copy:
                yield copy
        else:
            yield stream
