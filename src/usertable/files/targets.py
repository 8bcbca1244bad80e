"""What the columns of a file are for: the CUID, an identifier, an attribute, or nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from usertable.domain.errors import Problem, ProblemKind, excerpt, refusal
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project

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


FOR_READING = {
    CONSOLE: "it was downloaded from the console, where identifiers are masked and texts are escaped for spreadsheets;"
    " import a file written by `usertable export`",
    ESCAPED: "its texts are escaped for spreadsheets; import a file written by `usertable export` without --escape-formulas",
}
_UNNAMED = re.compile("#[1-9][0-9]*")


def unique_names(columns: Sequence[str]) -> list[str]:
    """The names of a file's columns so that each is another: `level`, `level#2`, and `#3` for a third without a name."""
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
    """What is wrong with a cell that stands in a column without a name."""
    expected = (
        f"the column has no name, and holds [{excerpt(cell)}]; name it in the header, or with --map '{column}=NAME', or"
        f" leave it out with --map '{column}='"
        if column
        else f"the member has no name, and holds [{excerpt(cell)}]; name it"
    )
    return Problem(ProblemKind.COLUMN, column, {"expected": expected})


_MASKED_COLUMN = (
    "the values of column [{0}] are masked; leave it out with --map '{0}=', or import a file that was exported without"
    " --identifiers masked"
)


def column_targets(project: Project, column: str, columns: Mapping[str, str]) -> list[Target]:
    """What a column is for: as `columns` says, or by its own name.

    A name may be `cuid`, or an attribute's or identifier's; `attribute:NAME` and `identifier:NAME` tell which. Several have
    commas between: `phone,contact_phone`.

    Raises:
        Refused: there is nothing of that name, or both an attribute and an identifier.
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
    # A column's own name may have a comma in it.
    names = name.split(",") if column in columns else [name]
    targets = [_named_target(project, column, each) for each in names]
    if column.startswith(MASKED) and any(target.kind == "identifier" for target in targets):
        raise refusal(ProblemKind.IMPORT_FILE, reason=_MASKED_COLUMN.format(column))
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
        ways = " or ".join(f"--map '{column}={target.kind}:{target.name}'" for target in found)
        raise refusal(ProblemKind.COLUMN, column, expected=f"{name} is more than one thing; say {ways}")
    if name.startswith(MASKED) and rest in identifiers:
        raise refusal(ProblemKind.IMPORT_FILE, reason=_MASKED_COLUMN.format(column))
    raise refusal(
        ProblemKind.COLUMN,
        column,
        expected=f"{name} is neither cuid nor a declared attribute or identifier; name one with --map '{column}=NAME',"
        f" or leave the column out with --map '{column}='",
    )
