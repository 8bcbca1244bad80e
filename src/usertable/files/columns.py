"""The meaning of the cells of a file: the definition, row by row.

:mod:`usertable.files.arrow` does the same for a whole block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

import msgspec

from usertable.domain.errors import Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.moments import Moment
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Attribute, Identifier, Project
from usertable.domain.values import DataType, is_empty
from usertable.files.block import ParsedRow
from usertable.files.cell_texts import BOOL_TEXTS, text_reader, value_problem
from usertable.files.options import ReadOptions
from usertable.files.targets import FOR_READING, LINE, REASON, ROW, Target, column_targets, unnamed_problem
from usertable.store.encoding import encode_attributes
from usertable.wire.import_values import cell_cuid, identifier_values, parse_value

CACHE_SIZE = 20_000
"""Maximum number of distinct cells per column whose texts are cached."""


class Column(dict[Any, "str | Problem"]):
    """The converted cells of an attribute, each distinct one converted once: `column["12.50"]` is `12.5`.

    The result is the JSON text of a value, "" for an empty cell, or a problem.

    Args:
        prepare: converts a cell to an API value, or a problem.
        default: JSON text for an empty cell; "" for none.
    """

    def __init__(
        self,
        attribute: Attribute,
        zone: tzinfo,
        options: ReadOptions,
        prepare: Callable[[Any], object],
        default: str = "",
    ) -> None:
        self.name = attribute.name
        self.type = attribute.type
        self.cut: set[Any] = set()
        """The cells whose times were given with a higher precision than is stored."""
        self.default = default
        self._attribute = attribute
        self._zone = zone
        self._options = options
        self._prepare = prepare

    def __missing__(self, cell: Any) -> str | Problem:
        if len(self) >= CACHE_SIZE:
            self.clear()
            self.cut.clear()
        found = self[cell] = self._text(cell)
        return found

    def _text(self, cell: Any) -> str | Problem:
        raw = None if is_empty(cell) or cell in self._options.nulls else self._prepare(cell)
        if type(raw) is Problem:
            return raw
        if is_empty(raw):
            if self.default or self._options.empty == "skip":
                return self.default
            return Problem(ProblemKind.VALUE_EMPTY, self.name)
        value = parse_value(self._attribute, raw, self._zone)
        if type(value) is Problem:
            return value
        if type(value) is Moment:
            if value.is_cut:
                self.cut.add(cell)
            return str(value.ms)
        return encode_attributes({"": value})[4:-1]  # type: ignore[dict-item]


def _cell_reader(attribute: Attribute, options: ReadOptions) -> Callable[[str], object]:
    """Return a function that converts a CSV's cell to an API value, or a problem."""
    read = text_reader(attribute, options)
    if read is not None:
        return read
    if attribute.type is DataType.BOOL:
        return lambda cell: BOOL_TEXTS.get(cell, cell)
    if attribute.type is DataType.LIST:
        separator = options.list_separator
        if separator:
            return lambda cell: [part for part in cell.split(separator) if part]
        return lambda cell: list_cell(attribute.name, cell)
    return lambda cell: cell


def default_texts(options: ReadOptions, project: Project) -> dict[str, str]:
    """Return, by attribute, the JSON text of its default value.

    Raises:
        Refused: an attribute is not declared, or its default is not a valid value.
    """
    found: dict[str, str] = {}
    # A default may be a text that counts as empty in the file.
    options = replace(options, nulls=frozenset())
    for name, cell in options.defaults:
        attribute = project.schema.attribute(name)
        text = Column(attribute, project.zone, options, _cell_reader(attribute, options))[cell]
        if isinstance(text, Problem):
            raise Refused([text])
        found[name] = text
    return found


def list_cell(name: str, cell: str) -> object:
    """Return the array in a CSV's cell, what is empty as it is, or a problem that names the option for other forms."""
    found = decode_array(cell)
    if type(found) is list or is_empty(found):
        return found
    return value_problem(name, DataType.LIST, cell, Phrase(PhraseKind.LIST_CELL))


def decode_array(cell: str) -> object:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return cell


def cell_identifiers(identifier: Identifier, cell: object) -> list[str] | Problem:
    """Return the values in a file's cell, as :func:`identifier_values` does, or from a JSON array in a text."""
    if not identifier.unique and type(cell) is str and cell.startswith("["):
        cell = decode_array(cell)
    return identifier_values(identifier, cell)


