"""The plan that turns one schema into another, for schema as code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from usertable.domain.errors import phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Attribute, Identifier, Schema

_Declared = TypeVar("_Declared", Attribute, Identifier)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: a verb (`declare`, `edit`, …), a kind of object, a name, details, or why it is refused."""

    verb: str
    thing: str
    name: str
    detail: str | Phrase = ""


_FIELDS = {"history_since": "history"}
"""The fields of a declaration that have another name for people."""
_REFUSED = ("change", "delete")
"""The verbs of steps that would lose or reinterpret data."""


def difference(current: Schema, wanted: Schema) -> tuple[list[Step], list[Step]]:
    """Return the steps from `current` to `wanted`, and those of them that would lose or reinterpret data.

    An attribute's name, type and rule are fixed, so a changed type or rule is a refused step, even before any value was
    reported: delete the attribute first. Omitting an existing attribute or identifier is refused too, because schema as code
    never deletes. Hide the attribute, or delete it with its own command.
    """
    found = [
        *_steps(
            "attribute",
            _by_declaration(current.attributes),
            _by_declaration(wanted.attributes),
            fixed=lambda attribute: f"{attribute.type} {attribute.rule}",
            changed=lambda before, after: phrase(PhraseKind.TYPE_FIXED, before=before, after=after),
            missing=phrase(PhraseKind.ATTRIBUTE_LEFT_OUT),
        ),
        *_steps(
            "identifier",
            {i.name: i for i in current.identifiers},
            {i.name: i for i in wanted.identifiers},
            fixed=lambda identifier: "unique" if identifier.unique else "not unique",
            changed=lambda before, after: phrase(PhraseKind.UNIQUENESS_FIXED),
            missing=phrase(PhraseKind.IDENTIFIER_LEFT_OUT),
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
    changed: Callable[[str, str], Phrase],
    missing: Phrase,
) -> Iterator[Step]:
    """Return the steps for what is declared by name.

    Args:
        fixed: the part that cannot be edited.
        changed: why a change of that part is refused, given the current and the wanted one.
        missing: why omitting it is refused.
    """
    for name, want in wanted.items():
        have = current.get(name)
        if have is None:
            yield Step("declare", thing, name, fixed(want))
        elif fixed(have) != fixed(want):
            yield Step("change", thing, name, changed(fixed(have), fixed(want)))
        elif have != want:
            edited = [f.name for f in fields(have) if getattr(have, f.name) != getattr(want, f.name)]
            yield Step("edit", thing, name, ", ".join(_FIELDS.get(field, field) for field in edited))
    for name in current:
        if name not in wanted:
            yield Step("delete", thing, name, missing)


def _by_declaration(attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    """Return the attributes without what is not declared: since when changes are recorded, if they are."""
    return {
        name: replace(a, history_since=None if a.history_since is None else 0, history_from=0)
        for name, a in attributes.items()
    }


def _names(schema: Schema) -> list[str]:
    return [identifier.name for identifier in schema.identifiers]


def _with_new_identifiers(current: Schema, wanted: Schema) -> Schema:
    known = _names(current)
    for identifier in wanted.identifiers:
        if identifier.name not in known:
            current = current.declare_identifier(identifier)
    return current
