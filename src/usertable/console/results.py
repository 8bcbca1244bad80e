"""Keep the results of forms for a while, for the page to which the browser is then redirected."""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager

KEPT_SECONDS = 600.0
"""Seconds for which a result is kept."""
RING_BYTES = 16 * 2**20
"""Bytes for all compressed results. They are a ring buffer: a new result overwrites the oldest ones."""
MAX_RESULT_BYTES = RING_BYTES // 4

_SLOTS = 2048
# Number of results added, number of bytes written.
_HEAD = struct.Struct("<QQ")
# Digest of the name, digest of the subject, offset, bytes, time: as in
# (b"\x1f…", b"\x9a…", 33_554_432, 812, 71_204.5). Offsets keep increasing past the end of the ring.
_SLOT = struct.Struct("<16s16sQQd")
_RING_AT = _HEAD.size + _SLOTS * _SLOT.size
SIZE = _RING_AT + RING_BYTES


class Results:
    """Recent results, in memory that the workers of a server share, because the next request may reach any of them.

    Args:
        memory: has :data:`SIZE` bytes from `start` on.
        locked: locks out the other workers and threads.
        clock: monotonic seconds, the same in all processes.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        start: int,
        locked: Callable[[], AbstractContextManager[None]],
        clock: Callable[[], float],
    ) -> None:
        self._memory = memory
        self._start = start
        self._locked = locked
        self._clock = clock

    def keep(self, name: str, about: str, content: bytes) -> bool:
        """Keep a result. A result with that name that exists is not replaced. Returns False if the result is too large.

        Args:
            about: the subject, by which :meth:`forget` finds it.
        """
        packed = zlib.compress(content, 1)
        if len(packed) > MAX_RESULT_BYTES:
            return False
        with self._locked():
            if self._find(_digest(name)) is None:
                self._add(name, about, packed)
        return True

    def begin(self, name: str) -> bool:
        """Mark the result with that name as in progress. Returns False if it already is."""
        with self._locked():
            if self._find(_digest(f"begun {name}")) is not None:
                return False
            self._add(f"begun {name}", "", b"")
        return True

    def end(self, name: str) -> None:
        """Mark the result with that name as no longer in progress."""
        with self._locked():
            if (number := self._number(_digest(f"begun {name}"))) is not None:
                self._memory[self._slot(number) : self._slot(number) + _SLOT.size] = bytes(_SLOT.size)

    def find(self, name: str) -> bytes | None:
        """Return the result with that name; None if it is not kept."""
        with self._locked():
            found = self._find(_digest(name))
            if found is None:
                return None
            at, length = found
            packed = self._memory[at : at + length]
        return zlib.decompress(packed)

    def forget(self, about: str) -> None:
        """Overwrite all results about a subject."""
        wanted = _digest(about)
        with self._locked():
            for number in range(_SLOTS):
                _, owner, begin, length, _ = _SLOT.unpack_from(self._memory, self._slot(number))
                if owner == wanted and self._is_whole(begin):
                    at = self._start + _RING_AT + begin % RING_BYTES
                    self._memory[at : at + length] = bytes(length)
                    self._memory[self._slot(number) : self._slot(number) + _SLOT.size] = bytes(_SLOT.size)

    def _add(self, name: str, about: str, packed: bytes) -> None:
        count, end = _HEAD.unpack_from(self._memory, self._start)
        if end % RING_BYTES + len(packed) > RING_BYTES:
            # A result is contiguous, so the end of the ring stays unused this time.
            end += RING_BYTES - end % RING_BYTES
        at = self._start + _RING_AT + end % RING_BYTES
        self._memory[at : at + len(packed)] = packed
        slot = (_digest(name), _digest(about), end, len(packed), self._clock())
        _SLOT.pack_into(self._memory, self._slot(count % _SLOTS), *slot)
        _HEAD.pack_into(self._memory, self._start, count + 1, end + len(packed))

    def _find(self, wanted: bytes) -> tuple[int, int] | None:
        if (number := self._number(wanted)) is None:
            return None
        _, _, begin, length, _ = _SLOT.unpack_from(self._memory, self._slot(number))
        return self._start + _RING_AT + begin % RING_BYTES, length

    def _number(self, wanted: bytes) -> int | None:
        slots = self._memory[self._slot(0) : self._slot(_SLOTS)]
        for number, (name, _, begin, _, at) in enumerate(_SLOT.iter_unpack(slots)):
            if name == wanted and self._clock() - at <= KEPT_SECONDS and self._is_whole(begin):
                return number
        return None

    def _is_whole(self, begin: int) -> bool:
        """Return whether the data at this offset has not been overwritten."""
        _, end = _HEAD.unpack_from(self._memory, self._start)
        return bool(end - begin <= RING_BYTES)

    def _slot(self, number: int) -> int:
        return self._start + _HEAD.size + number * _SLOT.size


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
