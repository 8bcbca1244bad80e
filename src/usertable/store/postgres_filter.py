"""Conditions on the user table in PostgreSQL's SQL.

Values are compared as jsonb, whose numbers are exact, and never cast: a statement may look at the rows of other projects,
where an attribute of the same name has another type, before it leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, LiteralString

import msgspec

from usertable.domain.condition import Condition

_encoder = msgspec.json.Encoder(decimal_format="number")
_COMPARISONS: dict[str, LiteralString] = {
    "eq": " AND attributes->%s = {0}",
    "ne": " AND attributes->%s <> {0}",
    "lt": " AND attributes->%s < {0}",
    "le": " AND attributes->%s <= {0}",
    "gt": " AND attributes->%s > {0}",
    "ge": " AND attributes->%s >= {0}",
}


def translate(conditions: Sequence[Condition]) -> tuple[LiteralString, list[Any]]:
    """The predicate for users that meet all conditions, to go after another one, and its parameters."""
    predicate: LiteralString = ""
    parameters: list[Any] = []
    for condition in conditions:
        name, op, wanted = condition.attribute, condition.operator, condition.wanted
        parameters.append(name)
        if op == "set":
            predicate += " AND jsonb_exists(attributes, %s)"
        elif op == "unset":
            predicate += " AND NOT jsonb_exists(attributes, %s)"
        elif op == "contains":
            predicate += (
                " AND CASE jsonb_typeof(attributes->%s) WHEN 'array' THEN attributes->%s @> to_jsonb(%s::text)"
                ' ELSE strpos((attributes->>%s) COLLATE "C", %s) > 0 END'
            )
            parameters += [name, wanted, name, wanted]
        elif op == "between":
            assert isinstance(wanted, tuple)
            predicate += " AND attributes->%s >= to_jsonb(%s::numeric) AND attributes->%s <= to_jsonb(%s::numeric)"
            parameters += [wanted[0], name, wanted[1]]
        elif op == "in":
            assert isinstance(wanted, tuple)
            # One parameter, however many values: a statement's text tells attributes and operators only.
            predicate += " AND attributes->%s = ANY(%s::text[]::jsonb[])"
            parameters.append([_encoder.encode(value).decode() for value in wanted])
        else:
            predicate += _COMPARISONS[op].replace("{0}", _jsonb(wanted))
            parameters.append(wanted)
    return predicate, parameters


def _jsonb(value: Any) -> LiteralString:
    if isinstance(value, bool):
        return "to_jsonb(%s::boolean)"
    return "to_jsonb(%s::numeric)" if isinstance(value, int | Decimal) else "to_jsonb(%s::text)"
