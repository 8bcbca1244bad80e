"""Values in an import, from a file or through the API, which accepts more forms than the other endpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.identity import EXPECTED_VALUE, is_cuid, is_identifier_value, malformed_cuid, parse_cuid
from usertable.domain.moments import Moment, parse_moment
from usertable.domain.patch import Patch, validate
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Attribute, Identifier, Schema
from usertable.domain.values import PARSERS, DataType, Value, datetime_text

_MASKED = re.compile(r"'?.{4}\*+", re.DOTALL)
"""A masked value, as in a list of users, `1380*******`, or in a file for a spreadsheet: `'+861**********`."""
# The calendar's first and last days are incomplete in some zones.
EARLIEST, LATEST = -62_135_424_000_000, 253_402_128_000_000


def _has_a_date(ms: int, zone: tzinfo) -> bool:
    try:
        datetime_text(ms, zone)
    except (OverflowError, ValueError):
        return False
    return True


def parse_value(attribute: Attribute, raw: object, zone: tzinfo) -> Value | Moment | Problem:
    """Return the value in a cell, in its stored form; a DATETIME in another form than the API's as a :class:`Moment`."""
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
        # The same, with all the forms that an import accepts.
        again = parse_moment(attribute.name, raw, zone)
        return again if type(again) is Problem else value
    return value


def cell_cuid(cell: object) -> int | Problem | None:
    """Return the CUID in a file's cell, a number or digits in a text; None if the cell is empty."""
    if cell is None or cell == "":
        return None
    cuid = parse_cuid(cell) if type(cell) is str else cell
    return cuid if is_cuid(cuid) else malformed_cuid(cell)  # type: ignore[return-value]


def read_row(schema: Schema, data: Mapping[str, object], zone: tzinfo) -> Patch | list[Problem]:
    """Like :func:`~usertable.domain.patch.validate`, for an import: a DATETIME may have milliseconds or an offset."""
    moments: dict[str, tuple[Attribute, Value]] = {}
    for name, raw in data.items():
        if type(raw) is str and len(raw) != 19:
            attribute = schema.attributes.get(name)
            if attribute is not None and attribute.type is DataType.DATETIME:
                moment = parse_value(attribute, raw, zone)
                # The caller would not be told what was cut.
                if type(moment) is Moment and not moment.is_cut:
                    moments[name] = (attribute, moment.ms)
    if not moments:
        return validate(schema, data, zone)
    checked = validate(schema, {name: raw for name, raw in data.items() if name not in moments}, zone)
    return Patch([*checked.entries, *moments.values()]) if isinstance(checked, Patch) else checked


def identifier_values(identifier: Identifier, given: object) -> list[str] | Problem:
    """Return the values given: one for a unique identifier; one or an array for another."""
    values: list[Any] = list(given) if not identifier.unique and isinstance(given, list | tuple) else [given]
    texts = [str(value) if type(value) is int else value for value in values]
    if not all(isinstance(text, str) and is_identifier_value(text) for text in texts):
        return Problem(ProblemKind.PARAMETER, identifier.name, {"name": identifier.name, "expected": EXPECTED_VALUE})
    if identifier.masked and any(map(_MASKED.fullmatch, texts)):
        # It would create a user that nobody could find by the full value.
        expected = Phrase(PhraseKind.UNMASKED_VALUE)
        return Problem(ProblemKind.PARAMETER, identifier.name, {"name": identifier.name, "expected": expected})
    return list(dict.fromkeys(texts))
