"""Conditions on the user table in SQLite's SQL.

SQLite returns JSON numbers as 64-bit integers if they fit and as binary floating point otherwise, so it cannot compare all
exact decimals. Each condition therefore has two forms: one that is true only for users that meet it, and one that is true
for all of those and perhaps a few more. Users that match only the second are checked in Python.

Values are bound, and several of them as one JSON array: a statement's text depends only on attributes and operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from usertable.domain.condition import Condition
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS

_INTEGER = range(-(2**63), 2**63)
_TOLERANCE = 1e-9
"""Relative; SQLite reads a decimal with an error of about 1e-15."""
_SIGNS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_KEY = "%.8e"
"""Format of a number with nine digits, such as `1.23456789e+02`, in SQLite and in Python. Numbers within the tolerance of
each other have the same text or neighboring ones."""


@dataclass(slots=True)
class Predicate:
    """A condition in SQL, and the values of its parameters, in order."""

    sql: str
    parameters: list[Any] = field(default_factory=list)

    def __and__(self, other: Predicate) -> Predicate:
        return Predicate(f"{self.sql} AND ({other.sql})", self.parameters + other.parameters)

    def __or__(self, other: Predicate) -> Predicate:
        return Predicate(f"{self.sql} OR ({other.sql})", self.parameters + other.parameters)


@dataclass(slots=True)
class Filter:
    """Two predicates for a row of users."""

    sure: Predicate = field(default_factory=lambda: Predicate("1"))
    maybe: Predicate = field(default_factory=lambda: Predicate("1"))

    @property
    def exact(self) -> bool:
        """Whether both predicates are the same."""
        return self.sure == self.maybe


def translate(conditions: Sequence[Condition]) -> Filter:
    """Return the filter for users that meet all conditions."""
    whole = Filter()
    for condition in conditions:
        sure, maybe = _translate(condition)
        whole.sure &= sure
        whole.maybe &= maybe
    return whole


def json_path(attribute: str) -> str:
    """Return the path of an attribute's value for SQLite's JSON functions. Names need no quoting."""
    return f"""'$."{attribute}"'"""


def _translate(condition: Condition) -> tuple[Predicate, Predicate]:
    at, op, wanted = json_path(condition.attribute), condition.operator, condition.wanted
    value = f"json_extract(attributes, {at})"
    if condition.attribute in PSEUDO_COLUMNS:
        value = condition.attribute.removeprefix("@")
    if op in ("set", "unset"):
        return _both(Predicate(f"{value} IS {'NOT ' if op == 'set' else ''}NULL"))
    several: tuple[Any, ...] = wanted if isinstance(wanted, tuple) else (wanted,)
    if condition.attribute in PSEUDO_COLUMNS:
        return _both(_of_row(value, op, several))
    if type(several[0]) in (int, Decimal):
        if op == "in":
            return _one_of(value, several)
        if op == "between":
            low, high = _number(value, "ge", several[0]), _number(value, "le", several[1])
            # The rough predicate excludes nearly all others, and extracts the value from the document only once.
            roughly = Predicate(f"{value} BETWEEN ? AND ?", [_around(several[0])[0], _around(several[1])[1]])
            return roughly & low[0] & high[0], roughly & low[1] & high[1]
        return _number(value, op, several[0])
    if op == "contains":
        predicate = (
            f"CASE json_type(attributes, {at}) WHEN 'array'"
            f" THEN EXISTS (SELECT 1 FROM json_each(attributes, {at}) WHERE value = ?) ELSE instr({value}, ?) END"
        )
        return _both(Predicate(predicate, [wanted, wanted]))
    if op == "in":
        return _both(_within(value, several))
    return _both(Predicate(f"{value} {_SIGNS[op]} ?", [wanted]))


def _both(exact: Predicate) -> tuple[Predicate, Predicate]:
    return exact, exact


def _of_row(column: str, op: str, wanted: Sequence[int]) -> Predicate:
    """Return a comparison of an integer column with wanted integers."""
    if op == "in":
        return _within(column, wanted)
    if op == "between":
        return Predicate(f"{column} BETWEEN ? AND ?", [*wanted])
    return Predicate(f"{column} {_SIGNS[op]} ?", [*wanted])


def _within(value: str, wanted: Sequence[Any]) -> Predicate:
    return Predicate(f"{value} IN (SELECT value FROM json_each(?))", [msgspec.json.encode(wanted).decode()])


def _around(wanted: int | Decimal) -> tuple[float, float]:
    """Return two numbers with the wanted one between them, however SQLite rounds it."""
    about = float(wanted)
    return about - abs(about) * _TOLERANCE, about + abs(about) * _TOLERANCE


def _is_kept_whole(wanted: int | Decimal) -> bool:
    """Return whether it is stored and returned as an integer; nothing else can equal it."""
    return type(wanted) is int and wanted in _INTEGER


def _one_of(value: str, wanted: Sequence[int | Decimal]) -> tuple[Predicate, Predicate]:
    """Return the two forms of being equal to one of several exact numbers."""
    whole = [number for number in wanted if _is_kept_whole(number)]
    sure = Predicate(f"typeof({value}) = 'integer'") & _within(value, whole)
    keys = {_KEY % about for number in wanted if not _is_kept_whole(number) for about in (*_around(number), float(number))}
    if not keys:
        return _both(sure)
    # A thousand ranges would be compared with each user; a key is looked up.
    near = Predicate(f"typeof({value}) = 'real'") & _within(f"printf('{_KEY}', {value})", sorted(keys))
    return sure, sure | near


def _number(value: str, op: str, wanted: int | Decimal) -> tuple[Predicate, Predicate]:
    """Return the two forms of a comparison with an exact number."""
    low, high = _around(wanted)
    sign = _SIGNS[op]
    if op in ("eq", "ne"):
        if _is_kept_whole(wanted):
            equal = f"typeof({value}) = 'integer' AND {value} = ?"
            return _both(Predicate(equal if op == "eq" else f"{value} IS NOT NULL AND NOT ({equal})", [wanted]))
        near = Predicate(f"{value} BETWEEN ? AND ?", [low, high])
        if op == "eq":
            return Predicate("0"), near
        return Predicate(f"NOT ({near.sql})", near.parameters), Predicate(f"{value} IS NOT NULL")
    inner, outer = (low, high) if op in ("lt", "le") else (high, low)
    sure, maybe = Predicate(f"{value} {sign} ?", [inner]), Predicate(f"{value} {sign[0]}= ?", [outer])
    if _is_kept_whole(wanted):
        whole = Predicate(f"{value} {sign} ?", [wanted])
        return _if_whole(value, whole, sure), _if_whole(value, whole, maybe)
    return sure, maybe


def _if_whole(value: str, whole: Predicate, other: Predicate) -> Predicate:
    """Return the predicate `whole` for values stored as integers, and `other` for all others."""
    return Predicate(
        f"CASE typeof({value}) WHEN 'integer' THEN {whole.sql} ELSE {other.sql} END", whole.parameters + other.parameters
    )
