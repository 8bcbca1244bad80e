"""The process that writes a store for a server; see :class:`usertable.pipeline.channel.ProcessChannel`.

It reads batches from a socket, writes them, and answers each, in order. A database that supports several writers gets two
batches at a time, so that it works on one while the other waits for the disk. The process ends when the server closes the
socket or dies, after finishing the batches that it has begun.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import pickle
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from io import BufferedReader
from typing import Any

from usertable import logs, signals
from usertable.domain.change import Origin
from usertable.domain.errors import StoreDown, StoreFault, Unavailable
from usertable.domain.patch import Patch, Restoration
from usertable.domain.schema import Attribute
from usertable.pipeline.channel import HEAD, NOT_FOR_WRITERS, UNDER_WAY, WriterDefect, framed
from usertable.store import Store, is_shareable, open_store
from usertable.store.records import Receipt, Result, SchemaStale, Write, Written
from usertable.store.transaction import WriteCommand

log = logging.getLogger("usertable.store")


class _Writer:
    def __init__(self, store: Store, command: WriteCommand) -> None:
        self._store = store
        self._command = command
        self._schemas: dict[int, tuple[int, Mapping[str, Attribute]]] = {}

    def write(self, packed: Sequence[tuple[Any, ...]]) -> list[Result | None]:
        writes = [self._unpacked(*fields) for fields in packed]
        results = iter(self._store.write([w for w in writes if w is not None], self._command))
        answers: list[Result | None] = []
        for write in writes:
            result = SchemaStale() if write is None else next(results)
            unread = write is not None and not write.details and type(result) is Written
            answers.append(None if unread else _sendable(result))
        return answers

    def _unpacked(
        self,
        project: int,
        cuid: int,
        kind: type[Patch | Restoration],
        values: dict[str, Any],
        schema_version: int,
        now: int,
        receipt: Receipt | None,
        dry_run: bool,
        details: bool,
        row: bool,
        origin: Origin | None,
        request: str,
        all_reports: bool,
    ) -> Write | None:
        """Return the write, or None if it was validated against a schema that is not the stored one."""
        version, attributes = self._schemas.get(project, (0, {}))
        if version != schema_version:
            version, attributes = self._schemas[project] = self._store.attributes(project)
            if version != schema_version:
                return None
        patch = kind([(attributes[name], value) for name, value in values.items()])
        return Write(
            project, cuid, patch, schema_version, now, receipt, dry_run, details, row, 0, origin, request, all_reports
        )


def _sendable(result: Result) -> Result:
    """Return a result that can be pickled: a defect is replaced by its traceback."""
    if isinstance(result, Exception) and not isinstance(result, Unavailable):
        return WriterDefect("\n".join(logs.exception_lines(result)))
    return result


class _Line:
    """The connection, served by threads. Each takes a batch, writes it, and answers when all earlier ones are answered.

    A batch waits if it has a user of a batch that is still being written, so that each user's writes stay in order.
    """

    def __init__(self, connection: socket.socket, stream: BufferedReader, writer: _Writer) -> None:
        self._connection = connection
        self._stream = stream
        self._writer = writer
        self._receiving = threading.Lock()
        self._moved = threading.Condition()
        self._received = 0
        self._answered = 0
        self._written: dict[int, set[tuple[int, int]]] = {}
        """The users of the batches that are being written, by the number of the batch."""

    def serve(self, threads: int) -> None:
        """Serve until the connection ends. One of the threads is the caller's, because an engine may allow no other."""
        others = [threading.Thread(target=self._work) for _ in range(threads - 1)]
        for thread in others:
            thread.start()
        self._work()
        for thread in others:
            thread.join()

    def _work(self) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                with self._receiving:
                    packed = _received(self._stream)
                    number = self._begin({(project, cuid) for project, cuid, *_ in packed})
                answer = framed(self._answer(packed))
                self._finish(number, answer)

    def _begin(self, users: set[tuple[int, int]]) -> int:
        with self._moved:
            self._moved.wait_for(lambda: all(users.isdisjoint(others) for others in self._written.values()))
            number = self._received
            self._received += 1
            self._written[number] = users
            return number

    def _finish(self, number: int, answer: bytes) -> None:
        with self._moved:
            del self._written[number]
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._answered == number)
            try:
                self._connection.sendall(answer)
            finally:
                self._answered += 1
                self._moved.notify_all()

    def _answer(self, packed: Sequence[tuple[Any, ...]]) -> tuple[str, object]:
        try:
            return "results", self._writer.write(packed)
        except StoreDown as failure:
            return "down", str(failure)
        except Exception as defect:
            return "error", "\n".join(logs.exception_lines(defect))


def main(descriptor: int, settings: logs.LogSettings) -> None:
    """Serve the connection until it ends."""
    # The server decides when to end. A signal to its process group must not interrupt a batch.
    signals.ignore(*NOT_FOR_WRITERS)
    logs.configure(settings)
    connection = socket.socket(fileno=descriptor)
    stream = connection.makefile("rb")
    try:
        url, command, files = _received(stream)
        store = open_store(url, writing=True, files=files)
    except StoreFault as fault:
        log.error("the writer process cannot open the store: %s", fault)
        sys.exit(1)
    writer = _Writer(store, command)
    # Writes create no cycles, and searching long-lived objects again and again is a waste.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        _Line(connection, stream, writer).serve(UNDER_WAY if is_shareable(url) else 1)
    finally:
        try:
            store.close()
        except StoreFault as fault:
            log.error("the writer process cannot close the store: %s", fault)
            sys.exit(1)


def _received(stream: BufferedReader) -> Any:
    head = stream.read(HEAD.size)
    pickled = stream.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else b""
    if not pickled:
        raise EOFError
    return pickle.loads(pickled)


if __name__ == "__main__":
    level, form = sys.argv[2:]
    main(int(sys.argv[1]), logs.LogSettings("writer", level, "json" if form == "json" else "text"))
