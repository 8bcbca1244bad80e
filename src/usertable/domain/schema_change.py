"""What changed between two states of a project, for the record of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from usertable.domain.schema import Attribute, Identifier, Project, Schema
from usertable.domain.values import DEFAULT_LIMITS

Fact = str | int | bool | list[str] | None
Facts = Mapping[str, Fact]
"""Values of fields by name, as the native API names them."""


class ChangeKind(StrEnum):
    """What was done."""

    CREATE_PROJECT = "create project"
    EDIT_PROJECT = "edit project"
    ROTATE_SECRET = "rotate secret"
    DECLARE_ATTRIBUTE = "declare attribute"
    EDIT_ATTRIBUTE = "edit attribute"
    DELETE_ATTRIBUTE = "delete attribute"
    DECLARE_IDENTIFIER = "declare identifier"
    EDIT_IDENTIFIER = "edit identifier"
    DELETE_IDENTIFIER = "delete identifier"
    ORDER_IDENTIFIERS = "order identifiers"


ATTRIBUTE_KINDS = frozenset({ChangeKind.DECLARE_ATTRIBUTE, ChangeKind.EDIT_ATTRIBUTE, ChangeKind.DELETE_ATTRIBUTE})
IDENTIFIER_KINDS = frozenset(
    {
        ChangeKind.DECLARE_IDENTIFIER,
        ChangeKind.EDIT_IDENTIFIER,
        ChangeKind.DELETE_IDENTIFIER,
        ChangeKind.ORDER_IDENTIFIERS,
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done: to what, and the fields that it changed, before and after."""

    kind: ChangeKind
    subject: str = ""
    """The name of the attribute or identifier."""
    before: Facts = field(default_factory=dict)
    after: Facts = field(default_factory=dict)


def changes_between(before: Project | None, after: Project) -> list[Change]:
    """What was done to come from one state of a project to another; `before` is None if it is new."""
    if before is None:
        return [Change(ChangeKind.CREATE_PROJECT, after=_project(after))]
    changes = []
    if edited := _edited(ChangeKind.EDIT_PROJECT, "", _project(before), _project(after)):
        changes.append(edited)
    if (before.secret_salt, before.secret_hash) != (after.secret_salt, after.secret_hash):
        changes.append(Change(ChangeKind.ROTATE_SECRET))
    return [*changes, *_attributes(before.schema, after.schema), *_identifiers(before.schema, after.schema)]


def _project(project: Project) -> Facts:
    return {"name": project.name, "timezone": project.timezone, "qps": project.qps}


def _attributes(before: Schema, after: Schema) -> Iterator[Change]:
    for name, attribute in before.attributes.items():
        if name not in after.attributes:
            yield Change(ChangeKind.DELETE_ATTRIBUTE, name, before=_declared(_attribute(attribute)))
    for name, attribute in after.attributes.items():
        facts, old = _attribute(attribute), before.attributes.get(name)
        if old is None:
            yield Change(ChangeKind.DECLARE_ATTRIBUTE, name, after=_declared(facts))
        elif edited := _edited(ChangeKind.EDIT_ATTRIBUTE, name, _attribute(old), facts):
            yield edited


def _attribute(attribute: Attribute) -> Facts:
    return {
        "type": str(attribute.type),
        "rule": str(attribute.rule),
        "display_name": attribute.display_name,
        "description": attribute.description,
        "hidden": attribute.hidden,
        "max_elements": attribute.limits.elements,
        "max_element_bytes": attribute.limits.element_bytes,
    }


def _identifiers(before: Schema, after: Schema) -> Iterator[Change]:
    old = {i.name: i for i in before.identifiers}
    new = {i.name: i for i in after.identifiers}
    for name, identifier in old.items():
        if name not in new:
            yield Change(ChangeKind.DELETE_IDENTIFIER, name, before=_declared(_identifier(identifier)))
    expected = Schema(identifiers=tuple(i for i in before.identifiers if i.name in new))
    for name, identifier in new.items():
        if name not in old:
            expected = expected.declare_identifier(identifier)
            yield Change(ChangeKind.DECLARE_IDENTIFIER, name, after=_declared(_identifier(identifier)))
        elif edited := _edited(ChangeKind.EDIT_IDENTIFIER, name, _identifier(old[name]), _identifier(identifier)):
            yield edited
    # A new one has its place without being moved there.
    order = [i.name for i in expected.identifiers]
    if order != list(new):
        yield Change(ChangeKind.ORDER_IDENTIFIERS, before={"order": order}, after={"order": list(new)})


def _identifier(identifier: Identifier) -> Facts:
    return {"unique": identifier.unique, "display_name": identifier.display_name, "masked": identifier.masked}


_UNSAID: Facts = {
    "display_name": "",
    "description": "",
    "hidden": False,
    "masked": False,
    "max_elements": DEFAULT_LIMITS.elements,
    "max_element_bytes": DEFAULT_LIMITS.element_bytes,
}


def _declared(facts: Facts) -> Facts:
    """Without the fields that are as they are if nothing is said of them."""
    return {name: fact for name, fact in facts.items() if name not in _UNSAID or fact != _UNSAID[name]}


def _edited(kind: ChangeKind, subject: str, before: Facts, after: Facts) -> Change | None:
    names = [name for name in after if before[name] != after[name]]
    if not names:
        return None
    return Change(kind, subject, {name: before[name] for name in names}, {name: after[name] for name in names})
