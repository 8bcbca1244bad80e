"""The encoding of an import's file: from its byte order mark or an option. Never guessed."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from usertable.domain.errors import ProblemKind, Refused, excerpt, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind

_MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    # Before UTF-16's mark, which is a prefix of it.
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
    b"\x84\x31\x95\x33": "gb18030",
}
"""Encodings by the byte order mark at the beginning of a file."""
_CODECS = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "ascii"}
    | {"gb18030", "big5", "big5hkscs", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"}
    | {f"iso8859-{part}" for part in range(1, 17) if part != 12}
    | {f"cp125{page}" for page in range(9)}
    | {"cp437", "cp850", "cp866", "cp874", "koi8-r", "koi8-u", "mac-roman"}
)
"""Python's names of the supported encodings. In each, a line end is that of ASCII, and a line can be decoded on its own."""
_SUBSETS = {"gbk": "gb18030", "gb2312": "gb18030", "utf-8-sig": "utf-8"}
NAMED = ("utf-8", "utf-16", "utf-16le", "utf-16be", "gb18030", "big5", "shift_jis", "euc-kr", "cp1252", "latin-1")
"""The names listed in a message."""
_LIKELY = (("gb18030",), ("big5",), ("shift_jis", "cp932"), ("euc-kr", "cp949"), ("cp1252",), ("cp1251",))
"""Encodings used to show a file that is not UTF-8: the first of each group that decodes it."""
_LINES_TRIED = 50
_CHUNK = 2**20
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file's encoding, by the name of Python's codec, and the byte order mark at the beginning of the file."""

    codec: str = "utf-8"
    mark: bytes = b""

    @property
    def unit(self) -> int:
        """Bytes of the shortest character. A line end begins at a multiple of it."""
        return 4 if self.codec.startswith("utf-32") else 2 if self.codec.startswith("utf-16") else 1

    @property
    def name(self) -> str:
        """The name that `--encoding` accepts."""
        return self.codec.replace("-le", "le").replace("-be", "be")


def encoding_codec(name: str) -> str | None:
    """Return Python's name of an encoding, `auto` unchanged; None if an import does not support it."""
    if name == "auto":
        return name
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    codec = _SUBSETS.get(codec, codec)
    return codec if codec in _CODECS else None


def find_encoding(head: bytes, codec: str) -> Encoding:
    """Return the encoding of a file from its head: as named, or by its byte order mark, or UTF-8.

    Raises:
        Refused: the mark is that of another encoding; or there is no mark and the encoding must be named.
    """
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    marked = _MARKS.get(mark)
    if codec == "auto":
        if marked is None and (wide := _unmarked(head[:_HEAD])):
            name = Encoding(wide).name
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.MARK_MISSING, encoding=name))
        return Encoding(marked or "utf-8", mark)
    if codec in ("utf-16", "utf-32"):
        if marked is None or not marked.startswith(codec):
            orders = tuple(Encoding(f"{codec}-{order}").name for order in ("le", "be"))
            reason = phrase(PhraseKind.MARK_NEEDED, encoding=codec, encodings=orders)
            raise refusal(ProblemKind.IMPORT_FILE, reason=reason)
        return Encoding(marked, mark)
    if marked and marked != codec:
        reason = phrase(PhraseKind.OTHER_MARK, marked=Encoding(marked).name, encoding=Encoding(codec).name)
        raise refusal(ProblemKind.IMPORT_FILE, reason=reason)
    return Encoding(codec, mark)


def _unmarked(head: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 encoding that a file without a mark seems to have; None if it has neither."""
    zeros = [head[offset::4].count(0) for offset in range(4)]
    if sum(zeros) * 30 < len(head) or len(head) < 4:
        return None
    quarter = len(head) // 4
    if zeros[2] >= quarter and zeros[3] >= quarter and not zeros[0]:
        return "utf-32-le"
    if zeros[0] >= quarter and zeros[1] >= quarter and not zeros[3]:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > 8 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 8 * odd else None


def check_utf8(stream: IO[bytes]) -> None:
    """Check that a file of unknown encoding is UTF-8: all of it if it can seek, else the part that has been read.

    Raises:
        Refused: it is not UTF-8. The message shows how likely encodings would decode it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    if not stream.seekable():
        head: bytes = stream.peek(_CHUNK)  # type: ignore[attr-defined]
        try:
            decoder.decode(head)
        except UnicodeDecodeError:
            raise _not_utf8(head.splitlines(keepends=True)) from None
        return
    begin = stream.tell()
    try:
        while chunk := stream.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        stream.seek(begin)
        raise _not_utf8(iter(lambda: stream.readline(_CHUNK), b"")) from None
    finally:
        stream.seek(begin)


def _not_utf8(lines: Iterable[bytes]) -> Refused:
    """Return the refusal of a file with these lines, at least one of which is not UTF-8."""
    found: list[tuple[int, bytes, int]] = []
    for number, line in enumerate(lines, start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            found.append((number, line.rstrip(b"\r\n"), error.start))
            if len(found) == _LINES_TRIED:
                break
    number, line, offset = found[0]
    shown = []
    for group in _LIKELY:
        codec = next((codec for codec in group if all(_reads(codec, line) for _, line, _ in found)), None)
        if codec:
            before = len(line[:offset].decode(codec, "ignore"))
            text = line.decode(codec)[max(0, before - 12) : before + 12].strip()
            shown.append(phrase(PhraseKind.READING, text=excerpt(text), encoding=codec))
    if shown:
        reason = phrase(PhraseKind.LIKELY_ENCODINGS, line=number, readings=tuple(shown))
    else:
        reason = phrase(PhraseKind.UNKNOWN_ENCODING, line=number, encodings=NAMED)
    return refusal(ProblemKind.IMPORT_FILE, reason=reason)


def _reads(codec: str, line: bytes) -> bool:
    try:
        return line.decode(codec).replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def flaw(line: bytes, encoding: Encoding) -> Phrase | None:
    """Return why a line cannot be decoded; None if it can."""
    try:
        text = line.decode(encoding.codec)
    except UnicodeDecodeError as error:
        if encoding.unit == 1:
            return phrase(PhraseKind.NOT_IN_ENCODING, byte=f"0x{line[error.start]:02X}", encoding=encoding.name)
        position = error.start + 1
        return phrase(PhraseKind.NOT_IN_ENCODING_FROM, encoding=encoding.name, position=position, detail=error.reason)
    if "\ufeff" in text or (encoding.unit > 1 and "\ufffe" in text):
        return phrase(PhraseKind.MARK_INSIDE)
    return None
