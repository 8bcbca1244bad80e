"""The process that reads a file for an import; see :class:`ReaderProcess`.

Reading and validating takes as much CPU as storing. In one process, Python's interpreter lock would limit both to one core.
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
from dataclasses import replace
from multiprocessing.connection import Connection
from socket import socketpair
from typing import IO, Any

from usertable import signals
from usertable.domain.errors import ProblemKind, Refused, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Project
from usertable.files.block import Block, Head
from usertable.files.compression import DecompressedFile
from usertable.files.options import ReadOptions
from usertable.files.readers import open_source

_FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own allocator reserves a gigabyte of address space, and the system's reserves some per thread."""
_NOT_FOR_READERS = (signal.SIGINT, signal.SIGTERM)


class ReaderProcess:
    """A process that reads a file and sends its blocks. It ends with the `with` block.

    The arguments are those of :func:`usertable.files.reader.open_reader`.
    """

    def __init__(
        self,
        stream: IO[bytes],
        head: bytes,
        options: ReadOptions,
        project: Project,
        skip: int,
        digest: str,
        prepare: Callable[[Block], Block] | None,
    ) -> None:
        self.unseen: set[str] = set()
        self._received: queue.Queue[bytes | None] = queue.Queue(1)
        self._stopped = threading.Event()
        # A thread, so that the process does not wait for the store while its message passes through the socket.
        self._thread = threading.Thread(target=self._receive, name="receive", daemon=True)
        ours, theirs = socketpair()
        file = stream.fileno()
        with theirs, signals.blocked(*_NOT_FOR_READERS):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "usertable.files.reader_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), file],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_FRUGAL},
            )
        self._connection = Connection(ours.detach())
        self._job = (file, head, options, project, skip, digest, prepare)

    def __enter__(self) -> ReaderProcess:
        try:
            self._connection.send_bytes(pickle.dumps(self._job))
            self._thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopped.set()
        self._process.kill()
        self._process.wait()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._received.get(timeout=0.05)
        self._connection.close()

    @property
    def is_ahead(self) -> bool:
        return not self._received.empty()

    def blocks(self) -> Iterator[tuple[Head, Block]]:
        head = Head()
        while message := self._received.get():
            what, content = pickle.loads(message)
            del message
            if what == "head":
                head = content
            elif what == "block":
                yield head, content
            elif what == "end":
                self.unseen = content
                return
            elif what == "refused":
                raise Refused(content)
            elif what == "failed":
                raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.SYSTEM_ERROR, detail=content))
            else:
                raise RuntimeError(f"in the reading process:\n{content}")
        raise refusal(ProblemKind.IMPORT_FILE, reason=self._ended())

    def _receive(self) -> None:
        try:
            while not self._stopped.is_set():
                self._received.put(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._received.put(None)

    def _ended(self) -> Phrase:
        """Return why the process stopped sending."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if (code := self._process.wait(5)) < 0 and code != -signal.SIGKILL:
                return phrase(PhraseKind.READER_ENDED, signal=signal.Signals(-code).name)
        return phrase(PhraseKind.READER_KILLED)


def main(descriptor: int) -> None:
    """Send the blocks of the file that the first message names."""
    # Ctrl-C, and a SIGTERM to the process group, are handled by the import, which ends this process by closing the
    # connection.
    signals.ignore(*_NOT_FOR_READERS)
    # Rows contain no cycles. Looking for them would take a third of the time.
    gc.disable()
    connection = Connection(descriptor)
    try:
        file, head, options, project, skip, digest, prepare = pickle.loads(connection.recv_bytes())
        try:
            raw = _Begun(head, os.fdopen(file, "rb", buffering=0)) if head else os.fdopen(file, "rb", buffering=0)
            decompressed = DecompressedFile(raw, options.compression) if options.compression else None
            with io.BufferedReader(decompressed or raw, 2**20) as stream:
                source = open_source(stream, options, project)
                _send(connection, "head", source.head)
                for block in source.blocks(skip, digest):
                    if decompressed:
                        # The progress shown is that of the compressed file.
                        block = replace(block, position=decompressed.compressed_position)
                    _send(connection, "block", prepare(block) if prepare else block)
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
    """A stream that cannot seek, with bytes already read from it put back."""

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
