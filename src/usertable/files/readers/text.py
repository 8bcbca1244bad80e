"""What the readers of CSV and NDJSON have in common: lines in some encoding."""

from __future__ import annotations

import hashlib
from typing import IO

from usertable.domain.errors import ProblemKind, refusal
from usertable.files.encodings import check_utf8, find_encoding
from usertable.files.lines import Lines
from usertable.files.options import ReadOptions

CELL_CHARACTERS = 16 * 2**20
"""A cell, or a line of NDJSON, has at most so many characters; a quote that is never closed is found by it."""
BLOCK_BYTES = 8 * 2**20
"""A block of NDJSON has at most so much of a file, and a row more."""
ARROW_BYTES = 4 * 2**20
"""Of a larger block, most is in long texts, for which Arrow would take several times the memory and win little."""
_UNPACK = "it is compressed with {name}; unpack it first: `{tool} FILE | usertable import - --format …`"
_RENAME = (
    "it is compressed with {name}; let its name end in {end}, or unpack it: `{tool} FILE | usertable import - --format …`"
)
_OTHER_FORMATS = {
    b"\x1f\x8b": _RENAME.format(name="gzip", end=".gz", tool="gunzip -c"),
    b"\x28\xb5\x2f\xfd": _RENAME.format(name="zstd", end=".zst", tool="zstd -dc"),
    b"\xfd7zXZ\x00": _UNPACK.format(name="xz", tool="xz -dc"),
    b"BZh91AY&SY": _UNPACK.format(name="bzip2", tool="bzip2 -dc"),
    b"PK\x03\x04": "it is a zip archive, as an Excel workbook (.xlsx) is; in the spreadsheet, save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "it is an Excel workbook (.xls); in the spreadsheet, save it as CSV UTF-8",
    b"PAR1": "it is a Parquet file; say --format parquet",
    b"ARROW1": "it is an Arrow (Feather) file; write it as Parquet",
}
"""What is told of a file that is no text, by the bytes with which it begins."""
_MARK = b"\xef\xbb\xbf"
"""What a file of UTF-8 may begin with."""


class TextSource:
    """What CSV and NDJSON have in common: lines in some encoding."""

    def __init__(self, stream: IO[bytes], options: ReadOptions, *, at_cr: bool) -> None:
        self._start: bytes = stream.peek(2**20)  # type: ignore[attr-defined]
        for begin, what in _OTHER_FORMATS.items():
            if self._start.startswith(begin):
                raise refusal(ProblemKind.IMPORT_FILE, reason=what)
        self._encoding = find_encoding(self._start, options.encoding)
        if options.encoding == "auto" and not self._encoding.mark:
            check_utf8(stream)
        stream.read(len(self._encoding.mark))
        self._is_utf8 = self._encoding.codec == "utf-8"
        self._stream = stream
        self._options = options
        self._at_cr = at_cr
        self._lines = Lines(stream, self._encoding, at_cr=at_cr)
        self._hash = hashlib.blake2b(digest_size=16)

    def _utf8(self, lines: list[bytes], raw: bytes) -> bytes | None:
        """Some lines, `raw` together, in UTF-8; None if one of them may have a byte or a mark that it must not have."""
        if self._is_utf8:
            return raw if raw.isascii() or _MARK not in raw else None
        unit = self._encoding.unit
        if unit > 1 and any(len(line) % unit for line in lines):
            return None
        try:
            text = raw.decode(self._encoding.codec)
        except UnicodeDecodeError:
            return None
        return None if "\ufeff" in text or "\ufffe" in text else text.encode()


def is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
