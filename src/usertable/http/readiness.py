"""Background checks whether the server can write: `/readyz` answers at once, even while the store does not."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.domain.errors import StoreDown
from usertable.pipeline.channel import WriteChannel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store import Store

log = logging.getLogger("usertable.http")

CHECK_SECONDS = 1.0
"""Seconds between two checks."""
LATE_SECONDS = 3.0
"""Seconds without an answer to a check after which the server is not ready."""
REFUSED_SECONDS = 5.0
"""Seconds for which a write that the store refused counts, unless a later one was accepted."""


class Readiness:
    """The result of the last check. A check asks the store, and the process that writes it.

    Belongs to one event loop.
    """

    def __init__(self, store: Store, channel: WriteChannel, commit: GroupCommit, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._store = store
        self._channel = channel
        self._commit = commit
        self._failure: StoreDown | None = None
        self._answered = self._clock.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._was_ready = True

    def check(self) -> None:
        """Return if, as far as is known, the server can write. Fast.

        Raises:
            StoreDown: it cannot; with the reason.
        """
        now = self._clock.monotonic()
        if now - self._answered > LATE_SECONDS:
            raise StoreDown(f"the store did not answer within {LATE_SECONDS:.0f} s")
        if self._failure is not None:
            raise self._failure
        if self._commit.refused is not None and now - self._commit.refused[0] < REFUSED_SECONDS:
            raise self._commit.refused[1]

    async def watch(self) -> None:
        """Check every `CHECK_SECONDS` until canceled, and log each change of the result."""
        asking: asyncio.Task[None] | None = None
        # The first check begins now, however long the start of the server took.
        self._answered = self._clock.monotonic()
        try:
            while True:
                if asking is None or asking.done():
                    asking = asyncio.create_task(self._ask())
                await self._clock.sleep(CHECK_SECONDS)
                self._tell()
        finally:
            # A running check would use a closed channel.
            if asking is not None:
                asking.cancel()
                await asyncio.wait([asking])

    async def close(self) -> None:
        """Wait for a running check: the store must not be closed while a thread uses it."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _ask(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.ping)
            await self._channel.check()
            self._failure = None
        except StoreDown as failure:
            self._failure = failure
        except Exception as defect:
            log.exception("the write check for /readyz failed")
            self._failure = StoreDown(f"{type(defect).__name__}")
        self._answered = self._clock.monotonic()

    def _tell(self) -> None:
        try:
            self.check()
        except StoreDown as failure:
            if self._was_ready:
                log.warning("not ready, writes fail: %s", failure)
            self._was_ready = False
        else:
            if not self._was_ready:
                log.info("ready, writes succeed again")
            self._was_ready = True
