"""How the server's event loop sends batches of writes to a store: in a thread, or to a writer process.

Writing takes as much CPU as answering HTTP, and in one process Python's interpreter lock would limit both to one core. So
writes go to another process. Everything else uses the store directly: databases isolate processes from each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket, socketpair
from typing import Any, Protocol

from usertable import logs, signals
from usertable.domain.errors import StoreDown
from usertable.store import disk_failure, is_shareable
from usertable.store.protocol import Store
from usertable.store.records import WRITTEN, Result, Write
from usertable.store.transaction import WriteCommand

log = logging.getLogger("usertable.store")

UNDER_WAY = 2
"""Maximum number of unanswered batches of a writer process: the current one, and the next, so that it need not wait for
it."""
NOT_FOR_WRITERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the server handles. The writer, which gets them as part of a process group or a unit, ignores them."""
HEAD = struct.Struct("!Q")
RECEIVED_BYTES = 1 << 18

Done = Callable[[Sequence[Result] | Exception], None]
"""Called with the result of a batch: one per write, or why there are none."""


@dataclass(slots=True)
class MergeCounts:
    """Numbers of writes, for a store that can merge plain writes itself."""

    merged: int = 0
    declined: int = 0
    """Plain writes that it declined, such as those to a user that another server changed meanwhile."""
    others: int = 0
    """Writes that were not plain, or arrived while there was no connection."""


class WriterDefect(Exception):
    """A defect in the writer process, with its traceback as the text, because not every exception can be pickled."""


class WriteChannel(Protocol):
    """Sends batches to a store. Belongs to one event loop."""

    def is_open(self, under_way: int) -> bool:
        """Return whether one more batch may be sent while `under_way` are unanswered."""
        ...

    def write(self, writes: Sequence[Write], done: Done) -> None:
        """See :meth:`usertable.store.protocol.Store.write`.

        Batches are written in the order of the calls. Batches without a common user may be written at the same time.

        `done` is called later, in the event loop, never during this call.
        """
        ...

    async def check(self) -> None:
        """Return when all batches are answered and another could be written. Raises StoreDown if none could."""
        ...

    async def close(self) -> None:
        """Close the channel. All batches must be answered."""
        ...


class ObservedChannel(WriteChannel, Protocol):
    """A channel that reports what it does, for the metrics."""

    @property
    def merges(self) -> MergeCounts | None:
        """Numbers of merges; None for a store that does not merge."""
        ...

    @property
    def writer(self) -> int | None:
        """ID of the writer process, if there is one."""
        ...

    @property
    def writer_starts(self) -> int:
        """Number of times that a writer process was started."""
        ...


class ThreadChannel:
    """Passes batches to `store.write` in a thread, one at a time."""

    merges = None
    writer = None
    writer_starts = 0

    def __init__(self, store: Store, command: WriteCommand) -> None:
        self._store = store
        self._command = command

    def is_open(self, under_way: int) -> bool:
        return under_way == 0

    def write(self, writes: Sequence[Write], done: Done) -> None:
        written = asyncio.get_running_loop().run_in_executor(None, self._store.write, writes, self._command)
        written.add_done_callback(lambda future: done(_outcome(future)))

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return


