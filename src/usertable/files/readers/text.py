"""The part that the readers of CSV and NDJSON share: lines in some encoding."""

from __future__ import annotations

import hashlib
from typing import IO

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.files.encodings import check_utf8, find_encoding
from usertable.files.lines import Lines
from usertable.files.options import ReadOptions

CELL_CHARACTERS = 16 * 2**20
"""Maximum number of characters of a cell or a line of NDJSON. Detects a quote that is never closed."""
BLOCK_BYTES = 8 * 2**20
"""Maximum bytes of a block of NDJSON, except for its last row."""
ARROW_BYTES = 4 * 2**20
"""Maximum bytes of a block for Arrow. Larger blocks are mostly long texts, for which Arrow needs several times the memory
and saves little time."""
_OTHER_FORMATS = {
    b"\x1f\x8b": phrase(PhraseKind.RENAME_OR_UNPACK, coding="gzip", ending=".gz", command="gunzip -c"),
    b"\x28\xb5\x2f\xfd": phrase(PhraseKind.RENAME_OR_UNPACK, coding="zstd", ending=".zst", command="zstd -dc"),
    b"\xfd7zXZ\x00": phrase(PhraseKind.UNPACK_FIRST, coding="xz", command="xz -dc"),
    b"BZh91AY&SY": phrase(PhraseKind.UNPACK_FIRST, coding="bzip2", command="bzip2 -dc"),
    b"PK\x03\x04": phrase(PhraseKind.ZIP_FILE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": phrase(PhraseKind.EXCEL_FILE),
    b"PAR1": phrase(PhraseKind.PARQUET_FILE),
    b"ARROW1": phrase(PhraseKind.ARROW_FILE),
}
"""The message for a file that is not text, by its first bytes."""
_MARK = b"\xef\xbb\xbf"
"""A possible beginning of a UTF-8 file."""


class TextSource:
    """The part that CSV and NDJSON share: lines in some encoding."""

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
        """Return some lines, `raw` together, in UTF-8; None if one of them may have an invalid byte or a mark."""
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
