"""What the workers of a server must know together for the console: a key, failed sign-ins, what was used up, and results."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from usertable.console import results
from usertable.folders import file_in_memory

FREE_ATTEMPTS = 5
"""So many failed sign-ins of an address cost nothing; then it must wait, each time twice as long."""
LONGEST_WAIT = 60.0
FORGOTTEN_AFTER = 900.0
"""Failed sign-ins count until an address was quiet for so many seconds."""

_KEY_BYTES = 32
_ATTEMPT = struct.Struct("<dQ")
_ADDRESSES = 4096
_DIGEST_BYTES = 16
_SPENT = 4096
_COUNTER = struct.Struct("<Q")
_SPENT_AT = _KEY_BYTES + _ADDRESSES * _ATTEMPT.size
_RESULTS_AT = _SPENT_AT + _COUNTER.size + _SPENT * _DIGEST_BYTES
_SIZE = _RESULTS_AT + results.SIZE


class MustWait(Exception):
    """Too many sign-ins failed; `seconds` from now one is looked at again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class SharedState:
    """A small file that each worker maps. It is gone with the server; nothing in it is worth keeping longer.

    Args:
        descriptor: an open file that :meth:`file` made.
        clock: seconds, monotonic, of a clock that all processes of the machine share.
    """

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, _SIZE)
        self._clock = clock
        # A file lock keeps processes apart, not the threads of one.
        self._threads = threading.Lock()
        self.key: bytes = self._map[:_KEY_BYTES]
        """Random, of this server and this start."""
        self.results = results.Results(self._map, _RESULTS_AT, self._locked, clock)

    @staticmethod
    def file() -> IO[bytes]:
        """A new file, which is gone when the last process has closed it."""
        # No result of a form is on a disk.
        file = file_in_memory()
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.truncate(_SIZE)
        file.flush()
        return file

    @classmethod
    def alone(cls) -> SharedState:
        """That of a server that is one process."""
        with cls.file() as file:
            return cls(os.dup(file.fileno()))

    def attempt(self, address: str, passes: Callable[[], bool]) -> bool:
        """Check one sign-in, and count it if it fails. Two addresses may share a count.

        Raises:
            MustWait: it was not even checked, so nothing is learned by not waiting.
        """
        with self._locked():
            offset = self._offset(address)
            last, failed = _ATTEMPT.unpack_from(self._map, offset)
            if wait := self._wait(last, failed):
                raise MustWait(wait)
            if passes():
                _ATTEMPT.pack_into(self._map, offset, 0.0, 0)
                return True
            failed = 1 if self._clock() - last > FORGOTTEN_AFTER else failed + 1
            _ATTEMPT.pack_into(self._map, offset, self._clock(), failed)
            return False

    def _wait(self, last: float, failed: int) -> float:
        if failed < FREE_ATTEMPTS:
            return 0.0
        delay = min(2.0 ** min(failed - FREE_ATTEMPTS, 10), LONGEST_WAIT)
        return max(0.0, last + delay - self._clock())

    def spend(self, token: str) -> bool:
        """Use something up; False if it was before. The last 4,096 are remembered."""
        digest = self._digest(token)
        with self._locked():
            if self._find(digest):
                return False
            (count,) = _COUNTER.unpack_from(self._map, _SPENT_AT)
            start = _SPENT_AT + _COUNTER.size + count % _SPENT * _DIGEST_BYTES
            self._map[start : start + _DIGEST_BYTES] = digest
            _COUNTER.pack_into(self._map, _SPENT_AT, count + 1)
            return True

    def is_spent(self, token: str) -> bool:
        """Whether it was used up."""
        return self._find(self._digest(token))

    def _find(self, digest: bytes) -> bool:
        return self._map.find(digest, _SPENT_AT + _COUNTER.size, _RESULTS_AT) >= 0

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self.key, b"spent " + token.encode(), "sha256")[:_DIGEST_BYTES]

    def _offset(self, address: str) -> int:
        number = int.from_bytes(hashlib.blake2b(address.encode(), key=self.key, digest_size=4).digest(), "little")
        return _KEY_BYTES + number % _ADDRESSES * _ATTEMPT.size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
