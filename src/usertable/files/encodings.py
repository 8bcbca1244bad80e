"""Encodings of an import's file: what its byte order mark says, what a person names, and never a guess between two."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from usertable.domain.errors import ProblemKind, Refused, excerpt, refusal

_MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    # Before UTF-16's, with which it begins.
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
    b"\x84\x31\x95\x33": "gb18030",
}
"""Encodings by the byte order mark with which a file begins."""
_CODECS = frozenset(
    {"utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "ascii"}
    | {"gb18030", "big5", "big5hkscs", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"}
    | {f"iso8859-{part}" for part in range(1, 17) if part != 12}
    | {f"cp125{page}" for page in range(9)}
    | {"cp437", "cp850", "cp866", "cp874", "koi8-r", "koi8-u", "mac-roman"}
)
"""Python's names of those that can be named. A line of each ends with the codes of ASCII, and needs no line before it."""
_SUBSETS = {"gbk": "gb18030", "gb2312": "gb18030", "utf-8-sig": "utf-8"}
NAMED = ("utf-8", "utf-16", "utf-16le", "utf-16be", "gb18030", "big5", "shift_jis", "euc-kr", "cp1252", "latin-1")
"""The names that a message lists."""
_LIKELY = (("gb18030",), ("big5",), ("shift_jis", "cp932"), ("euc-kr", "cp949"), ("cp1252",), ("cp1251",))
"""What a file that is not UTF-8 is shown as: of each group, the first that reads it."""
_LINES_TRIED = 50
_CHUNK = 2**20
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file's encoding, by the name of Python's codec, and the byte order mark with which the file begins."""

    codec: str = "utf-8"
    mark: bytes = b""

    @property
    def unit(self) -> int:
        """Bytes of the shortest character: an end of a line begins at a multiple of it."""
        return 4 if self.codec.startswith("utf-32") else 2 if self.codec.startswith("utf-16") else 1

    @property
    def name(self) -> str:
        """The name that `--encoding` takes."""
        return self.codec.replace("-le", "le").replace("-be", "be")


def encoding_codec(name: str) -> str | None:
    """Python's name of an encoding that is named, `auto` as it is; None if it is none that an import reads."""
    if name == "auto":
        return name
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    codec = _SUBSETS.get(codec, codec)
    return codec if codec in _CODECS else None


def find_encoding(head: bytes, codec: str) -> Encoding:
    """The encoding of a file that begins so: as it was named, or by its byte order mark, or UTF-8.

    Raises:
        Refused: the mark says another one than was named; or one that must be named has no mark.
    """
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    marked = _MARKS.get(mark)
    if codec == "auto":
        if marked is None and (wide := _unmarked(head[:_HEAD])):
            name = Encoding(wide).name
            raise refusal(
                ProblemKind.IMPORT_FILE, reason=f"it looks like {name} without a byte order mark; say --encoding {name}"
            )
        return Encoding(marked or "utf-8", mark)
    if codec in ("utf-16", "utf-32"):
        if marked is None or not marked.startswith(codec):
            little, big = (Encoding(f"{codec}-{order}").name for order in ("le", "be"))
            raise refusal(
                ProblemKind.IMPORT_FILE,
                reason=f"--encoding {codec} is for a file with its byte order mark, which this one lacks;"
                f" say {little} or {big}",
            )
        return Encoding(marked, mark)
    if marked and marked != codec:
        raise refusal(
            ProblemKind.IMPORT_FILE,
            reason=f"it begins with the byte order mark of {Encoding(marked).name}, and --encoding says"
            f" {Encoding(codec).name}; leave --encoding out",
        )
    return Encoding(codec, mark)


def _unmarked(head: bytes) -> str | None:
    """The encoding of two or four bytes a character that a file without a mark seems to have; None if it has none."""
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
    """Look through a file that says nothing of its encoding: all of it if it can be sought in, else what is there already.

    Raises:
        Refused: it is not UTF-8; the message shows how likely encodings would read it.
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
    """The refusal of a file with these lines, one of which at least is not UTF-8."""
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
            shown.append(f"`{excerpt(text)}` as {codec}")
    ways = f": it has {', '.join(shown)}" if shown else f" with one of {', '.join(NAMED)}"
    return refusal(
        ProblemKind.IMPORT_FILE,
        reason=f"line {number} is not UTF-8, and nothing says what it is; name the file's encoding with --encoding{ways}."
        f" If it is UTF-8 with some broken bytes, --encoding utf-8 refuses only the rows that have them",
    )


def _reads(codec: str, line: bytes) -> bool:
    try:
        return line.decode(codec).replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


def flaw(line: bytes, encoding: Encoding) -> str:
    """What keeps a line from being read; empty if nothing does."""
    try:
        text = line.decode(encoding.codec)
    except UnicodeDecodeError as error:
        if encoding.unit == 1:
            return f"the byte 0x{line[error.start]:02X} is not {encoding.name}; name the file's encoding with --encoding"
        return f"it is not {encoding.name} from its byte {error.start + 1} on: {error.reason}"
    if "\ufeff" in text or (encoding.unit > 1 and "\ufffe" in text):
        return "it has a byte order mark inside, as files have that were joined; take the mark out"
    return ""
