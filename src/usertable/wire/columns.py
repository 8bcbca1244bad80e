"""Columns of a file to checked values: what each of its cells comes to, and what its rows do."""

from __future__ import annotations

import contextlib
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import repeat
from typing import Any, Literal

import msgspec

from usertable.domain.errors import Kind, Problem, excerpt, refuse
from usertable.domain.identity import EXPECTED_VALUE, MAX_CUID, is_cuid, is_identifier_value, malformed_cuid, parse_cuid
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Identifier, Project, Schema
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
from usertable.store.encoding import encode_attributes
from usertable.store.records import IncomingRows
from usertable.wire.moments import Moment, parse_moment

Format = Literal["csv", "ndjson", "parquet"]
MEMO = 20_000
ROW, REASON, LINE = "#row", "#reason", "#line"
"""Members of a refused row, beside its own. No attribute has such a name; they are not read when it is imported again."""
CONSOLE, ESCAPED = "#console", "#escaped"
"""The last column of a file for reading, whose cells are empty: the console's CSV, and a CSV whose texts are escaped for
spreadsheets. An import of it would store other values than it was made from."""
MASKED = "masked:"
"""What the name of a column begins with whose identifier values are cut. They are nobody's, so none is taken for one."""
CUID = "cuid"


@dataclass(frozen=True, slots=True)
class Target:
    """What a column is for: the CUID, an identifier, an attribute, or nothing; one without a name must be empty."""

    kind: Literal["cuid", "identifier", "attribute", "nothing", "unnamed"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read."""

    format: Format
    encoding: str = "auto"
    """Of CSV and NDJSON: a codec, as :func:`~usertable.wire.encodings.encoding_codec` names it, or auto."""
    delimiter: str | None = None
    """Of CSV; otherwise what a first line such as `sep=;` says, or a comma."""
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


_MASKED = re.compile(r"'?.{4}\*+", re.DOTALL)
"""As a list of users shows it, `1380*******`, or a file for a spreadsheet: `'+861**********`."""
_FOR_READING = {
    CONSOLE: "it was downloaded from the console, where identifiers are masked and texts are escaped for spreadsheets;"
    " import a file written by `usertable export`",
    ESCAPED: "its texts are escaped for spreadsheets; import a file written by `usertable export` without --escape-formulas",
}


_UNNAMED = re.compile("#[1-9][0-9]*")


def told_apart(columns: Sequence[str]) -> list[str]:
    """The names of a file's columns so that each is another: `level`, `level#2`, and `#3` for a third without a name."""
    made: list[str] = []
    taken = set(columns)
    for place, column in enumerate(columns, start=1):
        name = column or f"#{place}"
        if name in made:
            count = next(n for n in itertools.count(2) if f"{column}#{n}" not in taken)
            name = f"{column}#{count}"
        taken.add(name)
        made.append(name)
    return made


def unnamed_problem(column: str, cell: object) -> Problem:
    """What is wrong with a cell that stands in a column without a name."""
    expected = (
        f"the column has no name, and holds [{excerpt(cell)}]; name it in the header, or with --map '{column}=NAME', or"
        f" leave it out with --map '{column}='"
        if column
        else f"the member has no name, and holds [{excerpt(cell)}]; name it"
    )
    return Problem(Kind.COLUMN, column, {"expected": expected})


_MASKED_COLUMN = (
    "the values of column [{0}] are masked; leave it out with --map '{0}=', or import a file that was exported without"
    " --identifiers masked"
)


def column_target(project: Project, column: str, columns: Mapping[str, str]) -> Target:
    """What a column is for: as `columns` says, or by its own name.

    A name may be `cuid`, or an attribute's or identifier's; `attribute:NAME` and `identifier:NAME` tell which.

    Raises:
        Refused: there is nothing of that name, or both an attribute and an identifier.
    """
    if column in (ROW, REASON, LINE):
        return Target("nothing")
    if column in _FOR_READING:
        raise refuse(Kind.IMPORT_FILE, reason=_FOR_READING[column])
    name = columns.get(column, column)
    if not name:
        return Target("nothing" if column else "unnamed")
    if _UNNAMED.fullmatch(name):
        return Target("unnamed", name)
    target = _named_target(project, column, name)
    if column.startswith(MASKED) and target.kind == "identifier":
        raise refuse(Kind.IMPORT_FILE, reason=_MASKED_COLUMN.format(column))
    return target


def _named_target(project: Project, column: str, name: str) -> Target:
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
    if name.startswith(MASKED) and rest in identifiers:
        raise refuse(Kind.IMPORT_FILE, reason=_MASKED_COLUMN.format(column))
    raise refuse(
        Kind.COLUMN,
        column,
        expected=f"{name} is neither cuid nor a declared attribute or identifier; name one with --map '{column}=NAME',"
        f" or leave the column out with --map '{column}='",
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BOOLS = {"0": 0, "1": 1, "false": 0, "true": 1, "FALSE": 0, "TRUE": 1, "False": 0, "True": 1}


def moment_text(ms: int, zone: tzinfo) -> str:
    """A DATETIME for a file: `yyyy-MM-dd HH:mm:ss` in the zone if that means this very moment, else with an offset."""
    if not ms % 1000:
        text = datetime_text(ms, zone)
        if PARSERS[DataType.DATETIME]("", text, zone, DEFAULT_LIMITS) == ms:
            return text
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).isoformat(" ", "milliseconds" if ms % 1000 else "seconds")


_HOUR, _DAY = 3_600_000, 86_400_000
_IN_HOUR = {second * 1000: f"{second // 60:02}:{second % 60:02}" for second in range(3600)}
_HOURS_KEPT = 100_000


class Moments:
    """DATETIMEs for a file, many at once: as :func:`moment_text` makes them, from texts of whole hours."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._hours = _Hours(zone)

    def texts(self, moments: Iterable[int | None]) -> list[str | None]:
        """The texts of some moments, None where there is none."""
        hours, shift, zone = self._hours, self._hours.shift, self._zone
        cells = list(moments)
        shifted = [None if ms is None else ms + shift for ms in cells] if shift else cells
        try:
            return [
                None
                if ms is None
                else hour + _IN_HOUR[ms % _HOUR]
                if (hour := hours[ms // _HOUR])
                else moment_text(ms - shift, zone)
                for ms in shifted
            ]
        except KeyError:
            # Some are no whole seconds.
            return [None if ms is None else moment_text(ms, zone) for ms in cells]


class _Hours(dict[int, str]):
    """`yyyy-MM-dd HH:` by hour since 1970, counted so that a zone's hours begin on the hour; "" where that does not hold."""

    def __init__(self, zone: tzinfo) -> None:
        self._offsets = _Offsets(zone)
        # Of one day, as good as any other: hours that it does not hold for have no text.
        self.shift = (self._offsets[20_000] or 0) % _HOUR

    def __missing__(self, hour: int) -> str:
        if len(self) >= _HOURS_KEPT:
            self.clear()
        begin = hour * _HOUR - self.shift
        offset = self._offsets[begin // _DAY]
        made = ""
        if offset is not None and offset % _HOUR == self.shift:
            day, rest = divmod(begin + offset, _DAY)
            made = f"{date.fromordinal(_EPOCH.toordinal() + day)} {rest // _HOUR:02}:"
        self[hour] = made
        return made


class _Offsets(dict[int, int | None]):
    """Milliseconds that a zone is ahead of UTC by UTC day; None if that changes within a day of it, or the calendar ends."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __missing__(self, day: int) -> int | None:
        found = None
        with contextlib.suppress(OverflowError, ValueError):
            around = [_EPOCH + timedelta(days=day + days) for days in (-1, 0, 1, 2)]
            offsets = {moment.astimezone(self._zone).utcoffset() for moment in around}
            if len(offsets) == 1:
                found = (offsets.pop() or timedelta()) // _MILLISECOND
        self[day] = found
        return found


# The calendar's first and last days are not whole in every zone.
EARLIEST, LATEST = -62_135_424_000_000, 253_402_128_000_000


def _has_a_date(ms: int, zone: tzinfo) -> bool:
    try:
        datetime_text(ms, zone)
    except (OverflowError, ValueError):
        return False
    return True


def parse_value(attribute: Attribute, raw: object, zone: tzinfo) -> Value | Moment | Problem:
    """The value that a cell has, in its kept form; of a DATETIME that was not in the API's form, as a :class:`Moment`."""
    found: object = raw
    if attribute.type is DataType.DATETIME and type(raw) is str and not (len(raw) == 19 and raw[10] == " "):
        found = parse_moment(attribute.name, raw, zone)
    if type(found) is Moment:
        if EARLIEST <= found.ms <= LATEST or _has_a_date(found.ms, zone):
            return found
        found = raw if type(raw) is str else f"{found.ms} ms since 1970"
    if type(found) is Problem:
        return found
    value = PARSERS[attribute.type](attribute.name, found, zone, attribute.limits)
    if type(value) is Problem and type(raw) is str and attribute.type is DataType.DATETIME:
        # The same, with all the forms that an import takes.
        again = parse_moment(attribute.name, raw, zone)
        return again if type(again) is Problem else value
    return value


class JSONNumber(str):
    """A JSON number with a point or an exponent, as it is written."""

    __slots__ = ()


_NUMBERS = {int, JSONNumber}


@dataclass(slots=True)
class Texts:
    """A column as JSON texts of its values, "" for one that is empty."""

    texts: Sequence[Any]
    has_empty: bool = False
    is_quoted: bool = True
    """Whether texts of a STRING have their quotes."""
    problems: Mapping[int, Problem] = field(default_factory=dict)
    """By place, where the text counts as empty."""
    cut: Sequence[int] = ()
    """The places of moments that were given more finely than they are kept."""


class Column(dict[Any, "str | Problem"]):
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
        self._cut: set[Any] = set()
        self.days = Days(zone)

    @property
    def type(self) -> DataType:
        """The attribute's data type."""
        return self._attribute.type

    def texts(self, cells: Sequence[Any]) -> Texts:
        """The texts of some cells: strings, or for typed formats, values of one type or None."""
        if None in cells:
            cells = ["" if cell is None else cell for cell in cells]
        has_empty = "" in cells
        reading = self._reading
        if not (has_empty and reading.empty == "refuse") and (not reading.nulls or reading.nulls.isdisjoint(cells)):
            plain = self._plain(cells)
            if plain is not None:
                return Texts(plain, has_empty, self._attribute.type is not DataType.STRING)
        if len(self._cut) > MEMO:
            self.clear()
            self._cut.clear()
        made = list(map(self.__getitem__, cells))
        cut = [place for place, cell in enumerate(cells) if cell in self._cut] if self._cut else ()
        if Problem in set(map(type, made)):
            problems = {place: text for place, text in enumerate(made) if type(text) is Problem}
            texts = ["" if type(text) is Problem else text for text in made]
            return Texts(texts, "" in texts, True, problems, cut)
        return Texts(made, "" in made, True, {}, cut)

    def _plain(self, cells: Sequence[Any]) -> Sequence[Any] | None:
        kind = self._attribute.type
        try:
            if kind is DataType.STRING:
                text = " ".join(cells)
                if text.isprintable() and '"' not in text and "\\" not in text and max(map(len, cells)) * 4 <= STRING_BYTES:
                    return cells
            elif kind is DataType.NUMBER:
                if set(map(type, cells)) <= _NUMBERS:
                    cells = list(map(str, cells))
                if _PLAIN_NUMBERS.fullmatch("\n".join(cells)):
                    return cells
            elif kind is DataType.DATETIME and len(set(cells)) * 2 > len(cells):
                text = "\n".join(cells)
                if _PLAIN_MOMENTS.fullmatch(text):
                    parts = text.replace(" ", "\n").split("\n")
                    days = map(self.days.__getitem__, parts[::2])
                    return list(map(str, map(operator.add, days, map(_clock.__getitem__, parts[1::2]))))
        except (TypeError, KeyError, ValueError):
            # Not all are texts; or a day is none, or its clocks change.
            pass
        return None

    def __missing__(self, cell: Any) -> str | Problem:
        if len(self) >= MEMO:
            self.clear()
        made = self[cell] = self._made(cell)
        return made

    def _made(self, cell: Any) -> str | Problem:
        raw = "" if cell in self._reading.nulls else self._prepare(cell) if cell != "" else ""
        if is_empty(raw):
            return "" if self._reading.empty == "skip" else Problem(Kind.VALUE_EMPTY, self.name)
        value = parse_value(self._attribute, raw, self._zone)
        if type(value) is Problem:
            return value
        if type(value) is Moment:
            if value.is_cut:
                self._cut.add(cell)
            return str(value.ms)
        return encode_attributes({"": value})[4:-1]  # type: ignore[dict-item]


WIDE_PRECISION = 57
"""Arrow does not see every overflow when it brings a number to a type's places. With so few digits, there is none."""
# Digits so few that the form is the one in which the store writes them, without an exponent.
PLAIN_NUMBER = r"(?:-?(?:0|[1-9][0-9]{0,30})\.[0-9]{0,5}[1-9]|0|-?[1-9][0-9]{0,37})"
_PLAIN_NUMBERS = re.compile(rf"{PLAIN_NUMBER}?(?>(?:\n{PLAIN_NUMBER}?)*)")
_PLAIN_MOMENTS = re.compile(r"[0-9-]{10} [0-9:]{8}(?>(?:\n[0-9-]{10} [0-9:]{8})*)")
_PLAIN_CUIDS = re.compile(r"[1-9][0-9]{0,17}(?>(?:\n[1-9][0-9]{0,17})*)")
_CLOCK = re.compile("([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])")


class _Clock(dict[str, int]):
    """Milliseconds since midnight by `HH:MM:SS`."""

    def __missing__(self, text: str) -> int:
        found = _CLOCK.fullmatch(text)
        if found is None:
            raise KeyError(text)
        hour, minute, second = map(int, found.groups())
        made = self[text] = (hour * 3600 + minute * 60 + second) * 1000
        return made


_clock = _Clock()


class Days(dict[str, int]):
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
    if attribute.type is DataType.LIST:
        separator = reading.list_separator
        if separator:
            return lambda cell: [part for part in cell.split(separator) if part]
        return decode_array
    return lambda cell: cell


def decode_array(cell: str) -> object:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return cell


def cell_cuid(cell: object) -> int | Problem | None:
    """The CUID in a file's cell, a number or digits in a text; None if the cell is empty."""
    if cell is None or cell == "":
        return None
    cuid = parse_cuid(cell) if type(cell) is str else cell
    return cuid if is_cuid(cuid) else malformed_cuid(cell)  # type: ignore[return-value]


def read_row(schema: Schema, data: Mapping[str, object], zone: tzinfo) -> Patch | list[Problem]:
    """Like :func:`~usertable.domain.patch.validate`, for what an import sends: a DATETIME
    also to the millisecond, or with an offset.
    """
    moments: list[tuple[Attribute, Value]] = []
    rest: dict[str, object] = {}
    for name, raw in data.items():
        attribute = schema.attributes.get(name)
        moment: object = None
        if attribute is not None and attribute.type is DataType.DATETIME and type(raw) is str and len(raw) != 19:
            moment = parse_value(attribute, raw, zone)
        # Nobody would be told what was cut.
        if attribute is None or type(moment) is not Moment or moment.is_cut:
            rest[name] = raw
        else:
            moments.append((attribute, moment.ms))
    checked = validate(schema, rest, zone)
    if isinstance(checked, Patch):
        return Patch([*checked.entries, *moments])
    return checked


def cell_identifiers(identifier: Identifier, cell: object) -> list[str] | Problem:
    """The values in a file's cell: as of :func:`identifier_values`, or a JSON array in a text."""
    if not identifier.unique and type(cell) is str and cell.startswith("["):
        cell = decode_array(cell)
    return identifier_values(identifier, cell)


def identifier_values(identifier: Identifier, given: object) -> list[str] | Problem:
    """The values that are given: one of a unique identifier; of another one, or an array of some."""
    values: list[Any] = list(given) if not identifier.unique and isinstance(given, list | tuple) else [given]
    texts = [str(value) if type(value) is int else value for value in values]
    if not all(isinstance(text, str) and is_identifier_value(text) for text in texts):
        return Problem(Kind.PARAMETER, identifier.name, {"name": identifier.name, "expected": EXPECTED_VALUE})
    if identifier.masked and any(map(_MASKED.fullmatch, texts)):
        # As a list of users shows it: it would become a user of its own, whom nobody can be.
        expected = "the whole value, and this one is masked; `usertable export` writes whole values"
        return Problem(Kind.PARAMETER, identifier.name, {"name": identifier.name, "expected": expected})
    return list(dict.fromkeys(texts))


@dataclass(frozen=True, slots=True)
class Made:
    """What some rows of a file come to."""

    numbers: Sequence[int]
    """Of the rows that are in order."""
    rows: IncomingRows
    names: frozenset[str]
    """The attributes that a row has a value of."""
    refused: list[tuple[int, list[Problem]]]
    """By number."""
    cut: Mapping[int, int] = field(default_factory=dict)
    """By number of a row in order, how many of its moments were given more finely than they are kept."""


class Columns:
    """Turns rows of equal width, column by column, into what a store takes."""

    def __init__(self, columns: Sequence[str], reading: Reading, project: Project) -> None:
        for column in columns:
            # Before the columns one by one: leaving out those that are no attribute is not what makes it importable.
            if column in _FOR_READING:
                raise refuse(Kind.IMPORT_FILE, reason=_FOR_READING[column])
        self.targets = [column_target(project, column, reading.columns) for column in columns]
        for place, (column, target) in enumerate(zip(columns, self.targets, strict=True)):
            if target.kind not in ("nothing", "unnamed") and target in self.targets[:place]:
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
        self._unnamed = [(i, columns[i]) for i, t in enumerate(self.targets) if t.kind == "unnamed"]
        self._own = {i for i, column in enumerate(columns) if column in (ROW, REASON, LINE)}
        self._columns: list[tuple[int, Column]] = []
        self._reading = reading
        self._zone = project.zone
        self._cut: Counter[int] = Counter()
        """Of the block that is being read: by place, moments that were cut."""
        self.prepare(lambda place, attribute: _cell_reader(attribute, reading))

    def prepare(self, reader: Callable[[int, Attribute], Callable[[Any], object]]) -> None:
        """Say how the cells of an attribute's column are read, by its place."""
        self._columns = [(i, Column(a, self._zone, self._reading, reader(i, a))) for i, a in self._attributes]

    def block(self, columns: Sequence[Any], numbers: Sequence[int]) -> Made:
        """What the rows of these columns come to."""
        count = len(numbers)
        bad: dict[int, list[Problem]] = {}
        self._cut = Counter()
        lines, names = self._documents(columns, count, bad)
        cuids: Sequence[Any] = [None] * count
        if self._cuid is not None and count:
            cuids = self._cuids(columns[self._cuid], bad)
        cells = [(identifier, self._cells(columns[i])) for identifier, i in self._identifiers if self._has_cells(columns[i])]
        pairs = None
        if cells or None in cuids:
            pairs = [self._pairs(cells, i, cuids[i], bad) for i in range(count)]
        for i, column in self._unnamed:
            if self._has_cells(columns[i]):
                for place, cell in enumerate(self._cells(columns[i])):
                    if not is_empty(cell):
                        bad.setdefault(place, []).append(unnamed_problem(column, cell))
        nobody = [i for i, named in enumerate(pairs) if not named and cuids[i] is None] if pairs else ()
        blank = self._blank(columns, nobody) if nobody else set()
        rows = IncomingRows(cuids, pairs if pairs and any(pairs) else None, lines)
        cut = {numbers[i]: count for i, count in self._cut.items() if i not in bad}
        if not bad and not blank:
            return Made(numbers, rows, frozenset(names), [], cut)
        kept = [i for i in range(count) if i not in bad and i not in blank]
        refused = [(numbers[i], bad[i]) for i in sorted(bad) if i not in blank]
        good = IncomingRows.of(row for i, row in enumerate(rows) if i not in bad and i not in blank)
        return Made([numbers[i] for i in kept], good, frozenset(names), refused, cut)

    def _blank(self, columns: Sequence[Any], rows: Sequence[int]) -> set[int]:
        """Those of the rows whose cells are all empty, as a spreadsheet leaves them behind."""
        cells = [self._cells(column) for i, column in enumerate(columns) if i not in self._own]
        nulls = self._nulls
        return {
            i
            for i in rows
            if all(is_empty(column[i]) or (type(column[i]) is str and column[i] in nulls) for column in cells)
        }

    def _documents(self, columns: Sequence[Any], count: int, bad: dict[int, list[Problem]]) -> tuple[str, list[str]]:
        """The attributes of each row, a line each, and the names of those that a row has."""
        full: list[Iterable[str]] = []
        partial: list[Iterable[str]] = []
        names = []
        before = "{"
        for place, column in self._columns:
            name, found = column.name, column.texts(columns[place])
            for i, problem in found.problems.items():
                bad.setdefault(i, []).append(problem)
            self._cut.update(found.cut)
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
        return "\n".join(texts), names

    def _cells(self, column: Any) -> Sequence[Any]:
        cells: Sequence[Any] = column
        return cells

    def _has_cells(self, column: Any) -> bool:
        return any(column)

    def _cuids(self, cells: Sequence[Any], bad: dict[int, list[Problem]]) -> Sequence[Any]:
        try:
            if _PLAIN_CUIDS.fullmatch("\n".join(cells)):
                return list(map(int, cells))
        except TypeError:
            if set(map(type, cells)) == {int} and min(cells) > 0 and max(cells) <= MAX_CUID:
                return cells
        cuids = [cell_cuid(None if type(cell) is str and cell in self._nulls else cell) for cell in cells]
        for i, cuid in enumerate(cuids):
            if type(cuid) is Problem:
                bad.setdefault(i, []).insert(0, cuid)
        return cuids

    def _pairs(
        self,
        columns: Sequence[tuple[Identifier, Sequence[Any]]],
        i: int,
        cuid: object,
        bad: dict[int, list[Problem]],
    ) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        for identifier, cells in columns:
            cell = cells[i]
            if is_empty(cell) or (type(cell) is str and cell in self._nulls):
                continue
            values = cell_identifiers(identifier, cell)
            if type(values) is Problem:
                bad.setdefault(i, []).append(values)
            else:
                pairs += [(identifier.name, value) for value in values]  # type: ignore[union-attr]
        if cuid is None and not pairs and i not in bad:
            bad[i] = [Problem(Kind.USER_UNNAMED)]
        return tuple(pairs)
