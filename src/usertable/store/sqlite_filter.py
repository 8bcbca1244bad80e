"""Conditions on the user table in SQLite's SQL.

JSON numbers come out of SQLite as 64-bit integers where they fit and as binary floating point otherwise, so not every
comparison of exact decimals can be made there. Each condition therefore has two forms: one that holds only for users that
meet it, and one that holds for all of those and perhaps a few more. Who is only in the second is looked at in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from usertable.domain.condition import Condition

_INTEGER = range(-(2**63), 2**63)
_TOLERANCE = 1e-9
"""Relative; SQLite reads a decimal with an error of some 1e-15."""
_SIGNS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(slots=True)
class Filter:
    """Two predicates over a row of users. Either takes the parameters: only numbers, which are written out, differ."""

    sure: str = "1"
    maybe: str = "1"
    parameters: list[Any] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether the two are the same."""
        return self.sure == self.maybe


def translate(conditions: Sequence[Condition]) -> Filter:
    """The filter for users that meet all conditions."""
    whole = Filter()
    for condition in conditions:
        sure, maybe, parameters = _translate(condition)
        whole.sure += f" AND ({sure})"
        whole.maybe += f" AND ({maybe})"
        whole.parameters += parameters
    return whole


def place(attribute: str) -> str:
    """Where an attribute's value is, as SQLite's JSON functions take it. Names hold nothing that would need quoting."""
    return f"""'$."{attribute}"'"""


def _translate(condition: Condition) -> tuple[str, str, list[Any]]:
    at, op, wanted = place(condition.attribute), condition.operator, condition.wanted
    value = f"json_extract(attributes, {at})"
    if op in ("set", "unset"):
        predicate = f"{value} IS {'NOT ' if op == 'set' else ''}NULL"
        return predicate, predicate, []
    several: tuple[Any, ...] = wanted if isinstance(wanted, tuple) else (wanted,)
    if type(several[0]) in (int, Decimal):
        if op == "between":
            low, high = (_number(value, "ge", several[0]), _number(value, "le", several[1]))
            # Nearly all whom it leaves out are left out by the first part, which takes the value out of the document once.
            roughly = f"{value} BETWEEN {_around(several[0])[0]!r} AND {_around(several[1])[1]!r}"
            return f"{roughly} AND ({low[0]}) AND ({high[0]})", f"{roughly} AND ({low[1]}) AND ({high[1]})", []
        forms = [_number(value, "eq" if op == "in" else op, one) for one in several]
        return " OR ".join(sure for sure, _ in forms), " OR ".join(maybe for _, maybe in forms), []
    if op == "contains":
        predicate = (
            f"CASE json_type(attributes, {at}) WHEN 'array'"
            f" THEN EXISTS (SELECT 1 FROM json_each(attributes, {at}) WHERE value = ?) ELSE instr({value}, ?) END"
        )
        return predicate, predicate, [wanted, wanted]
    sign = "IN" if op == "in" else _SIGNS[op]
    predicate = f"{value} {sign} ({', '.join('?' * len(several))})"
    return predicate, predicate, list(several)


def _around(wanted: int | Decimal) -> tuple[float, float]:
    """Two numbers with the wanted one between them, however SQLite reads it."""
    about = float(wanted)
    return about - abs(about) * _TOLERANCE, about + abs(about) * _TOLERANCE


def _number(value: str, op: str, wanted: Any) -> tuple[str, str]:
    """The two forms of a comparison with an exact number."""
    low, high = _around(wanted)
    sign = _SIGNS[op]
    if op in ("eq", "ne"):
        if type(wanted) is int and wanted in _INTEGER:
            # A whole number of this size is kept, and comes out, as an integer; nothing else can be equal to it.
            equal = f"typeof({value}) = 'integer' AND {value} = {wanted}"
            exact = equal if op == "eq" else f"{value} IS NOT NULL AND NOT ({equal})"
            return exact, exact
        near = f"{value} BETWEEN {low!r} AND {high!r}"
        return ("0", near) if op == "eq" else (f"NOT ({near})", f"{value} IS NOT NULL")
    inner, outer = (low, high) if op in ("lt", "le") else (high, low)
    sure, maybe = f"{value} {sign} {inner!r}", f"{value} {sign[0]}= {outer!r}"
    if type(wanted) is int and wanted in _INTEGER:
        whole = f"CASE typeof({value}) WHEN 'integer' THEN {value} {sign} {wanted} ELSE"
        return f"{whole} {sure} END", f"{whole} {maybe} END"
    return sure, maybe
