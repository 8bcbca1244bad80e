"""A queue of records on disk, which survives a crash of the process and of the machine.

A folder with numbered segments, each an append-only file of frames: length, checksum, content. A frame holds records (`W`)
or a mark (`M`): the end of the delivered records, the end of the records that may have been sent, and since when. The last
mark is valid. So there is one file to write and to sync, and no two files can disagree.

A segment begins with `usertable spool 1\\n` and a mark. A frame with one record; length and checksum are the first 8 bytes::

    34 00 00 00 d6 b2 8b bc W[{"u":7,"v":{"level":3},"k":"3f2a9c0d5e6b7a81-1c"}]

Each frame is on disk before the next is begun. So what follows the last complete frame of the last segment was never
acknowledged, whatever a power cut made of it, and is dropped. A last segment without its head was never used. A broken frame
before a complete one, or in an earlier segment, raises SpoolFault.

The folder can be removed, moved or replaced while it is in use. Its files are opened relative to the descriptor of the
folder that was opened, never through the path, so another spool at that path is not touched. No record is accepted unless
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
"""Seconds between two checks of the segments that are no longer written."""
_MAGIC = b"usertable spool 1\n"
_HEAD = struct.Struct("<II")
_encode = msgspec.json.Encoder(decimal_format="number").encode

Place = tuple[int, int]
"""Segment and offset of a frame's end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the queue: the user, the values as they are sent, the key, and the frame's end."""

    user: int | tuple[str, str]
    values: dict[str, Any]
    key: str
    end: Place


class Spool(PerProcess):
    """The queue in a folder, which is created if missing. Only one process at a time can open it.

    Not thread-safe: one call at a time. In a forked process it is not open: it stays the parent's.

    Args:
        limit: maximum bytes of all files together.

    Raises:
        SpoolFault: the spool is in use, damaged, or of another version.
        OSError: the folder cannot be used.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        if limit < LEAST_BYTES:
            raise ValueError(f"spool_bytes is {limit}; expected {LEAST_BYTES} or more")
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
        """Open a file of the folder and lock it. Raises SpoolFault if another process has it open.

        The segment that is written is locked in addition to the file `lock`, which may be deleted.
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
        # Closed, not unlocked: the lock belongs to the parent, and is released when no process has it open.
        self.close()

    done: Place
    """Everything up to here is delivered, or its failure reported."""
    sent: Place
    """Everything up to here may have been sent."""
    sent_at: Moment
    """When the oldest record that is not done may have been sent."""

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
                f"{self._path(min(missing))} is missing. It contains records that were not delivered: restore it, or move"
                f" {self._folder} away and start with an empty folder"
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
        # A segment that could not be created and was removed may exist again after a power cut; its marks are older.
        self.done = max(self.done, done)
        if sent > self.sent:
            # Marks of earlier versions have no time since boot.
            running_ms, boot = _RUNNING.unpack_from(content, _PLACES.size) if len(content) > _PLACES.size else (0, NO_BOOT)
            self.sent, self.sent_at = sent, Moment(wall_ms, running_ms, boot)

    def _path(self, number: int) -> Path:
        return self._folder / _name(number)

    def check(self) -> None:
        """Raise SpoolFault if a record written now would not be in the folder, or if earlier records no longer are.

        Two system calls for the files that are written. The other files are checked once per second.
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
        """Raise SpoolFault if the name does not belong to the open file, or the file was truncated."""
        try:
            found = os.stat(f"{self._folder}/{name}")  # noqa: PTH116 - for each record
        except OSError as error:
            raise self._gone(name) from error
        if not os.path.samestat(found, os.fstat(file.fileno())) or found.st_size < size:
            raise self._gone(name)

    def _gone(self, name: str) -> SpoolFault:
        return SpoolFault(
            f"the spool {self._folder} is not as this buffer left it: its file {name} was removed, moved, replaced or cut,"
            " so the record was not added; put the folder back as it was, or close this buffer, which tells what is not"
            " delivered, and open one with another folder"
        )

    @property
    def _written(self) -> BinaryIO:
        """The segment that is written."""
        assert self._file is not None
        return self._file

    def _is_in_folder(self, number: int) -> bool:
        """Return whether a segment is in the folder that was opened, wherever that folder is now."""
        try:
            found = os.stat(_name(number), dir_fd=self._descriptor)
        except OSError:
            return False
        if number == self._number and not os.path.samestat(found, os.fstat(self._written.fileno())):
            return False
        return found.st_size >= self._sizes[number]

    def hand_over(self, taken: Sequence[Entry]) -> tuple[list[Entry], str]:
        """Return, at the end, the records that are in no file of the folder, and a text that locates all waiting records.

        Args:
            taken: entries that were taken and not settled.
        """
        gone = [number for number in sorted(self._sizes) if number >= self.done[0] and not self._is_in_folder(number)]
        entries = [entry for entry in taken if entry.end[0] in gone]
        readable = gone == [self._number]
        if self._number in gone:
            # The file is open, so it can be read without a name unless it was truncated.
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
        """Return where the folder is now, if that is not its path."""
        here = os.fstat(self._descriptor)
        if _is_at(self._folder, here):
            return ""
        with contextlib.suppress(OSError):
            place = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            if _is_at(place, here):
                return f", whose folder {self._folder} is now {place}"
        return f", whose folder is no longer at {self._folder}: it was moved, or its disk unmounted"

    def _begin(self, number: int) -> None:
        """Create a segment that begins with the current marks. Raises OSError; nothing is changed then."""
        if self._sizes.get(self._number) and self._torn:
            # Only the last segment may end in an incomplete frame.
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
        """Yield kind, content and end of each frame of a segment that is complete. Sets the segment's size at the end.

        A last segment that was never used has no frames and size 0.
        """
        path = self._path(number)
        data = self._read(number)
        if not data.startswith(_MAGIC):
            if not _MAGIC.startswith(data[: len(_MAGIC)].rstrip(b"\0")):
                raise SpoolFault(
                    f"{path} is not a spool of this version; deliver its records"
                    " with the version that wrote it, or move it away"
                )
            if not last or _whole_frame_after(data, 0):
                raise _damaged(path, 0)
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
                raise _damaged(path, place)
            log.warning("the spool %s ends in an incomplete record, which was never acknowledged; it is dropped", path)
            break
        self._sizes[number] = place

    def _read(self, number: int) -> bytes:
        """Return a segment's bytes, up to its size if that is known. Raises SpoolFault if the file is shorter."""
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
        """Return whether a frame of this many bytes fits. Space for marks and for one more segment is reserved."""
        return self.size + size <= self._limit * 3 // 4 or self.waiting == 0

    def frame(self, records: Sequence[tuple[int | tuple[str, str], dict[str, Any], str]]) -> bytes:
        """Return records as a frame: user, values as they are sent, key. Raises ValueError if the frame is too large."""
        framed = _framed(b"W" + _encode([{"u": user, "v": values, "k": key} for user, values, key in records]))
        if len(framed) > self._limit // 4:
            raise ValueError(
                f"the records have {len(framed)} bytes; a spool of {self._limit} bytes accepts a quarter of that at once"
            )
        return framed

    def append(self, frame: bytes, count: int) -> None:
        """Append a frame with `count` records; durable when this returns. Raises OSError if it was not written."""
        if self._sizes[self._number] > self._segment:
            self._begin(self._number + 1)
        self._write(frame)
        self.waiting += count

    def take(self, limit: int) -> list[Entry]:
        """Return the records that follow those returned before: up to `limit`, or those of one frame."""
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
                # The records before the fault are returned first.
                if entries:
                    return entries
                raise
        return entries

    def mark_sent(self, end: Place, at: int) -> None:
        """Write a mark: records up to `end` may have been sent since `at` (ms since 1970 UTC, now).

        Durable when it returns.
        """
        if end > self.sent:
            self.sent, self.sent_at = end, Moment.at(at)
        self._write(self._mark_frame())

    def settle(self, count: int) -> None:
        """Subtract settled records from the count."""
        self.waiting -= count

    def mark_done(self, end: Place) -> None:
        """Write a mark: records up to `end` are done. Durable when this returns."""
        self.done = end
        self._write(self._mark_frame())
        self._drop_done()

    def _drop_done(self) -> None:
        """Remove the segments whose records are all done, except the one that is written."""
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
        """Remove what follows the last complete frame if the disk allows it.

        The next frame is written at that place anyway.
        """
        with contextlib.suppress(OSError):
            self._cut_tail()

    def _cut_tail(self) -> None:
        os.ftruncate(self._written.fileno(), self._sizes[self._number])
        os.fsync(self._written.fileno())
        self._torn = False

    def close(self) -> None:
        """Close the files and release the locks."""
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
"""In a mark: done, sent, and the wall clock's ms since 1970 UTC."""
_RUNNING = struct.Struct("<Q16s")
"""After it: ms since boot, and the ID of the boot."""
_FRAME = re.compile(rb'W\[\{"u":|(?<=[\x29\x41]\0\0\0....)M', re.DOTALL)
"""The beginning of a frame's content: records, or a mark of either length."""


