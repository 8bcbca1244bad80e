"""The process that reads a file for an import; see :func:`reading`.

Reading and checking takes as much CPU as storing, and Python's interpreter lock would let the two share but one core.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from socket import socketpair
from typing import IO, Any

from usertable.domain.errors import Kind, Refused, refuse
from usertable.domain.schema import Project
from usertable.files.block import Block, Head
from usertable.files.options import Reading
from usertable.files.readers import open_source

_FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own allocator reserves a gigabyte of addresses, and the system's some for every thread."""


@contextlib.contextmanager
def reading(
    stream: IO[bytes],
    head: bytes,
    how: Reading,
    project: Project,
    skip: int,
    digest: str,
    ended: Callable[[set[str]], None] = lambda unseen: None,
) -> Iterator[Iterator[tuple[Head, Block]]]:
    """The blocks of a file, each with what the file begins with, read by a process of their own.

    Args:
        head: what stands before the rest of the stream.
        ended: told at the end which columns are mapped and were in no row.
    """
    ours, theirs = socketpair()
    file = stream.fileno()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "usertable.files.reader_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), file],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_FRUGAL},
        )
    connection = Connection(ours.detach())
    received: queue.Queue[bytes | None] = queue.Queue(1)
    stopped = threading.Event()

    def receive() -> None:
        # A thread, so that the reader does not wait for the store while its message passes through the socket.
        try:
            while not stopped.is_set():
                received.put(connection.recv_bytes())
        except (EOFError, OSError):
            received.put(None)

    def blocks() -> Iterator[tuple[Head, Block]]:
        head = Head()
        while message := received.get():
            what, content = pickle.loads(message)
            del message
            if what == "head":
                head = content
            elif what == "block":
                yield head, content
            elif what == "end":
                ended(content)
                return
            elif what == "refused":
                raise Refused(content)
            elif what == "failed":
                raise refuse(Kind.IMPORT_FILE, reason=content)
            else:
                raise RuntimeError(f"in the reading process:\n{content}")
        raise refuse(Kind.IMPORT_FILE, reason=_ended(process))

    thread = threading.Thread(target=receive, name="receive", daemon=True)
    try:
        connection.send_bytes(pickle.dumps((file, head, how, project, skip, digest)))
        thread.start()
        yield blocks()
    finally:
        stopped.set()
        process.kill()
        process.wait()
        while thread.is_alive():
            with contextlib.suppress(queue.Empty):
                received.get(timeout=0.05)
        connection.close()


def _ended(reader: subprocess.Popen[bytes]) -> str:
    """Why the process that reads a file said nothing more."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if (code := reader.wait(5)) < 0 and code != -signal.SIGKILL:
            return f"the process that read it ended with {signal.Signals(-code).name}; is the file damaged?"
    return "the process that read it was killed; is there too little memory?"


def main(descriptor: int) -> None:
    """Send the blocks of the file that the first message names."""
    # Ctrl-C, and a SIGTERM to the whole group, are for the import, which ends this process by closing the connection.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Rows make no cycles; looking through them for some would take a third of the time.
    gc.disable()
    connection = Connection(descriptor)
    try:
        file, head, reading, project, skip, digest = pickle.loads(connection.recv_bytes())
        try:
            raw = _Begun(head, os.fdopen(file, "rb", buffering=0)) if head else os.fdopen(file, "rb", buffering=0)
            with io.BufferedReader(raw, 2**20) as stream:
                source = open_source(stream, reading, project)
                _send(connection, "head", source.head)
                for block in source.blocks(skip, digest):
                    _send(connection, "block", block)
            _send(connection, "end", set() if skip else source.unseen)
        except Refused as refused:
            _send(connection, "refused", refused.problems)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            _send(connection, "failed", error.strerror or str(error))
        except Exception:
            _send(connection, "error", traceback.format_exc())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


class _Begun(io.RawIOBase):
    """A stream that cannot seek, with what was read from it already before the rest."""

    def __init__(self, head: bytes, rest: io.FileIO) -> None:
        super().__init__()
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = min(len(buffer), len(self._head))
        if not count:
            return self._rest.readinto(buffer)
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count

    def close(self) -> None:
        self._rest.close()
        super().close()


def _send(connection: Connection, what: str, content: object) -> None:
    connection.send_bytes(pickle.dumps((what, content), pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main(int(sys.argv[1]))
