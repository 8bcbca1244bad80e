"""Console state that the workers of a server share: a key, failed sign-ins, used links, and results of forms."""

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
from typing import IO, Literal

from usertable.console import results
from usertable.folders import file_in_memory

FREE_ATTEMPTS = 5
"""Number of failed attempts without a delay. After them, the delay doubles with each failure."""
LONGEST_WAIT = 60.0
"""Maximum delay in seconds."""
FORGOTTEN_AFTER = 900.0
"""Seconds without an attempt after which failed attempts are forgotten."""

SpentKind = Literal["link", "openid"]
"""Kinds of single-use tokens. Each kind has its own memory, so that using up one cannot push out another."""

_KEY_BYTES = 32
_ATTEMPT = struct.Struct("<dQ")
_COUNTS = 65_536
_DIGEST_BYTES = 16
_SPENT = 4096
_COUNTER = struct.Struct("<Q")
_SPENT_BYTES = _COUNTER.size + _SPENT * _DIGEST_BYTES
_SPENT_BEGIN = _KEY_BYTES + _COUNTS * _ATTEMPT.size
_SPENT_AT: dict[SpentKind, int] = {"link": _SPENT_BEGIN, "openid": _SPENT_BEGIN + _SPENT_BYTES}
_RESULTS_AT = _SPENT_BEGIN + len(_SPENT_AT) * _SPENT_BYTES
_SIZE = _RESULTS_AT + results.SIZE


class MustWait(Exception):
    """Too many attempts failed; the next one is accepted after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class SharedState:
    """State in a small file that each worker maps into memory. The file is deleted with the server.

    Args:
        descriptor: an open file, created by :meth:`file`.
        clock: monotonic seconds, of a clock that all processes of the machine share.
    """

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, _SIZE)
        self._clock = clock
        # A file lock excludes other processes, but not other threads of this one.
        self._threads = threading.Lock()
        self.key: bytes = self._map[:_KEY_BYTES]
        """Random key of this server, new at every start."""
        self.results = results.Results(self._map, _RESULTS_AT, self._locked, clock)

    @staticmethod
    def file() -> IO[bytes]:
        """Create a file that disappears when the last process closes it."""
        # Results of forms must not be written to disk.
        file = file_in_memory()
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.truncate(_SIZE)
        file.flush()
        return file

    @classmethod
    def alone(cls, clock: Callable[[], float] = time.monotonic) -> SharedState:
        """Return the state of a server that is one process."""
        with cls.file() as file:
            return cls(os.dup(file.fileno()), clock)

    def begin_attempt(self, *names: str) -> None:
        """Count a sign-in attempt as failed under each of the names, before it is checked.

        Concurrent attempts are therefore limited like consecutive ones.

        Args:
            names: what to count the attempt by, such as an address. Two names may share a count, which is unlikely.

        Raises:
            MustWait: too many attempts failed under one of the names. The attempt is not counted and must not be checked, so
                that ignoring the delay reveals nothing.
        """
        with self._locked():
            offsets = [self._offset(name) for name in names]
            counts = [_ATTEMPT.unpack_from(self._map, offset) for offset in offsets]
            if wait := max(self._wait(last, failed) for last, failed in counts):
                raise MustWait(wait)
            for offset, (last, failed) in zip(offsets, counts, strict=True):
                failed = 1 if self._clock() - last > FORGOTTEN_AFTER else failed + 1
                _ATTEMPT.pack_into(self._map, offset, self._clock(), failed)

    def end_attempt(self, *names: str) -> None:
        """Forget the failed attempts under these names, because one succeeded."""
        with self._locked():
            for name in names:
                _ATTEMPT.pack_into(self._map, self._offset(name), 0.0, 0)

    def take_back(self, *names: str) -> None:
        """Do not count the last attempt as failed, because it succeeded. Earlier failures still count."""
        with self._locked():
            for name in names:
                last, failed = _ATTEMPT.unpack_from(self._map, self._offset(name))
                _ATTEMPT.pack_into(self._map, self._offset(name), last, max(0, failed - 1))

    def _wait(self, last: float, failed: int) -> float:
        if failed < FREE_ATTEMPTS:
            return 0.0
        delay = min(2.0 ** min(failed - FREE_ATTEMPTS, 10), LONGEST_WAIT)
        return max(0.0, last + delay - self._clock())

    def spend(self, kind: SpentKind, token: str) -> bool:
        """Use up a token. Returns False if it was already used. The last 4,096 of each kind are remembered."""
        digest, at = self._digest(token), _SPENT_AT[kind]
        with self._locked():
            if self._find(kind, digest):
                return False
            (count,) = _COUNTER.unpack_from(self._map, at)
            start = at + _COUNTER.size + count % _SPENT * _DIGEST_BYTES
            self._map[start : start + _DIGEST_BYTES] = digest
            _COUNTER.pack_into(self._map, at, count + 1)
            return True

    def is_spent(self, kind: SpentKind, token: str) -> bool:
        """Return whether a token was already used."""
        return self._find(kind, self._digest(token))

    def _find(self, kind: SpentKind, digest: bytes) -> bool:
        at = _SPENT_AT[kind]
        return self._map.find(digest, at + _COUNTER.size, at + _SPENT_BYTES) >= 0

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self.key, b"spent " + token.encode(), "sha256")[:_DIGEST_BYTES]

    def _offset(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode(errors="replace"), key=self.key, digest_size=4).digest()
        return _KEY_BYTES + int.from_bytes(digest, "little") % _COUNTS * _ATTEMPT.size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
