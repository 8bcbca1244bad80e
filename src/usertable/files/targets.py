"""Targets: what the columns of a file are for. The CUID, an identifier, an attribute, or nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project

ROW, REASON, LINE = "#row", "#reason", "#line"
"""Members added to a refused row. No attribute has such a name. They are ignored when the row is imported again."""
CONSOLE, ESCAPED = "#console", "#escaped"
"""The last column of a file that is only for reading, with empty cells: the console's CSV, and a CSV whose texts are escaped
for spreadsheets. Importing it would store other values than it was created from."""
MASKED = "masked:"
"""Prefix of a column's name if its identifier values are masked. They belong to nobody, so the column is not imported."""
CUID = "cuid"


@dataclass(frozen=True, slots=True)
class Target:
    """What a column is for: the CUID, an identifier, an attribute, or nothing. A column without a name must be empty."""

    kind: Literal["cuid", "identifier", "attribute", "nothing", "unnamed"]
    name: str = ""


FOR_READING = {
    CONSOLE: Phrase(PhraseKind.FROM_CONSOLE),
    ESCAPED: Phrase(PhraseKind.ESCAPED_FOR_SPREADSHEETS),
}
_UNNAMED = re.compile("#[1-9][0-9]*")


def unique_names(columns: Sequence[str]) -> list[str]:
    """Return unique names for a file's columns: `level`, `level#2`, and `#3` for a third column without a name."""
    names: list[str] = []
    taken = set(columns)
    for number, column in enumerate(columns, start=1):
        name = column or f"#{number}"
        if name in names:
            count = next(n for n in itertools.count(2) if f"{column}#{n}" not in taken)
            name = f"{column}#{count}"
        taken.add(name)
        names.append(name)
    return names


def unnamed_problem(column: str, cell: object) -> Problem:
    """Return the problem with a cell in a column without a name."""
    value = excerpt(cell)
    if not column:
        return Problem(ProblemKind.COLUMN, column, {"expected": phrase(PhraseKind.UNNAMED_MEMBER, value=value)})
    expected = phrase(PhraseKind.UNNAMED_COLUMN, value=value, column=column)
    return Problem(ProblemKind.COLUMN, column, {"expected": expected})


def _masked_column(column: str) -> Refused:
    return refusal(ProblemKind.IMPORT_FILE, reason=phrase(PhraseKind.MASKED_COLUMN, column=column))


def column_targets(project: Project, column: str, columns: Mapping[str, str]) -> list[Target]:
    """Return the targets of a column: as `columns` says, or by its own name.

    A name can be `cuid`, or that of an attribute or identifier; `attribute:NAME` and `identifier:NAME` say which. Several
    are separated by commas: `phone,contact_phone`.

    Raises:
        Refused: nothing has that name, or both an attribute and an identifier.
    """
    if column in (ROW, REASON, LINE) or (column in PSEUDO_COLUMNS and column not in columns):
        return [Target("nothing")]
    if column in FOR_READING:
        raise refusal(ProblemKind.IMPORT_FILE, reason=FOR_READING[column])
    name = columns.get(column, column)
    if not name:
        return [Target("nothing" if column else "unnamed")]
    if _UNNAMED.fullmatch(name):
        return [Target("unnamed", name)]
    # A column's own name may contain a comma.
    names = name.split(",") if column in columns else [name]
    targets = [_named_target(project, column, each) for each in names]
    if column.startswith(MASKED) and any(target.kind == "identifier" for target in targets):
        raise _masked_column(column)
    return targets


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
        ways = tuple(f"--map '{column}={target.kind}:{target.name}'" for target in found)
        raise refusal(ProblemKind.COLUMN, column, expected=phrase(PhraseKind.AMBIGUOUS_COLUMN, name=name, ways=ways))
    if name.startswith(MASKED) and rest in identifiers:
        raise _masked_column(column)
    raise refusal(ProblemKind.COLUMN, column, expected=phrase(PhraseKind.UNDECLARED_COLUMN, name=name, column=column))
