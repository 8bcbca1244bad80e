"""Detection of other programs that write the file of an open store."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass

_INDEX_VERSION = 3_007_000
_INDEX_HEAD, _INDEX_BYTES = 48, 136
_LOG_HEAD, _FRAME_HEAD = 32, 24
"""Bytes, see https://sqlite.org/walformat.html. The head of the WAL's index, which is there twice, and the part of it that
is read; in the WAL, what precedes the first page, and each page, which begins with its number."""
_COMPARED_FRAMES = 8
_AGAIN_SECONDS = 0.01

_Content = tuple[int, list[bytes]]
"""The file's size and some of its pages."""


@dataclass(frozen=True, slots=True)
class _Copied:
    """How much of which WAL is in the file."""

    salts: bytes
    """The WAL's salts: 8 bytes that are also in its frames."""
    frames: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """The file's content at a certain time."""

    copied: _Copied
    pages: list[int]
    """Numbers of the pages whose content was remembered."""
    content: _Content


class Overwriting:
    """Compares some pages of a database file with their earlier content.

    With a WAL, SQLite writes the file only in checkpoints, from any process. Each first notes in the WAL's index how far it
    will copy, and at its end how far it did. So while both notes are equal and unchanged, SQLite changes no byte of the
    file. The file's size, its first page, and the pages copied last are compared: an older copy of the same store does not
    contain those pages. A new WAL that follows one that was copied completely changes no byte either.

    Closing a descriptor of a database releases the locks that this process has on it, so close this last.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._is_found = False
        self._files: list[int] = []
        for name in (path, f"{path}-wal", f"{path}-shm"):
            self._files.append(os.open(name, os.O_RDONLY))

    def close(self) -> None:
        for file in self._files:
            os.close(file)

    def is_found(self) -> bool:
        """Return whether the file was overwritten since this was created.

        Permanent, because it is unknown what else has changed.
        """
        with self._lock:
            if not self._is_found and self._differs():
                time.sleep(_AGAIN_SECONDS)
                self._is_found = self._differs()
            return self._is_found

    def _differs(self) -> bool:
        try:
            before = self._copied()
            if before is None:
                return False
            copied, page_bytes = before
            seen = self._seen
            if seen is not None and copied not in (seen.copied, self._copied_next(seen.copied, page_bytes)):
                seen = None
            pages = seen.pages if seen else self._copied_last(copied, page_bytes)
            content = self._content(pages, page_bytes)
            after = self._copied()
        except OSError:
            return False
        if before != after:
            return False
        if seen and seen.content != content:
            return True
        self._seen = _Seen(copied, pages, content)
        return False

    def _copied(self) -> tuple[_Copied, int] | None:
        """Return how far the WAL is copied, and the bytes per page; None during a checkpoint, or if one did not finish."""
        index = os.pread(self._files[2], _INDEX_BYTES, 0)
        head = index[:_INDEX_HEAD]
        if len(index) < _INDEX_BYTES or head != index[_INDEX_HEAD : 2 * _INDEX_HEAD] or _number(head[:4]) != _INDEX_VERSION:
            return None
        frames, copied, attempted = _number(head[16:20]), _number(index[96:100]), _number(index[128:132])
        if not copied == attempted <= frames:
            return None
        size = _number(head[14:16])
        return _Copied(head[32:40], copied), 65_536 if size == 1 else size

    def _copied_next(self, last: _Copied, page_bytes: int) -> _Copied | None:
        """Return the copied part of the WAL that follows a completely copied one: nothing.

        None if the old one continued, or if unknown.

        The part that the new WAL has not reached yet still contains frames of the old one.
        """
        if not last.frames or self._frame(last.frames - 1, page_bytes)[8:] != last.salts:
            return None
        if self._frame(last.frames, page_bytes)[8:] == last.salts:
            return None
        index = os.pread(self._files[2], _INDEX_HEAD, 0)
        number = (int.from_bytes(last.salts[:4]) + 1) % 2**32
        return _Copied(index[32:40], 0) if int.from_bytes(index[32:36]) == number else None

    def _copied_last(self, copied: _Copied, page_bytes: int) -> list[int]:
        """Return the first page, and the pages copied last."""
        pages = [1]
        for frame in range(max(0, copied.frames - _COMPARED_FRAMES), copied.frames):
            pages.append(int.from_bytes(self._frame(frame, page_bytes)[:4]))
        return pages

    def _frame(self, frame: int, page_bytes: int) -> bytes:
        """Return the head of a frame in the WAL: the page number, 4 other bytes, and the WAL's salts."""
        return os.pread(self._files[1], 16, _LOG_HEAD + frame * (_FRAME_HEAD + page_bytes))

    def _content(self, pages: list[int], page_bytes: int) -> _Content:
        file = self._files[0]
        return os.fstat(file).st_size, [os.pread(file, page_bytes, max(page - 1, 0) * page_bytes) for page in pages]


def _number(content: bytes) -> int:
    return int.from_bytes(content, sys.byteorder)
