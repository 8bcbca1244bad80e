"""The process that writes a store for a server; see :class:`usertable.store.lanes.ProcessLane`.

It reads batches from a socket, writes them one after the other, and answers each. It ends when the server closes the
socket or dies; a batch that it has begun is finished first.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from io import BufferedReader
from typing import Any

from usertable.domain.errors import StoreDown, StoreFault
from usertable.domain.patch import Patch
from usertable.domain.schema import Attribute
from usertable.store import Store, open_store
from usertable.store.base import Decide, Result, SchemaStale, Write, Written
from usertable.store.lanes import HEAD, framed


class _Writer:
    def __init__(self, store: Store, decide: Decide) -> None:
        self._store = store
        self._decide = decide
        self._schemas: dict[int, tuple[int, Mapping[str, Attribute]]] = {}

    def write(self, packed: Sequence[tuple[Any, ...]]) -> list[Result | None]:
        writes = [self._unpacked(*fields) for fields in packed]
        results = iter(self._store.write([w for w in writes if w is not None], self._decide))
        answers: list[Result | None] = []
        for write in writes:
            result = SchemaStale() if write is None else next(results)
            plain = write is not None and not write.details and type(result) is Written
            answers.append(None if plain else result)
        return answers

    def _unpacked(self, project: int, cuid: int, values: dict[str, Any], schema_version: int, *rest: Any) -> Write | None:
        """The write, or None if it was validated under a schema that is not the stored one."""
        version, attributes = self._schemas.get(project, (0, {}))
        if version != schema_version:
            version, attributes = self._schemas[project] = self._store.attributes(project)
            if version != schema_version:
                return None
        patch = Patch([(attributes[name], value) for name, value in values.items()])
        return Write(project, cuid, patch, schema_version, *rest)


def main(descriptor: int) -> None:
    """Serve the connection until it ends."""
    # The server decides when to end; a signal to its whole group must not cut a batch short.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    stream = connection.makefile("rb")
    try:
        url, decide = _received(stream)
        store = open_store(url, writing=True)
    except StoreFault as fault:
        sys.exit(f"usertable writer: {fault}")
    writer = _Writer(store, decide)
    # Writes make no cycles; what lives long is not worth looking through again and again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        while True:
            packed = _received(stream)
            answer: tuple[str, object]
            try:
                answer = ("results", writer.write(packed))
            except StoreDown as failure:
                answer = ("down", str(failure))
            except Exception:
                answer = ("error", traceback.format_exc())
            connection.sendall(framed(answer))
    except (EOFError, ConnectionError):
        pass
    finally:
        store.close()


def _received(stream: BufferedReader) -> Any:
    head = stream.read(HEAD.size)
    pickled = stream.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else b""
    if not pickled:
        raise EOFError
    return pickle.loads(pickled)


if __name__ == "__main__":
    main(int(sys.argv[1]))