def _framed(content: bytes) -> bytes:
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _frame_end(data: bytes, place: int) -> int:
    """Return where the frame that begins at `place` ends; 0 if there is no complete one."""
    if place + _HEAD.size > len(data):
        return 0
    length, checksum = _HEAD.unpack_from(data, place)
    end: int = place + _HEAD.size + length
    if not length or end > len(data) or zlib.crc32(memoryview(data)[place + _HEAD.size : end]) != checksum:
        return 0
    return end


def _whole_frame_after(data: bytes, place: int) -> bool:
    """Return whether a complete frame begins after `place`."""
    return any(_frame_end(data, found.start() - _HEAD.size) for found in _FRAME.finditer(data, place + _HEAD.size + 1))


def _damaged(path: Path, place: int) -> SpoolFault:
    return SpoolFault(
        f"{path} is damaged at byte {place}, and the records after it cannot be read; move it away to continue without them"
    )


def _write_all(file: BinaryIO, data: bytes, place: int) -> None:
    """Write all bytes or raise OSError. A disk that becomes full accepts a part first."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file.fileno(), rest, place)
        if not written:
            raise OSError(f"the disk is full: {len(rest)} of {len(data)} bytes were not written to {file.name}")
        rest, place = rest[written:], place + written


def _records(content: bytes, end: Place) -> list[Entry]:
    # This decoder keeps numbers exact.
    document = decode_object(b'{"records":' + content + b"}")
    assert isinstance(document, dict)
    return [Entry(tuple(r["u"]) if isinstance(r["u"], list) else r["u"], r["v"], r["k"], end) for r in document["records"]]
