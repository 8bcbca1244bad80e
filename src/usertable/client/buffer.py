"""The buffer: takes records at once, sends them in batches in the background, and never forgets one without saying so.

Records are sent in the order in which they came, one batch at a time, and a batch is not begun before all of the one before
it is settled. That is all the coalescing there is: what a record does to a user depends on what is stored and on rules that
the server has, so no two records are merged, and the result is that of single calls in the same order.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import msgspec

from usertable.client.core import MAX_RECORDS, Core, Identity, OnUnknown, Record, RecordResult, Steps
from usertable.client.errors import (
    ApiError,
    BatchFailed,
    BufferFull,
    ClientError,
    NotDelivered,
    RateLimited,
    RecordsRefused,
    ServerFailed,
    Stale,
)
from usertable.client.spool import Entry, Place, Spool

log = logging.getLogger("usertable.client")

OnError = Callable[[Record, ClientError], object]
FAILURES_KEPT = 1000
_encode = msgspec.json.Encoder(decimal_format="number").encode
_RECEIPT_MARGIN_MS = 3_600_000
"""A record is not sent again when its key is nearer than an hour to being forgotten."""


class _Drive(Protocol):
    def __call__(self, steps: Steps[Any], /, *, sleep: Callable[[float], None]) -> Any: ...


class Buffer:
    """Made by :meth:`usertable.Client.buffer`; see there. Use it in a `with` block, whose end delivers what is left.

    May be used by many threads.
    """

    def __init__(
        self,
        core: Core,
        drive: _Drive,
        release: Callable[[], None],
        *,
        receipt_hours: int,
        capacity: int,
        full: Literal["block", "raise"],
        on_unknown: OnUnknown | None,
        on_error: OnError | None,
        spool: str | Path | None,
        spool_bytes: int,
        close_seconds: float,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        if core.plain and spool is not None:
            raise ValueError("the platform's own endpoint knows no keys, so what a spool holds could be delivered twice")
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; expected 1 or more")
        self._core = core
        self._drive = drive
        self._release = release
        self._lifetime = receipt_hours * 3_600_000 - _RECEIPT_MARGIN_MS
        self._queue: Spool | _Memory = _Memory(capacity) if spool is None else Spool(spool, spool_bytes)
        self._full = full
        self._on_unknown = on_unknown
        self._on_error = on_error
        self._close_seconds = close_seconds
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = threading.Event()
        self._failure: ClientError | None = None
        """Why delivering does not get on at the moment."""
        self._left: list[Entry] = []
        self._refused: list[tuple[Record, ClientError]] = []
        self._refused_count = 0
        self._thread = threading.Thread(target=self._work, name="usertable buffer", daemon=True)
        self._thread.start()
        # Whoever forgets the `with` block must not lose records at the end of the program.
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close()
        except ClientError as failure:
            # The caller's own exception goes first.
            log.error("%s", failure)

    @property
    def waiting(self) -> int:
        """How many records are not settled yet."""
        with self._changed:
            return self._queue.waiting

    def set(self, user: int | Identity, values: Mapping[str, Any], *, key: str | None = None) -> None:
        """Hand over one record; with a spool it is on the disk when this returns.

        Args:
            user: a CUID, or an identifier's name and value.

        Raises:
            BufferFull: it is closed; or there is no room, and the buffer does not wait, or cannot get on.
            TypeError, ValueError: a value that no attribute can have; the record was not taken.
            OSError: the spool cannot be written; the record was not taken.
        """
        self.add([Record(user, values, key)])

    def add(self, records: Iterable[Record]) -> None:
        """Hand over several records, all of them or none, with one write to the spool. See :meth:`set`."""
        given = list(records)
        if self._on_unknown is None and any(isinstance(record.user, tuple) for record in given):
            raise ValueError("the buffer needs on_unknown='refuse' or 'register' for users named by an identifier")
        wired = []
        for record in given:
            if record.user is None or record.identifiers is not None:
                raise ValueError("a record with identifiers is for batch(), not for a buffer")
            values = self._drive(self._core.wire(record.values), sleep=time.sleep)
            wired.append((record.user, values, record.key or self._core.new_key()))
        if not wired:
            return
        prepared = self._queue.frame(wired)
        with self._changed:
            while not self._closing and self._thread.is_alive() and not self._queue.has_room(len(prepared)):
                if self._full == "raise" or self._is_stuck():
                    raise BufferFull(f"{self._queue.waiting} records are waiting") from self._failure
                self._changed.wait(1)
            if self._closing or not self._thread.is_alive():
                raise BufferFull("the buffer is closed") from self._failure
            self._queue.append(prepared, len(wired))  # type: ignore[arg-type]
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that was handed over is settled.

        Raises:
            NotDelivered: not in that many seconds, or there is no getting on; the records stay in the buffer.
            RecordsRefused: records were refused, and there is no `on_error`.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._queue.waiting:
                left = None if ends is None else ends - time.monotonic()
                if self._is_stuck() or not self._thread.is_alive() or (left is not None and left <= 0):
                    raise NotDelivered(f"{self._queue.waiting} records are not delivered", [], self._queue.waiting) from (
                        self._failure
                    )
                self._changed.wait(1 if left is None else min(left, 1))
        self._raise_refused()

    def close(self) -> None:
        """Take no more, deliver what is left, and end the thread.

        Raises:
            NotDelivered: some are left after `close_seconds`; with a spool they stay there.
            RecordsRefused: records were refused, and there is no `on_error`.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            ends = time.monotonic() + self._close_seconds
            while self._queue.waiting and self._thread.is_alive() and not self._is_stuck() and time.monotonic() < ends:
                self._changed.wait(min(1, max(0, ends - time.monotonic())))
        self._given_up.set()
        self._thread.join()
        atexit.unregister(self.close)
        self._release()
        count = self._queue.waiting
        records = [] if isinstance(self._queue, Spool) else [_record(e) for e in (*self._left, *self._queue.take(count))]
        self._queue.close()
        if count:
            where = "they stay in the spool" if isinstance(self._queue, Spool) else "they are in `records`, nowhere else"
            raise NotDelivered(f"{count} records are not delivered; {where}", records, count) from self._failure
        self._raise_refused()

    def _is_stuck(self) -> bool:
        """Whether the server refuses batches as a whole, as with a wrong secret: waiting is no use."""
        return isinstance(self._failure, ApiError) and not isinstance(self._failure, (RateLimited, ServerFailed))

    def _raise_refused(self) -> None:
        with self._changed:
            refused, count = self._refused, self._refused_count
            self._refused, self._refused_count = [], 0
        if refused:
            raise RecordsRefused(refused, count)

    # the thread

    def _work(self) -> None:
        try:
            while not self._given_up.is_set():
                with self._changed:
                    entries = self._queue.take(MAX_RECORDS)
                    if not entries:
                        if self._closing:
                            return
                        self._changed.wait()
                        continue
                    before = [entry for entry in entries if entry.end <= self._queue.sent]
                # Of those left by an earlier process, some may have been sent by it.
                for part in (before, entries[len(before) :]):
                    if part and not self._deliver(part, self._queue.sent_at if part is before else None):
                        return
        except Exception as failure:
            log.exception("a buffer cannot deliver")
            self._failure = ClientError(f"the buffer cannot deliver: {failure}")
        finally:
            with self._changed:
                self._changed.notify_all()

    def _deliver(self, entries: Sequence[Entry], sent_at: int | None) -> bool:
        """Send entries until each is settled; False if that was given up."""
        if sent_at is None:
            sent_at = self._now_ms()
            if not self._keep(self._queue.mark_sent, entries[-1].end, sent_at):
                self._left = list(entries)
                return False
        self._left = waiting = list(entries)
        attempt = 0
        while waiting:
            if self._now_ms() - sent_at > self._lifetime:
                text = "sent so long ago that its key may be forgotten; whether it was done is not known"
                for entry in waiting:
                    self._tell(_record(entry), Stale(text, maybe_done=True))
                self._left = []
                break
            results: Sequence[RecordResult | None]
            failure: ClientError | None = None
            records = [_record(entry) for entry in waiting]
            try:
                results = self._drive(self._core.batch(records, on_unknown=self._on_unknown), sleep=self._sleep)
            except BatchFailed as failed:
                results = failed.results
                cause = failed.__cause__
                failure = cause if isinstance(cause, ClientError) else failed
            for result in results:
                if result is not None and result.error is not None:
                    self._tell(result.record, result.error)
            left = [entry for entry, result in zip(waiting, results, strict=True) if result is None]
            attempt = 0 if len(left) < len(waiting) else attempt + 1
            self._left = waiting = left
            gave_up = self._given_up.is_set()
            if waiting and not gave_up and self._failure is None:
                log.warning("%d records wait to be delivered: %s", len(waiting), failure)
            with self._changed:
                # What kept it from getting on before is the reason, not that it was told to stop.
                self._failure = (self._failure or failure if gave_up else failure) if waiting else None
                self._queue.settle(len(results) - len(left))
                self._changed.notify_all()
            if waiting:
                if gave_up:
                    return False
                self._given_up.wait(self._core.retry.delay(attempt, self._core.chance))
        kept = self._keep(self._queue.mark_done, entries[-1].end)
        with self._changed:
            self._queue.settle(len(waiting))
            self._changed.notify_all()
        return kept

    def _keep(self, mark: Callable[..., None], *arguments: Any) -> bool:
        """Keep a mark, as soon as the disk takes it; False if that was given up."""
        while True:
            try:
                with self._changed:
                    mark(*arguments)
                return True
            except OSError as error:
                log.warning("the spool cannot be written, delivering waits: %s", error)
                self._failure = ClientError(f"the spool cannot be written: {error}")
            if self._given_up.wait(1):
                return False

    def _sleep(self, seconds: float) -> None:
        if self._given_up.wait(seconds):
            raise ClientError("the time for delivering is over")

    def _tell(self, record: Record, error: ClientError) -> None:
        if self._on_error is not None:
            try:
                self._on_error(record, error)
            except Exception:
                log.exception("on_error failed for the record %s, which was refused: %s", record, error)
            return
        with self._changed:
            self._refused_count += 1
            if len(self._refused) < FAILURES_KEPT:
                self._refused.append((record, error))


