"""Rows of a file to users and their checked values: what an import reads.

A file is read in blocks of some thousand rows, in order, with memory for one block. Every row comes out either as what a
store takes (:data:`~usertable.store.base.Incoming`) or with all that is wrong with it; a block carries its rows as they
stood in the file, so that one that is refused can be handed back to be mended.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import islice, repeat
from typing import IO, Any, Literal, Protocol

import msgspec

from usertable.domain.errors import Kind, Problem, Refused, excerpt, refuse
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Identifier, Project
from usertable.domain.values import (
    DEFAULT_LIMITS,
    PARSERS,
    STRING_BYTES,
    DataType,
    Value,
    datetime_text,
    is_empty,
    steady_midnight,
)
from usertable.store.base import MAX_CUID, Incoming
from usertable.store.document import encode_attributes
from usertable.wire.bodies import decode_object
from usertable.wire.jiguang import MAX_IDENTITY_CHARACTERS, is_identity_value

Format = Literal["csv", "ndjson", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet")
CELL_CHARACTERS = 16 * 2**20
"""A cell, or a line of NDJSON, has at most so many characters; a quote that is never closed is found by it."""
BLOCK_BYTES = 8 * 2**20
"""A block of NDJSON has at most so much of a file, and a row more."""
_MEMO = 20_000
ROW, REASON, LINE = "#row", "#reason", "#line"
"""Members of a refused row, beside its own. No attribute has such a name; they are not read when it is imported again."""
CUID = "cuid"


@dataclass(frozen=True, slots=True)
class Target:
    """What a column is for: the CUID, an identifier, an attribute, or nothing."""

    kind: Literal["cuid", "identifier", "attribute", "nothing"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read."""

    format: Format
    encoding: str = "auto"
    """Of CSV: utf-8, gb18030 (which GBK is a part of), utf-16, or auto to see by :func:`find_encoding`."""
    delimiter: str = ","
    list_separator: str | None = None
    """Of CSV: what stands between the elements of a LIST. Otherwise its cells are JSON arrays."""
    nulls: frozenset[str] = frozenset()
    """Texts that count as an empty cell."""
    empty: Literal["skip", "refuse"] = "skip"
    """What an empty cell or null means: the attribute is not set, or the row is refused."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By column, the attribute or identifier that it is for; empty for nothing."""
    rows: int = 5000
    """So many rows make a block."""


@dataclass(slots=True)
class Block:
    """Rows in the order of the file."""

    numbers: Sequence[int]
    """By row that is in order: its number; the first row of a file has 1, and a CSV's header none."""
    rows: list[Incoming]
    names: frozenset[str]
    """The attributes that a row has a value of."""
    refused: list[tuple[int, list[Problem]]]
    """By number."""
    first: int
    done: int
    """Rows of the file up to the end of this block."""
    position: int
    """Bytes of the file that were read, more or less."""
    digest: str
    """Tells whether another file begins with the same rows."""
    raw: bytes
    """The rows as they stood in the file, for :func:`originals`."""


class Source(Protocol):
    """A file that is being read."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns; none for NDJSON, where every row has its own."""
        ...

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        """The blocks after `skip` rows; raises Refused if those rows have another digest."""
        ...


def column_target(project: Project, column: str, columns: Mapping[str, str]) -> Target:
    """What a column is for: as `columns` says, or by its own name.

    A name may be `cuid`, or an attribute's or identifier's; `attribute:NAME` and `identifier:NAME` tell which.

    Raises:
        Refused: there is nothing of that name, or both an attribute and an identifier.
    """
    if column in (ROW, REASON, LINE):
        return Target("nothing")
    name = columns.get(column, column)
    if not name:
        return Target("nothing")
    kind, colon, rest = name.partition(":")
    attributes = project.schema.attributes
    identifiers = {identifier.name for identifier in project.schema.identifiers}
    if colon and kind == "attribute" and rest in attributes:
        return Target("attribute", rest)
    if colon and kind == "identifier" and rest in identifiers:
        return Target("identifier", rest)
    if name == CUID:
        return Target("cuid")
    found = [Target("attribute", name)] if name in attributes else []
    found += [Target("identifier", name)] if name in identifiers else []
    if len(found) == 1:
        return found[0]
    if found:
        ways = " or ".join(f"--map '{column}={target.kind}:{target.name}'" for target in found)
        raise refuse(Kind.COLUMN, column, expected=f"{name} is more than one thing; say {ways}")
    raise refuse(
        Kind.COLUMN,
        column,
        expected=f"{name} is neither cuid nor a declared attribute or identifier; name one with --map '{column}=NAME',"
        f" or leave the column out with --map '{column}='",
    )


