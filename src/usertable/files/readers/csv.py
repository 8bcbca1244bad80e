"""The reader of CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from usertable.domain.errors import Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Project
from usertable.files.block import Block, Head, ParsedRow, ParsedRows, check_digest, make_block, unread
from usertable.files.columns import Columns
from usertable.files.encodings import flaw
from usertable.files.lines import Lines
from usertable.files.options import ReadOptions
from usertable.files.readers.text import ARROW_BYTES, BLOCK_BYTES, CELL_CHARACTERS, TextSource, is_utf8
from usertable.files.targets import LINE, REASON, ROW, unique_names, unnamed_problem

if TYPE_CHECKING:
    from usertable.files.arrow import ArrowColumns
    from usertable.files.arrow_csv import ArrowCSV


@dataclass(slots=True)
class _Split:
    """Lines of CSV as rows."""

    lines: list[bytes]
    """Including the lines that the last row needed in addition."""
    texts: list[str]
    rows: list[list[str]]
    ends: Sequence[int]
    """For each row, the number of lines up to its end."""
    broken: dict[int, Phrase]
    """By index of the row, why it cannot be read."""

    def text(self, row: int) -> str:
        """Return a row as it is in the file."""
        return "".join(self.texts[self.ends[row - 1] if row else 0 : self.ends[row]])


class CSVSource(TextSource):
    def __init__(self, stream: IO[bytes], options: ReadOptions, project: Project, *, arrow: bool) -> None:
        csv.field_size_limit(CELL_CHARACTERS)
        super().__init__(stream, options, at_cr=True)
        self.unseen: set[str] = set()
        self._spreads = False
        lines = self._lines.take(1)
        said = _DELIMITER.fullmatch(lines[0].decode(self._encoding.codec, "replace")) if lines else None
        if said and options.delimiter not in (None, said[1]):
            reason = phrase(PhraseKind.DELIMITER_TWICE, said=said[1], delimiter=options.delimiter)
            raise refusal(ProblemKind.IMPORT_FILE, reason=reason)
        self._delimiter = options.delimiter or (said[1] if said else ",")
        header = self._split(self._lines.take(1) if said else lines)
        names = self._names(header)
        self._raw_header = b"".join([*lines, *header.lines] if said else header.lines)
        self._hash.update(self._raw_header)
        self.columns = unique_names(names)
        self.head = Head(self.columns, self._encoding, self._raw_header, self._delimiter)
        try:
            self._columns = Columns(self.columns, options, project)
        except Refused as refused:
            raise _other_form(names, self._delimiter) or refused from None
        targets = zip(self._columns.sources, self._columns.targets, strict=True)
        unnamed = [index for index, target in targets if target.kind == "unnamed"]
        if unnamed and stream.seekable():
            self._check_unnamed(unnamed)
        self._arrow: tuple[ArrowCSV, ArrowColumns] | None = None
        if arrow and self._delimiter.isascii():
            # Only the extra `parquet` installs Arrow, which is several times as fast.
            with contextlib.suppress(ImportError):
                from usertable.files.arrow import ArrowColumns
                from usertable.files.arrow_csv import ArrowCSV

                self._arrow = ArrowCSV(len(self.columns), self._delimiter), ArrowColumns(self.columns, options, project)

    def _names(self, header: _Split) -> list[str]:
        if not header.rows:
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.EMPTY_FILE))
        wrong = self._flaws(header) | header.broken
        if wrong:
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.HEADER_FLAW, reason=wrong[0]))
        if not any(header.rows[0]):
            raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.EMPTY_HEADER))
        return [_unwrapped(name) for name in header.rows[0]]

    def _check_unnamed(self, indexes: Sequence[int]) -> None:
        """Search the file for cells in columns without a name, before a row is imported."""
        before, ahead = self._lines, self._stream.tell()
        # `ahead` was counted from the first byte after the mark.
        self._stream.seek(ahead - before.ahead)
        self._lines = Lines(self._stream, self._encoding, at_cr=True)
        done = 0
        while lines := self._lines.take(self._options.rows, BLOCK_BYTES):
            rows = self._split(lines).rows
            for number, row in enumerate(rows, start=done + 1):
                for index in indexes:
                    if len(row) == len(self.columns) and row[index]:
                        problem = unnamed_problem(self.columns[index], row[index])
                        expected = phrase(PhraseKind.IN_ROW, reason=problem.params["expected"], row=number)
                        raise Refused([Problem(problem.kind, problem.attribute, {"expected": expected})])
            done += len(rows)
        self._stream.seek(ahead)
        self._lines = before

    def _texts(self, lines: Sequence[bytes]) -> list[str]:
        codec = self._encoding.codec
        try:
            return list(map(bytes.decode, lines)) if self._is_utf8 else [line.decode(codec) for line in lines]
        except UnicodeDecodeError:
            # The row of such a line is refused. It only has to end where it would without the byte.
            return [line.decode(codec, "replace") for line in lines]

    def _split(self, lines: list[bytes]) -> _Split:
        """Return the rows in these lines, and in further lines if the last row continues there.

        So a file's rows are the same however many lines are requested at once. A caller that requests as many lines as there
        are rows before a certain row never passes that row.
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
                split.broken[len(split.rows)] = _csv_flaw(error)
                row = []
            split.rows.append(row)
            ends.append(reader.line_num)
        self._spreads = len(split.rows) < len(split.lines)
        return split

    def _feed(self, split: _Split) -> Iterator[str]:
        yield from split.texts
        # The last row is incomplete.
        while (split.ends[-1] if split.ends else 0) < len(split.lines) and (more := self._lines.take(1)):
            split.lines += more
            split.texts += self._texts(more)
            yield split.texts[-1]

    def _flaws(self, split: _Split) -> dict[int, Phrase]:
        """Return, by index of the row, what is wrong with its bytes."""
        raw = b"".join(split.lines)
        if self._utf8(split.lines, raw) is not None and (not self._is_utf8 or is_utf8(raw)):
            return {}
        found: dict[int, Phrase] = {}
        begin = 0
        for index, end in enumerate(split.ends):
            if why := next(filter(None, (flaw(line, self._encoding) for line in split.lines[begin:end])), None):
                found[index] = why
            begin = end
        return found

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = 0
        while skip > done and (lines := self._lines.take(min(self._options.rows, skip - done), BLOCK_BYTES)):
            split = self._split(lines)
            self._hash.update(b"".join(split.lines))
            done += len(split.rows)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := self._lines.take(self._options.rows, BLOCK_BYTES):
            raw = b"".join(lines)
            ends = list(itertools.accumulate(map(len, lines)))
            parsed = self._with_arrow(lines, raw, range(done + 1, done + 1 + len(lines)))
            if parsed is None:
                split = self._split(lines)
                parsed = self._row_by_row(split, done + 1)
                raw = b"".join(split.lines)
                sizes = list(itertools.accumulate(map(len, split.lines)))
                ends = [sizes[end - 1] for end in split.ends]
            self._hash.update(raw)
            first, done = done + 1, done + len(ends)
            yield make_block(parsed, first, done, self._lines.position, self._hash.hexdigest(), raw, ends)

    def _with_arrow(self, lines: list[bytes], raw: bytes, numbers: range) -> ParsedRows | None:
        """Parse the lines with Arrow; None if a line is not a row, or Arrow cannot convert them."""
        if self._arrow is None or len(raw) > ARROW_BYTES or LINE in self.columns:
            return None
        text = self._utf8(lines, raw)
        if text is None or (b'="' in text and _WRAPPED_BYTES.search(text)):
            return None
        split, columns = self._arrow
        found = split.columns(text, len(numbers))
        return None if found is None else columns.block([found[source] for source in columns.sources], numbers)

    def _row_by_row(self, split: _Split, first: int) -> ParsedRows:
        """Parse the rows one by one."""
        broken = split.broken | self._flaws(split)
        text = "".join(split.texts)
        may_be_wrapped = '="' in text or any(quote in text for quote in _AFTER_BLANKS)
        names: set[str] = set()

        def parsed(i: int, cells: list[str]) -> ParsedRow | list[Problem] | None:
            why, line = broken.get(i), ""
            if not why and LINE in self.columns and len(cells) == len(self.columns) and (line := self._whole_line(cells)):
                cells, why = self._row_of_line(line)
            if not why and may_be_wrapped and any(map(_may_be_wrapped, cells)):
                why = _misplaced_quote(line or split.text(i), self._delimiter)
                cells = list(map(_unwrapped, cells))
            if not why and cells and len(cells) != len(self.columns):
                why = phrase(PhraseKind.CELL_COUNT, cells=len(cells), columns=len(self.columns))
            if why:
                return [unread(why)]
            # An empty line is not a row, so it cannot have a problem.
            return self._columns.row(cells, names) if cells else None

        return ParsedRows.of(((first + i, parsed(i, cells)) for i, cells in enumerate(split.rows)), names)

    def _whole_line(self, row: list[str]) -> str:
        """Return the content of a row's `#line`, unless somebody has copied it into the other cells."""
        filled = [name for name, cell in zip(self.columns, row, strict=True) if cell and name not in (ROW, REASON)]
        return row[self.columns.index(LINE)] if filled == [LINE] else ""

    def _row_of_line(self, line: str) -> tuple[list[str], Phrase | None]:
        """Return the cells in a `#line`, each in its column, or why there are none."""
        if why := _misplaced_quote(line, self._delimiter):
            return [], phrase(PhraseKind.IN_COLUMN, column=LINE, reason=why)
        try:
            found = list(csv.reader(io.StringIO(line, newline=""), delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return [], phrase(PhraseKind.IN_COLUMN, column=LINE, reason=_csv_flaw(error))
        names = [name for name in self.columns if name not in (ROW, REASON, LINE)]
        if len(found) != 1 or len(found[0]) != len(names):
            cells = len(found[0]) if len(found) == 1 else sum(map(len, found))
            why = phrase(PhraseKind.CELL_COUNT, cells=cells, columns=len(names))
            return [], phrase(PhraseKind.IN_COLUMN, column=LINE, reason=why)
        cells_by_name = dict(zip(names, found[0], strict=True))
        return [cells_by_name.get(name, "") for name in self.columns], None


def _csv_flaw(error: csv.Error) -> Phrase:
    """Return what is wrong with a row that is not CSV, and what to do."""
    why = str(error)
    if _UNCLOSED.search(why):
        return phrase(PhraseKind.UNCLOSED_QUOTE, detail=why)
    if "expected after" in why:
        return phrase(PhraseKind.TEXT_AFTER_QUOTE, detail=why)
    return phrase(PhraseKind.CSV_FLAW, detail=why)


_UNCLOSED = re.compile("unexpected end|field larger")
_DELIMITER = re.compile('"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
"""A first line that is not a header, but tells a spreadsheet the delimiter."""
_WRAPPED = re.compile('="((?>(?:[^"]|"")*))"')
"""A text that a spreadsheet must not convert to a number: `="01067"`."""
_WRAPPED_BYTES = re.compile(rb'(?:\A|[^0-9A-Za-z])="')
_BLANKS = (
    "\t\v\f \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u2060\u3000"
)
"""Characters that are invisible or look like a blank before a cell."""
_AFTER_BLANKS = tuple(f'{blank}"' for blank in _BLANKS)


def _may_be_wrapped(cell: str) -> bool:
    """Return whether a cell begins like a wrapped text, or has a blank before a quote."""
    return cell[:2] == '="' or (cell[:1] in _BLANKS and '"' in cell)


def _unwrapped(cell: str) -> str:
    found = _WRAPPED.fullmatch(cell) if cell[:2] == '="' else None
    return found[1].replace('""', '"') if found else cell


def _misplaced_quote(row: str, delimiter: str) -> Phrase | None:
    """Return the problem with a quote that CSV treats as part of its cell; None if the row has none."""
    edge = re.escape(delimiter)
    cells = re.compile(f'(?:"(?>(?:[^"]|"")*)"|([^{edge}\r\n]*+))(?:[{edge}\r\n]+?|$)')
    for number, found in enumerate(cells.finditer(row), start=1):
        cell = found[1] or ""
        if cell[:1] in _BLANKS and cell.lstrip(_BLANKS).startswith(('"', '="')):
            return phrase(PhraseKind.SPACE_BEFORE_QUOTE, cell=number)
        if cell[:2] == '="' and not _WRAPPED.fullmatch(cell):
            return phrase(PhraseKind.UNCLOSED_FORMULA, cell=number)
    return None


def _other_form(names: Sequence[str], delimiter: str) -> Refused | None:
    """Return the refusal of a header that matches nothing in the project, if it seems to have another form; else None."""
    if names[0].lstrip()[:1] in ("{", "["):
        return refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.JSON_FILE))
    for other, shown in ((";", ";"), ("\t", "\\t"), ("|", "|"), (",", ",")):
        if other != delimiter and sum(name.count(other) for name in names) >= len(names):
            reason = phrase(PhraseKind.OTHER_DELIMITER, delimiter=delimiter, other=shown)
            return refusal(ProblemKind.IMPORT_FILE, reason=reason)
    return None
