"""The buffer: accepts records immediately, sends them in batches in the background, and reports those it cannot deliver.

Records are sent in the order in which they were added, one batch at a time. A batch begins after the previous one is
settled. Records are never merged: their effect depends on stored values and on rules that only the server has. The result is
the same as that of single calls in the same order.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import msgspec

from usertable.client.age import NO_BOOT, Moment
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
    SpoolFault,
    Stale,
)
from usertable.client.process import PerProcess
from usertable.client.spool import Entry, Place, Spool

T = TypeVar("T")
log = logging.getLogger("usertable.client")

OnError = Callable[[Record, ClientError], object]
FAILURES_KEPT = 1000
_GRACE = 0.25
"""Seconds for which closing waits, beyond `close_seconds`, for what the thread is doing."""
_encode = msgspec.json.Encoder(decimal_format="number").encode
_RECEIPT_MARGIN_MS = 3_600_000
"""Milliseconds before a key expires at which its record is no longer sent again: one hour."""


class _Drive(Protocol):
    def __call__(self, steps: Steps[Any], /, *, sleep: Callable[[float], None]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """Records in the queue's form: a list for memory, the bytes of a frame for a spool."""

    frame: Any
    count: int


class Buffer(PerProcess):
    """Sends records in the background. Created by :meth:`usertable.Client.buffer`; see there.

    Use it in a `with` block, whose end delivers the remaining records. Safe to share between threads. In a forked process it
    is empty: its records are the parent's to deliver.
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
            raise ValueError(
                "a spool cannot be used with plain=True: the platform's endpoint has no idempotency keys,"
                " so records could be delivered twice"
            )
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; expected 1 or more")
        if inspect.iscoroutinefunction(on_error):
            raise TypeError(
                "on_error is a coroutine function, which the buffer's thread cannot await; expected a regular function"
            )
        self._core = core
        self._drive = drive
        self._release = release
        self._lifetime = receipt_hours * 3_600_000 - _RECEIPT_MARGIN_MS
        self._capacity = capacity
        self._spool = None if spool is None else Path(spool)
        self._queue: Spool | _Memory | _ParentsSpool = _Memory(capacity) if spool is None else Spool(spool, spool_bytes)
        self._full = full
        self._on_unknown = on_unknown
        self._on_error = on_error
        self._close_seconds = close_seconds
        self._now_ms = now_ms
        self._closing = self._closed = False
        self._begin()
        super().__init__()
        if spool is not None:
            with self._changed:
                self._start()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiters: dict[Callable[[], None], None] = {}
        """Called at the next change, for callers that wait without a thread."""
        self._given_up = threading.Event()
        self._failure: ClientError | None = None
        """Why records cannot be delivered at the moment."""
        self._left: list[Entry] = []
        """Entries that the thread has taken from the queue and not settled."""
        self._refused: list[tuple[Record, ClientError]] = []
        self._refused_count = 0
        self._thread: threading.Thread | None = None
        self._finalizer: Any = None

    def _begin_in_child(self) -> None:
        self._closing = self._closed = self._closing or self._closed
        self._queue = _Memory(self._capacity) if self._spool is None else _ParentsSpool(self._spool, self._process)
        self._begin()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="usertable buffer", daemon=True)
        self._thread.start()
        # Without a `with` block, records must not be lost at the end of the program.
        atexit.register(self.close)
        # A multiprocessing process exits without running atexit callbacks.
        module = sys.modules.get("multiprocessing.process")
        if module is not None and module.parent_process() is not None:
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self.close, exitpriority=100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close()
        except ClientError as failure:
            # The caller's own exception takes precedence.
            log.error("%s", failure)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a buffer cannot be pickled, because its records must be delivered only once; create one in the other process"
        )

    @property
    def waiting(self) -> int:
        """Number of records that are not settled."""
        self._own_process()
        return self._queue.waiting

    def set(self, user: int | Identity, values: Mapping[str, Any], *, key: str | None = None) -> None:
        """Add one record. With a spool, it is on disk when this returns.

        Args:
            user: a CUID, or an identifier's name and value.

        Raises:
            BufferFull: the buffer is closed; or it is full, and is configured not to wait or cannot deliver.
            SpoolFault: the spool belongs to the parent of this forked process, or its folder or a file in it was removed,
                moved or replaced. The record was not accepted.
            TypeError, ValueError: no attribute can have this value. The record was not accepted.
            OSError: the spool cannot be written. The record was not accepted.
        """
        self.add([Record(user, values, key)])

    def add(self, records: Iterable[Record]) -> None:
        """Add several records, all or none, with one write to the spool. See :meth:`set`."""
        given = self._checked(records)
        prepared = self._prepare(given, [self._drive(self._core.wire(record.values), sleep=time.sleep) for record in given])
        if not prepared.count:
            return
        with self._changed:
            while not self._put(prepared):
                self._changed.wait(1)

    def _checked(self, records: Iterable[Record]) -> list[Record]:
        """Return the records if a buffer accepts them. Raises ValueError."""
        given = list(records)
        if self._on_unknown is None and any(isinstance(record.user, tuple) for record in given):
            raise ValueError("create the buffer with on_unknown='refuse' or 'register' to name users by an identifier")
        if any(record.user is None or record.identifiers is not None for record in given):
            raise ValueError("a record with identifiers cannot be added to a buffer; use batch()")
        return given

    def _prepare(self, records: Sequence[Record], values: Sequence[dict[str, Any]]) -> Prepared:
        """Return records, with their values as they are sent, in the queue's form. Raises ValueError."""
        self._own_process()
        wired = [(r.user, v, r.key or self._core.new_key()) for r, v in zip(records, values, strict=True)]
        return Prepared(self._queue.frame(wired) if wired else None, len(wired))  # type: ignore[arg-type]

    def _try_or_wake(self, attempt: Callable[[], bool], wake: Callable[[], None]) -> bool:
        """Call `attempt` under the lock. If it fails, call `wake` at the next change. Raises what `attempt` raises."""
        self._own_process()
        with self._changed:
            succeeded = attempt()
            if not succeeded:
                self._waiters[wake] = None
            return succeeded

    def _put(self, prepared: Prepared) -> bool:
        """Add prepared records. Return False if there is no room. See :meth:`set`."""
        if self._closing:
            raise BufferFull("the buffer is closed") from self._failure
        self._queue.check()
        if not self._is_alive():
            if isinstance(self._failure, SpoolFault):
                raise SpoolFault(f"{self._failure}; the record was not added") from self._failure
            raise BufferFull("the buffer is closed") from self._failure
        if not self._queue.has_room(len(prepared.frame)):
            if threading.current_thread() is self._thread:
                raise BufferFull(
                    f"the buffer is full (waiting records: {self._queue.waiting}), and has no room before on_error returns"
                )
            if self._full == "raise" or self._is_stuck():
                raise BufferFull(f"the buffer is full (waiting records: {self._queue.waiting})") from self._failure
            return False
        if self._thread is None:
            self._start()
        self._queue.append(prepared.frame, prepared.count)
        self._notify()
        return True

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all added records are settled.

        Raises:
            NotDelivered: the timeout is over, or the server refuses all batches. The records stay in the buffer.
            RecordsRefused: records were refused, and there is no `on_error`.
        """
        self._own_process()
        self._not_in_on_error("flush")
        ends = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._is_flushed(ends):
                self._changed.wait(1 if ends is None else max(0, min(ends - time.monotonic(), 1)))
        self._raise_refused()

    def _is_flushed(self, ends: float | None) -> bool:
        """Return whether all records are settled. Raises NotDelivered."""
        count = self._queue.waiting
        if count and (self._is_stuck() or not self._is_alive() or (ends is not None and ends <= time.monotonic())):
            raise NotDelivered(f"{_were(count)} not delivered", [], count) from self._failure
        return not count

    def close(self) -> None:
        """Accept no more records, deliver the remaining ones, and end the thread. May be called again if it was interrupted.

        Raises:
            NotDelivered: records are left after `close_seconds`. With a spool they stay there; those no longer in the
                spool's folder are in `records`.
            RecordsRefused: records were refused, and there is no `on_error`.
        """
        self._own_process()
        self._not_in_on_error("close")
        ends = time.monotonic() + self._close_seconds
        with self._changed:
            while not self._is_through(ends):
                self._changed.wait(min(1, max(0, ends - time.monotonic())))
        self._finish()

    def _is_through(self, ends: float) -> bool:
        """Accept no more records. Return whether there is nothing left to wait for."""
        if not self._closing:
            self._closing = True
            self._notify()
        if self._closed or self._thread is None or not self._queue.waiting:
            return True
        return self._is_stuck() or not self._is_alive() or time.monotonic() >= ends

    def _finish(self) -> None:
        """End the thread and report undelivered records. Raises what :meth:`close` raises."""
        self._given_up.set()
        thread = self._thread
        if thread is not None:
            # A thread that waits for an answer may take longer. It then ends on its own without changing anything.
            thread.join(_GRACE)
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._notify()
            count = self._queue.waiting
            entries, where = self._queue.hand_over(self._left) if count else ([], "")
            self._queue.close()
        atexit.unregister(self.close)
        if self._finalizer is not None:
            self._finalizer.cancel()
        if thread is None or not thread.is_alive():
            self._release()
        if count:
            records = [_record(entry) for entry in entries]
            raise NotDelivered(f"{_were(count)} not delivered; {where}", records, count) from self._failure
        self._raise_refused()

    def _forget(self, wake: Callable[[], None]) -> None:
        """Remove a callback for the next change."""
        self._waiters.pop(wake, None)

    def _is_alive(self) -> bool:
        """Return whether the delivering thread runs or can be started."""
        return self._thread is None or self._thread.is_alive()

    def _is_stuck(self) -> bool:
        """Return whether the server refuses whole batches, as for a wrong secret, so that waiting does not help."""
        return isinstance(self._failure, ApiError) and not isinstance(self._failure, (RateLimited, ServerFailed))

    def _not_in_on_error(self, call: str) -> None:
        if threading.current_thread() is self._thread:
            raise ClientError(f"on_error cannot call {call}(), which waits until on_error returns")

    def _notify(self) -> None:
        self._changed.notify_all()
        waiters, self._waiters = self._waiters, {}
        for wake in waiters:
            wake()

    def _raise_refused(self) -> None:
        """Raise RecordsRefused if records were refused since the last call and there is no `on_error`."""
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
                    if self._closed:
                        return
                    entries = self._queue.take(MAX_RECORDS)
                    if not entries:
                        if self._closing:
                            return
                        self._changed.wait()
                        continue
                    self._left = list(entries)
                    before = [entry for entry in entries if entry.end <= self._queue.sent]
                # Entries left by an earlier process may have been sent by it.
                for part in (before, entries[len(before) :]):
                    if part and not self._deliver(part, self._queue.sent_at if part is before else None):
                        return
        except SpoolFault as fault:
            log.error("a buffer stopped delivering: %s", fault)
            self._failure = fault
        except Exception as failure:
            if not self._closed:
                log.exception("a buffer stopped delivering")
                self._failure = ClientError(f"the buffer stopped delivering: {failure}")
        finally:
            with self._changed:
                self._notify()
                abandoned = self._closed
            if abandoned:
                self._release()

    def _deliver(self, entries: Sequence[Entry], sent_at: Moment | None) -> bool:
        """Send entries until all are settled. Return False if the buffer gave up.

        Args:
            sent_at: when an earlier process may first have sent them; None if none has.
        """
        if sent_at is None:
            now = self._now_ms()
            sent_at = Moment.at(now)
            if not self._keep(self._queue.mark_sent, entries[-1].end, now):
                return False
        waiting = list(entries)
        attempt = 0
        while waiting and not self._is_forgotten(sent_at):
            left, failure = self._send_once(waiting)
            gave_up = self._given_up.is_set()
            if left and not gave_up and self._failure is None:
                log.warning("%s not delivered yet: %s", _were(len(left)), failure)
            with self._changed:
                if not self._settle(len(waiting), left):
                    return False
                # The reason is the earlier failure, not the request to stop.
                self._failure = (self._failure or failure if gave_up else failure) if left else None
            attempt = 0 if len(left) < len(waiting) else attempt + 1
            waiting = left
            if waiting:
                if gave_up:
                    return False
                self._given_up.wait(self._core.retry.delay(attempt, self._core.chance))
        for entry in waiting:
            text = "sent so long ago that its key may be forgotten; whether it was done is not known"
            self._tell(_record(entry), Stale(text, maybe_done=True))
        return self._keep(self._queue.mark_done, entries[-1].end) and self._settle(len(waiting), [])

    def _is_forgotten(self, sent_at: Moment) -> bool:
        """Return whether the server may have forgotten the keys of requests sent at this moment."""
        age = sent_at.age_ms(Moment.at(self._now_ms()))
        return age is None or age > self._lifetime

    def _send_once(self, entries: Sequence[Entry]) -> tuple[list[Entry], ClientError | None]:
        """Send entries as one batch and report refused ones. Return the entries that are not settled, and the reason."""
        results: Sequence[RecordResult | None]
        failure: ClientError | None = None
        records = [_record(entry) for entry in entries]
        try:
            results = self._drive(self._core.batch(records, on_unknown=self._on_unknown), sleep=self._sleep)
        except BatchFailed as failed:
            results = failed.results
            failure = failed.cause or failed
        for result in results:
            if result is not None and result.error is not None and not self._closed:
                self._tell(result.record, result.error)
        return [entry for entry, result in zip(entries, results, strict=True) if result is None], failure

    def _settle(self, count: int, left: list[Entry]) -> bool:
        """Settle the first `count` entries that the thread has taken, except `left`.

        Return False if the buffer is closed.
        """
        with self._changed:
            if self._closed:
                return False
            self._left = left + self._left[count:]
            self._queue.settle(count - len(left))
            self._notify()
            return True

    def _keep(self, mark: Callable[..., None], *arguments: Any) -> bool:
        """Write a mark, retrying until the disk accepts it. Return False if the buffer gave up."""
        while True:
            try:
                with self._changed:
                    if self._closed:
                        return False
                    mark(*arguments)
                return True
            except OSError as error:
                log.warning("the spool cannot be written, and delivery waits until it can: %s", error)
                self._failure = ClientError(f"the spool cannot be written: {error}")
            if self._given_up.wait(1):
                return False

    def _sleep(self, seconds: float) -> None:
        if self._given_up.wait(seconds):
            raise ClientError("the buffer was closed, and its time to deliver is over")

    def _tell(self, record: Record, error: ClientError) -> None:
        if self._on_error is not None:
            try:
                self._on_error(record, error)
            except Exception:
                log.exception("on_error raised an exception for the record %s, which was rejected: %s", record, error)
            return
        with self._changed:
            self._refused_count += 1
            if len(self._refused) < FAILURES_KEPT:
                self._refused.append((record, error))


class AsyncBuffer(PerProcess):
    """Created by :meth:`usertable.AsyncClient.buffer`: a :class:`Buffer` for coroutines. Use it in an `async with` block.

    Waiting blocks no thread. Calls that a disk may block run in one thread of the buffer's own.
    """

    def __init__(self, make: Callable[[], Buffer], wire: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        self._make = make
        self._wire = wire
        self._made: Buffer | None = None
        self._executor: ThreadPoolExecutor | None = None
        super().__init__()

    def _begin_in_child(self) -> None:
        self._executor = None

    async def __aenter__(self) -> Self:
        self._made = await self._in_thread(self._make)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            await self.close()
        except ClientError as failure:
            if kind is None:
                raise
            # The caller's own exception takes precedence.
            log.error("%s", failure)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a buffer cannot be pickled, because its records must be delivered only once; create one in the other process"
        )

    @property
    def _buffer(self) -> Buffer:
        if self._made is None:
            raise ClientError("the buffer is not open; use it in an `async with` block")
        return self._made

    @property
    def waiting(self) -> int:
        """Number of records that are not settled."""
        return self._buffer.waiting

    async def set(self, user: int | Identity, values: Mapping[str, Any], *, key: str | None = None) -> None:
        """See :meth:`Buffer.set`. If it is canceled, the record was not accepted; if it returns, it was.

        A cancellation that arrives while the record is being written to a spool is raised at the next await.
        """
        await self.add([Record(user, values, key)])

    async def add(self, records: Iterable[Record]) -> None:
        """See :meth:`Buffer.add`, and :meth:`set`."""
        buffer = self._buffer
        given = buffer._checked(records)
        prepared = buffer._prepare(given, [await self._wire(record.values) for record in given])
        if prepared.count:
            await self._when(lambda: buffer._put(prepared), None)

    async def flush(self, timeout: float | None = None) -> None:
        """See :meth:`Buffer.flush`."""
        buffer = self._buffer
        ends = None if timeout is None else time.monotonic() + timeout
        await self._when(lambda: buffer._is_flushed(ends), ends)
        buffer._raise_refused()

    async def close(self) -> None:
        """See :meth:`Buffer.close`."""
        buffer = self._buffer
        ends = time.monotonic() + buffer._close_seconds
        await self._when(lambda: buffer._is_through(ends), ends)
        try:
            await self._in_thread(buffer._finish)
        finally:
            executor, self._executor = self._executor, None
            if executor is not None:
                executor.shutdown(wait=False)

    async def _when(self, attempt: Callable[[], bool], ends: float | None) -> None:
        """Call `attempt` after each change of the buffer, and at `ends`, until it succeeds."""
        loop = asyncio.get_running_loop()
        buffer = self._buffer
        while True:
            changed = asyncio.Event()

            def wake(event: asyncio.Event = changed) -> None:
                # The loop may be closed by now, and the waiting coroutine with it.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(event.set)

            # A queue in memory needs no thread, and has no await at which the caller could be canceled.
            turn = functools.partial(buffer._try_or_wake, attempt, wake)
            if await self._in_thread(turn) if buffer._spool is not None else turn():
                return
            try:
                async with asyncio.timeout(None if ends is None else max(0, ends - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                pass
            finally:
                buffer._forget(wake)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run work in the buffer's thread, completely or not at all.

        A cancellation is raised after the work has finished.
        """
        self._own_process()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "usertable async buffer")
        future = self._executor.submit(work)
        done = asyncio.wrap_future(future)
        cancelled = False
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError:
                if future.cancel():
                    raise
                cancelled = True
        if not cancelled:
            return done.result()
        if done.exception() is not None:
            raise asyncio.CancelledError from done.exception()
        _cancel_later()
        return done.result()


