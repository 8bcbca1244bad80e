"""A clock that stands still until a test advances it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from usertable.app.clock import Clock
from usertable.config import Config
from usertable.http.server import in_background
from usertable.store import Store


class ManualClock:
    """Time that passes when a test says so, and when code waits in a thread.

    Attributes:
        ms: the wall clock, milliseconds since 1970 UTC.
        elapsed: the monotonic clock, seconds.
        waits: the seconds of every wait in a thread, in order; each of them advanced the clock.
        clock: the clock for code that reads it.
    """

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self.ms = ms
        self.elapsed = 1000.0
        self.waits: list[float] = []
        self.clock = Clock(lambda: self.ms, lambda: self.elapsed, self._sleep, self._wait)

    def advance(self, seconds: float) -> None:
        """Advance both clocks. Code that sleeps until then wakes up."""
        self.ms += round(seconds * 1000)
        self.elapsed += seconds

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Let time pass automatically during the block, up to a hundred times as fast as real time."""
        is_over = threading.Event()

        def pass_on() -> None:
            while not is_over.wait(0.002):
                self.advance(0.2)

        thread = threading.Thread(target=pass_on)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    @contextlib.contextmanager
    def serving(self, config: Config, store: Store) -> Iterator[str]:
        """Serve an open store by this clock during the block. Yields the server's URL.

        While the server stops, time passes: it may wait for a connection whose end it has not seen yet.
        """
        with contextlib.ExitStack() as server:
            url = server.enter_context(in_background(config, store, self.clock))
            try:
                yield url
            finally:
                with self.passing():
                    server.close()

    async def _sleep(self, seconds: float) -> None:
        until = self.elapsed + seconds
        while self.elapsed < until:
            # The test may be in another thread than this event loop.
            await asyncio.sleep(0.001)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.advance(seconds)
        return event.is_set()
