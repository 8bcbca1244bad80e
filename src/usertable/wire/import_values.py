"""Values as an import takes them, from a file or through the API: more forms than the other endpoints take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.identity import EXPECTED_VALUE, is_cuid, is_identifier_value, malformed_cuid, parse_cuid
from usertable.domain.moments import Moment, parse_moment
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Attribute, Identifier, Schema
from usertable.domain.values import PARSERS, DataType, Value, datetime_text

_MASKED = re.compile(r"'?.{4}\*+", re.DOTALL)
"""As a list of users shows it, `1380*******`, or a file for a spreadsheet: `'+861**********`."""
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
    moments: dict[str, tuple[Attribute, Value]] = {}
    for name, raw in data.items():
        if type(raw) is str and len(raw) != 19:
            attribute = schema.attributes.get(name)
            if attribute is not None and attribute.type is DataType.DATETIME:
                moment = parse_value(attribute, raw, zone)
                # Nobody would be told what was cut.
                if type(moment) is Moment and not moment.is_cut:
                    moments[name] = (attribute, moment.ms)
    if not moments:
        return validate(schema, data, zone)
    checked = validate(schema, {name: raw for name, raw in data.items() if name not in moments}, zone)
    return Patch([*checked.entries, *moments.values()]) if isinstance(checked, Patch) else checked


def identifier_values(identifier: Identifier, given: object) -> list[str] | Problem:
    """The values that are given: one of a unique identifier; of another one, or an array of some."""
    values: list[Any] = list(given) if not identifier.unique and isinstance(given, list | tuple) else [given]
    texts = [str(value) if type(value) is int else value for value in values]
    if not all(isinstance(text, str) and is_identifier_value(text) for text in texts):
        return Problem(ProblemKind.PARAMETER, identifier.name, {"name": identifier.name, "expected": EXPECTED_VALUE})
    if identifier.masked and any(map(_MASKED.fullmatch, texts)):
        # As a list of users shows it: it would become a user of its own, whom nobody can be.
        expected = "the whole value, and this one is masked; `usertable export` writes whole values"
        return Problem(ProblemKind.PARAMETER, identifier.name, {"name": identifier.name, "expected": expected})
    return list(dict.fromkeys(texts))