def open_source(stream: IO[bytes], reading: Reading, project: Project) -> Source:
    """Begin to read a file. `stream` is buffered, and can seek if the format is Parquet.

    Raises:
        Refused: the file is not of that format, or a column is for nothing that the project has.
    """
    if reading.format == "csv":
        return _CSV(stream, reading, project)
    if reading.format == "ndjson":
        return _NDJSON(stream, reading, project)
    return _Parquet(stream, reading, project)


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


class _Ready:
    """A value that needs no parsing any more."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


_OFFSET = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?(Z|[+-][0-9]{2}:[0-9]{2}(:[0-9]{2})?)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BOOLS = {"0": 0, "1": 1, "false": 0, "true": 1, "FALSE": 0, "TRUE": 1, "False": 0, "True": 1}


def moment_text(ms: int, zone: tzinfo) -> str:
    """A DATETIME for a file: `yyyy-MM-dd HH:mm:ss` in the zone if that means this very moment, else with an offset."""
    text = datetime_text(ms, zone)
    if PARSERS[DataType.DATETIME]("", text, zone, DEFAULT_LIMITS) == ms:
        return text
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).isoformat(" ", "milliseconds" if ms % 1000 else "seconds")


def _moment(text: str) -> object:
    """What a text with an offset means, as a value; any other as it is."""
    if _OFFSET.fullmatch(text):
        try:
            return _Ready((datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND)
        except (ValueError, OverflowError):
            pass
    return text


# The calendar's first and last days are not whole in every zone.
_EARLIEST, _LATEST = -62_135_424_000_000, 253_402_128_000_000


def _parse(attribute: Attribute, raw: object, zone: tzinfo) -> Value | Problem:
    if type(raw) is _Ready:
        if type(raw.value) is int and _EARLIEST <= raw.value <= _LATEST:
            return raw.value
        raw = f"{raw.value} ms since 1970"
    return PARSERS[attribute.type](attribute.name, raw, zone, attribute.limits)


class _Number(str):
    """A JSON number with a point or an exponent, as it is written."""

    __slots__ = ()


_NUMBERS = {int, _Number}


@dataclass(slots=True)
class _Texts:
    """A column as JSON texts of its values, "" for one that is empty."""

    texts: Sequence[Any]
    has_empty: bool = False
    is_quoted: bool = True
    """Whether texts of a STRING have their quotes."""
    problems: Mapping[int, Problem] = field(default_factory=dict)
    """By place, where the text counts as empty."""


class _Column(dict[Any, "str | Problem"]):
    """Turns an attribute's cells into JSON texts, each different one once; what is plain all over, without a look at each.

    Plain is what becomes itself: a STRING without anything to be escaped, a NUMBER in its canonical form. That is looked
    for in all cells at once, which costs a hundredth of parsing them. What is not plain goes through the domain's parsers.
    """

    def __init__(self, attribute: Attribute, zone: tzinfo, reading: Reading, prepare: Callable[[Any], object]) -> None:
        self.name = attribute.name
        self._attribute = attribute
        self._zone = zone
        self._reading = reading
        self._prepare = prepare
        self._days = _Days(zone)
        self.are_moments = False
        """Whether the cells are milliseconds since 1970 UTC."""

    @property
    def is_datetime(self) -> bool:
        """Whether the attribute is a DATETIME."""
        return self._attribute.type is DataType.DATETIME

    def texts(self, cells: Sequence[Any]) -> _Texts:
        """The texts of some cells: strings, or for typed formats, values of one type or None."""
        if None in cells:
            cells = ["" if cell is None else cell for cell in cells]
        has_empty = "" in cells
        reading = self._reading
        if not (has_empty and reading.empty == "refuse") and (not reading.nulls or reading.nulls.isdisjoint(cells)):
            plain = self._plain(cells)
            if plain is not None:
                return _Texts(plain, has_empty, self._attribute.type is not DataType.STRING)
        made = list(map(self.__getitem__, cells))
        if Problem in set(map(type, made)):
            problems = {place: text for place, text in enumerate(made) if type(text) is Problem}
            texts = ["" if type(text) is Problem else text for text in made]
            return _Texts(texts, "" in texts, True, problems)
        return _Texts(made, "" in made)

    def _plain(self, cells: Sequence[Any]) -> Sequence[Any] | None:
        kind = self._attribute.type
        try:
            if kind is DataType.STRING:
                text = " ".join(cells)
                if text.isprintable() and '"' not in text and "\\" not in text and max(map(len, cells)) * 4 <= STRING_BYTES:
                    return cells
            elif self.are_moments:
                if set(map(type, cells)) == {int} and min(cells) >= _EARLIEST and max(cells) <= _LATEST:
                    return list(map(str, cells))
            elif kind is DataType.NUMBER:
                if set(map(type, cells)) <= _NUMBERS:
                    cells = list(map(str, cells))
                if _PLAIN_NUMBERS.fullmatch("\n".join(cells)):
                    return cells
            elif kind is DataType.DATETIME and len(set(cells)) * 2 > len(cells):
                text = "\n".join(cells)
                if _PLAIN_MOMENTS.fullmatch(text):
                    parts = text.replace(" ", "\n").split("\n")
                    days = map(self._days.__getitem__, parts[::2])
                    return list(map(str, map(operator.add, days, map(_SECONDS.__getitem__, parts[1::2]))))
        except (TypeError, KeyError, ValueError):
            # Not all are texts; or a day is none, or its clocks change.
            pass
        return None

    def __missing__(self, cell: Any) -> str | Problem:
        if len(self) >= _MEMO:
            self.clear()
        made = self[cell] = self._made(cell)
        return made

    def _made(self, cell: Any) -> str | Problem:
        raw = "" if cell in self._reading.nulls else self._prepare(cell) if cell != "" else ""
        if is_empty(raw):
            return "" if self._reading.empty == "skip" else Problem(Kind.VALUE_EMPTY, self.name)
        value = _parse(self._attribute, raw, self._zone)
        if type(value) is Problem:
            return value
        return encode_attributes({"": value})[4:-1]  # type: ignore[dict-item]


# Digits so few that the form is the one in which the store writes them, without an exponent.
_NUMBER = r"(?:-?(?:0|[1-9][0-9]{0,30})\.[0-9]{0,5}[1-9]|0|-?[1-9][0-9]{0,37})"
_PLAIN_NUMBERS = re.compile(rf"{_NUMBER}?(?:\n{_NUMBER}?)*+")
_PLAIN_MOMENTS = re.compile(r"[0-9-]{10} [0-9:]{8}(?:\n[0-9-]{10} [0-9:]{8})*+")
_PLAIN_CUIDS = re.compile(r"[1-9][0-9]{0,17}(?:\n[1-9][0-9]{0,17})*+")
_SECONDS = {
    f"{hour:02}:{minute:02}:{second:02}": (hour * 3600 + minute * 60 + second) * 1000
    for hour in range(24)
    for minute in range(60)
    for second in range(60)
}


class _Days(dict[str, int]):
    """Milliseconds since 1970 UTC at which local days begin, of those whose offset is steady."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __missing__(self, day: str) -> int:
        midnight = steady_midnight(day, self._zone)
        if midnight is None:
            raise KeyError(day)
        made = self[day] = midnight * 1000
        return made


