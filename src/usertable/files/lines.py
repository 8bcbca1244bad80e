"""The lines of a file, byte for byte, in any supported encoding."""

from __future__ import annotations

import bisect
import codecs
import itertools
import re
import unicodedata
from typing import IO

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.files.encodings import Encoding

LINE_BYTES = 64 * 2**20
"""Maximum bytes of a line of a file."""
_CHUNK = 2**20
_LOOKED_AHEAD = 4096
_BLANK_LINES = 4096


class Lines:
    """Reads lines, including their line ends, from a file after its byte order mark.

    Args:
        at_cr: whether a carriage return alone ends a line too, as in CSV.
    """

    def __init__(self, stream: IO[bytes], encoding: Encoding, *, at_cr: bool) -> None:
        self._stream = stream
        self._unit = encoding.unit
        self._codec = encoding.codec
        cr, lf = re.escape("\r".encode(encoding.codec)), re.escape("\n".encode(encoding.codec))
        self._ends = re.compile(b"%b%b|%b|%b" % (cr, lf, cr, lf) if at_cr else lf, re.DOTALL)
        self._at_cr = at_cr
        self._ready: list[bytes] = []
        self._next = 0
        self._tail: list[bytes] = []
        self._ended = False
        self._count = 0
        self.position = len(encoding.mark)
        """Bytes of the file up to the end of the last line that was taken."""

    def take(self, count: int, size: int | None = None) -> list[bytes]:
        """Return the next `count` lines; fewer at the end of the file, or if they have more than `size` bytes together."""
        while len(self._ready) - self._next < count and not self._ended:
            self._read()
            if size is not None and sum(map(len, self._ready)) > 2 * size:
                break
        taken = self._ready[self._next : self._next + count]
        total = sum(map(len, taken))
        if size is not None and total > size:
            ends = list(itertools.accumulate(map(len, taken)))
            last = bisect.bisect_left(ends, size)
            del taken[last + 1 :]
            total = ends[last]
        self._next += len(taken)
        self._count += len(taken)
        self.position += total
        return taken

    def look(self) -> bytes:
        """Return the next line that is not blank without taking it; empty if there is none nearby."""
        seen = 0
        while True:
            for line in itertools.islice(self._ready, self._next + seen, None):
                seen += 1
                if line.strip(b"\0 \t\r\n"):
                    return line
            if self._ended or seen > _BLANK_LINES:
                return b""
            self._read()

    @property
    def ahead(self) -> int:
        """Bytes read from the file and not taken."""
        return sum(map(len, self._ready[self._next :])) + sum(map(len, self._tail))

    def _read(self) -> None:
        chunk: bytes = self._stream.read1(_CHUNK)  # type: ignore[attr-defined]
        self._ended = not chunk
        self._tail.append(chunk)
        if sum(map(len, self._tail)) > LINE_BYTES + _CHUNK:
            number = self._count + len(self._ready) - self._next + 1
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.LONG_LINE, line=number, limit=LINE_BYTES))
        if chunk and b"\n" not in chunk and not (self._at_cr and b"\r" in chunk):
            return
        data = b"".join(self._tail)
        lines, tail = self._split(data) if self._unit == 1 else self._split_wide(data)
        self._ready = self._ready[self._next :] + lines
        self._next = 0
        self._tail = [tail] if tail else []

    def _split(self, data: bytes) -> tuple[list[bytes], bytes]:
        if self._at_cr or b"\r" not in data:
            lines = data.splitlines(keepends=True)
        else:
            lines = [line + b"\n" for line in data.split(b"\n")]
            if last := lines.pop().removesuffix(b"\n"):
                lines.append(last)
        # A carriage return at the end may be half of a line end.
        is_whole = self._ended or not lines or lines[-1].endswith(b"\n")
        return (lines, b"") if is_whole else (lines[:-1], lines[-1])

    def _split_wide(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Split a file in UTF-16 or UTF-32 into lines, each of which begins a whole number of characters later.

        If a byte is missing or added, the rest of the file would be read as other characters. A line end is then at another
        place: the line goes up to there, cannot be decoded, and the next line is right again.
        """
        lines: list[bytes] = []
        begin = 0
        for found in self._ends.finditer(data):
            if found.start() < begin:
                continue
            if not self._ended and len(data) - found.end() < _LOOKED_AHEAD:
                break
            if (found.start() - begin) % self._unit and not self._is_shifted(data, begin, found.end()):
                continue
            lines.append(data[begin : found.end()])
            begin = found.end()
        if self._ended and begin < len(data):
            lines.append(data[begin:])
            begin = len(data)
        return lines, data[begin:]

    def _is_shifted(self, data: bytes, begin: int, end: int) -> bool:
        """Return whether a line end out of step is a real one: whether the bytes in step there are not text."""
        stop = end + _LOOKED_AHEAD
        for found in self._ends.finditer(data, end, stop):
            if (found.start() - begin) % self._unit == 0:
                stop = found.end()
                break
        # Without the end, where a character may be cut.
        try:
            text = codecs.getincrementaldecoder(self._codec)("surrogatepass").decode(data[begin:stop])
        except UnicodeDecodeError:
            return True
        # A file of refused rows has such halves of pairs in place of added bytes.
        return any(
            unicodedata.category(character) in ("Cn", "Cs") and not "\udc00" <= character <= "\udcff" for character in text
        )
