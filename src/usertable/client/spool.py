"""A queue of records on disk, which survives the death of the process and of the machine.

A folder with numbered segments, each an append-only file of frames: length, checksum, content. A frame holds records
(`W`), or a mark (`M`): up to where records are done, up to where they may have been sent, and since when. The last
mark counts. So there is one file to write and to flush, and nothing that two files could disagree about.

A segment begins with `usertable spool 1\n` and a mark. A frame with one record, of which length and checksum are 8 bytes::

    34 00 00 00 d6 b2 8b bc W[{"u":7,"v":{"level":3},"k":"3f2a9c0d5e6b7a81-1c"}]

Each frame is on the disk before the next is begun. So what follows the last whole frame of the last segment was never
acknowledged to the caller, whatever a power cut made of it, and is dropped; a last segment without its head was never used.
A broken frame before a whole one, or in an earlier segment, is a fault that is told.

The folder can be removed, moved or replaced while it is in use. Its own files are reached through the descriptor of the
folder that was opened, never through the path, so another spool at that path is not touched. No record is taken unless
the files that are written still have their names.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from usertable.client.age import NO_BOOT, Moment
from usertable.client.errors import SpoolFault
from usertable.client.process import PerProcess
from usertable.folders import make_folder
from usertable.wire.bodies import decode_object

log = logging.getLogger("usertable.client")

SEGMENT_BYTES = 8 * 2**20
LEAST_BYTES = 2**16
_SEGMENTS_SECONDS = 1.0
"""Seconds between two looks at the segments that are not written any more."""
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


class Spool(PerProcess):
    """The queue in a folder, which is made if it is not there. One process at a time may have it open.

    It has no lock of its own: one call at a time. A process that is forked has not got it: it stays its parent's.

    Args:
        limit: the files together are at most so many bytes.

    Raises:
        SpoolFault: it is in use, broken, or of another version.
        OSError: the folder cannot be used.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        if limit < LEAST_BYTES:
            raise ValueError(f"a spool of {limit} bytes is too small; the least is {LEAST_BYTES}")
        # The process may change its working directory.
        self._folder = Path(folder).absolute()
        make_folder(self._folder)
        self._limit = limit
        self._segment = min(SEGMENT_BYTES, limit // 16)
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        self._lock: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._looked_at = time.monotonic()
        try:
            self._lock = self._opened("lock", "wb")
            self._load()
        except BaseException:
            self.close()
            raise
        super().__init__()

    def _opened(self, name: str, mode: str) -> BinaryIO:
        """Open a file of the folder, and lock it. Raises SpoolFault: another has it open.

        The segment that is written is locked like the file `lock`, which may be deleted.
        """
        file: BinaryIO = open(name, mode, buffering=0, opener=self._open_in_folder)  # type: ignore[assignment]  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise SpoolFault(f"the spool {self._folder} is in use by another process or buffer") from None
        return file

    def _open_in_folder(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o666, dir_fd=self._descriptor)

    def _begin_in_child(self) -> None:
        # Closed, not unlocked: the lock is the parent's, and is free when no process has it open any more.
        self.close()

    done: Place
    """Up to here everything is delivered, or its failure told."""
    sent: Place
    """Up to here it may have been sent."""
    sent_at: Moment
    """Since when the oldest of what is not done may have been sent."""

    def _load(self) -> None:
        numbers = sorted(int(file.stem) for file in self._folder.glob("*.spool") if file.stem.isdigit())
        self._sizes: dict[int, int] = {}
        self.done = self.sent = (0, 0)
        self.sent_at = Moment(0, 0, NO_BOOT)
        ends: list[tuple[Place, int]] = []
        self._number = numbers[-1] if numbers else 1
        if numbers:
            self._file = self._opened(_name(self._number), "r+b")
        for number in numbers:
            for kind, content, end in self._frames(number, last=number == numbers[-1]):
                if kind == b"M":
                    self._read_mark(content)
                else:
                    ends.append(((number, end), len(msgspec.json.decode(content, type=list[msgspec.Raw]))))
        self.waiting = sum(count for end, count in ends if end > self.done)
        self._read_from = self.done
        missing = set(range(max(self.done[0], 1), self._number)) - set(numbers)
        if missing:
            raise SpoolFault(
                f"{self._path(min(missing))} is missing, with records that were not delivered: restore it, or move"
                f" {self._folder} away and begin with an empty folder"
            )
        if self._sizes.get(self._number):
            self._torn = True
            self._drop_tail()
        else:
            if self._file is not None:
                self._file.close()
            self._begin(self._number)
        self._drop_done()

    def _read_mark(self, content: bytes) -> None:
        first, second, third, fourth, wall_ms = _PLACES.unpack_from(content)
        done, sent = (first, second), (third, fourth)
        # A segment that could not be begun, and was removed, may be there again after a power cut; what it says is older.
        self.done = max(self.done, done)
        if sent > self.sent:
            # Those who wrote marks without it had no clock that nobody sets.
            running_ms, boot = _RUNNING.unpack_from(content, _PLACES.size) if len(content) > _PLACES.size else (0, NO_BOOT)
            self.sent, self.sent_at = sent, Moment(wall_ms, running_ms, boot)

    def _path(self, number: int) -> Path:
        return self._folder / _name(number)

    def check(self) -> None:
        """Raise SpoolFault if a record that is kept now would not be in the folder, or records before it no longer are.

        Two calls of the system for the files that are written; the others are looked at once a second.
        """
        assert self._lock is not None
        self._check_name("lock", self._lock, 0)
        self._check_name(_name(self._number), self._written, self._sizes[self._number])
        if time.monotonic() - self._looked_at >= _SEGMENTS_SECONDS:
            for number in self._sizes:
                if not self._is_in_folder(number):
                    raise self._gone(_name(number))
            self._looked_at = time.monotonic()

    def _check_name(self, name: str, file: BinaryIO, size: int) -> None:
        """Raise SpoolFault if the name is not that of the open file, or the file was cut."""
        try:
            found = os.stat(f"{self._folder}/{name}")  # noqa: PTH116 - for each record
        except OSError as error:
            raise self._gone(name) from error
        if not os.path.samestat(found, os.fstat(file.fileno())) or found.st_size < size:
            raise self._gone(name)

    def _gone(self, name: str) -> SpoolFault:
        return SpoolFault(
            f"the spool {self._folder} is not as this buffer left it: its file {name} was removed, moved, replaced or cut,"
            " so the record was not taken; put the folder back as it was, or close this buffer, which tells what is not"
            " delivered, and open one with another folder"
        )

    @property
    def _written(self) -> BinaryIO:
        """The segment that is written."""
        assert self._file is not None
        return self._file

    def _is_in_folder(self, number: int) -> bool:
        """Whether a segment is in the folder that was opened, wherever that is by now."""
        try:
            found = os.stat(_name(number), dir_fd=self._descriptor)
        except OSError:
            return False
        if number == self._number and not os.path.samestat(found, os.fstat(self._written.fileno())):
            return False
        return found.st_size >= self._sizes[number]

    def hand_over(self, taken: Sequence[Entry]) -> tuple[list[Entry], str]:
        """At the end: the records that are in no file of the folder, and a text on where all that wait are.

        Args:
            taken: what was taken and is not settled.
        """
        gone = [number for number in sorted(self._sizes) if number >= self.done[0] and not self._is_in_folder(number)]
        entries = [entry for entry in taken if entry.end[0] in gone]
        readable = gone == [self._number]
        if self._number in gone:
            # It is open, so it can be read without a name, if it was not cut.
            self._read_from = max(self._read_from, (self._number, 0))
            try:
                while more := self.take(self.waiting):
                    entries += more
            except (OSError, SpoolFault):
                readable = False
        rest = self.waiting - len(entries)
        names = ", ".join(map(_name, gone))
        if not gone:
            return [], f"they stay in the spool{self._moved_to()}"
        told = f"{names} was removed from the spool {self._folder}, moved out of it or cut: "
        if not rest:
            return entries, f"{told}they are in `records`"
        if readable:
            return entries, f"{told}{len(entries)} are in `records`, {rest} stay in the spool{self._moved_to()}"
        return entries, f"{told}{len(entries)} are in `records`, {rest} were in the spool, of which this part is lost"

    def _moved_to(self) -> str:
        """Where the folder is, if that is not its path."""
        here = os.fstat(self._descriptor)
        if _is_at(self._folder, here):
            return ""
        with contextlib.suppress(OSError):
            place = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            if _is_at(place, here):
                return f", whose folder {self._folder} is now {place}"
        return f", whose folder is no longer at {self._folder}: it was moved, or its disk unmounted"

    def _begin(self, number: int) -> None:
        """A new segment, which begins with the marks as they are. Raises OSError: nothing was changed."""
        if self._sizes.get(self._number) and self._torn:
            # Only the last segment may end in something else than a whole frame.
            self._cut_tail()
        name = _name(number)
        head = _MAGIC + self._mark_frame()
        file = self._opened(name, "w+b")
        try:
            _write_all(file, head, 0)
            os.fsync(file.fileno())
            os.fsync(self._descriptor)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._descriptor)
                os.fsync(self._descriptor)
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._number, self._torn = file, number, False
        self._sizes[number] = len(head)

    def _frames(self, number: int, *, last: bool, start: int = 0) -> Iterator[tuple[bytes, bytes, int]]:
        """Kind, content and end of each frame of a segment that is whole. Sets the segment's size when it is through.

        A last segment that was never used has no frames, and the size 0.
        """
        path = self._path(number)
        data = self._read(number)
        if not data.startswith(_MAGIC):
            if not _MAGIC.startswith(data[: len(_MAGIC)].rstrip(b"\0")):
                raise SpoolFault(f"{path} is no spool of this version")
            if not last or _whole_frame_after(data, 0):
                raise SpoolFault(f"{path} is broken at byte 0: what follows cannot be read")
            self._sizes[number] = 0
            return
        place = max(len(_MAGIC), start)
        while place < len(data):
            end = _frame_end(data, place)
            if end:
                content = data[place + _HEAD.size : end]
                yield content[:1], content[1:], end
                place = end
                continue
            if not last or _whole_frame_after(data, place):
                raise SpoolFault(f"{path} is broken at byte {place}: what follows cannot be read")
            log.warning("the spool %s ends in a record that was not wholly written; it is dropped", path)
            break
        self._sizes[number] = place

    def _read(self, number: int) -> bytes:
        """A segment; once its size is known, as much of it. Raises SpoolFault: it has that no longer."""
        size = self._sizes.get(number)
        if number == self._number:
            written = self._written.fileno()
            data = os.pread(written, os.fstat(written).st_size if size is None else size, 0)
        else:
            try:
                with open(_name(number), "rb", opener=self._open_in_folder) as file:
                    data = file.read()[:size]
            except FileNotFoundError:
                raise self._lost(number) from None
        if size is not None and len(data) < size:
            raise self._lost(number)
        return data

    def _lost(self, number: int) -> SpoolFault:
        return SpoolFault(f"{self._path(number)} was removed, moved or cut, and records in it are not delivered")

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
            try:
                for kind, content, end in self._frames(segment, last=segment == self._number, start=start):
                    if kind == b"W":
                        records = _records(content, (segment, end))
                        if entries and len(entries) + len(records) > limit:
                            return entries
                        entries += records
                    self._read_from = (segment, end)
                    if len(entries) >= limit:
                        return entries
            except SpoolFault:
                # What is before the fault goes first.
                if entries:
                    return entries
                raise
        return entries

    def mark_sent(self, end: Place, at: int) -> None:
        """Keep that records up to there may have been sent since `at` (now, ms since 1970 UTC); durable on return."""
        if end > self.sent:
            self.sent, self.sent_at = end, Moment.at(at)
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
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_name(number), dir_fd=self._descriptor)
            del self._sizes[number]

    def _mark_frame(self) -> bytes:
        at = self.sent_at
        return _framed(b"M" + _PLACES.pack(*self.done, *self.sent, at.wall_ms) + _RUNNING.pack(at.running_ms, at.boot))

    def _write(self, frame: bytes) -> None:
        size = self._sizes[self._number]
        try:
            _write_all(self._written, frame, size)
            os.fsync(self._written.fileno())
        except BaseException:
            self._torn = True
            self._drop_tail()
            raise
        self._sizes[self._number] = size + len(frame)

    def _drop_tail(self) -> None:
        """Remove what is behind the last whole frame, if the disk lets us: the next frame is written there anyway."""
        with contextlib.suppress(OSError):
            self._cut_tail()

    def _cut_tail(self) -> None:
        os.ftruncate(self._written.fileno(), self._sizes[self._number])
        os.fsync(self._written.fileno())
        self._torn = False

    def close(self) -> None:
        """Let others open it."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _name(number: int) -> str:
    return f"{number:08}.spool"


def _is_at(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


_PLACES = struct.Struct("<QQQQQ")
"""Of a mark: done, sent, and the wall clock's ms since 1970 UTC."""
_RUNNING = struct.Struct("<Q16s")
"""Behind it: ms since the machine was started, and which start that was."""
_FRAME = re.compile(rb'W\[\{"u":|(?<=[\x29\x41]\0\0\0....)M', re.DOTALL)
"""What a frame's content begins with: records, or a mark, of either length."""


