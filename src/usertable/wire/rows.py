"""Rows of a file to users and their checked values: what an import reads.

A file is read in blocks of some thousand rows, in order, with memory for one block. Every row comes out either as what a
store takes (:data:`~usertable.store.records.Incoming`) or with all that is wrong with it; a block carries its rows as they
stood in the file, so that one that is refused can be handed back to be fixed.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from usertable.domain.errors import Kind, Problem, Refused, refuse
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value, is_empty
from usertable.store.encoding import encode_attributes
from usertable.store.records import Incoming, IncomingRows
from usertable.wire.bodies import decode_object
from usertable.wire.columns import (
    CUID,
    LINE,
    MEMO,
    REASON,
    ROW,
    Columns,
    Format,
    JSONNumber,
    Made,
    Reading,
    Target,
    cell_cuid,
    column_target,
    identifier_values,
    parse_value,
    told_apart,
    unnamed_problem,
)
from usertable.wire.encodings import Encoding, check_utf8, find_encoding, flaw
from usertable.wire.lines import Lines
from usertable.wire.moments import Moment

if TYPE_CHECKING:
    from usertable.wire.arrow import ArrowColumns, ArrowCSV, ArrowLines

FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet")
CELL_CHARACTERS = 16 * 2**20
"""A cell, or a line of NDJSON, has at most so many characters; a quote that is never closed is found by it."""
BLOCK_BYTES = 8 * 2**20
"""A block of NDJSON has at most so much of a file, and a row more."""
COLUMNS_SHOWN = 50
"""Maximum number of a file's columns that a message names."""
ARROW_BYTES = 4 * 2**20
"""Of a larger block, most is in long texts, for which Arrow would take several times the memory and win little."""
ARROW_MISSES = 3
"""Blocks of NDJSON in turn, unlike those before, after which none is read that way any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Made):
    """Rows in the order of the file. The first row of a file has the number 1, and a CSV's header none."""

    first: int
    done: int
    """Rows of the file up to the end of this block."""
    position: int
    """Bytes of the file that were read, more or less."""
    digest: str
    """Tells whether another file begins with the same rows."""
    raw: bytes
    ends: Sequence[int]
    """Of text: where each row ends in `raw`, which has the rows as they stood in the file, for :func:`originals`."""


def make_block(made: Made, first: int, done: int, position: int, digest: str, raw: bytes, ends: Sequence[int] = ()) -> Block:
    own = {"first": first, "done": done, "position": position, "digest": digest, "raw": raw, "ends": ends}
    return Block(made.numbers, made.rows, made.names, made.refused, made.cut, **own)  # type: ignore[arg-type]


class Source(Protocol):
    """A file that is being read."""

    head: Head

    @property
    def unseen(self) -> set[str]:
        """The columns that are mapped, and that no row had so far."""
        ...

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        """The blocks after `skip` rows; raises Refused if those rows have another digest."""
        ...


def open_source(stream: IO[bytes], reading: Reading, project: Project) -> Source:
    """Begin to read a file. `stream` is buffered, and can seek if the format is Parquet.

    Raises:
        Refused: the file is not of that format, or a column is for nothing that the project has.
    """
    if reading.format == "ndjson":
        return _NDJSON(stream, reading, project)
    source: Source
    if reading.format == "csv":
        source = _CSV(stream, reading, project)
    else:
        parquet_library()
        from usertable.wire.parquet import ParquetSource

        source = ParquetSource(stream, reading, project)
    for column in reading.columns:
        columns = source.head.columns
        if column not in columns:
            have = ", ".join(columns[:COLUMNS_SHOWN]) + (", …" if len(columns) > COLUMNS_SHOWN else "")
            raise refuse(Kind.COLUMN, column, expected=f"it is mapped, and the file does not have it; it has {have}")
    return source


@dataclass(frozen=True, slots=True)
class Head:
    """What a file begins with, as far as those need it who hand its refused rows back."""

    columns: Sequence[str] = ()
    """Their names, each of which is another; none for NDJSON, where every row has its own."""
    encoding: Encoding = field(default_factory=Encoding)
    raw: bytes = b""
    """Of CSV: the line that names the columns, behind one that names the delimiter, if there is one."""
    delimiter: str = ","