def _cancel_later() -> None:
    """Cancel the current task again at its next await, unless its cancellation has been withdrawn."""
    task = asyncio.current_task()
    assert task is not None
    requests = task.cancelling()

    def cancel() -> None:
        # A timeout whose block has ended has withdrawn its cancellation and does not expect another.
        if task.cancelling() >= requests and not task.done():
            task.cancel()
            task.uncancel()

    asyncio.get_running_loop().call_soon(cancel)


class _ParentsSpool:
    """Replaces the spool in a forked process: the spool belongs to the parent."""

    sent: Place = (0, 0)
    sent_at = Moment(0, 0, NO_BOOT)
    waiting = 0

    def __init__(self, folder: Path, parent: int) -> None:
        self._folder = folder
        self._parent = parent

    def frame(self, records: object) -> Any:
        raise SpoolFault(
            f"the buffer with the spool {self._folder} was created in process {self._parent}, from which this one,"
            f" {os.getpid()}, was forked; create another buffer in this process, with its own spool folder"
        )

    def check(self) -> None:
        return

    def hand_over(self, taken: Sequence[Entry]) -> tuple[list[Entry], str]:
        return [], ""

    def has_room(self, size: int) -> bool:
        return False

    def append(self, frame: object, count: int) -> None:
        return

    def take(self, limit: int) -> list[Entry]:
        return []

    def settle(self, count: int) -> None:
        return

    def mark_sent(self, end: Place, at: int) -> None:
        return

    def mark_done(self, end: Place) -> None:
        return

    def close(self) -> None:
        return


class _Memory:
    """The queue in memory, with the same methods as :class:`~usertable.client.spool.Spool`."""

    sent: Place = (0, 0)
    sent_at = Moment(0, 0, NO_BOOT)

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._count = 0
        self.waiting = 0

    def frame(self, records: Sequence[tuple[int | Identity, dict[str, Any], str]]) -> list[tuple[Any, Any, str]]:
        # A record that cannot be sent must raise in the caller, not in the thread.
        _encode(records)
        if len(records) > self._capacity:
            raise ValueError(f"{len(records)} records were added at once; the buffer holds {self._capacity}")
        return list(records)

    def check(self) -> None:
        return

    def hand_over(self, taken: Sequence[Entry]) -> tuple[list[Entry], str]:
        return [*taken, *self.take(self.waiting)], "they are only in `records` of this exception"

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


def _were(count: int) -> str:
    """Return the subject of a sentence about records: `1 record was`, `3 records were`."""
    return "1 record was" if count == 1 else f"{count} records were"
