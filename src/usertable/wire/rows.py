"""Rows of a file to users and their checked values: what an import reads.

A file is read in blocks of some thousand rows, in order, with memory for one block. Every row comes out either as what a
store takes (:data:`~usertable.store.base.Incoming`) or with all that is wrong with it; a block carries its rows as they
stood in the file, so that one that is refused can be handed back to be mended.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from usertable.domain.errors import Kind, Problem, Refused, refuse
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value, is_empty
from usertable.store.base import Incoming, IncomingRows
from usertable.store.document import encode_attributes
from usertable.wire.bodies import decode_object
from usertable.wire.columns import (
    CUID,
    LINE,
    MEMO,
    Columns,
    Format,
    JSONNumber,
    Made,
    Reading,
    Target,
    column_target,
    identifier_values,
    parse_cuid,
    parse_value,
)
from usertable.wire.moments import Moment

if TYPE_CHECKING:
    from usertable.wire.arrow import ArrowColumns, ArrowCSV, ArrowLines

FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet")
CELL_CHARACTERS = 16 * 2**20
"""A cell, or a line of NDJSON, has at most so many characters; a quote that is never closed is found by it."""
BLOCK_BYTES = 8 * 2**20
"""A block of NDJSON has at most so much of a file, and a row more."""
COLUMNS_SHOWN = 50
"""A message that tells a file's columns tells so many."""
ARROW_BYTES = 4 * 2**20
"""Of a larger block, most is in long texts, for which Arrow would take several times the memory and win little."""
ARROW_MISSES = 3
"""After so many blocks of NDJSON in turn that are not like those before, none is looked at that way any more."""


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
    """The rows as they stood in the file, for :func:`originals`."""


def make_block(made: Made, first: int, done: int, position: int, digest: str, raw: bytes) -> Block:
    own = {"first": first, "done": done, "position": position, "digest": digest, "raw": raw}
    return Block(made.numbers, made.rows, made.names, made.refused, made.cut, **own)  # type: ignore[arg-type]


class Source(Protocol):
    """A file that is being read."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns; none for NDJSON, where every row has its own."""
        ...

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
        if column not in source.columns:
            have = ", ".join(source.columns[:COLUMNS_SHOWN]) + (", …" if len(source.columns) > COLUMNS_SHOWN else "")
            raise refuse(Kind.COLUMN, column, expected=f"it is mapped, and the file does not have it; it has {have}")
    return source


