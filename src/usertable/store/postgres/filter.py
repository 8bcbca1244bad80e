"""Conditions on the user table in PostgreSQL's SQL.

Values are compared as jsonb, whose numbers are exact, and never cast: before a statement excludes the rows of other
projects, it may read them, and there an attribute of the same name may have another type.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from usertable.domain.condition import Condition
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS

_encoder = msgspec.json.Encoder(decimal_format="number")
_COMPARISONS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def translate(conditions: Sequence[Condition]) -> tuple[str, dict[str, Any]]:
    """Return the predicate for users that meet all conditions, to be appended to another, and its parameters.

    Example: `" AND attributes->%(name0)s >= to_jsonb(%(value0)s::numeric)"` with `{"name0": "age", "value0": 18}`. The text
    depends only on attributes and operators.
    """
    predicate = ""
    parameters: dict[str, Any] = {}
    for index, condition in enumerate(conditions):
        if condition.attribute in PSEUDO_COLUMNS:
            predicate += " AND " + _of_row(condition, index, parameters)
        else:
            parameters[f"name{index}"] = condition.attribute
            predicate += " AND " + _translated(condition, index, parameters)
    return predicate, parameters


def _of_row(condition: Condition, index: int, parameters: dict[str, Any]) -> str:
    """Return a condition on a column, which contains integers and is never null."""
    column, op, wanted = condition.attribute.removeprefix("@"), condition.operator, condition.wanted
    if op in ("set", "unset"):
        return "TRUE" if op == "set" else "FALSE"
    value = f"value{index}"
    if op == "between":
        assert isinstance(wanted, tuple)
        parameters[value], parameters[f"maximum{index}"] = wanted
        return f"{column} BETWEEN %({value})s::bigint AND %(maximum{index})s::bigint"
    parameters[value] = list(wanted) if isinstance(wanted, tuple) else wanted
    return f"{column} = ANY(%({value})s::bigint[])" if op == "in" else f"{column} {_COMPARISONS[op]} %({value})s::bigint"


def _translated(condition: Condition, index: int, parameters: dict[str, Any]) -> str:
    op, wanted = condition.operator, condition.wanted
    name, value = f"%(name{index})s", f"value{index}"
    if op == "set":
        return f"jsonb_exists(attributes, {name})"
    if op == "unset":
        return f"NOT jsonb_exists(attributes, {name})"
    if op == "between":
        assert isinstance(wanted, tuple)
        minimum, maximum = f"minimum{index}", f"maximum{index}"
        parameters[minimum], parameters[maximum] = wanted
        bounds = [f"to_jsonb(%({bound})s::numeric)" for bound in (minimum, maximum)]
        return f"attributes->{name} >= {bounds[0]} AND attributes->{name} <= {bounds[1]}"
    if op == "in":
        assert isinstance(wanted, tuple)
        # One parameter, regardless of the number of values.
        parameters[value] = [_encoder.encode(each).decode() for each in wanted]
        return f"attributes->{name} = ANY(%({value})s::text[]::jsonb[])"
    parameters[value] = wanted
    if op == "contains":
        return (
            f"CASE jsonb_typeof(attributes->{name}) WHEN 'array' THEN attributes->{name} @> to_jsonb(%({value})s::text)"
            f' ELSE strpos((attributes->>{name}) COLLATE "C", %({value})s) > 0 END'
        )
    return f"attributes->{name} {_COMPARISONS[op]} to_jsonb(%({value})s::{_type(wanted)})"


def _type(wanted: Any) -> str:
    if isinstance(wanted, bool):
        return "boolean"
    return "numeric" if isinstance(wanted, int | Decimal) else "text"
