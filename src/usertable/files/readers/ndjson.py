"""The reader of NDJSON."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec

from usertable.domain.errors import Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.moments import Moment
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Project
from usertable.domain.values import DataType, Value, is_empty
from usertable.files.block import Block, Head, ParsedRow, ParsedRows, check_digest, make_block, unread
from usertable.files.cell_texts import text_reader
from usertable.files.columns import CACHE_SIZE, default_texts
from usertable.files.encodings import flaw
from usertable.files.options import ReadOptions
from usertable.files.readers.text import ARROW_BYTES, BLOCK_BYTES, CELL_CHARACTERS, TextSource, is_utf8
from usertable.files.targets import CUID, LINE, REASON, ROW, Target, column_targets, unnamed_problem
from usertable.store.encoding import decode_attributes, encode_attributes
from usertable.wire.bodies import decode_object
from usertable.wire.import_values import cell_cuid, identifier_values, parse_value

if TYPE_CHECKING:
    from usertable.files.arrow import ArrowColumns
    from usertable.files.arrow_json import ArrowLines


ARROW_MISSES = 3
"""Number of consecutive blocks that differ from the sample, after which Arrow is no longer tried."""
_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines


class NDJSONSource(TextSource):
    def __init__(self, stream: IO[bytes], options: ReadOptions, project: Project, *, arrow: bool) -> None:
        super().__init__(stream, options, at_cr=False)
        _refuse_document(self._lines.look().decode(self._encoding.codec, "replace"))
        self.head = Head(encoding=self._encoding)
        self.unseen = set(options.columns)
        self._project = project
        self._zone = project.zone
        self._targets: dict[str, list[Target] | Refused] = {}
        self._text_readers = {
            name: reader
            for name, attribute in project.schema.attributes.items()
            if (reader := text_reader(attribute, options))
        }
        texts = default_texts(options, project)
        self._defaults = decode_attributes("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}")
        self._priority = {
            identifier.name: (priority, identifier) for priority, identifier in enumerate(project.schema.identifiers)
        }
        self._arrow: tuple[ArrowLines, ArrowColumns] | None = None
        """For lines like those of an earlier block."""
        # Without Arrow, as if it had failed too often.
        self._misses = 0 if arrow else ARROW_MISSES

    def blocks(self, skip: int = 0, digest: str = "") -> Iterator[Block]:
        done = 0
        while skip > done and (lines := self._lines.take(min(self._options.rows, skip - done), BLOCK_BYTES)):
            self._hash.update(b"".join(lines))
            done += len(lines)
        check_digest(skip, done, digest, self._hash.hexdigest())
        while lines := self._lines.take(self._options.rows, BLOCK_BYTES):
            raw = b"".join(lines)
            self._hash.update(raw)
            parsed = self._parsed(lines, raw, done + 1)
            first, done = done + 1, done + len(lines)
            ends = list(itertools.accumulate(map(len, lines)))
            yield make_block(parsed, first, done, self._lines.position, self._hash.hexdigest(), raw, ends)

    def _parsed(self, lines: list[bytes], raw: bytes, first: int) -> ParsedRows:
        flaws: dict[int, Phrase] = {}
        text = self._utf8(lines, raw)
        if text is None or (self._is_utf8 and not is_utf8(raw)):
            flaws = {first + i: why for i, line in enumerate(lines) if (why := flaw(line, self._encoding))}
        if not self._is_utf8:
            codec = self._encoding.codec
            lines = [b"" if first + i in flaws else line.decode(codec).encode() for i, line in enumerate(lines)]
        numbers = range(first, first + len(lines))
        found = None if flaws or text is None else self._with_arrow(text, numbers)
        if found is not None:
            return found
        rows = zip(numbers, lines, strict=True)
        names: set[str] = set()
        return ParsedRows.of(((n, [unread(flaws[n])] if n in flaws else self._row(line, names)) for n, line in rows), names)

    def _with_arrow(self, raw: bytes, numbers: range) -> ParsedRows | None:
        """Parse the lines, `raw` together, with Arrow; None if they differ, or Arrow cannot convert them."""
        # A member that is not a text never counts as empty because of its text.
        if b"\\" in raw or self._options.empty == "refuse" or self._options.nulls:
            return None
        if len(raw) > ARROW_BYTES or self._misses == ARROW_MISSES:
            return None
        for found in dict.fromkeys((self._arrow, None)):
            found = found or self._learned(raw, len(numbers))
            arrays = found and found[0].columns(raw, len(numbers))
            if found and arrays is not None:
                self._arrow, self._misses = found, 0
                return found[1].block(arrays, numbers)
        self._misses += 1
        return None

    def _learned(self, raw: bytes, count: int) -> tuple[ArrowLines, ArrowColumns] | None:
        """Return a parser for lines with the same members and types; None if Arrow cannot parse them."""
        try:
            rows = _decode_lines(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
        if len(rows) != count or not names or len(names) > 4 * max(map(len, rows)):
            return None
        if any(name == LINE or type(targets := self._targets_of(name)) is not list or len(targets) > 1 for name in names):
            return None
        # Only the extra `parquet` installs Arrow.
        with contextlib.suppress(ImportError, Refused, ValueError):
            from usertable.files.arrow import ArrowColumns
            from usertable.files.arrow_json import ArrowLines, json_reader

            columns = ArrowColumns(names, self._options, self._project)
            columns.prepare(lambda index, attribute: json_reader(attribute, self._options), identifier_values)
            attributes = self._project.schema.attributes
            kinds = [attributes[t.name].type if t.kind == "attribute" else t.kind for t in columns.targets]
            return ArrowLines(names, rows, kinds), columns
        return None

    def _row(self, line: bytes, names: set[str]) -> ParsedRow | list[Problem] | None:
        """Parse a line; None if it is empty."""
        if line.isspace():
            return None
        if len(line) >= CELL_CHARACTERS:
            return [unread(phrase(PhraseKind.LONG_ROW, limit=CELL_CHARACTERS))]
        members = decode_object(line)
        if isinstance(members, Problem):
            if members.kind is ProblemKind.DUPLICATE_KEY:
                return [unread(phrase(PhraseKind.REPEATED_MEMBER, key=members.params["key"]))]
            reason = members.params.get("reason", phrase(PhraseKind.NOT_AN_OBJECT))
            return [unread(phrase(PhraseKind.NOT_A_JSON_OBJECT, reason=reason))]
        if type(members.get(LINE)) is str and members.keys() <= {ROW, REASON, LINE}:
            return self._row(members[LINE].encode(), names)
        return self._object(members, names)

    def _object(self, members: Mapping[str, Any], names: set[str]) -> ParsedRow | list[Problem] | None:
        """Parse an object; None if all its members are empty."""
        problems: list[Problem] = []
        cuid: Any = None
        pairs: list[tuple[int, str, str]] = []
        data: dict[str, object] = {}
        seen: set[Target] = set()
        is_blank = LINE not in members
        for column, raw in members.items():
            targets = self._targets.get(column) or self._targets_of(column)
            if type(targets) is not list or targets[0].kind == "nothing":
                is_blank = self._is_no_more(column, raw, targets, problems) and is_blank
                continue
            is_missing = is_empty(raw) or (type(raw) is str and raw in self._options.nulls)
            is_blank &= is_missing
            for target in targets:
                if target in seen and target.kind != "unnamed":
                    problems.append(Problem(ProblemKind.COLUMN, column, {"expected": phrase(PhraseKind.SAME_MEMBER)}))
                seen.add(target)
                if is_missing:
                    if self._options.empty == "refuse":
                        problems += self._missing(target)
                elif target.kind == "attribute":
                    data[target.name] = raw
                elif target.kind == "unnamed":
                    problems.append(unnamed_problem(column, raw))
                elif target.kind == "cuid":
                    cuid = _unless_problem(cell_cuid(raw), problems) or cuid
                else:
                    priority, identifier = self._priority[target.name]
                    values = _unless_problem(identifier_values(identifier, raw), problems) or []
                    pairs += [(priority, target.name, value) for value in values]
        if is_blank:
            return None
        values_of, cut = self._values(data, problems)
        if cuid is None and not pairs and not problems:
            problems.append(Problem(ProblemKind.USER_UNNAMED))
        if problems:
            return problems
        names.update(values_of)
        pairs.sort(key=lambda pair: pair[0])
        return ParsedRow((cuid, tuple((n, value) for _, n, value in pairs), encode_attributes(values_of)), cut)

    def _missing(self, target: Target) -> list[Problem]:
        """Return the problem with an empty member that must not be empty."""
        if target.kind == "unnamed" or (target.kind == "attribute" and target.name in self._defaults):
            return []
        return [Problem(ProblemKind.VALUE_EMPTY, target.name or CUID)]

    def _is_no_more(self, column: str, raw: object, targets: Sequence[Target] | Refused, problems: list[Problem]) -> bool:
        """Return whether a member without a target leaves an otherwise blank row blank. Notes the member's problem."""
        if isinstance(targets, Refused):
            problems += targets.problems
            return False
        if column == LINE:
            problems.append(unread(phrase(PhraseKind.UNREAD_LINE, column=LINE)))
        return column in (LINE, ROW, REASON) or is_empty(raw)

    def _targets_of(self, column: str) -> list[Target] | Refused:
        self.unseen.discard(column)
        found: list[Target] | Refused
        try:
            found = column_targets(self._project, column, self._options.columns)
        except Refused as refused:
            found = refused
        if len(self._targets) < CACHE_SIZE:
            self._targets[column] = found
        return found

    def _values(self, data: Mapping[str, object], problems: list[Problem]) -> tuple[dict[str, Value], int]:
        """Return the values of attributes, and the number of times that were cut."""
        attributes = self._project.schema.attributes
        found: dict[str, Value] = dict(self._defaults)
        readers = self._text_readers
        cut = 0
        for name, raw in data.items():
            if readers and type(raw) is str and name in readers:
                raw = readers[name](raw)
                if isinstance(raw, Problem):
                    problems.append(raw)
                    continue
            is_bool = type(raw) is bool and attributes[name].type is DataType.BOOL
            value = parse_value(attributes[name], int(raw) if is_bool else raw, self._zone)  # type: ignore[call-overload]
            if isinstance(value, Problem):
                problems.append(value)
            elif isinstance(value, Moment):
                found[name] = value.ms
                cut += value.is_cut
            else:
                found[name] = value
        return found, cut


_T = TypeVar("_T")


def _unless_problem(found: _T | Problem, problems: list[Problem]) -> _T | None:
    """Return what was found, or None if it is a problem, which is noted."""
    if isinstance(found, Problem):
        problems.append(found)
        return None
    return found


_ARRAY = re.compile(r"\[\s*(?:\{|\Z)")
_MEMBER = re.compile(r'\{\s*"([A-Za-z_][A-Za-z0-9_]*)"\s*:\s*\[')
_document_decoder = json.JSONDecoder(strict=False)


def _refuse_document(line: str) -> None:
    """Refuse a file that is one JSON document over many lines, by its first line. Other lines may be complete objects."""
    first = line.strip()
    if _ARRAY.match(first):
        raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.JSON_ARRAY))
    if first.startswith("{") and line.endswith("\n") and _goes_on(first):
        member = _MEMBER.match(first)
        if member:
            entries = phrase(PhraseKind.JSON_DOCUMENT_ENTRIES, member=member[1])
            raise refusal(ProblemKind.IMPORT_FILE, reason=entries)
        raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.JSON_DOCUMENT))


def _goes_on(text: str) -> bool:
    """Return whether the text is the beginning of a JSON document."""
    try:
        _document_decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except RecursionError:
        pass
    return False
