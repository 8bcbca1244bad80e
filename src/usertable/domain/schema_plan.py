"""The plan that turns a project's schema into another, for schema as code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from usertable.domain.schema import Attribute, Identifier, Schema

_Declared = TypeVar("_Declared", Attribute, Identifier)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: a verb (`declare`, `edit`, …), a thing, a name, details."""

    verb: str
    thing: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.thing} {self.name}" + (f": {self.detail}" if self.detail else "")


_REFUSED = ("change", "delete")
"""The verbs of steps that would lose or reinterpret data."""


def difference(current: Schema, wanted: Schema) -> tuple[list[Step], list[Step]]:
    """The steps from `current` to `wanted`, and those of them that would lose or reinterpret data.

    An attribute's name, type and rule are fixed, so a changed type or rule is a refused step, also before any value was
    reported: delete it first. Leaving out an attribute or identifier that exists is refused too; schema as code never
    deletes. Hide the attribute, or delete it by its own command.
    """
    found = [
        *_steps(
            "attribute",
            current.attributes,
            wanted.attributes,
            fixed=lambda attribute: f"{attribute.type} {attribute.rule}",
            changed="{} cannot become {}; declare a new attribute",
            missing="it is missing from the file; hide it, or delete it by its own command",
        ),
        *_steps(
            "identifier",
            {i.name: i for i in current.identifiers},
            {i.name: i for i in wanted.identifiers},
            fixed=lambda identifier: "unique" if identifier.unique else "not unique",
            changed="its uniqueness is fixed",
            missing="it is missing from the file",
        ),
    ]
    steps = [step for step in found if step.verb not in _REFUSED]
    refused = [step for step in found if step.verb in _REFUSED]
    if not refused and (order := _names(wanted)) != _names(_with_new_identifiers(current, wanted)):
        steps.append(Step("order", "identifiers", " > ".join(order)))
    return steps, refused


def _steps(
    thing: str,
    current: Mapping[str, _Declared],
    wanted: Mapping[str, _Declared],
    *,
    fixed: Callable[[_Declared], str],
    changed: str,
    missing: str,
) -> Iterator[Step]:
    """The steps of what is declared by name.

    Args:
        fixed: what of it cannot be edited.
        changed: why a change of that is refused, with what it is and would be.
        missing: why leaving it out is refused.
    """
    for name, want in wanted.items():
        have = current.get(name)
        if have is None:
            yield Step("declare", thing, name, fixed(want))
        elif fixed(have) != fixed(want):
            yield Step("change", thing, name, changed.format(fixed(have), fixed(want)))
        elif have != want:
            edited = [f.name for f in fields(have) if getattr(have, f.name) != getattr(want, f.name)]
            yield Step("edit", thing, name, ", ".join(edited))
    for name in current:
        if name not in wanted:
            yield Step("delete", thing, name, missing)


def _names(schema: Schema) -> list[str]:
    return [identifier.name for identifier in schema.identifiers]


def _with_new_identifiers(current: Schema, wanted: Schema) -> Schema:
    known = _names(current)
    for identifier in wanted.identifiers:
        if identifier.name not in known:
            current = current.declare_identifier(identifier)
    return current
