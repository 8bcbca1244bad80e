"""Differences between two states of a project, for the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from usertable.domain.audit import AuditEvent, AuditKind, Fact, Facts
from usertable.domain.permissions import ordered
from usertable.domain.schema import Attribute, HistorySettings, Identifier, Project, Schema
from usertable.domain.values import DEFAULT_LIMITS


def changes_between(before: Project | None, after: Project) -> list[AuditEvent]:
    """Return the events that lead from one state of a project to another. `before` is None for a new project."""
    if before is None:
        return [AuditEvent(AuditKind.CREATE_PROJECT, after=_project(after))]
    changes = []
    if edited := _edited(AuditKind.EDIT_PROJECT, "", _project(before), _project(after)):
        changes.append(edited)
    if edited := _edited(AuditKind.EDIT_HISTORY, "", _history(before.history), _history(after.history)):
        changes.append(edited)
    keys = list(_keys(before, after))
    if (before.secret_salt, before.secret_hash) != (after.secret_salt, after.secret_hash) and not keys:
        changes.append(AuditEvent(AuditKind.ROTATE_SECRET))
    return [*changes, *keys, *_attributes(before.schema, after.schema), *_identifiers(before.schema, after.schema)]


def _project(project: Project) -> Facts:
    return {"name": project.name, "timezone": project.timezone, "qps": project.qps}


def _history(settings: HistorySettings) -> Facts:
    return {"days": settings.days, "gigabytes": settings.gigabytes, "all_reports": settings.all_reports}


def _keys(before: Project, after: Project) -> Iterator[AuditEvent]:
    old = {key.name: key for key in before.keys}
    for key in after.keys:
        if key.name not in old:
            facts: dict[str, Fact] = {"scopes": [str(scope) for scope in ordered(key.scopes)]}
            if key.expires_at is not None:
                facts["expires"] = datetime.fromtimestamp(key.expires_at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            yield AuditEvent(AuditKind.CREATE_KEY, key.name, after=facts)
        elif key.revoked_at is not None and old[key.name].revoked_at is None:
            yield AuditEvent(AuditKind.REVOKE_KEY, key.name)


def _attributes(before: Schema, after: Schema) -> Iterator[AuditEvent]:
    for name, attribute in before.attributes.items():
        if name not in after.attributes:
            yield AuditEvent(AuditKind.DELETE_ATTRIBUTE, name, before=_declared(_attribute(attribute)))
    for name, attribute in after.attributes.items():
        facts, old = _attribute(attribute), before.attributes.get(name)
        if old is None:
            yield AuditEvent(AuditKind.DECLARE_ATTRIBUTE, name, after=_declared(facts))
        elif edited := _edited(AuditKind.EDIT_ATTRIBUTE, name, _attribute(old), facts):
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
        "history": attribute.history_since is not None,
    }


def _identifiers(before: Schema, after: Schema) -> Iterator[AuditEvent]:
    old = {i.name: i for i in before.identifiers}
    new = {i.name: i for i in after.identifiers}
    for name, identifier in old.items():
        if name not in new:
            yield AuditEvent(AuditKind.DELETE_IDENTIFIER, name, before=_declared(_identifier(identifier)))
    expected = Schema(identifiers=tuple(i for i in before.identifiers if i.name in new))
    for name, identifier in new.items():
        if name not in old:
            expected = expected.declare_identifier(identifier)
            yield AuditEvent(AuditKind.DECLARE_IDENTIFIER, name, after=_declared(_identifier(identifier)))
        elif edited := _edited(AuditKind.EDIT_IDENTIFIER, name, _identifier(old[name]), _identifier(identifier)):
            yield edited
    # A new identifier has its position without being moved there.
    order = [i.name for i in expected.identifiers]
    if order != list(new):
        yield AuditEvent(AuditKind.ORDER_IDENTIFIERS, before={"order": order}, after={"order": list(new)})


def _identifier(identifier: Identifier) -> Facts:
    return {"unique": identifier.unique, "display_name": identifier.display_name, "masked": identifier.masked}


_UNSAID: Facts = {
    "display_name": "",
    "description": "",
    "hidden": False,
    "masked": False,
    "max_elements": DEFAULT_LIMITS.elements,
    "max_element_bytes": DEFAULT_LIMITS.element_bytes,
    "history": True,
}


def _declared(facts: Facts) -> Facts:
    """Return the facts without fields that have their default value."""
    return {name: fact for name, fact in facts.items() if name not in _UNSAID or fact != _UNSAID[name]}


def _edited(kind: AuditKind, subject: str, before: Facts, after: Facts) -> AuditEvent | None:
    names = [name for name in after if before[name] != after[name]]
    if not names:
        return None
    return AuditEvent(kind, subject, {name: before[name] for name in names}, {name: after[name] for name in names})