def _cell_reader(attribute: Attribute, reading: Reading) -> Callable[[str], object]:
    """From a CSV's cell to what the API would be sent."""
    if attribute.type is DataType.BOOL:
        return lambda cell: _BOOLS.get(cell, cell)
    if attribute.type is DataType.DATETIME:
        return _moment
    if attribute.type is DataType.LIST:
        separator = reading.list_separator
        if separator:
            return lambda cell: [part for part in cell.split(separator) if part]
        return _array
    return lambda cell: cell


def _array(cell: str) -> object:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return cell


def _cuid(cell: object) -> int | Problem | None:
    if cell is None or cell == "":
        return None
    value = cell
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is int and 1 <= value <= MAX_CUID:
        return value
    return Problem(Kind.CUID_MALFORMED, None, {"value": excerpt(cell)})


def _identifier_values(identifier: Identifier, cell: object) -> list[str] | Problem:
    """The values in a cell: one of a unique identifier; of another one, or a JSON array of some."""
    values: object = [cell]
    if not identifier.unique:
        if type(cell) is str and cell.startswith("["):
            cell = _array(cell)
        values = cell if type(cell) is list else [cell]
    assert isinstance(values, list)
    texts = [str(value) if type(value) is int else value for value in values]
    if not all(isinstance(text, str) and is_identity_value(text) for text in texts):
        expected = f"a text of 1 to {MAX_IDENTITY_CHARACTERS} characters"
        return Problem(Kind.PARAMETER, identifier.name, {"name": identifier.name, "expected": expected})
    return list(dict.fromkeys(texts))