def _framed(content: bytes) -> bytes:
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _frame_end(data: bytes, place: int) -> int:
    """Where the frame that begins at `place` ends; 0 if none that is whole does."""
    if place + _HEAD.size > len(data):
        return 0
    length, checksum = _HEAD.unpack_from(data, place)
    end: int = place + _HEAD.size + length
    if not length or end > len(data) or zlib.crc32(memoryview(data)[place + _HEAD.size : end]) != checksum:
        return 0
    return end


def _whole_frame_after(data: bytes, place: int) -> bool:
    """Whether a whole frame begins behind `place`."""
    return any(_frame_end(data, found.start() - _HEAD.size) for found in _FRAME.finditer(data, place + _HEAD.size + 1))


def _write_all(file: BinaryIO, data: bytes, place: int) -> None:
    """Write all of it, or raise OSError: a disk that gets full takes a part first."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file.fileno(), rest, place)
        if not written:
            raise OSError(f"{file.name} has no room: {len(rest)} of {len(data)} bytes were not written")
        rest, place = rest[written:], place + written


def _records(content: bytes, end: Place) -> list[Entry]:
    # Through the decoder that keeps numbers exact.
    document = decode_object(b'{"records":' + content + b"}")
    assert isinstance(document, dict)
    return [Entry(tuple(r["u"]) if isinstance(r["u"], list) else r["u"], r["v"], r["k"], end) for r in document["records"]]