_UNPACK = "it is compressed with {name}; unpack it first: `{tool} FILE | usertable import - --format …`"
_OTHER_FORMATS = {
    b"\x1f\x8b": _UNPACK.format(name="gzip", tool="gunzip -c"),
    b"\x28\xb5\x2f\xfd": _UNPACK.format(name="zstd", tool="zstd -dc"),
    b"\xfd7zXZ\x00": _UNPACK.format(name="xz", tool="xz -dc"),
    b"BZh91AY&SY": _UNPACK.format(name="bzip2", tool="bzip2 -dc"),
    b"PK\x03\x04": "it is a zip archive, as an Excel workbook (.xlsx) is; in the spreadsheet, save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "it is an Excel workbook (.xls); in the spreadsheet, save it as CSV UTF-8",
    b"PAR1": "it is a Parquet file; say --format parquet",
    b"ARROW1": "it is an Arrow (Feather) file; write it as Parquet",
}
"""What is told of a file that is no text, by the bytes with which it begins."""


class _Text:
    """What CSV and NDJSON have in common: lines in some encoding."""

    def __init__(self, stream: IO[bytes], reading: Reading, *, at_cr: bool) -> None:
        self._start: bytes = stream.peek(2**20)  # type: ignore[attr-defined]
        for begin, what in _OTHER_FORMATS.items():
            if self._start.startswith(begin):
                raise refuse(Kind.IMPORT_FILE, reason=what)
        self._encoding = find_encoding(self._start, reading.encoding)
        if reading.encoding == "auto" and not self._encoding.mark:
            check_utf8(stream)
        stream.read(len(self._encoding.mark))
        self._is_utf8 = self._encoding.codec == "utf-8"
        self._stream = stream
        self._reading = reading
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


@dataclass(slots=True)
class _Split:
    """Lines of CSV as rows."""

    lines: list[bytes]
    """With those that the last row needed beyond the ones that were given."""
    texts: list[str]
    rows: list[list[str]]
    ends: Sequence[int]
    """By row, the number of lines up to its end."""
    broken: dict[int, str]
    """By place of a row, why it cannot be read."""

    def text(self, row: int) -> str:
        """A row as it stands in the file."""
        return "".join(self.texts[self.ends[row - 1] if row else 0 : self.ends[row]])


