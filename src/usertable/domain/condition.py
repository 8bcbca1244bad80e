"""Conditions on the user table: which users a page shows.

Written `attribute:operator` or `attribute:operator:value`. The value has the same form as in the API.

=============  ==========================  =========================================================
operator       data types                  matches users whose value
=============  ==========================  =========================================================
`set`          all                         is present
`unset`        all                         is absent
`eq`, `ne`     NUMBER STRING BOOL DATETIME equals, does not equal (neither matches a user without a value)
`in`           NUMBER STRING BOOL DATETIME equals one of the values
`lt` `le` `gt` `ge`  NUMBER DATETIME       is less / at most / greater / at least (for times: before, after)
`between`      NUMBER DATETIME             lies between two values, inclusive
`contains`     STRING LIST                 contains the text, or has the element
=============  ==========================  =========================================================

In place of an attribute there may be a pseudo-column (:mod:`usertable.domain.pseudo_columns`): `@updated_at:ge:2026-01-02
03:04:05`. Times may have a fraction and an offset, as in a file: `2026-01-02T03:04:05.678Z`.

The values of `in` and `between` are separated by commas. Put a value that contains a comma in double quotes, and double a
double quote in it, as in CSV: `city:in:"Washington, D.C.",Paris`. Other operators use the rest of the text as it is.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from usertable.domain.errors import Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.moments import Moment, parse_moment
from usertable.domain.phrases import PhraseKind
from usertable.domain.profile import Profile
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS, pseudo_value
from usertable.domain.schema import Attribute, Schema
from usertable.domain.values import PARSERS, DataType, Value

MAX_CONDITIONS = 100
"""Maximum number of conditions in one filter."""
MAX_VALUES = 1000
"""Maximum number of values in all conditions of one filter."""

_SCALARS = (DataType.NUMBER, DataType.STRING, DataType.BOOL, DataType.DATETIME)
_ORDERED = (DataType.NUMBER, DataType.DATETIME)

_Compare = Callable[[Any, Any], bool]
OPERATORS: dict[str, tuple[tuple[DataType, ...], _Compare]] = {
    "eq": (_SCALARS, operator.eq),
    "ne": (_SCALARS, operator.ne),
    "in": (_SCALARS, lambda value, wanted: value in wanted),
    "lt": (_ORDERED, operator.lt),
    "le": (_ORDERED, operator.le),
    "gt": (_ORDERED, operator.gt),
    "ge": (_ORDERED, operator.ge),
    "between": (_ORDERED, lambda value, wanted: wanted[0] <= value <= wanted[1]),
    "contains": ((DataType.STRING, DataType.LIST), lambda value, wanted: wanted in value),
}
"""For each operator with a value: its data types, and the comparison (stored value, wanted value)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one attribute or pseudo-column; see the module's table."""

    attribute: str
    operator: str
    wanted: Value | tuple[Value, ...] | None = None

    def met(self, cuid: int, profile: Profile) -> bool:
        """Return whether the user's row meets the condition."""
        value: Value | None
        if self.attribute in PSEUDO_COLUMNS:
            value = pseudo_value(self.attribute, cuid, profile)
        else:
            value = profile.attributes.get(self.attribute)
        if self.operator == "set":
            return value is not None
        if self.operator == "unset":
            return value is None
        return value is not None and OPERATORS[self.operator][1](value, self.wanted)


def meets(cuid: int, profile: Profile, conditions: Sequence[Condition]) -> bool:
    """Return whether the user's row meets all conditions."""
    return all(condition.met(cuid, profile) for condition in conditions)


def parse_conditions(texts: Sequence[str], schema: Schema, zone: tzinfo) -> list[Condition]:
    """Parse the conditions of one filter, all of which must be met.

    Raises:
        Refused: more than :data:`MAX_CONDITIONS` conditions or :data:`MAX_VALUES` values, or :func:`parse_condition` raises.
    """
    check_number(texts, MAX_CONDITIONS)
    conditions = []
    values = 0
    for text in texts:
        condition = parse_condition(text, schema, zone)
        values += len(condition.wanted) if isinstance(condition.wanted, tuple) else 1
        if values > MAX_VALUES:
            raise _too_many_values(text)
        conditions.append(condition)
    return conditions


def check_number(texts: Sequence[str], maximum: int) -> None:
    """Raise Refused if a filter has more than `maximum` conditions."""
    if len(texts) > maximum:
        expected = phrase(PhraseKind.MAXIMUM_CONDITIONS, limit=maximum)
        raise refusal(ProblemKind.CONDITION, value=texts[maximum], expected=expected)


