"""Columns of a file to checked values: what each of its cells comes to, and what its rows do."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import repeat
from typing import Any

import msgspec

from usertable.domain.errors import Kind, Problem, refuse
from usertable.domain.identity import MAX_CUID
from usertable.domain.schema import Attribute, Identifier, Project
from usertable.domain.values import (
    STRING_BYTES,
    DataType,
    is_empty,
    steady_midnight,
)
from usertable.files.block import Made
from usertable.files.options import Reading
from usertable.files.targets import FOR_READING, LINE, REASON, ROW, column_target, unnamed_problem
from usertable.store.encoding import encode_attributes
from usertable.store.records import IncomingRows
from usertable.wire.import_values import cell_cuid, identifier_values, parse_value
from usertable.wire.moments import Moment

MEMO = 20_000
_BOOLS = {"0": 0, "1": 1, "false": 0, "true": 1, "FALSE": 0, "TRUE": 1, "False": 0, "True": 1}


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


def cell_identifiers(identifier: Identifier, cell: object) -> list[str] | Problem:
    """The values in a file's cell: as of :func:`identifier_values`, or a JSON array in a text."""
    if not identifier.unique and type(cell) is str and cell.startswith("["):
        cell = decode_array(cell)
    return identifier_values(identifier, cell)


class Columns:
    """Turns rows of equal width, column by column, into what a store takes."""

    def __init__(self, columns: Sequence[str], reading: Reading, project: Project) -> None:
        for column in columns:
            # Before the columns one by one: leaving out those that are no attribute is not what makes it importable.
            if column in FOR_READING:
                raise refuse(Kind.IMPORT_FILE, reason=FOR_READING[column])
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