class _CSV(_Text):
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        csv.field_size_limit(CELL_CHARACTERS)
        super().__init__(stream, reading, at_cr=True)
        self.unseen: set[str] = set()
        self._spreads = False
        lines = self._lines.take(1)
        said = _DELIMITER.fullmatch(lines[0].decode(self._encoding.codec, "replace")) if lines else None
        if said and reading.delimiter not in (None, said[1]):
            raise refuse(
                Kind.IMPORT_FILE,
                reason=f"its first line says that the delimiter is {said[1]!r}, and --delimiter {reading.delimiter!r};"
                " leave --delimiter out",
            )
        self._delimiter = reading.delimiter or (said[1] if said else ",")
        header = self._split(self._lines.take(1) if said else lines)
        names = self._names(header)
        self._raw_header = b"".join([*lines, *header.lines] if said else header.lines)
        self._hash.update(self._raw_header)
        self.columns = told_apart(names)
        self.head = Head(self.columns, self._encoding, self._raw_header, self._delimiter)
        try:
            self._columns = Columns(self.columns, reading, project)
        except Refused as refused:
            raise _other_form(names, self._delimiter) or refused from None
        unnamed = [place for place, target in enumerate(self._columns.targets) if target.kind == "unnamed"]
        if unnamed and stream.seekable():
            self._check_unnamed(unnamed)
        self._arrow: tuple[ArrowCSV, ArrowColumns] | None = None
        # Only the extra for Parquet brings Arrow, which reads and checks several times as fast.
        with contextlib.suppress(ImportError):
            from usertable.wire.arrow import ArrowColumns, ArrowCSV

            if self._delimiter.isascii():
                self._arrow = ArrowCSV(len(self.columns), self._delimiter), ArrowColumns(self.columns, reading, project)

    def _names(self, header: _Split) -> list[str]:
        if not header.rows:
            raise refuse(Kind.IMPORT_FILE, reason="it is empty; the first line must name the columns")
        wrong = self._flaws(header) | header.broken
        if wrong:
            raise refuse(Kind.IMPORT_FILE, reason=f"its header is not CSV: {wrong[0]}")
        if not any(header.rows[0]):
            raise refuse(Kind.IMPORT_FILE, reason="its first line is empty, and must name the columns")
        return [_unwrapped(name) for name in header.rows[0]]

    def _check_unnamed(self, places: Sequence[int]) -> None:
        """Look through the file for cells of columns without a name, before a row is taken."""
        before, ahead = self._lines, self._stream.tell()
        # What was read ahead was counted from the first byte that is no mark.
        self._stream.seek(ahead - before.ahead)
        self._lines = Lines(self._stream, self._encoding, at_cr=True)
        done = 0
        while lines := self._lines.take(self._reading.rows, BLOCK_BYTES):
            rows = self._split(lines).rows
            for number, row in enumerate(rows, start=done + 1):
                for place in places:
                    if len(row) == len(self.columns) and row[place]:
                        problem = unnamed_problem(self.columns[place], row[place])
                        expected = f"{problem.facts['expected']} (row {number})"
                        raise Refused([Problem(problem.kind, problem.attribute, {"expected": expected})])
            done += len(rows)
        self._stream.seek(ahead)
        self._lines = before

    def _texts(self, lines: Sequence[bytes]) -> list[str]:
        codec = self._encoding.codec
        try:
            return list(map(bytes.decode, lines)) if self._is_utf8 else [line.decode(codec) for line in lines]
        except UnicodeDecodeError:
            # Such a line's row is refused, and must only end where it would without the byte.
            return [line.decode(codec, "replace") for line in lines]

    def _split(self, lines: list[bytes]) -> _Split:
        """The rows in these lines, and in those that the last of them goes on in.

        So the rows of a file are the same ones however many lines are asked for at once; whoever asks for as many as rows
        are left before a place never passes that place.
        """
        texts = self._texts(lines)
        if not self._spreads:
            with contextlib.suppress(csv.Error):
                rows = list(csv.reader(texts, delimiter=self._delimiter, strict=True))
                if len(rows) == len(texts):
                    return _Split(lines, texts, rows, range(1, len(rows) + 1), {})
        split = _Split([*lines], texts, [], ends := [], {})
        reader = csv.reader(self._feed(split), delimiter=self._delimiter, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                split.broken[len(split.rows)] = _said(error)
                row = []
            split.rows.append(row)
            ends.append(reader.line_num)
        self._spreads = len(split.rows) < len(split.lines)
        return split

    def _feed(self, split: _Split) -> Iterator[str]:
        yield from split.texts
        # Asked for more in the middle of a row.
        while (split.ends[-1] if split.ends else 0) < len(split.lines) and (more := self._lines.take(1)):
            split.lines += more
            split.texts += self._texts(more)
            yield split.texts[-1]

    def _flaws(self, split: _Split) -> dict[int, str]:
        """By place of a row, what is wrong with its bytes."""
        raw = b"".join(split.lines)
        if self._utf8(split.lines, raw) is not None and (not self._is_utf8 or _is_utf8(raw)):
            return {}
        found: dict[int, str] = {}
        begin = 0
        for place, end in enumerate(split.ends):
            if why := next(filter(None, (flaw(line, self._encoding) for line in split.lines[begin:end])), ""):
                found[place] = why
            begin = end
        return found

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = 0
        while skip > done and (lines := self._lines.take(min(self._reading.rows, skip - done), BLOCK_BYTES)):
            split = self._split(lines)
            self._hash.update(b"".join(split.lines))
            done += len(split.rows)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := self._lines.take(self._reading.rows, BLOCK_BYTES):
            raw = b"".join(lines)
            ends = list(itertools.accumulate(map(len, lines)))
            made = self._at_once(lines, raw, range(done + 1, done + 1 + len(lines)))
            if made is None:
                split = self._split(lines)
                made = self._one_by_one(split, done + 1)
                raw = b"".join(split.lines)
                sizes = list(itertools.accumulate(map(len, split.lines)))
                ends = [sizes[end - 1] for end in split.ends]
            self._hash.update(raw)
            first, done = done + 1, done + len(ends)
            yield make_block(made, first, done, self._lines.position, self._hash.hexdigest(), raw, ends)

    def _at_once(self, lines: list[bytes], raw: bytes, numbers: range) -> Made | None:
        """What the lines say, if each is a row and Arrow sees at once what is in them."""
        if self._arrow is None or len(raw) > ARROW_BYTES or LINE in self.columns:
            return None
        text = self._utf8(lines, raw)
        if text is None or (b'="' in text and _WRAPPED_BYTES.search(text)):
            return None
        split, columns = self._arrow
        found = split.columns(text, len(numbers))
        return None if found is None else columns.block(found, numbers)

    def _one_by_one(self, split: _Split, first: int) -> Made:
        """What the rows say."""
        width, rows = len(self.columns), split.rows
        broken = split.broken | self._flaws(split)
        texts: dict[int, str] = {}
        if LINE in self.columns:
            for i, row in enumerate(rows):
                if i not in broken and len(row) == width and (found := self._whole_line(row)):
                    texts[i] = found
                    rows[i], why = self._row_of_line(found)
                    if why:
                        broken[i] = why
        text = "".join(split.texts)
        if '="' in text or any(quote in text for quote in _AFTER_BLANKS):
            for i, row in enumerate(rows):
                if i not in broken and any(cell[:2] == '="' or (cell[:1] in _BLANKS and '"' in cell) for cell in row):
                    if why := _misplaced_quote(texts.get(i) or split.text(i), self._delimiter):
                        broken[i] = why
                    else:
                        rows[i] = list(map(_unwrapped, row))
        for i in broken:
            rows[i] = []
        refused = [(first + i, [Problem(Kind.ROW_FORM, None, {"reason": reason})]) for i, reason in broken.items()]
        numbers: Sequence[int] = range(first, first + len(rows))
        good = rows
        if broken or not all(map(width.__eq__, map(len, rows))):
            refused += [(first + i, [_ragged(len(row), width)]) for i, row in enumerate(rows) if len(row) not in (0, width)]
            # A line without anything is no row, and so nothing that is wrong.
            numbers = [first + i for i, row in enumerate(rows) if len(row) == width]
            good = [row for row in rows if len(row) == width]
        columns = list(zip(*good, strict=True)) if good else [()] * width
        made = self._columns.block(columns, numbers)
        return replace(made, refused=sorted([*refused, *made.refused], key=lambda entry: entry[0]))

    def _whole_line(self, row: list[str]) -> str:
        """What stands in a row's `#line`, unless somebody wrote it into the other cells."""
        filled = [name for name, cell in zip(self.columns, row, strict=True) if cell and name not in (ROW, REASON)]
        return row[self.columns.index(LINE)] if filled == [LINE] else ""

    def _row_of_line(self, line: str) -> tuple[list[str], str]:
        """The cells that a `#line` holds, each in its column, or why there are none."""
        if why := _misplaced_quote(line, self._delimiter):
            return [], f"in {LINE}: {why}"
        try:
            found = list(csv.reader(io.StringIO(line, newline=""), delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return [], f"in {LINE}: {_said(error)}"
        names = [name for name in self.columns if name not in (ROW, REASON, LINE)]
        if len(found) != 1 or len(found[0]) != len(names):
            cells = len(found[0]) if len(found) == 1 else sum(map(len, found))
            return [], f"in {LINE}: it has {cells} cells, and the header has {len(names)}"
        cells_by_name = dict(zip(names, found[0], strict=True))
        return [cells_by_name.get(name, "") for name in self.columns], ""


def _said(error: csv.Error) -> str:
    """What is wrong with a row that is no CSV, and what may be done."""
    why = str(error)
    if _UNCLOSED.search(why):
        return f"{why}; is a quote not closed?"
    if "expected after" in why:
        return f"{why}; remove the space or text after the closing quote, or double the quotes inside the cell"
    return why


_UNCLOSED = re.compile("unexpected end|field larger")
_DELIMITER = re.compile('"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
"""A first line that is no header, but tells a spreadsheet what the delimiter is."""
_WRAPPED = re.compile('="((?>(?:[^"]|"")*))"')
"""A text that a spreadsheet must not take for a number: `="01067"`."""
_WRAPPED_BYTES = re.compile(rb'(?:\A|[^0-9A-Za-z])="')
_BLANKS = (
    "\t\v\f \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u2060\u3000"
)
"""What shows as nothing, or as an empty place, before a cell."""
_AFTER_BLANKS = tuple(f'{blank}"' for blank in _BLANKS)


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unwrapped(cell: str) -> str:
    found = _WRAPPED.fullmatch(cell) if cell[:2] == '="' else None
    return found[1].replace('""', '"') if found else cell


def _misplaced_quote(row: str, delimiter: str) -> str:
    """What is wrong with a quote that CSV takes for a part of its cell, in a row as it stands in the file; "" if nothing."""
    edge = re.escape(delimiter)
    cells = re.compile(f'(?:"(?>(?:[^"]|"")*)"|([^{edge}\r\n]*+))(?:[{edge}\r\n]+?|$)')
    for number, found in enumerate(cells.finditer(row), start=1):
        cell = found[1] or ""
        if cell[:1] in _BLANKS and cell.lstrip(_BLANKS).startswith(('"', '="')):
            return f"cell {number} has a blank before its quote; take the blank out"
        if cell[:2] == '="' and not _WRAPPED.fullmatch(cell):
            return f'cell {number} begins with =" and does not end with a quote; write it as "text"'
    return ""


def _other_form(names: Sequence[str], delimiter: str) -> Refused | None:
    """What is told of a header that names nothing the project has, if it seems to be of another form."""
    if names[0].lstrip()[:1] in ("{", "["):
        return refuse(Kind.IMPORT_FILE, reason="its first line is JSON, and no header of CSV; say --format ndjson")
    for other, shown in ((";", ";"), ("\t", "\\t"), ("|", "|"), (",", ",")):
        if other != delimiter and sum(name.count(other) for name in names) >= len(names):
            return refuse(
                Kind.IMPORT_FILE,
                reason=f"its header has {len(names)} column{'s' * (len(names) > 1)} with the delimiter {delimiter!r};"
                f" say --delimiter '{shown}'",
            )
    return None


def _ragged(cells: int, width: int) -> Problem:
    return Problem(Kind.ROW_FORM, None, {"reason": f"it has {cells} cells, and the header has {width}"})


def check_digest(skip: int, done: int, expected: str, found: str) -> None:
    if skip > done or (skip and expected != found):
        raise refuse(
            Kind.IMPORT_FILE,
            reason=f"its first {skip} rows are not those that were imported; bring the same file, or begin with --restart",
        )


_ALIKE: dict[DataType, set[type]] = {
    DataType.NUMBER: {int, JSONNumber},
    DataType.STRING: {str},
    DataType.BOOL: {int, bool},
    DataType.DATETIME: {str},
    DataType.LIST: {list},
}
"""What the members of an attribute may be for them to be taken together: of these, equal ones mean the same."""


def _member_reader(place: int, attribute: Attribute) -> Callable[[Any], object]:
    """From a JSON member to what the API would be sent."""
    if attribute.type is DataType.NUMBER:
        return _exact
    if attribute.type is DataType.BOOL:
        return int
    if attribute.type is DataType.LIST:
        return lambda member: list(map(_exact, member))
    return lambda member: member


def _exact(member: Any) -> Any:
    return Decimal(member) if type(member) is JSONNumber else member


_MARK = b"\xef\xbb\xbf"
"""What a file of UTF-8 may begin with."""
_decode_lines = msgspec.json.Decoder(dict[str, Any], float_hook=JSONNumber).decode_lines


class _NDJSON(_Text):
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        super().__init__(stream, reading, at_cr=False)
        _refuse_document(self._lines.look().decode(self._encoding.codec, "replace"))
        self.head = Head(encoding=self._encoding)
        self.unseen = set(reading.columns)
        self._project = project
        self._zone = project.zone
        self._targets: dict[str, Target | list[Problem]] = {}
        self._priority = {
            identifier.name: (place, identifier) for place, identifier in enumerate(project.schema.identifiers)
        }
        self._shape: tuple[str, ...] = ()
        self._columns: Columns | None = None
        self._arrow: ArrowColumns | None = None
        self._alike: ArrowLines | None = None
        self._misses = 0
        self._cut = 0
        """Moments that were cut in the row that is being read by itself."""

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = 0
        while skip > done and (lines := self._lines.take(min(self._reading.rows, skip - done), BLOCK_BYTES)):
            self._hash.update(b"".join(lines))
            done += len(lines)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := self._lines.take(self._reading.rows, BLOCK_BYTES):
            raw = b"".join(lines)
            self._hash.update(raw)
            made = self._made(lines, raw, done + 1)
            first, done = done + 1, done + len(lines)
            ends = list(itertools.accumulate(map(len, lines)))
            yield make_block(made, first, done, self._lines.position, self._hash.hexdigest(), raw, ends)

    def _made(self, lines: list[bytes], raw: bytes, first: int) -> Made:
        flaws: dict[int, str] = {}
        text = self._utf8(lines, raw)
        if text is None or (self._is_utf8 and not _is_utf8(raw)):
            flaws = {first + i: why for i, line in enumerate(lines) if (why := flaw(line, self._encoding))}
        if not self._is_utf8:
            codec = self._encoding.codec
            lines = [b"" if first + i in flaws else line.decode(codec).encode() for i, line in enumerate(lines)]
        found = None if flaws or text is None else self._at_once(lines, text, range(first, first + len(lines)))
        return found or self._one_by_one(lines, first, flaws)

    def _at_once(self, lines: list[bytes], raw: bytes, numbers: range) -> Made | None:
        """What the lines, `raw` together, say, column by column; None if they are not all alike, or need a closer look."""
        # Of members that are not texts, none counts as empty because its text would.
        if b"\\" in raw or self._reading.empty == "refuse" or self._reading.nulls:
            return None
        is_small = len(raw) <= ARROW_BYTES
        if self._arrow and self._alike and is_small and self._misses < ARROW_MISSES:
            arrays = self._alike.columns(lines, raw)
            if arrays is not None:
                self._misses = 0
                return self._arrow.block(arrays, numbers)
            self._misses += 1
        if b'" ' in raw or b'"\t' in raw or b'"\r' in raw:
            # A name may stand apart from its colon, by which names are counted below.
            return None
        try:
            rows = _decode_lines(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # The decoder keeps the last of repeated members and does not tell: then there are more names than members.
        if len(rows) != len(numbers) or raw.count(b'":') != sum(map(len, rows)):
            return None
        shapes = dict.fromkeys(map(tuple, rows))
        shape = tuple(dict.fromkeys(itertools.chain.from_iterable(shapes)))
        if not shape or len(shape) > 4 * max(map(len, rows)):
            return None
        if shape != self._shape:
            if any(column == LINE or type(self._target(column)) is list for column in shape):
                return None
            try:
                self._columns = Columns(shape, self._reading, self._project)
            except Refused:
                return None
            self._columns.prepare(_member_reader)
            with contextlib.suppress(ImportError):
                from usertable.wire.arrow import ArrowColumns, json_reader

                self._arrow = ArrowColumns(shape, self._reading, self._project)
                self._arrow.prepare(json_reader)
            self._shape, self._alike = shape, None
        assert self._columns is not None
        columns: list[Sequence[Any]]
        if len(shapes) == 1:
            columns = list(zip(*map(dict.values, rows), strict=True))
        else:
            columns = [[row.get(name) for row in rows] for name in shape]
        attributes = self._project.schema.attributes
        for place, (cells, target) in enumerate(zip(columns, self._columns.targets, strict=True)):
            kinds = set(map(type, cells)) - {type(None)}
            if target.kind == "cuid":
                if kinds > {int} or kinds > {str}:
                    return None
            elif target.kind == "attribute":
                if not kinds <= _ALIKE[attributes[target.name].type]:
                    return None
                if kinds == {list}:
                    columns[place] = [tuple(cell) if cell else None for cell in cells]
        if self._arrow and is_small:
            from usertable.wire.arrow import ArrowLines, json_columns

            arrays = json_columns(columns)
            if arrays is not None:
                types = [attributes[t.name].type if t.kind == "attribute" else None for t in self._columns.targets]
                self._alike = ArrowLines(shape, arrays, types)
                return self._arrow.block(arrays, numbers)
        try:
            return self._columns.block(columns, numbers)
        except TypeError:
            # A list with something in it that cannot be looked up.
            return None

    def _one_by_one(self, lines: list[bytes], first: int, flaws: Mapping[int, str]) -> Made:
        numbers: list[int] = []
        rows: list[Incoming] = []
        refused: list[tuple[int, list[Problem]]] = []
        names: set[str] = set()
        cut: dict[int, int] = {}
        for number, line in enumerate(lines, start=first):
            self._cut = 0
            made = self._row(line, names) if number not in flaws else [_unread(flaws[number])]
            if type(made) is tuple:
                numbers.append(number)
                rows.append(made)
                if self._cut:
                    cut[number] = self._cut
            elif made is not None:
                refused.append((number, made))  # type: ignore[arg-type]
        return Made(numbers, IncomingRows.of(rows), frozenset(names), refused, cut)

    def _row(self, line: bytes, names: set[str]) -> Incoming | list[Problem] | None:
        """What a line says; None if there is nothing on it."""
        if line.isspace():
            return None
        if len(line) >= CELL_CHARACTERS:
            return [_unread(f"a line has more than {CELL_CHARACTERS} bytes")]
        members = decode_object(line)
        if type(members) is not dict:
            assert isinstance(members, Problem)
            if members.kind is Kind.DUPLICATE_KEY:
                return [_unread(f"the member {members.facts['key']} is repeated")]
            return [_unread(f"not a JSON object: {members.facts.get('reason', 'it is not an object')}")]
        if type(members.get(LINE)) is str and members.keys() <= {ROW, REASON, LINE}:
            return self._row(members[LINE].encode(), names)
        problems: list[Problem] = []
        cuid: int | None = None
        pairs: list[tuple[int, str, str]] = []
        data: dict[str, object] = {}
        seen: set[Target] = set()
        is_blank = LINE not in members
        for column, raw in members.items():
            target = self._targets.get(column) or self._target(column)
            if type(target) is list:
                problems += target
                is_blank = False
                continue
            assert isinstance(target, Target)
            if target.kind == "nothing":
                if column == LINE:
                    problems.append(_unread(f"{LINE} holds a line that was not read; fix it"))
                elif column not in (ROW, REASON) and not is_empty(raw):
                    is_blank = False
                continue
            if target in seen and target.kind != "unnamed":
                problems.append(Problem(Kind.COLUMN, column, {"expected": "another member is for the same"}))
            seen.add(target)
            if is_empty(raw) or (type(raw) is str and raw in self._reading.nulls):
                if self._reading.empty == "refuse" and target.kind != "unnamed":
                    problems.append(Problem(Kind.VALUE_EMPTY, target.name or CUID))
                continue
            is_blank = False
            if target.kind == "unnamed":
                problems.append(unnamed_problem(column, raw))
            elif target.kind == "cuid":
                found = cell_cuid(raw)
                if type(found) is Problem:
                    problems.append(found)
                else:
                    cuid = found  # type: ignore[assignment]
            elif target.kind == "identifier":
                place, identifier = self._priority[target.name]
                values = identifier_values(identifier, raw)
                if type(values) is Problem:
                    problems.append(values)
                else:
                    pairs += [(place, target.name, value) for value in values]  # type: ignore[union-attr]
            else:
                data[target.name] = raw
        if is_blank:
            return None
        values_of, wrong = self._values(data)
        problems += wrong
        if cuid is None and not pairs and not problems:
            problems.append(Problem(Kind.USER_UNNAMED))
        if problems:
            return problems
        names.update(values_of)
        pairs.sort(key=lambda pair: pair[0])
        return cuid, tuple((name, value) for _, name, value in pairs), encode_attributes(values_of)

    def _target(self, column: str) -> Target | list[Problem]:
        self.unseen.discard(column)
        found: Target | list[Problem]
        try:
            found = column_target(self._project, column, self._reading.columns)
        except Refused as refused:
            found = list(refused.problems)
        if len(self._targets) < MEMO:
            self._targets[column] = found
        return found

    def _values(self, data: dict[str, object]) -> tuple[dict[str, Value], list[Problem]]:
        attributes = self._project.schema.attributes
        ready: dict[str, Value] = {}
        wrong: list[Problem] = []
        for name, raw in data.items():
            kind = attributes[name].type
            if kind is DataType.BOOL and type(raw) is bool:
                data[name] = int(raw)
            elif kind is DataType.DATETIME and type(raw) is str:
                value = parse_value(attributes[name], raw, self._zone)
                if type(value) is Problem:
                    wrong.append(value)
                elif type(value) is Moment:
                    ready[name] = value.ms
                    self._cut += value.is_cut
                else:
                    ready[name] = value  # type: ignore[assignment]
        told = {*ready, *(problem.attribute for problem in wrong)}
        checked = validate(self._project.schema, {n: raw for n, raw in data.items() if n not in told}, self._zone)
        if type(checked) is list:
            order = list(data)
            wrong = sorted(wrong + checked, key=lambda problem: order.index(problem.attribute or ""))
        if wrong:
            return {}, wrong
        assert isinstance(checked, Patch)
        return {**{attribute.name: value for attribute, value in checked.entries}, **ready}, []


def _unread(reason: str) -> Problem:
    return Problem(Kind.ROW_FORM, None, {"reason": reason})


_ARRAY = re.compile(r"\[\s*(?:\{|\Z)")
_MEMBER = re.compile(r'\{\s*"([A-Za-z_][A-Za-z0-9_]*)"\s*:\s*\[')
_document_decoder = json.JSONDecoder(strict=False)


def _refuse_document(line: str) -> None:
    """Refuse a file that is one JSON document over many lines, by its first line: others of it may be whole objects."""
    first = line.strip()
    if _ARRAY.match(first):
        raise refuse(
            Kind.IMPORT_FILE,
            reason="it is a JSON array, and NDJSON has one object a line; write it so, such as with `jq -c '.[]' FILE`",
        )
    if first.startswith("{") and line.endswith("\n") and _goes_on(first):
        member = _MEMBER.match(first)
        entries = f", or its entries with `jq -c '.{member[1]}[]' FILE`" if member else ""
        raise refuse(
            Kind.IMPORT_FILE,
            reason="it has a JSON object over several lines, and NDJSON one object a line; write it so, such as with"
            f" `jq -c . FILE`{entries}",
        )


def _goes_on(text: str) -> bool:
    """Whether this is JSON as far as it goes, and lacks its end."""
    try:
        _document_decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except RecursionError:
        pass
    return False


def parquet_library() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        Refused: they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise refuse(Kind.PARQUET_LIBRARY) from error
    return pyarrow, parquet


def originals(block: Block, reading: Reading, numbers: Sequence[int]) -> list[Any]:
    """The rows with those numbers as they stood in the file: bytes, or of Parquet members for JSON."""
    if reading.format == "parquet":
        from usertable.wire.parquet import parquet_rows

        return parquet_rows(block.raw, block.first, numbers)
    edges = [0, *block.ends]
    return [block.raw[edges[number - block.first] : edges[number - block.first + 1]] for number in numbers]