def parse_condition(text: str, schema: Schema, zone: tzinfo) -> Condition:
    """Parse one condition.

    Raises:
        Refused: an unknown attribute or operator, an operator that the data type does not have, or an invalid value.
    """
    name, _, rest = text.partition(":")
    op, colon, raw = rest.partition(":")
    attribute = schema.attributes.get(name) or PSEUDO_COLUMNS.get(name)
    if attribute is None:
        expected = phrase(PhraseKind.CONDITION_ATTRIBUTE)
        if name.startswith("@"):
            expected = phrase(PhraseKind.CONDITION_PSEUDO_COLUMN, names=tuple(PSEUDO_COLUMNS))
        raise refusal(ProblemKind.CONDITION, value=text, expected=expected)
    if op in ("set", "unset"):
        if colon:
            expected = phrase(PhraseKind.CONDITION_WITHOUT_VALUE, operator=op)
            raise refusal(ProblemKind.CONDITION, value=text, expected=expected)
        return Condition(name, op)
    if op not in OPERATORS:
        expected = phrase(PhraseKind.CONDITION_OPERATOR, operators=("set", "unset", *OPERATORS))
        raise refusal(ProblemKind.CONDITION, value=text, expected=expected)
    types, _ = OPERATORS[op]
    if attribute.type not in types:
        expected = phrase(PhraseKind.CONDITION_OPERATOR_TYPES, operator=op, types=tuple(types), type=attribute.type)
        raise refusal(ProblemKind.CONDITION, value=text, expected=expected)
    if op in ("in", "between"):
        sent = split_values(raw)
        if sent is None:
            raise refusal(ProblemKind.CONDITION, value=text, expected=phrase(PhraseKind.CONDITION_QUOTES))
        if len(sent) > MAX_VALUES:
            raise _too_many_values(text)
        wanted = tuple(_value(attribute, part, text, zone) for part in sent)
        if op == "between" and len(wanted) != 2:
            raise refusal(ProblemKind.CONDITION, value=text, expected=phrase(PhraseKind.CONDITION_TWO_VALUES))
        return Condition(name, op, wanted)
    return Condition(name, op, _value(attribute, raw, text, zone))


def split_values(text: str) -> tuple[str, ...] | None:
    """Return the values in a list: `"Washington, D.C.",Paris`. None if it is ambiguous where a value ends.

    That is a quote without its end, blanks around a value, and a backslash before a comma. Each of these looks like one
    value with a comma in it, and would silently be parsed as two others.
    """
    values = []
    at = 0
    while True:
        found = _LISTED.match(text, at)
        if found is None:
            return None
        quoted, unquoted = found.groups()
        values.append(unquoted if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if at == len(text):
            return tuple(values)
        at += 1


def join_values(values: Iterable[str]) -> str:
    """Return the text that :func:`split_values` parses as these values."""
    return ",".join(v if split_values(f"{v},") == (v, "") else '"' + v.replace('"', '""') + '"' for v in values)


_LISTED = re.compile(r""""((?:[^"]|"")*)"(?=,|\Z)|(?!["\s])([^,]*)(?=,|\Z)(?<!\s)(?<!\\(?=,))""")


def _too_many_values(text: str) -> Refused:
    return refusal(ProblemKind.CONDITION, value=text, expected=phrase(PhraseKind.MAXIMUM_VALUES, limit=MAX_VALUES))


def _is_long(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _value(attribute: Attribute, raw: str, text: str, zone: tzinfo) -> Value:
    data_type = attribute.type
    sent: object = raw
    if data_type is DataType.LIST:
        sent = [raw]
    elif data_type is DataType.BOOL:
        sent = {"0": 0, "1": 1, "false": 0, "true": 1}.get(raw)
    value: Value | Moment | Problem
    if data_type is DataType.DATETIME:
        value = parse_moment(attribute.name, raw, zone)
    else:
        value = PARSERS[data_type](attribute.name, sent, zone, attribute.limits)
    if attribute.name in PSEUDO_COLUMNS and data_type is DataType.NUMBER and not _is_long(value):
        expected = phrase(PhraseKind.CONDITION_INTEGER, name=attribute.name)
        raise refusal(ProblemKind.CONDITION, value=text, expected=expected)
    if isinstance(value, Moment):
        # In a file it would be cut to the same millisecond.
        return value.ms
    if isinstance(value, Problem):
        bounds = phrase(PhraseKind.VALUE_IN_BOUNDS)
        raise refusal(ProblemKind.CONDITION, value=text, expected=value.params.get("expected", bounds))
    return value[0] if isinstance(value, list) else value