def find_encoding(head: bytes) -> str:
    """The encoding of a file that begins so: by its byte order mark, else UTF-8 if it is that, else GB18030."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for encoding in ("utf-8", "gb18030"):
        try:
            # What is cut off at the end is no mistake of the file's.
            codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8"


class _CSV:
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        csv.field_size_limit(CELL_CHARACTERS)
        self.unseen: set[str] = set()
        self._stream = stream
        self._reading = reading
        self._delimiter = reading.delimiter
        self._lines: list[str] = []
        encoding = reading.encoding
        if encoding == "auto":
            encoding = find_encoding(stream.peek(2**20))  # type: ignore[attr-defined]
        self._encoding = encoding
        # A byte that is not of the encoding becomes half of a surrogate pair, by which its row is known and refused.
        errors = "replace" if encoding == "utf-16" else "surrogateescape"
        self._text = io.TextIOWrapper(stream, "utf-8-sig" if encoding == "utf-8" else encoding, errors, newline="")
        self._hash = hashlib.blake2b(digest_size=16)
        header, broken = self._rows(1)
        if broken:
            raise refuse(Kind.IMPORT_FILE, reason=f"its header is not CSV: {broken[0]}")
        self.columns = header[0] if header else []
        if not self.columns:
            raise refuse(Kind.IMPORT_FILE, reason="it is empty; the first line must name the columns")
        self._header = self._raw()
        self._hash.update(self._header)
        self._columns = Columns(self.columns, reading, project)
        self._arrow: tuple[ArrowCSV, ArrowColumns] | None = None
        # Only the extra for Parquet brings Arrow, which reads and checks several times as fast.
        with contextlib.suppress(ImportError):
            from usertable.wire.arrow import ArrowColumns, ArrowCSV

            if self._delimiter.isascii():
                self._arrow = ArrowCSV(len(self.columns), self._delimiter), ArrowColumns(self.columns, reading, project)

    def _raw(self) -> bytes:
        """What the last call of :meth:`_rows` read."""
        return "".join(self._lines).encode("utf-8", "surrogateescape")

    def _rows(self, count: int) -> tuple[list[list[str]], dict[int, str]]:
        """The rows in the next `count` lines, and by place among them what keeps some from being read.

        A row that is not at its end then is read to it, and no further: so whoever asks for as many lines as rows are left
        before a place never passes that place.
        """
        self._lines = list(islice(self._text, count))
        return self._rows_of(self._lines)

    def _rows_of(self, lines: list[str]) -> tuple[list[list[str]], dict[int, str]]:
        rows, broken = self._parsed(lines)
        if "unexpected end" in broken.get(len(rows) - 1, ""):
            begun = self._last_row(lines)
            if self._finish(lines, begun):
                last, still_broken = self._parsed(lines[begun:])
                del broken[len(rows) - 1]
                rows[-1:] = last
                broken |= {len(rows) - 1: reason for reason in still_broken.values()}
        return rows, {
            place: f"{why}; is a quote not closed?" if _UNCLOSED.search(why) else why for place, why in broken.items()
        }

    def _parsed(self, lines: list[str]) -> tuple[list[list[str]], dict[int, str]]:
        rows: list[list[str]] = []
        broken: dict[int, str] = {}
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            try:
                rows.extend(reader)
                return rows, broken
            except csv.Error as error:
                broken[len(rows)] = str(error)
                rows.append([])

    def _last_row(self, lines: list[str]) -> int:
        """The place of the line with which the last row begins."""
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        begun = 0
        while True:
            try:
                for _ in reader:
                    begun = reader.line_num
                return begun
            except csv.Error:
                if reader.line_num < len(lines):
                    begun = reader.line_num
                else:
                    return begun

    def _finish(self, lines: list[str], begun: int) -> bool:
        """Add the lines up to the end of the row that begins with that one; none if it has none, or is too large."""
        more: list[str] = []
        size = sum(map(len, lines[begun:]))
        while size <= CELL_CHARACTERS and (line := self._text.readline()):
            more.append(line)
            size += len(line)
            # Only a quote can end a quoted cell, so the others need no try.
            if '"' in line and not self._parsed(lines[begun:] + more)[1]:
                break
        lines += more
        return bool(more)

    def _has_foreign_bytes(self, raw: bytes) -> bool:
        try:
            raw.decode()
        except UnicodeDecodeError:
            return True
        return False

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = 0
        while skip > done:
            rows, _ = self._rows(min(self._reading.rows, skip - done))
            if not self._lines:
                break
            self._hash.update(self._raw())
            done += len(rows)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := list(islice(self._text, self._reading.rows)):
            self._lines = lines
            raw, count = self._raw(), len(lines)
            made = self._at_once(raw, range(done + 1, done + 1 + count))
            if made is None:
                count, made = self._one_by_one(lines, done + 1)
                raw = self._raw()
            self._hash.update(raw)
            first, done = done + 1, done + count
            position = self._stream.tell() if self._stream.seekable() else 0
            digest = self._hash.hexdigest()
            yield make_block(made, first, done, position, digest, self._header + raw)

    def _at_once(self, raw: bytes, numbers: range) -> Made | None:
        """What the lines say, if each is a row and Arrow sees at once what is in them."""
        if self._arrow is None or len(raw) > ARROW_BYTES:
            return None
        split, columns = self._arrow
        found = split.columns(raw, len(numbers))
        return None if found is None else columns.block(found, numbers)

    def _one_by_one(self, lines: list[str], first: int) -> tuple[int, Made]:
        """How many rows there are in the lines, to which the rest of the last row is added, and what they say."""
        width = len(self.columns)
        rows, broken = self._rows_of(lines)
        if self._has_foreign_bytes(self._raw()):
            for i, row in enumerate(rows):
                if found := _FOREIGN.search("".join(row)):
                    broken[i] = (
                        f"the byte 0x{ord(found[0]) - 0xDC00:02X} is not {self._encoding};"
                        " name the file's encoding with --encoding"
                    )
                    row.clear()
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
        return len(rows), replace(made, refused=sorted([*refused, *made.refused], key=lambda entry: entry[0]))


_UNCLOSED = re.compile("unexpected end|field larger")
_FOREIGN = re.compile("[\udc80-\udcff]")
"""What became of a byte that is not of the file's encoding."""


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


