"""The clock: code that reads the time or waits gets one, so that a test can set it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")


def now_ms() -> int:
    """Return the time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Reads the time, and waits. Attributes, not methods: reading one costs a request nothing.

    Attributes:
        now_ms: milliseconds since 1970 UTC; people and programs may set it back or forward.
        monotonic: seconds since a moment common to all processes of the machine; never goes back.
        sleep: waits for seconds, in an event loop.
        wait: waits in a thread until an event is set, for at most the given seconds; returns whether it is set.
    """

    now_ms: Callable[[], int] = now_ms
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait

    def seconds(self) -> float:
        """Return seconds since 1970 UTC, by `now_ms`."""
        return self.now_ms() / 1000

    def pause(self, seconds: float) -> None:
        """Wait for `seconds` seconds, in a thread."""
        self.wait(threading.Event(), seconds)

    async def limit(self, seconds: float, work: Awaitable[_T]) -> _T:
        """Return the result of `work`.

        Raises:
            TimeoutError: it took longer, and was canceled.
        """
        task, alarm = asyncio.ensure_future(work), asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise TimeoutError
        finally:
            alarm.cancel()
            task.cancel()


SYSTEM_CLOCK = Clock()