class ProcessChannel:
    """Passes batches to a process that has the store open for writing (:mod:`usertable.pipeline.writer_process`).

    If that process dies, the unanswered batches fail with StoreDown, and the next batch starts a new process. A batch that
    failed this way may have been committed: a retry with the same receipt returns the result.
    """

    merges = None

    def __init__(self, url: str, command: WriteCommand, files: Mapping[str, tuple[int, int]] | None = None) -> None:
        self._url = url
        self._files = files
        self._command = command
        self._loop = asyncio.get_running_loop()
        self._answers: deque[Done] = deque()
        self._socket: socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.writer_starts = 0
        self._start()

    @property
    def writer(self) -> int | None:
        return None if self._process is None else self._process.pid

    def is_open(self, under_way: int) -> bool:
        return under_way < UNDER_WAY

    def write(self, writes: Sequence[Write], done: Done) -> None:
        if self._socket is None:
            self._start()
        self._answers.append(done)
        self._send([_packed(write) for write in writes])

    async def check(self) -> None:
        # An empty batch goes all the way, to a transaction in the store.
        answer: asyncio.Future[Sequence[Result] | Exception] = self._loop.create_future()
        self.write([], lambda outcome: None if answer.done() else answer.set_result(outcome))
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome

    async def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        if self._process is not None:
            _look_at_end(await asyncio.to_thread(self._process.wait))

    def _start(self) -> None:
        self._socket, theirs = socketpair()
        logging_ = (logs.settings.level, logs.settings.format)
        # Neither side may block in the event loop waiting for the other, however large a message is.
        self._socket.setblocking(False)
        self._unsent = bytearray()
        self._received = bytearray()
        # A session of its own: Ctrl-C goes to the server only, which ends the writer by closing the connection.
        with theirs, signals.blocked(*NOT_FOR_WRITERS):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "usertable.pipeline.writer_process", str(theirs.fileno()), *logging_],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.writer_starts += 1
        disk_failure.end_with_this(self._process)
        self._loop.add_reader(self._socket, self._receive)
        self._send((self._url, self._command, self._files))

    def _send(self, message: object) -> None:
        waiting = bool(self._unsent)
        self._unsent += framed(message)
        if not waiting:
            self._drain()

    def _drain(self) -> None:
        assert self._socket is not None
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            # Its remaining answers come first; its end is noticed after them.
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._socket, self._drain)
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        assert self._socket is not None
        ended = False
        try:
            # Up to the end: the loop reports a reset socket only once, though answers may precede the end.
            while received := self._socket.recv(RECEIVED_BYTES):
                self._received += received
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        self._answer()
        if ended:
            self._lost(self._socket)

    def _answer(self) -> None:
        """Pass on the answers that have arrived completely."""
        buffer = self._received
        while len(buffer) >= HEAD.size and len(buffer) >= (end := HEAD.size + HEAD.unpack_from(buffer)[0]):
            outcome, content = pickle.loads(buffer[HEAD.size : end])
            del buffer[:end]
            done = self._answers.popleft()
            if outcome == "results":
                done([WRITTEN if result is None else result for result in content])
            elif outcome == "down":
                done(StoreDown(content))
            else:
                done(WriterDefect(content))

    def _lost(self, ended: socket) -> None:
        self._socket = None
        self._loop.remove_reader(ended)
        self._loop.remove_writer(ended)
        ended.close()
        log.error("the writer process ended; the next write starts another one")
        while self._answers:
            self._loop.call_soon(self._answers.popleft(), StoreDown("the writer process ended"))
        if self._process is not None:
            process, self._process = self._process, None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Not in a thread: no other writer may open the store before it is known how this one ended. It has already
            # ended.
            _look_at_end(process.wait())


def _look_at_end(exit_code: int) -> None:
    if exit_code == disk_failure.EXIT_CODE:
        disk_failure.end_process("the disk failed in the writer process, which said how")


def framed(message: object) -> bytes:
    """Return a message between a server and its writer: its length, and its pickle."""
    pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(pickled)) + pickled


def _outcome(future: asyncio.Future[list[Result]]) -> Sequence[Result] | Exception:
    failure = future.exception()
    if failure is None:
        return future.result()
    return failure if isinstance(failure, Exception) else RuntimeError(f"{failure!r}")


def _packed(write: Write) -> tuple[Any, ...]:
    """Return a write as plain data.

    Attributes are sent by name: the writer has the schema, and checks its version anyway.
    """
    values = {attribute.name: value for attribute, value in write.patch.entries}
    return (
        write.project,
        write.cuid,
        type(write.patch),
        values,
        write.schema_version,
        write.now,
        write.receipt,
        write.dry_run,
        write.details,
        write.row,
        write.origin,
        write.request,
        write.all_reports,
    )


def open_channel(url: str, store: Store, command: WriteCommand) -> ObservedChannel:
    """Return the channel for an open store, by its URL. Must be called in the event loop."""
    if url.startswith("memory:"):
        return ThreadChannel(store, command)
    if not is_shareable(url):
        # Its writer must write the same file that is open here.
        from usertable.store.sqlite import SQLiteStore

        assert isinstance(store, SQLiteStore)
        return ProcessChannel(url, command, store.files)
    channel = ProcessChannel(url, command)
    # The driver is slow to import.
    from usertable.pipeline.postgres_channel import MergingChannel

    return MergingChannel(url, channel, command.row_limit)