class _NDJSON:
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        self.columns: list[str] = []
        self.unseen = set(reading.columns)
        self._stream = stream
        self._reading = reading
        self._project = project
        self._zone = project.zone
        self._targets: dict[str, Target | list[Problem]] = {}
        self._hash = hashlib.blake2b(digest_size=16)
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

    def _lines(self, count: int) -> tuple[list[bytes], bytes]:
        """The next lines, at most so many, and all of them together."""
        lines: list[bytes] = []
        size = 0
        for line in islice(iter(partial(self._stream.readline, CELL_CHARACTERS), b""), count):
            lines.append(line)
            size += len(line)
            if size >= BLOCK_BYTES:
                break
        raw = b"".join(lines)
        self._hash.update(raw)
        return lines, raw

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = position = 0
        while skip > done:
            lines, raw = self._lines(min(self._reading.rows, skip - done))
            if not lines:
                break
            done += len(lines)
            position += len(raw)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while True:
            lines, raw = self._lines(self._reading.rows)
            if not lines:
                return
            position += len(raw)
            text = raw
            if not done:
                text = raw.removeprefix(_MARK)
                lines[0] = lines[0].removeprefix(_MARK)
            found = self._at_once(lines, text, range(done + 1, done + 1 + len(lines)))
            made = found or self._one_by_one(lines, done + 1)
            first, done = done + 1, done + len(lines)
            yield make_block(made, first, done, position, self._hash.hexdigest(), raw)

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

    def _one_by_one(self, lines: list[bytes], first: int) -> Made:
        numbers: list[int] = []
        rows: list[Incoming] = []
        refused: list[tuple[int, list[Problem]]] = []
        names: set[str] = set()
        cut: dict[int, int] = {}
        for number, line in enumerate(lines, start=first):
            self._cut = 0
            made = self._row(line, names)
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
            return [Problem(Kind.ROW_FORM, None, {"reason": f"a line has more than {CELL_CHARACTERS} bytes"})]
        members = decode_object(line)
        if type(members) is not dict:
            assert isinstance(members, Problem)
            if members.kind is Kind.DUPLICATE_KEY:
                return [Problem(Kind.ROW_FORM, None, {"reason": f"the member {members.facts['key']} is repeated"})]
            reason = members.facts.get("reason", "it is not an object")
            return [Problem(Kind.ROW_FORM, None, {"reason": f"not a JSON object: {reason}"})]
        problems: list[Problem] = []
        cuid: int | None = None
        pairs: list[tuple[int, str, str]] = []
        data: dict[str, object] = {}
        seen: set[Target] = set()
        for column, raw in members.items():
            target = self._targets.get(column) or self._target(column)
            if type(target) is list:
                problems += target
                continue
            assert isinstance(target, Target)
            if target.kind == "nothing":
                if column == LINE:
                    problems.append(
                        Problem(Kind.ROW_FORM, None, {"reason": f"{LINE} holds a line that was not read; mend it"})
                    )
                continue
            if target in seen:
                problems.append(Problem(Kind.COLUMN, column, {"expected": "another member is for the same"}))
            seen.add(target)
            if is_empty(raw) or (type(raw) is str and raw in self._reading.nulls):
                if self._reading.empty == "refuse":
                    problems.append(Problem(Kind.VALUE_EMPTY, target.name or CUID))
            elif target.kind == "cuid":
                found = parse_cuid(raw)
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
    """The rows with those numbers as they stood in the file: a list of cells, a line, or members for JSON."""
    wanted = set(numbers)
    if reading.format == "ndjson":
        lines = block.raw.splitlines(keepends=False) if b"\r" not in block.raw else block.raw.split(b"\n")
        return [lines[number - block.first] for number in numbers]
    if reading.format == "parquet":
        from usertable.wire.parquet import parquet_rows

        return parquet_rows(block.raw, block.first, numbers)
    text = block.raw.decode("utf-8", "surrogateescape")
    taken: list[str] = []

    def lines_of() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    reader = csv.reader(lines_of(), delimiter=reading.delimiter, strict=True)
    found: dict[int, list[str]] = {}
    next(reader)
    number = block.first - 1
    while True:
        number += 1
        taken.clear()
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            row = ["".join(taken)]
        if number in wanted:
            found[number] = row
    return [found[number] for number in numbers]
