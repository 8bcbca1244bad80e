"""From what a caller sent to a :class:`Patch` that can be merged, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from usertable.domain.errors import Kind, Problem
from usertable.domain.schema import Attribute, Schema
from usertable.domain.values import PARSERS, Value, is_empty


@dataclass(slots=True)
class Patch:
    """Checked values in the order sent, each with the attribute whose rule will merge it."""

    entries: list[tuple[Attribute, Value]]


def validate(schema: Schema, data: Mapping[str, object], zone: tzinfo) -> Patch | list[Problem]:
    """Check every attribute of `data`, in the order sent: declared (40010), not empty (40009), of its type (40002).

    Gives a patch, or every problem (the first of each attribute), in the order sent. `data` is not empty.
    """
    attributes = schema.attributes
    entries: list[tuple[Attribute, Value]] = []
    problems: list[Problem] = []
    for name, raw in data.items():
        attribute = attributes.get(name)
        if attribute is None:
            problems.append(Problem(Kind.ATTRIBUTE_UNKNOWN, name))
        elif not raw and is_empty(raw):
            problems.append(Problem(Kind.VALUE_EMPTY, name))
        else:
            value = PARSERS[attribute.type](name, raw, zone, attribute.limits)
            if type(value) is Problem:
                problems.append(value)
            else:
                entries.append((attribute, value))  # type: ignore[arg-type]
    return problems or Patch(entries)
