"""The process that reads a file for an import; see :func:`usertable.bulk.reading`.

Reading and checking takes as much CPU as storing, and Python's interpreter lock would let the two share but one core.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from usertable.domain.errors import Refused
from usertable.wire.rows import open_source


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
