"""The reader of NDJSON."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import msgspec

from usertable.domain.errors import Kind, Problem, Refused, refuse
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType, Value, is_empty
from usertable.files.block import Block, Head, Made, check_digest, make_block
from usertable.files.columns import MEMO, Columns, JSONNumber
from usertable.files.encodings import flaw
from usertable.files.options import Reading
from usertable.files.readers.text import ARROW_BYTES, BLOCK_BYTES, CELL_CHARACTERS, TextSource, is_utf8
from usertable.files.targets import CUID, LINE, REASON, ROW, Target, column_target, unnamed_problem
from usertable.store.encoding import encode_attributes
from usertable.store.records import Incoming, IncomingRows
from usertable.wire.bodies import decode_object
from usertable.wire.import_values import cell_cuid, identifier_values, parse_value
from usertable.wire.moments import Moment

if TYPE_CHECKING:
    from usertable.files.arrow import ArrowColumns
    from usertable.files.arrow_json import ArrowLines


ARROW_MISSES = 3
"""Blocks of NDJSON in turn, unlike those before, after which none is read that way any more."""
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


_decode_lines = msgspec.json.Decoder(dict[str, Any], float_hook=JSONNumber).decode_lines


class NDJSONSource(TextSource):
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
        if text is None or (self._is_utf8 and not is_utf8(raw)):
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
                from usertable.files.arrow import ArrowColumns
                from usertable.files.arrow_json import json_reader

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
            from usertable.files.arrow_json import ArrowLines, json_columns

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
