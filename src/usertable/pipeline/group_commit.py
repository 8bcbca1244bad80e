"""Group commit: the writes that wait become one batch, and each caller hears of its own only after the durable commit."""

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
"""Bytes that the writes of a batch may have, from which on it takes no further one."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Bounds of the histogram of batches, in writes."""
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the histogram of commits, in seconds."""
_Waiting = tuple[Write, asyncio.Future[Result], object]
"""A write, where its result goes, and what tells the writes apart that are committed together: of one that stands alone,
its own future."""


class GroupCommit:
    """Sends all waiting writes, up to `max_batch`, down the channel together. Belongs to the event loop it is made in.

    It never waits for a batch to fill: what comes while one batch is committed is the next batch. A batch is sent when the
    loop has handled all that was ready with it, so that requests which arrive together share a commit. While others are
    under way, only one that is as large as all of them goes ahead: so batches stay of one size.

    Args:
        capacity: so many writes may wait; one more is refused.
        monotonic: seconds of the clock by which a refusal of the store grows old.
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
        """Of no request: what is logged of a commit is not about the one that happened to begin it."""
        self._waiting: deque[_Waiting] = deque()
        self._alone: deque[list[_Waiting]] = deque()
        """Writes of a batch that failed, each of which is tried alone, or with those that it came together with."""
        self._under_way = 0
        """Batches that are sent and not answered yet."""
        self._sent = 0
        """The writes in them."""
        self._scheduled = False
        self._closing = False
        self.refused: tuple[float, StoreDown] | None = None
        """When the store could not take a batch, and why, unless it took a later one; the time is monotonic."""
        self.arrived = 0.0
        """When the writes came that were submitted last, by the monotonic clock: one moment for all that came together."""
        self.finished = 0.0
        """When the last batch was answered."""
        self._drained = asyncio.Event()
        self.sizes = Histogram(BATCH_SIZES)
        """Writes per batch that was sent."""
        self.seconds = Histogram(COMMIT_SECONDS)
        """Seconds from sending a batch to its answer, which comes when it is durable."""

    @property
    def waiting(self) -> int:
        """Writes that are in no batch yet."""
        return len(self._waiting)

    def submit(self, write: Write) -> asyncio.Future[Result]:
        """Queue a write. It will be committed whether or not the caller still waits for the result.

        The result may be an exception: Unavailable, or one that tells of a defect.

        Raises:
            Overloaded: the queue is full, or closing; nothing was queued.
        """
        self._check_room()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((write, future, future))
        self._schedule()
        return future

    def submit_together(self, writes: Sequence[Write]) -> list[asyncio.Future[Result]]:
        """Queue writes that go into one batch, in this order, however many they are. Otherwise like :meth:`submit`."""
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
        """Commit what was queued; later writes are refused."""
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
            # It was one of the two just now.
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
        # The next batch goes first: the store works on it while these callers are answered.
        self._flush()
        for (_, future, _), result in zip(batch, results, strict=True):
            # A caller that went away has cancelled its future; its write is committed all the same.
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _without_failed(
        self, batch: Sequence[_Waiting], results: Sequence[Result]
    ) -> tuple[Sequence[_Waiting], Sequence[Result]]:
        """Put aside the writes that a defect kept from being stored: one must not take its neighbours down with it."""
        failed = [isinstance(result, Exception) and not isinstance(result, Unavailable) for result in results]
        if any(failed):
            # Nothing is tried again after a later write to the same user was stored.
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
