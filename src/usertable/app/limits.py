"""QPS limits: requests per second, project and API, counted by one process or by all workers of a server."""

from __future__ import annotations

import fcntl
import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from usertable.app.verification import SHARED_BYTES, PassedSecrets, new_key
from usertable.folders import file_in_memory

APIS = ("attribute", "register", "native", "batch")
_SLOTS = 65_536
_SLOT = struct.Struct("<dQ")
_COUNTS_BYTES = _SLOTS * _SLOT.size


class RateLimit:
    """Allows at most `limit` requests in a window of one second, which begins with its first request.

    Args:
        count: the workers' shared count; None for a single process.
        monotonic: seconds; with workers, of the clock that all of them share.
    """

    __slots__ = ("_count", "_monotonic", "ends", "limit", "remaining")

    def __init__(
        self, limit: int, count: SharedCount | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self.remaining = limit
        self.ends = 0.0
        self._count = count

    def allow(self) -> bool:
        """Count one request now. Return False if it is over the limit."""
        if self._count is None:
            return self._allow(self._monotonic())
        with self._count.loaded(self):
            return self._allow(self._monotonic())

    def is_used_up(self) -> bool:
        """Return whether a request now would be over the limit, as far as this process knows."""
        return not self.remaining and self._monotonic() < self.ends

    def _allow(self, now: float) -> bool:
        if now >= self.ends:
            self.ends = now + 1.0
            self.remaining = self.limit
        if not self.remaining:
            return False
        self.remaining -= 1
        return True


class SharedCounts:
    """The counts of all workers of a server in the current second, and the secrets they verified, in a file that each maps.

    Times are of the system's monotonic clock, which all processes of a machine share.

    Args:
        descriptor: an open file created by :meth:`file`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, _COUNTS_BYTES)
        self.passed = PassedSecrets(mmap.mmap(descriptor, SHARED_BYTES, offset=_COUNTS_BYTES))

    @staticmethod
    def file() -> IO[bytes]:
        """Return a new file, which is removed when the last process has closed it."""
        # The key for the secrets is never on disk.
        file = file_in_memory()
        file.truncate(_COUNTS_BYTES + SHARED_BYTES)
        file.seek(_COUNTS_BYTES)
        file.write(new_key())
        file.flush()
        return file

    def count(self, project: int, api: str) -> SharedCount:
        """Return the count of a project (by its number) and an API. From about 16,000 projects on, two may share one."""
        offset = (project * len(APIS) + APIS.index(api)) % _SLOTS * _SLOT.size
        return SharedCount(self._descriptor, self._map, offset)


class SharedCount:
    """One count of :class:`SharedCounts`."""

    __slots__ = ("_descriptor", "_map", "_offset")

    def __init__(self, descriptor: int, counts: mmap.mmap, offset: int) -> None:
        self._descriptor = descriptor
        self._map = counts
        self._offset = offset

    @contextmanager
    def loaded(self, limit: RateLimit) -> Iterator[None]:
        """Update `limit` with all workers' counts, and store it after the block. No other worker counts meanwhile."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _SLOT.size, self._offset)
        try:
            limit.ends, counted = _SLOT.unpack_from(self._map, self._offset)
            limit.remaining = max(0, limit.limit - counted)
            yield
            _SLOT.pack_into(self._map, self._offset, limit.ends, limit.limit - limit.remaining)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _SLOT.size, self._offset)