_Made = tuple[Sequence[int], list[Incoming], frozenset[str], list[tuple[int, list[Problem]]]]
"""The numbers of the rows that are in order, those rows, the attributes in them, and the refused by number."""


class _Columns:
    """Turns rows of equal width, column by column, into what a store takes."""

    def __init__(self, columns: Sequence[str], reading: Reading, project: Project) -> None:
        self.targets = [column_target(project, column, reading.columns) for column in columns]
        for place, (column, target) in enumerate(zip(columns, self.targets, strict=True)):
            if target.kind != "nothing" and target in self.targets[:place]:
                other = columns[self.targets.index(target)]
                raise refuse(Kind.COLUMN, column, expected=f"it is for the same as column [{other}]; leave one out")
        if not any(target.kind in ("cuid", "identifier") for target in self.targets):
            raise refuse(Kind.IMPORT_FILE, reason="no column is the cuid or an identifier, so no row names its user")
        self._cuid = next((i for i, t in enumerate(self.targets) if t.kind == "cuid"), None)
        identifiers = project.schema.identifiers
        places = {t.name: i for i, t in enumerate(self.targets) if t.kind == "identifier"}
        self._identifiers = [
            (identifier, places[identifier.name]) for identifier in identifiers if identifier.name in places
        ]
        self._attributes = [
            (i, project.schema.attributes[t.name]) for i, t in enumerate(self.targets) if t.kind == "attribute"
        ]
        self._nulls = reading.nulls
        self._columns: list[tuple[int, _Column]] = []
        self._reading = reading
        self._zone = project.zone
        self.prepare(lambda place, attribute: _cell_reader(attribute, reading))

    def prepare(self, reader: Callable[[int, Attribute], Callable[[Any], object]]) -> None:
        """Say how the cells of an attribute's column are read, by its place."""
        self._columns = [(i, _Column(a, self._zone, self._reading, reader(i, a))) for i, a in self._attributes]

    def mark_moments(self, places: Sequence[int]) -> None:
        """Say which columns' cells are milliseconds since 1970 UTC."""
        for place, column in self._columns:
            column.are_moments = place in places and column.is_datetime

    def block(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> _Made:
        """What the rows of these columns come to."""
        count = len(numbers)
        bad: dict[int, list[Problem]] = {}
        full: list[Iterable[str]] = []
        partial: list[Iterable[str]] = []
        names = []
        before = "{"
        for place, column in self._columns:
            name, found = column.name, column.texts(columns[place])
            for i, problem in found.problems.items():
                bad.setdefault(i, []).append(problem)
            quote = "" if found.is_quoted else '"'
            if not found.has_empty:
                full += [repeat(f'{before}"{name}":{quote}'), found.texts]
                before = f"{quote},"
                names.append(name)
            elif any(found.texts):
                partial.append([f',"{name}":{quote}{text}{quote}' if text != "" else "" for text in found.texts])
                names.append(name)
        if full:
            texts = list(map("".join, zip(*full, repeat(before.rstrip(",")), *partial, repeat("}"), strict=False)))
        elif partial:
            texts = ["{" + "".join(row)[1:] + "}" for row in zip(*partial, strict=True)]
        else:
            texts = ["{}"] * count
        cuids: Sequence[Any] = [None] * count
        if self._cuid is not None and count:
            cuids = self._cuids(columns[self._cuid], bad)
        places = [(identifier, i) for identifier, i in self._identifiers if any(columns[i])]
        pairs: Iterable[tuple[tuple[str, str], ...]] = repeat(())
        if places or None in cuids:
            pairs = [self._pairs(places, columns, i, cuids[i], bad) for i in range(count)]
        rows: list[Incoming] = list(zip(cuids, pairs, texts, strict=False))
        if not bad:
            return numbers, rows, frozenset(names), []
        kept = [i for i in range(len(numbers)) if i not in bad]
        refused = [(numbers[i], bad[i]) for i in sorted(bad)]
        return [numbers[i] for i in kept], [rows[i] for i in kept], frozenset(names), refused

    def _cuids(self, cells: Sequence[Any], bad: dict[int, list[Problem]]) -> Sequence[Any]:
        try:
            if _PLAIN_CUIDS.fullmatch("\n".join(cells)):
                return list(map(int, cells))
        except TypeError:
            if set(map(type, cells)) == {int} and min(cells) > 0:
                return cells
        cuids = [_cuid(None if type(cell) is str and cell in self._nulls else cell) for cell in cells]
        for i, cuid in enumerate(cuids):
            if type(cuid) is Problem:
                bad.setdefault(i, []).insert(0, cuid)
        return cuids

    def _pairs(
        self,
        places: Sequence[tuple[Identifier, int]],
        columns: Sequence[Sequence[Any]],
        i: int,
        cuid: object,
        bad: dict[int, list[Problem]],
    ) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        for identifier, place in places:
            cell = columns[place][i]
            if is_empty(cell) or (type(cell) is str and cell in self._nulls):
                continue
            values = _identifier_values(identifier, cell)
            if type(values) is Problem:
                bad.setdefault(i, []).append(values)
            else:
                pairs += [(identifier.name, value) for value in values]  # type: ignore[union-attr]
        if cuid is None and not pairs and i not in bad:
            bad[i] = [Problem(Kind.USER_UNNAMED)]
        return tuple(pairs)


class _CSV:
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        csv.field_size_limit(CELL_CHARACTERS)
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
        self._columns = _Columns(self.columns, reading, project)

    def _raw(self) -> bytes:
        """What the last call of :meth:`_rows` read."""
        raw = "".join(self._lines).encode("utf-8", "surrogateescape")
        self._hash.update(raw)
        return raw

    def _rows(self, count: int) -> tuple[list[list[str]], dict[int, str]]:
        """The rows in the next `count` lines, and by place among them what keeps some from being read.

        A row that is not at its end then is read to it, and no further: so whoever asks for as many lines as rows are left
        before a place never passes that place.
        """
        lines = self._lines = list(islice(self._text, count))
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
        width, done = len(self.columns), 0
        while skip > done:
            rows, _ = self._rows(min(self._reading.rows, skip - done))
            if not self._lines:
                break
            self._raw()
            done += len(rows)
        _check_digest(skip, done, digest, self._hash.hexdigest())
        while True:
            rows, broken = self._rows(self._reading.rows)
            if not self._lines:
                return
            raw = self._raw()
            if self._has_foreign_bytes(raw):
                for i, row in enumerate(rows):
                    if found := _FOREIGN.search("".join(row)):
                        broken[i] = (
                            f"the byte 0x{ord(found[0]) - 0xDC00:02X} is not {self._encoding};"
                            " name the file's encoding with --encoding"
                        )
                        row.clear()
            refused = [(done + 1 + i, [Problem(Kind.ROW_FORM, None, {"reason": reason})]) for i, reason in broken.items()]
            numbers: Sequence[int] = range(done + 1, done + 1 + len(rows))
            if broken or not all(map(width.__eq__, map(len, rows))):
                refused += [
                    (done + 1 + i, [_ragged(len(row), width)]) for i, row in enumerate(rows) if len(row) not in (0, width)
                ]
                # A line without anything is no row, and so nothing that is wrong.
                numbers = [done + 1 + i for i, row in enumerate(rows) if len(row) == width]
                good = [row for row in rows if len(row) == width]
            else:
                good = rows
            columns = list(zip(*good, strict=True)) if good else [()] * width
            kept, incoming, names, wrong = self._columns.block(columns, numbers)
            first, done = done + 1, done + len(rows)
            yield Block(
                kept,
                incoming,
                names,
                sorted([*refused, *wrong], key=lambda entry: entry[0]),
                first,
                done,
                self._stream.tell() if self._stream.seekable() else 0,
                self._hash.hexdigest(),
                self._header + raw,
            )


_UNCLOSED = re.compile("unexpected end|field larger")
_FOREIGN = re.compile("[\udc80-\udcff]")
"""What became of a byte that is not of the file's encoding."""


def _ragged(cells: int, width: int) -> Problem:
    return Problem(Kind.ROW_FORM, None, {"reason": f"it has {cells} cells, and the header has {width}"})


def _check_digest(skip: int, done: int, expected: str, found: str) -> None:
    if skip > done or (skip and expected != found):
        raise refuse(
            Kind.IMPORT_FILE,
            reason=f"its first {skip} rows are not those that were imported; bring the same file, or begin with --restart",
        )


_ALIKE: dict[DataType, set[type]] = {
    DataType.NUMBER: {int, _Number},
    DataType.STRING: {str},
    DataType.BOOL: {int, bool},
    DataType.DATETIME: {str},
    DataType.LIST: {list},
}
"""What the members of an attribute may be for them to be taken together: of these, equal ones mean the same."""


def _member_reader(place: int, attribute: Attribute) -> Callable[[Any], object]:
    """From a JSON member to what the API would be sent."""
    if attribute.type is DataType.NUMBER:
        return lambda member: Decimal(member) if type(member) is _Number else member
    if attribute.type is DataType.BOOL:
        return int
    if attribute.type is DataType.DATETIME:
        return _moment
    if attribute.type is DataType.LIST:
        return list
    return lambda member: member


_decode_lines = msgspec.json.Decoder(dict[str, Any], float_hook=_Number).decode_lines
_QUOTE_AND_SPACE = re.compile(rb'"[ \t\r]')


class _NDJSON:
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        self.columns: list[str] = []
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
        self._columns: _Columns | None = None

    def _lines(self, count: int) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        while len(lines) < count and size < BLOCK_BYTES:
            line = self._stream.readline(CELL_CHARACTERS)
            if not line:
                break
            lines.append(line)
            size += len(line)
        self._hash.update(b"".join(lines))
        return lines

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = position = 0
        while skip > done and (lines := self._lines(min(self._reading.rows, skip - done))):
            done += len(lines)
            position += sum(map(len, lines))
        _check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := self._lines(self._reading.rows):
            raw = b"".join(lines)
            position += len(raw)
            if not done:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            found = self._at_once(b"".join(lines), range(done + 1, done + 1 + len(lines)))
            numbers, rows, names, refused = found or self._one_by_one(lines, done + 1)
            first, done = done + 1, done + len(lines)
            yield Block(numbers, rows, names, refused, first, done, position, self._hash.hexdigest(), raw)

    def _at_once(self, raw: bytes, numbers: range) -> _Made | None:
        """What the lines say, column by column; None if they are not all alike, or anything needs a closer look."""
        if b"\\" in raw or self._reading.empty == "refuse" or _QUOTE_AND_SPACE.search(raw):
            return None
        try:
            rows = _decode_lines(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # The decoder keeps the last of repeated members and does not tell: then there are more names than members.
        if len(rows) != len(numbers) or raw.count(b'":') != sum(map(len, rows)):
            return None
        shape = tuple(dict.fromkeys(itertools.chain.from_iterable(rows)))
        if not shape or len(shape) > 4 * max(map(len, rows)):
            return None
        if shape != self._shape:
            if any(column == LINE or type(self._target(column)) is list for column in shape):
                return None
            try:
                self._columns = _Columns(shape, self._reading, self._project)
            except Refused:
                return None
            self._columns.prepare(_member_reader)
            self._shape = shape
        assert self._columns is not None
        columns: list[Sequence[Any]]
        if len(set(map(tuple, rows))) == 1:
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
        try:
            return self._columns.block(columns, numbers)
        except TypeError:
            # A list with something in it that cannot be looked up.
            return None

    def _one_by_one(self, lines: list[bytes], first: int) -> _Made:
        numbers: list[int] = []
        rows: list[Incoming] = []
        refused: list[tuple[int, list[Problem]]] = []
        names: set[str] = set()
        for number, line in enumerate(lines, start=first):
            made = self._row(line, names)
            if type(made) is tuple:
                numbers.append(number)
                rows.append(made)
            elif made is not None:
                refused.append((number, made))  # type: ignore[arg-type]
        return numbers, rows, frozenset(names), refused

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
                found = _cuid(raw)
                if type(found) is Problem:
                    problems.append(found)
                else:
                    cuid = found  # type: ignore[assignment]
            elif target.kind == "identifier":
                place, identifier = self._priority[target.name]
                values = _identifier_values(identifier, raw)
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
        found: Target | list[Problem]
        try:
            found = column_target(self._project, column, self._reading.columns)
        except Refused as refused:
            found = list(refused.problems)
        if len(self._targets) < _MEMO:
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
            elif kind is DataType.DATETIME and type(raw) is str and len(raw) != 19:
                found = _moment(raw)
                if type(found) is _Ready:
                    value = _parse(attributes[name], found, self._zone)
                    if type(value) is Problem:
                        wrong.append(value)
                    else:
                        ready[name] = value  # type: ignore[assignment]
        checked = validate(self._project.schema, {n: raw for n, raw in data.items() if n not in ready}, self._zone)
        if type(checked) is list:
            wrong = checked
        if wrong:
            return {}, wrong
        assert isinstance(checked, Patch)
        return {**{attribute.name: value for attribute, value in checked.entries}, **ready}, []


class _Parquet:
    def __init__(self, stream: IO[bytes], reading: Reading, project: Project) -> None:
        pyarrow, parquet = parquet_library()
        try:
            self._file = parquet.ParquetFile(stream, memory_map=False, pre_buffer=False, buffer_size=2**20)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise refuse(Kind.IMPORT_FILE, reason=f"it is not a whole Parquet file: {excerpt(str(error), 200)}") from error
        self._pyarrow = pyarrow
        self._reading = reading
        self.columns = list(self._file.schema_arrow.names)
        self._columns = _Columns(self.columns, reading, project)
        footer = self._file.metadata
        described = json.dumps(footer.to_dict(), default=str, sort_keys=True)
        self._digest = hashlib.blake2b(described.encode(), digest_size=16).hexdigest()
        self._size = stream.seek(0, io.SEEK_END)
        self._rows = footer.num_rows
        types = [field.type for field in self._file.schema_arrow]
        self._columns.prepare(lambda place, attribute: _arrow_reader(pyarrow, attribute, types[place]))
        self._columns.mark_moments([place for place, t in enumerate(types) if pyarrow.types.is_timestamp(t) and t.tz])

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        _check_digest(skip, self._rows, digest, self._digest)
        pyarrow, done = self._pyarrow, 0
        groups: list[int] = []
        for group in range(self._file.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            if not groups and done + size <= skip:
                done += size
            else:
                groups.append(group)
        batches = self._file.iter_batches(self._reading.rows, row_groups=groups, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowInvalid, OSError) as error:
                raise refuse(
                    Kind.IMPORT_FILE, reason=f"it is damaged after row {done}: {excerpt(str(error), 200)}"
                ) from error
            if batch is None:
                return
            if done + batch.num_rows <= skip:
                done += batch.num_rows
                continue
            if done < skip:
                batch = batch.slice(skip - done)
                done = skip
            columns = [_arrow_cells(pyarrow, column) for column in batch.columns]
            numbers, rows, names, refused = self._columns.block(columns, range(done + 1, done + 1 + batch.num_rows))
            first, done = done + 1, done + batch.num_rows
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            yield Block(
                numbers,
                rows,
                names,
                refused,
                first,
                done,
                self._size * done // max(self._rows, 1),
                self._digest,
                sink.getvalue().to_pybytes(),
            )


def parquet_library() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        Refused: they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise refuse(
            Kind.IMPORT_FILE, reason="Parquet needs the library pyarrow; install it with: pip install 'usertable[parquet]'"
        ) from error
    return pyarrow, parquet


def _arrow_cells(pyarrow: Any, column: Any) -> list[Any]:
    """The cells of a column; moments as milliseconds since 1970 UTC, or in a column without a zone, as text."""
    kind = column.type
    cells: list[Any]
    if pyarrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.tz is not None:
        times, by = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}[kind.unit]
        cells = column.cast(pyarrow.int64()).to_pylist()
        if times == by:
            return cells
        return [
            None if c is None else c * times // by if not c * times % by else f"{c} {kind.unit} since 1970" for c in cells
        ]
    if pyarrow.types.is_decimal(kind):
        from pyarrow import compute

        texts = column.cast(pyarrow.string())
        texts = compute.replace_substring_regex(texts, r"^(-?[0-9]+)\.0*$", r"\1")
        found = compute.replace_substring_regex(texts, r"^(-?[0-9]+\.[0-9]*[1-9])0+$", r"\1").to_pylist()
        return [text if text is None or "E" not in text else format(Decimal(text), "f") for text in found]
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return [tuple(cell) if cell else None for cell in column.to_pylist()]
    if pyarrow.types.is_floating(kind):
        return [None if c is None else Decimal(repr(c)) for c in column.to_pylist()]
    cells = column.to_pylist()
    return cells


def _arrow_reader(pyarrow: Any, attribute: Attribute, kind: Any) -> Callable[[Any], object]:
    """From a cell of a typed column to what the API would be sent."""
    if attribute.type is DataType.DATETIME and pyarrow.types.is_timestamp(kind):
        if kind.tz is not None:
            return lambda cell: _Ready(cell) if type(cell) is int else cell
        return lambda cell: str(cell)
    if attribute.type is DataType.DATETIME:
        return lambda cell: _moment(cell) if type(cell) is str else cell
    if attribute.type is DataType.BOOL and pyarrow.types.is_boolean(kind):
        return int
    if attribute.type is DataType.LIST:
        return lambda cell: _array(cell) if type(cell) is str else list(cell) if type(cell) is tuple else cell
    return lambda cell: cell


def originals(block: Block, reading: Reading, numbers: Sequence[int]) -> list[Any]:
    """The rows with those numbers as they stood in the file: a list of cells, a line, or a dictionary."""
    wanted = set(numbers)
    if reading.format == "ndjson":
        lines = block.raw.splitlines(keepends=False) if b"\r" not in block.raw else block.raw.split(b"\n")
        return [lines[number - block.first] for number in numbers]
    if reading.format == "parquet":
        pyarrow, _ = parquet_library()
        table = pyarrow.ipc.open_stream(block.raw).read_all()
        return [{name: table[name][number - block.first].as_py() for name in table.column_names} for number in numbers]
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


def json_cell(value: object) -> object:
    """A cell of a typed column for a line of JSON."""
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.tzinfo is None else value.astimezone(UTC).isoformat(" ")
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
