"""How the server's event loop hands batches of writes to a store: in a thread, or to a process of the store's own.

Writing takes as much CPU as answering HTTP, and Python's interpreter lock would let them share but one core. So writes go
to a process of their own. Everything else goes to the store directly: databases keep several processes apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from socket import socketpair
from typing import Any, Protocol

from usertable.domain.errors import StoreDown
from usertable.store.base import Decide, Result, Store, Write, Written

log = logging.getLogger("usertable.store")

AHEAD_BYTES = 65_536
"""A second batch may be sent ahead of the first one's answer while both fit the socket's buffer."""


class Lane(Protocol):
    """A way for batches to a store. Belongs to one event loop."""

    def is_open(self, under_way: int) -> bool:
        """Whether one more batch may be sent while `under_way` are not answered yet."""
        ...

    async def write(self, writes: Sequence[Write]) -> Sequence[Result]:
        """See :meth:`usertable.store.base.Store.write`. Batches are written in the order of the calls.

        The results of writes without `details` may be a :class:`Written` that says nothing.
        """
        ...

    async def close(self) -> None:
        """End the lane. No batch may be under way."""
        ...


class ThreadLane:
    """Batches go to `store.write` in a thread, one at a time."""

    def __init__(self, store: Store, decide: Decide) -> None:
        self._store = store
        self._decide = decide

    def is_open(self, under_way: int) -> bool:
        return under_way == 0

    async def write(self, writes: Sequence[Write]) -> Sequence[Result]:
        return await asyncio.to_thread(self._store.write, writes, self._decide)

    async def close(self) -> None:
        return


WRITTEN = Written(0, {}, None)
"""Stands for the result of a write whose caller does not look at it."""


class ProcessLane:
    """Batches go to a process that has the store open for writing (:mod:`usertable.store.writer`).

    If that process dies, the batches under way fail with StoreDown, and the next one starts a new process. A batch that
    failed so may have been committed: a retry with the same receipt tells.
    """

    def __init__(self, url: str, decide: Decide) -> None:
        self._url = url
        self._decide = decide
        self._loop = asyncio.get_running_loop()
        self._answers: deque[asyncio.Future[Sequence[Result]]] = deque()
        self._ahead = 0
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def is_open(self, under_way: int) -> bool:
        return under_way == 0 or (under_way == 1 and self._ahead < AHEAD_BYTES)

    async def write(self, writes: Sequence[Write]) -> Sequence[Result]:
        connection = self._connection or self._start()
        message = pickle.dumps([_packed(write) for write in writes], pickle.HIGHEST_PROTOCOL)
        self._ahead = len(message)
        answer: asyncio.Future[Sequence[Result]] = self._loop.create_future()
        self._answers.append(answer)
        try:
            if self._ahead < AHEAD_BYTES:
                connection.send_bytes(message)
            else:
                # It may have to wait for the writer to read; is_open() lets no other batch pass it meanwhile.
                await self._loop.run_in_executor(None, connection.send_bytes, message)
        except OSError:
            self._lost()
        return await answer

    async def close(self) -> None:
        if self._connection is not None:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _start(self) -> Connection:
        ours, theirs = socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the server, which tells the writer by closing the connection.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "usertable.store.writer", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        connection = self._connection = Connection(ours.detach())
        connection.send_bytes(pickle.dumps((self._url, self._decide)))
        self._loop.add_reader(connection.fileno(), self._receive)
        return connection

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            outcome, content = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._lost()
            return
        answer = self._answers.popleft()
        if answer.done():
            return
        if outcome == "results":
            answer.set_result([WRITTEN if result is None else result for result in content])
        elif outcome == "down":
            answer.set_exception(StoreDown(content))
        else:
            answer.set_exception(RuntimeError(f"in the writer process:\n{content}"))

    def _lost(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._loop.remove_reader(connection.fileno())
        connection.close()
        log.error("the writer process ended; the next write starts another")
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(StoreDown("the writer process ended"))
        if self._process is not None:
            process, self._process = self._process, None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            self._loop.run_in_executor(None, process.wait)


def _packed(write: Write) -> tuple[Any, ...]:
    """A write as plain data. Attributes go by name: the writer has the schema, and checks its version anyway."""
    values = {attribute.name: value for attribute, value in write.patch.entries}
    return (write.project, write.cuid, values, write.schema_version, write.now, write.receipt, write.dry, write.details)


def open_lane(url: str, store: Store, decide: Decide) -> Lane:
    """The lane for an open store, by its URL. Must be called in the event loop."""
    return ThreadLane(store, decide) if url.startswith("memory:") else ProcessLane(url, decide)
