"""A queue of records on disk, which survives the death of the process and of the machine.

A folder with numbered segments, each an append-only file of frames: length, checksum, content. A frame holds records
(`W`), or a mark (`M`): up to where records are done, up to where they may have been sent, and since when. The last
mark counts. So there is one file to write and to flush, and nothing that two files could disagree about.

A frame that the end of the last segment cuts off was never acknowledged to the caller, and is dropped. Any other broken
frame is a fault that is told.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from usertable.client.errors import SpoolFault
from usertable.wire.bodies import decode_object

log = logging.getLogger("usertable.client")

SEGMENT_BYTES = 8 * 2**20
LEAST_BYTES = 2**16
_MAGIC = b"usertable spool 1\n"
_HEAD = struct.Struct("<II")
_encode = msgspec.json.Encoder(decimal_format="number").encode

Place = tuple[int, int]
"""Segment and offset of a frame's end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it waits: the user, the values as they are sent, the key, and where it ends."""

    user: int | tuple[str, str]
    values: dict[str, Any]
    key: str
    end: Place


class Spool:
    """The queue in a folder, which is made if it is not there. One process at a time may have it open.

    It has no lock of its own: one call at a time.

    Args:
        limit: the files together are at most so many bytes.

    Raises:
        SpoolFault: it is in use, broken, or of another version.
        OSError: the folder cannot be used.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        if limit < LEAST_BYTES:
            raise ValueError(f"a spool of {limit} bytes is too small; the least is {LEAST_BYTES}")
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._limit = limit
        self._segment = min(SEGMENT_BYTES, limit // 16)
        self._lock = (self._folder / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SpoolFault(f"the spool {self._folder} is in use by another process or buffer") from None
        try:
            self._load()
        except BaseException:
            self._lock.close()
            raise

    done: Place
    """Up to here everything is delivered, or its failure told."""
    sent: Place
    """Up to here it may have been sent."""
    sent_at: int
    """Since when the oldest of what is not done may have been sent; ms since 1970 UTC."""

    def _load(self) -> None:
        numbers = sorted(int(file.stem) for file in self._folder.glob("*.spool"))
        self._sizes: dict[int, int] = {}
        self.done = self.sent = (0, 0)
        self.sent_at = 0
        self._read_from: Place = (0, 0)
        self.waiting = 0
        ends: list[tuple[Place, int]] = []
        for number in numbers:
            for kind, content, end in self._frames(number, last=number == numbers[-1]):
                if kind == b"M":
                    *places, self.sent_at = _MARK.unpack(content)
                    self.done, self.sent = (places[0], places[1]), (places[2], places[3])
                else:
                    ends.append(((number, end), len(msgspec.json.decode(content, type=list[msgspec.Raw]))))
        self.waiting = sum(count for end, count in ends if end > self.done)
        self._read_from = self.done
        if numbers:
            self._file: BinaryIO = self._path(numbers[-1]).open("r+b", buffering=0)
            self._number = numbers[-1]
            self._file.truncate(self._sizes[self._number])
            self._file.seek(self._sizes[self._number])
        else:
            self._begin(1)
        self._drop_done()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.spool"

    def _begin(self, number: int) -> None:
        """A new segment, which begins with the marks as they are."""
        file = self._path(number).open("xb", buffering=0)
        mark = self._mark_frame()
        file.write(_MAGIC + mark)
        os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if hasattr(self, "_file"):
            self._file.close()
        self._file, self._number = file, number
        self._sizes[number] = len(_MAGIC) + len(mark)

    def _frames(self, number: int, *, last: bool, start: int = 0) -> Iterator[tuple[bytes, bytes, int]]:
        """Kind, content and end of each frame of a segment that is whole. Sets the segment's size when it is through."""
        path = self._path(number)
        data = path.read_bytes()
        place = len(_MAGIC)
        if not data.startswith(_MAGIC):
            if last and _MAGIC.startswith(data):
                # Cut off while it was made.
                path.write_bytes(_MAGIC)
                data = _MAGIC
            else:
                raise SpoolFault(f"{path} is no spool of this version")
        place = max(place, start)
        while place < len(data):
            head = data[place : place + _HEAD.size]
            length, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
            end = place + _HEAD.size + length
            content = data[place + _HEAD.size : end]
            if length and end <= len(data) and zlib.crc32(content) == checksum:
                yield content[:1], content[1:], end
                place = end
                continue
            # A frame that was being written may be cut, or hold what was on the disk before; nothing follows it.
            if last and (end >= len(data) or not any(data[place:])):
                log.warning("the spool %s ends in a record that was not wholly written; it is dropped", path)
                break
            raise SpoolFault(f"{path} is broken at byte {place}: what follows cannot be read")
        self._sizes[number] = place

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    def has_room(self, size: int) -> bool:
        """Whether a frame of that many bytes fits. Space for marks, and for a segment more, is kept free."""
        return self.size + size <= self._limit * 3 // 4 or self.waiting == 0

    def frame(self, records: Sequence[tuple[int | tuple[str, str], dict[str, Any], str]]) -> bytes:
        """Records as they are kept: user, values as they are sent, key. Raises ValueError if they are too many."""
        framed = _framed(b"W" + _encode([{"u": user, "v": values, "k": key} for user, values, key in records]))
        if len(framed) > self._limit // 4:
            raise ValueError(f"{len(framed)} bytes at once; a spool of {self._limit} bytes takes a quarter of that")
        return framed

    def append(self, frame: bytes, count: int) -> None:
        """Keep a frame of so many records; durable when this returns. Raises OSError: it is not kept."""
        if self._sizes[self._number] > self._segment:
            self._begin(self._number + 1)
        self._write(frame)
        self.waiting += count

    def take(self, limit: int) -> list[Entry]:
        """The next records, from the one after those taken before: up to `limit`, or those of one frame."""
        entries: list[Entry] = []
        number, offset = self._read_from
        for segment in sorted(n for n in self._sizes if n >= number):
            start = offset if segment == number else 0
            if start >= self._sizes[segment]:
                continue
            for kind, content, end in self._frames(segment, last=segment == self._number, start=start):
                if kind == b"W":
                    records = _records(content, (segment, end))
                    if entries and len(entries) + len(records) > limit:
                        return entries
                    entries += records
                self._read_from = (segment, end)
                if len(entries) >= limit:
                    return entries
        return entries

    def mark_sent(self, end: Place, at: int) -> None:
        """Keep that records up to there may have been sent since `at` (ms since 1970 UTC); durable when this returns."""
        self.sent, self.sent_at = end, at
        self._write(self._mark_frame())

    def settle(self, count: int) -> None:
        """Count so many records as done."""
        self.waiting -= count

    def mark_done(self, end: Place) -> None:
        """Keep that records up to there are done; durable when this returns."""
        self.done = end
        self._write(self._mark_frame())
        self._drop_done()

    def _drop_done(self) -> None:
        """Remove the segments of which everything is done, but for the one that is written."""
        for number in sorted(self._sizes):
            if number >= min(self.done[0], self._number):
                break
            self._path(number).unlink()
            del self._sizes[number]

    def _mark_frame(self) -> bytes:
        return _framed(b"M" + _MARK.pack(*self.done, *self.sent, self.sent_at))

    def _write(self, frame: bytes) -> None:
        size = self._sizes[self._number]
        try:
            written = self._file.write(frame)
            if written != len(frame):
                raise OSError(f"the spool {self._folder} has no room: {written} of {len(frame)} bytes were written")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            self._file.seek(size)
            raise
        self._sizes[self._number] = size + len(frame)

    def close(self) -> None:
        """Let others open it."""
        self._file.close()
        self._lock.close()


_MARK = struct.Struct("<QQQQQ")


def _framed(content: bytes) -> bytes:
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _records(content: bytes, end: Place) -> list[Entry]:
    # Through the decoder that keeps numbers exact.
    document = decode_object(b'{"records":' + content + b"}")
    assert isinstance(document, dict)
    return [Entry(tuple(r["u"]) if isinstance(r["u"], list) else r["u"], r["v"], r["k"], end) for r in document["records"]]
