"""The clock that the use cases read, unless they are given another one."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The time in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