class AsyncBuffer:
    """Made by :meth:`usertable.AsyncClient.buffer`: a :class:`Buffer` for coroutines. Use it in an `async with` block."""

    def __init__(self, make: Callable[[], Buffer]) -> None:
        self._make = make

    async def __aenter__(self) -> Self:
        self._buffer = await asyncio.to_thread(self._make)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await asyncio.to_thread(self._buffer.__exit__, *exception)

    @property
    def waiting(self) -> int:
        """How many records are not settled yet."""
        return self._buffer.waiting

    async def set(self, user: int | Identity, values: Mapping[str, Any], *, key: str | None = None) -> None:
        """See :meth:`Buffer.set`."""
        await asyncio.to_thread(self._buffer.set, user, values, key=key)

    async def add(self, records: Iterable[Record]) -> None:
        """See :meth:`Buffer.add`."""
        await asyncio.to_thread(self._buffer.add, list(records))

    async def flush(self, timeout: float | None = None) -> None:
        """See :meth:`Buffer.flush`."""
        await asyncio.to_thread(self._buffer.flush, timeout)


class _Memory:
    """The queue in memory, with the same calls as :class:`~usertable.client.spool.Spool`."""

    sent: Place = (0, 0)
    sent_at = 0

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._count = 0
        self.waiting = 0

    def frame(self, records: Sequence[tuple[int | Identity, dict[str, Any], str]]) -> list[tuple[Any, Any, str]]:
        # What cannot be sent must be told to the caller, not found out by the thread.
        _encode(records)
        if len(records) > self._capacity:
            raise ValueError(f"{len(records)} records at once; the buffer holds {self._capacity}")
        return list(records)

    def has_room(self, size: int) -> bool:
        return self.waiting + size <= self._capacity

    def append(self, frame: list[tuple[Any, Any, str]], count: int) -> None:
        for record in frame:
            self._count += 1
            self._entries.append(Entry(*record, (1, self._count)))
        self.waiting += count

    def take(self, limit: int) -> list[Entry]:
        return [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]

    def settle(self, count: int) -> None:
        self.waiting -= count

    def mark_sent(self, end: Place, at: int) -> None:
        return

    def mark_done(self, end: Place) -> None:
        return

    def close(self) -> None:
        return


def _record(entry: Entry) -> Record:
    return Record(entry.user, entry.values, entry.key)
