"""Validation of a request's data: the result is a :class:`Patch` that can be merged, or all problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from usertable.domain.errors import MAX_PROBLEMS, Problem, ProblemKind, bounded
from usertable.domain.profile import maximum_bytes
from usertable.domain.schema import MAX_ATTRIBUTES, Attribute, Schema
from usertable.domain.values import PARSERS, Absent, Value, is_empty


@dataclass(slots=True)
class Patch:
    """Validated values in the order sent, each with the attribute whose rule will merge it."""

    entries: list[tuple[Attribute, Value]]

    def maximum_bytes(self) -> int:
        """Return an upper bound of the bytes that the patch adds to a row."""
        return sum([maximum_bytes(attribute.name, value) for attribute, value in self.entries])


@dataclass(slots=True)
class Restoration:
    """The values to restore, whatever the rules. :data:`~usertable.domain.values.ABSENT` removes the value."""

    entries: list[tuple[Attribute, Value | Absent]]


def validate(schema: Schema, data: Mapping[str, object], zone: tzinfo) -> Patch | list[Problem]:
    """Validate the attributes in `data`, in order: declared (40010), not empty (40009), of the right type (40002).

    Returns a patch; or the first problem of each attribute, in the order sent: up to :data:`MAX_PROBLEMS`, and one that says
    how many more there are. Data with more members than a project may declare is refused without validating them. `data` is
    not empty.
    """
    attributes = schema.attributes
    if len(data) > MAX_ATTRIBUTES and len(data) > len(attributes):
        limit = max(MAX_ATTRIBUTES, len(attributes))
        return [Problem(ProblemKind.DATA_LENGTH, None, {"members": str(len(data)), "limit": str(limit)})]
    entries: list[tuple[Attribute, Value]] = []
    problems: list[Problem] = []
    more = 0
    for name, raw in data.items():
        attribute = attributes.get(name)
        if attribute is None:
            if len(problems) < MAX_PROBLEMS:
                problems.append(Problem(ProblemKind.ATTRIBUTE_UNKNOWN, name))
            else:
                more += 1
        elif not raw and is_empty(raw):
            problems.append(Problem(ProblemKind.VALUE_EMPTY, name))
        else:
            value = PARSERS[attribute.type](name, raw, zone, attribute.limits)
            if type(value) is Problem:
                problems.append(value)
            else:
                entries.append((attribute, value))  # type: ignore[arg-type]
    return bounded(problems, more=more) if problems else Patch(entries)
