"""The file of refused rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from usertable.domain.errors import Refused, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.files.block import Block, Head, originals
from usertable.files.disk import hold, is_named
from usertable.files.options import ReadOptions
from usertable.files.reasons import kept_reasons
from usertable.files.reject_rows import first_number, reject_line, reject_row, rejects_head
from usertable.files.targets import REASON, ROW
from usertable.folders import sync_folder

_encoder = msgspec.json.Encoder(decimal_format="number")


class Rejects:
    """The file of refused rows: byte for byte as in the imported file, with their number and their problems.

    CSV rows go to a CSV file, those of other formats to NDJSON.

    Args:
        refuse: creates an error from a reason.
    """

    def __init__(self, path: Path, options: ReadOptions, refuse: Callable[[Phrase], Refused]) -> None:
        self.path = path
        self.head = Head()
        self._options = options
        self._refuse = refuse
        self._stream: IO[bytes] | None = None

    def open(self, size: int | None = None) -> None:
        """Create the file if missing, and lock it until it is closed. Its name is durable when this returns.

        Args:
            size: for a resumed import: number of bytes that were written to it. What follows belongs to rows that were not
                imported.

        Raises:
            Refused: it cannot be written, another process has locked it, it has fewer bytes, or, for a new import, it is not
                empty.
        """
        path, name = self.path, str(self.path)
        try:
            if path.exists() and not path.is_file():
                raise self._refuse(phrase(PhraseKind.REJECTS_NOT_REGULAR, path=name))
            self._stream = hold(path)
            if self._stream:
                sync_folder(path.parent)
        except OSError as error:
            detail = error.strerror or error
            raise self._refuse(phrase(PhraseKind.REJECTS_UNWRITABLE, path=name, detail=detail)) from error
        if self._stream is None:
            raise self._refuse(phrase(PhraseKind.REJECTS_IN_USE, path=name))
        found = os.fstat(self._stream.fileno()).st_size
        if size is None:
            if not found:
                return
            self.close()
            raise self._refuse(phrase(PhraseKind.REJECTS_EXIST, path=name))
        if found < size:
            self.close()
            raise self._refuse(phrase(PhraseKind.REJECTS_CUT, path=name, found=found, written=size))

    def keep(self, size: int, block: Block, refused: Sequence[tuple[int, str]]) -> int:
        """Truncate the file to `size`, append rows with their reasons, and sync it. Return its new size."""
        stream = self._stream
        assert stream is not None
        descriptor = stream.fileno()
        if not is_named(stream, self.path):
            raise self._refuse(phrase(PhraseKind.REJECTS_GONE, path=str(self.path)))
        if not refused and os.fstat(descriptor).st_size == size:
            return size
        rows = originals(block, self._options, [number for number, _ in refused]) if refused else []
        lines = [self._line(number, reason, row) for (number, reason), row in zip(refused, rows, strict=True)]
        if not size and lines and self._options.format == "csv":
            lines.insert(0, rejects_head(self.head))
        elif not size and self._options.format == "ndjson":
            lines.insert(0, self.head.encoding.mark)
        stream.truncate(size)
        stream.seek(size)
        stream.write(b"".join(lines))
        stream.flush()
        os.fsync(descriptor)
        return stream.tell()

    def first_number(self, block: Block, number: int) -> int:
        """Return the number that a row had in the file that was imported first, if this is a file of refused rows."""
        if self._options.format == "parquet":
            return number
        (raw,) = originals(block, self._options, [number])
        return first_number(raw, self.head, self._options.format, number)

    def reasons(self, size: int) -> Iterator[str]:
        """Yield the reasons in the first `size` bytes of the file."""
        return kept_reasons(self.path, size, self._options.format, self.head)

    def close(self) -> None:
        """Release the file. One without rows is removed."""
        if self._stream:
            if not os.fstat(self._stream.fileno()).st_size and is_named(self._stream, self.path):
                self.path.unlink()
            self._stream.close()
            self._stream = None

    def _line(self, number: int, reason: str, row: Any) -> bytes:
        if self._options.format == "csv":
            return reject_row(row, self.head, number, reason)
        if self._options.format == "ndjson":
            return reject_line(row, self.head.encoding, number, reason)
        return _encoder.encode({ROW: number, REASON: reason} | row) + b"\n"
