"""Group commit: waiting writes become one batch, and each caller is answered after the durable commit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from itertools import compress, groupby
from operator import itemgetter

from usertable.domain.errors import Overloaded, StoreDown, Unavailable
from usertable.histogram import Histogram
from usertable.pipeline.channel import WriteChannel
from usertable.store.records import Result, Write

BATCH_BYTES = 16_777_216
"""Bytes of a batch's writes from which no further write is added."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Bucket bounds of the histogram of batches, in writes."""
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds of the histogram of commits, in seconds."""
_Waiting = tuple[Write, asyncio.Future[Result], object]
"""A write, the future for its result, and an object that groups writes to be committed together; for a single write, its own
future."""


class GroupCommit:
    """Sends all waiting writes, up to `max_batch`, to the channel in one batch.

    Belongs to the event loop that it is created in.

    It never waits for a batch to fill: writes that arrive during a commit form the next batch. A batch is sent after the
    loop has handled everything that was ready, so that requests which arrive together share a commit. While other batches
    are unanswered, another is sent only if it is as large as all of them, which keeps batches of one size.

    Args:
        capacity: maximum number of waiting writes; further ones are refused.
        monotonic: clock, in seconds, for the age of the store's last refusal.
    """

    def __init__(
        self,
        channel: WriteChannel,
        *,
        capacity: int = 10_000,
        max_batch: int = 256,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self.capacity = capacity
        self._channel = channel
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        """A context without a request: log lines about a commit do not belong to the request that happened to start it."""
        self._waiting: deque[_Waiting] = deque()
        self._alone: deque[list[_Waiting]] = deque()
        """Writes of a failed batch, each of which is tried again alone, or with those that must be committed with it."""
        self._under_way = 0
        """Number of unanswered batches."""
        self._sent = 0
        """Number of writes in them."""
        self._scheduled = False
        self._closing = False
        self.refused: tuple[float, StoreDown] | None = None
        """When the store last refused a batch, and why, unless it accepted a later one. Monotonic time."""
        self.arrived = 0.0
        """When the latest writes were submitted, by the monotonic clock. One time for all that arrived together."""
        self.finished = 0.0
        """When the last batch was answered."""
        self._drained = asyncio.Event()
        self.sizes = Histogram(BATCH_SIZES)
        """Writes per batch."""
        self.seconds = Histogram(COMMIT_SECONDS)
        """Seconds from sending a batch to its answer, which comes when it is durable."""

    @property
    def waiting(self) -> int:
        """Number of writes that are in no batch yet."""
        return len(self._waiting)

    def submit(self, write: Write) -> asyncio.Future[Result]:
        """Queue a write. It is committed even if the caller no longer waits for the result.

        The result may be an exception: Unavailable, or a defect.

        Raises:
            Overloaded: the queue is full, or closing; nothing was queued.
        """
        self._check_room()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((write, future, future))
        self._schedule()
        return future

    def submit_together(self, writes: Sequence[Write]) -> list[asyncio.Future[Result]]:
        """Queue writes for one batch, in this order, regardless of their number. Otherwise like :meth:`submit`."""
        self._check_room()
        together = object()
        futures: list[asyncio.Future[Result]] = [self._loop.create_future() for _ in writes]
        self._waiting.extend([(write, future, together) for write, future in zip(writes, futures, strict=True)])
        self._schedule()
        return futures

    def _check_room(self) -> None:
        if len(self._waiting) >= self.capacity:
            raise Overloaded(f"{self.capacity} writes are waiting")
        if self._closing:
            raise Overloaded("the server is shutting down")

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.arrived = self._monotonic()
            self._loop.call_soon(self._flush, context=self._context)

    async def close(self) -> None:
        """Commit the queued writes. Later writes are refused."""
        self._closing = True
        self._flush()
        await self._drained.wait()

    def _flush(self) -> None:
        self._scheduled = False
        while (self._alone or self._waiting) and self._channel.is_open(self._under_way):
            if self._under_way and len(self._waiting) < self._sent:
                break
            batch = self._alone.popleft() if self._alone else self._next_batch()
            self._under_way += 1
            self._sent += len(batch)
            self.sizes.observe(len(batch))
            # It was the later of the two.
            began = max(self.arrived, self.finished)
            self._channel.write([write for write, _, _ in batch], partial(self._finish, batch, began))
        if self._closing and not self._under_way:
            self._drained.set()

    def _next_batch(self) -> list[_Waiting]:
        waiting, batch, size = self._waiting, [], 0
        for _ in range(min(len(waiting), self._max_batch)):
            batch.append(each := waiting.popleft())
            size += each[0].size
            if size >= BATCH_BYTES:
                break
        while waiting and waiting[0][2] is batch[-1][2]:
            batch.append(waiting.popleft())
        return batch

    def _finish(self, batch: Sequence[_Waiting], began: float, outcome: Sequence[Result] | Exception) -> None:
        self.finished = now = self._monotonic()
        self.seconds.observe(now - began)
        self._under_way -= 1
        self._sent -= len(batch)
        results: Sequence[Result] = [outcome] * len(batch) if isinstance(outcome, Exception) else outcome
        first = results[0]
        self.refused = (now, first) if isinstance(first, StoreDown) else None
        if batch[0][2] is not batch[-1][2]:
            batch, results = self._without_failed(batch, results)
        # The next batch is sent first, so that the store works while these callers are answered.
        self._flush()
        for (_, future, _), result in zip(batch, results, strict=True):
            # A caller that disconnected has canceled its future. Its write is committed anyway.
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _without_failed(
        self, batch: Sequence[_Waiting], results: Sequence[Result]
    ) -> tuple[Sequence[_Waiting], Sequence[Result]]:
        """Set aside the writes that failed because of a defect, so that they do not fail the others."""
        failed = [isinstance(result, Exception) and not isinstance(result, Unavailable) for result in results]
        if any(failed):
            # A write is not tried again after a later write to the same user was stored.
            later: set[tuple[int, int]] = set()
            for index in reversed(range(len(batch))):
                user = (batch[index][0].project, batch[index][0].cuid)
                failed[index] = failed[index] and user not in later
                if not isinstance(results[index], Exception):
                    later.add(user)
            apart = compress(batch, failed)
            self._alone.extend(list(together) for _, together in groupby(apart, key=itemgetter(2)))
            stored = [not one for one in failed]
            batch, results = list(compress(batch, stored)), list(compress(results, stored))
        return batch, results