class Columns:
    """Converts rows of equal width.

    Args:
        columns: names of the columns.

    Raises:
        Refused: a column matches nothing in the project, two have the same target, or none names the user.
    """

    def __init__(self, columns: Sequence[str], options: ReadOptions, project: Project) -> None:
        found = _targets(columns, options, project)
        self.sources = [source for source, _ in found]
        """For each target, the index of its column."""
        self.targets = [target for _, target in found]
        """The targets of the columns. A column with several targets occurs several times."""
        self._spreads = self.sources != list(range(len(columns)))
        self._cuid = next((i for i, t in enumerate(self.targets) if t.kind == "cuid"), None)
        indexes = {t.name: i for i, t in enumerate(self.targets) if t.kind == "identifier"}
        self._identifiers = [(i, indexes[i.name]) for i in project.schema.identifiers if i.name in indexes]
        self._attributes = [
            (i, project.schema.attributes[t.name]) for i, t in enumerate(self.targets) if t.kind == "attribute"
        ]
        self._unnamed = [(columns[self.sources[i]], i) for i, t in enumerate(self.targets) if t.kind == "unnamed"]
        self._own = {i for i, source in enumerate(self.sources) if columns[source] in (ROW, REASON, LINE)}
        self._defaults = default_texts(options, project)
        in_columns = {attribute.name for _, attribute in self._attributes}
        self._constants = {name: text for name, text in self._defaults.items() if name not in in_columns}
        """JSON texts of attributes without a column."""
        self._columns: list[tuple[int, Column]] = []
        self._options = options
        self._zone = project.zone
        self.prepare(lambda index, attribute: _cell_reader(attribute, options), cell_identifiers)

    def prepare(
        self,
        reader: Callable[[int, Attribute], Callable[[Any], object]],
        identifier_values: Callable[[Identifier, object], list[str] | Problem],
    ) -> None:
        """Set how cells are read: those of an attribute by the index of its target, and those of identifiers."""
        self._values_of = identifier_values
        self._columns = [
            (i, Column(a, self._zone, self._options, reader(i, a), self._defaults.get(a.name, "")))
            for i, a in self._attributes
        ]

    def row(self, cells: Sequence[Any], names: set[str]) -> ParsedRow | list[Problem] | None:
        """Convert a row; None if all its cells are empty.

        Args:
            names: receives the attributes of which the row has values.
        """
        if self._spreads:
            cells = [cells[source] for source in self.sources]
        problems: list[Problem] = []
        texts = dict(self._constants)
        cut = 0
        for i, column in self._columns:
            text = column[cells[i]]
            if type(text) is Problem:
                problems.append(text)
            elif text != "":
                texts[column.name] = text  # type: ignore[assignment]
                cut += cells[i] in column.cut
        names.update(texts)
        cuid = None if self._cuid is None else self._cell_cuid(cells[self._cuid], problems)
        pairs = self._pairs(cuid, [(identifier, cells[i]) for identifier, i in self._identifiers], problems)
        for name, i in self._unnamed:
            if not is_empty(cells[i]):
                problems.append(unnamed_problem(name, cells[i]))
        if cuid is None and not pairs and self._is_blank(cells):
            return None
        if problems:
            return problems
        document = "{" + ",".join([f'"{name}":{text}' for name, text in texts.items()]) + "}"
        return ParsedRow((cuid, pairs, document), cut)  # type: ignore[arg-type]

    def _is_empty(self, cell: Any) -> bool:
        return is_empty(cell) or (type(cell) is str and cell in self._options.nulls)

    def _is_blank(self, cells: Sequence[Any]) -> bool:
        """Return whether all cells of a row are empty, as in rows left over by a spreadsheet."""
        return all(i in self._own or self._is_empty(cell) for i, cell in enumerate(cells))

    def _cell_cuid(self, cell: Any, problems: list[Problem]) -> int | Problem | None:
        """Return a row's CUID. A problem is also inserted before the others."""
        cuid = None if self._is_empty(cell) else cell_cuid(cell)
        if type(cuid) is Problem:
            problems.insert(0, cuid)
        return cuid

    def _pairs(
        self, cuid: object, cells: Iterable[tuple[Identifier, Any]], problems: list[Problem]
    ) -> tuple[tuple[str, str], ...]:
        """Return a row's identifiers and their values."""
        pairs: list[tuple[str, str]] = []
        for identifier, cell in cells:
            if self._is_empty(cell):
                continue
            values = self._values_of(identifier, cell)
            if isinstance(values, Problem):
                problems.append(values)
            else:
                pairs += [(identifier.name, value) for value in values]
        if cuid is None and not pairs and not problems:
            problems.append(Problem(ProblemKind.USER_UNNAMED))
        return tuple(pairs)


def _targets(columns: Sequence[str], options: ReadOptions, project: Project) -> list[tuple[int, Target]]:
    """Return the targets of the columns, each with the index of its column. Raises what :class:`Columns` raises."""
    for column in columns:
        # Checked before the single columns: omitting those that are not attributes would not make the file importable.
        if column in FOR_READING:
            raise refusal(ProblemKind.IMPORT_FILE, reason=FOR_READING[column])
    found = [(i, t) for i, column in enumerate(columns) for t in column_targets(project, column, options.columns)]
    first: dict[Target, int] = {}
    for source, target in found:
        if target in first and target.kind not in ("nothing", "unnamed"):
            expected = phrase(PhraseKind.SAME_TARGET, column=columns[first[target]])
            raise refusal(ProblemKind.COLUMN, columns[source], expected=expected)
        first[target] = source
    if not any(target.kind in ("cuid", "identifier") for _, target in found):
        raise refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.NO_USER_COLUMN))
    return found
