"""Attributes: the list, the page of each, and forms to create, edit, hide and delete them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

from starlette.responses import Response

from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.edits import SHOWN, Edit, as_shown, normalized, what_others_did
from usertable.console.timeline import entries
from usertable.console.views import statistics
from usertable.dialects.jiguang.answers import wire_value
from usertable.domain.audit import ATTRIBUTE_KINDS, SchemaChange
from usertable.domain.errors import Problem, ProblemKind, ProjectChanged, Refused, phrase, refusal
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.domain.permissions import Scope
from usertable.domain.phrases import PhraseKind
from usertable.domain.profile import Profile
from usertable.domain.schema import (
    LEGAL_RULES,
    MAX_LIST_ELEMENT_BYTES,
    MAX_LIST_ELEMENTS,
    NAME_LENGTH,
    Attribute,
    Project,
    Rule,
    Schema,
)
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits
from usertable.wire.native.documents import select_attributes

CHANGES_SEARCHED = 1000
RECENT = 50
"""Maximum number of changes of users' values on an attribute's page."""
_STORED_AND_SENT: Mapping[DataType, tuple[object, object]] = {
    DataType.NUMBER: (3, 5),
    DataType.STRING: ("gold", "silver"),
    DataType.BOOL: (0, 1),
    DataType.DATETIME: ("2023-12-12 00:56:23", "2024-01-01 00:00:00"),
    DataType.LIST: (["A", "B", "C"], ["C", "D"]),
}
_NEW_FIELDS = {
    ProblemKind.NAME_FORM: "name",
    ProblemKind.NAME_PRESET: "name",
    ProblemKind.NAME_TAKEN: "name",
    ProblemKind.RULE_ILLEGAL: "rule",
}


def _example(data_type: DataType, rule: Rule) -> tuple[str, str, str]:
    """Return a stored value, a reported value, and the value after merging them by the rule."""
    schema = Schema({"it": Attribute("it", data_type, rule)})
    profile = Profile.new(0)
    for value in _STORED_AND_SENT[data_type]:
        patch = validate(schema, {"it": value}, UTC)
        assert isinstance(patch, Patch)
        profile = decide(profile, patch, 0).profile
    result = wire_value(profile.attributes["it"], schema, "it", UTC)
    stored, sent, became = (json.dumps(value) for value in (*_STORED_AND_SENT[data_type], result))
    return stored, sent, became


EXAMPLES = {(data_type, rule): _example(data_type, rule) for data_type, rules in LEGAL_RULES.items() for rule in rules}


def list_attributes(context: PageContext) -> Response:
    """List the attributes, searched and filtered."""
    project = context.project()
    query = context.request.query_params
    search, status = query.get("search", "").strip(), query.get("status", "all")
    chosen_type, rule = query.get("type", ""), query.get("rule", "")
    selected = select_attributes(
        project,
        search=search,
        status=status if status in ("visible", "hidden") else "all",
        type=chosen_type if chosen_type in list(DataType) else None,
        rule=rule if rule in list(Rule) else None,
    )
    return context.render(
        "attributes.html",
        project=project,
        attributes=selected,
        search=search,
        status=status,
        chosen_type=chosen_type,
        rule=rule,
        types=list(DataType),
        rules=list(Rule),
        **statistics.of_attributes(context, project),
    )


def show_attribute(context: PageContext) -> Response:
    """Show an attribute."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])
    changes = context.service.schema_changes(project.id, CHANGES_SEARCHED)
    recent = context.service.recent_changes(project, attribute.name, RECENT)
    return context.render(
        "attribute.html",
        project=project,
        attribute=attribute,
        reported=attribute.name in project.reported,
        changes=list(_about(changes, attribute.name)),
        recent=recent,
        lately=entries(context, project, recent.changes, attribute.name),
        examined=recent.examined,
        **statistics.of_attribute(context, project, attribute),
    )


def show_new(context: PageContext) -> Response:
    """Show the form for a new attribute."""
    fields = {"type": "STRING", "rule": "overwrite", "elements": str(LIST_ELEMENTS), "bytes": str(LIST_ELEMENT_BYTES)}
    return _new_page(context, context.project(), context.filled(fields))


def declare(context: PageContext) -> Response:
    project, form = context.project(), context.form
    errors: dict[str, str] = {}
    name, data_type, rule = form.get("name", "").strip(), form.get("type", ""), form.get("rule", "")
    if data_type not in list(DataType):
        errors["type"] = context.text("attribute.type_missing")
    if rule not in list(Rule):
        errors["rule"] = context.text("attribute.rule_missing")
    fits = not errors
    limits = Limits()
    if data_type == DataType.LIST:
        elements = _limit(context, "elements", "max_elements", MAX_LIST_ELEMENTS, errors)
        limits = Limits(elements, _limit(context, "bytes", "max_element_bytes", MAX_LIST_ELEMENT_BYTES, errors))
    attribute = Attribute(
        name,
        # A missing type or rule has its own error; the other fields are checked as if it were valid.
        DataType(data_type) if fits else DataType.LIST,
        Rule(rule) if fits else Rule.OVERWRITE,
        display_name=form.get("display_name", "").strip(),
        description=normalized(form.get("description", "")),
        limits=limits,
    )
    try:
        if errors:
            project.schema.declare(attribute)
        else:
            context.service.declare_attribute(project.id, attribute, actor=context.actor)
    except Refused as refused:
        errors |= context.problems(refused, _NEW_FIELDS)
    if errors:
        return _new_page(context, project, form, errors)
    return context.redirect(context.project_path(f"/attributes/{name}"), "attribute_declared")


def show_edit(context: PageContext) -> Response:
    """Show the form for editing an attribute."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])
    now = _definition(attribute)
    return _edit_page(context, project, attribute, context.filled({**now, SHOWN: as_shown(now)}))


def save(context: PageContext) -> Response:
    """Change the display name and the description, where they were edited in the form."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])
    edit = Edit(_definition(attribute), context.form)
    if edit.others:
        others = what_others_did(context, project, edit.others, ATTRIBUTE_KINDS, attribute.name)
        return _edit_page(context, project, attribute, edit.merged, others=others)
    try:
        context.service.edit_attribute(
            project.id, attribute.name, **edit.changes, version=project.version, actor=context.actor
        )
    except ProjectChanged:
        return save(context)
    except Refused as refused:
        return _edit_page(context, project, attribute, context.form, refused)
    return context.redirect(context.project_path(f"/attributes/{attribute.name}"), "saved")


def set_status(context: PageContext) -> Response:
    """Hide an attribute or make it visible."""
    hidden = context.form.get("hidden") == "1"
    name = context.path["name"]
    context.service.edit_attribute(context.path["project"], name, hidden=hidden, actor=context.actor)
    return context.redirect(context.project_path(f"/attributes/{name}"), "hidden" if hidden else "shown")


def ask_history(context: PageContext) -> Response:
    """Say what turning off the attribute's history means, and ask to confirm it."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])
    return context.render("attribute_history_off.html", project=project, attribute=attribute)


def set_history(context: PageContext) -> Response:
    """Turn the attribute's history on or off."""
    recorded = context.form.get("recorded") == "1"
    name = context.path["name"]
    context.service.edit_attribute(context.path["project"], name, history=recorded, actor=context.actor)
    return context.redirect(context.project_path(f"/attributes/{name}"), "history_on" if recorded else "history_off")


def ask_delete(context: PageContext) -> Response:
    """Ask to confirm deleting the attribute, or say why it cannot be deleted."""
    project = context.project()
    return _delete_page(context, project, project.schema.attribute(context.path["name"]))


def delete(context: PageContext) -> Response:
    """Delete an attribute that has never received a value."""
    project = context.project()
    attribute = project.schema.attribute(context.path["name"])
    edit = Edit(_definition(attribute), context.form)
    if edit.others:
        others = what_others_did(context, project, edit.others, ATTRIBUTE_KINDS, attribute.name)
        return _delete_page(context, project, attribute, others=others)
    try:
        context.service.delete_attribute(project.id, attribute.name, version=project.version, actor=context.actor)
    except ProjectChanged:
        return delete(context)
    except Refused as refused:
        return _delete_page(context, project, attribute, refused)
    return context.redirect(context.project_path("/attributes"), "attribute_deleted")


def _definition(attribute: Attribute) -> dict[str, str]:
    """Return an attribute's form fields. An attribute that was deleted and declared again differs in the first two."""
    return {
        "type": str(attribute.type),
        "rule": str(attribute.rule),
        "display_name": attribute.display_name,
        "description": attribute.description,
    }


def _edit_page(
    context: PageContext,
    project: Project,
    attribute: Attribute,
    fields: Mapping[str, str],
    refused: Refused | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    return context.render(
        "attribute_edit.html",
        409 if others else 422 if refused else 200,
        project=project,
        attribute=attribute,
        fields=fields,
        errors=context.problems(refused) if refused else {},
        others=others,
    )


def _delete_page(
    context: PageContext,
    project: Project,
    attribute: Attribute,
    refused: Refused | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    problem = refused.problems[0] if refused else None
    if problem is None and attribute.name in project.reported:
        problem = Problem(ProblemKind.ATTRIBUTE_IN_USE, attribute.name)
    return context.render(
        "attribute_delete.html",
        409 if refused or others else 200,
        project=project,
        attribute=attribute,
        fields={SHOWN: as_shown(_definition(attribute))},
        others=others,
        reason=context.problem(problem) if problem else "",
    )


def _new_page(
    context: PageContext, project: Project, fields: Mapping[str, str], errors: Mapping[str, str] | None = None
) -> Response:
    return context.render(
        "attribute_new.html",
        422 if errors else 200,
        project=project,
        fields=fields,
        errors=errors or {},
        legal=LEGAL_RULES,
        examples=EXAMPLES,
        rules=list(Rule),
        maximum_name=NAME_LENGTH,
        maximum_elements=MAX_LIST_ELEMENTS,
        maximum_bytes=MAX_LIST_ELEMENT_BYTES,
    )


def _limit(context: PageContext, field: str, name: str, maximum: int, errors: dict[str, str]) -> int:
    """Return a limit of a LIST from the form. An invalid number is reported in `errors`."""
    sent = context.form.get(field, "").strip()
    if sent.isascii() and sent.isdigit() and len(sent) < 10 and 1 <= int(sent) <= maximum:
        return int(sent)
    bounds = phrase(PhraseKind.RANGE, minimum=1, maximum=maximum)
    refused = refusal(ProblemKind.LIMIT_ILLEGAL, context.form.get("name", ""), field=name, expected=bounds)
    errors[field] = context.problem(refused.problems[0])
    return 1


def _about(changes: Iterable[SchemaChange], name: str) -> Iterator[SchemaChange]:
    """Yield the audit log's changes of the attribute, without the other changes of the same entries."""
    for change in changes:
        if isinstance(change.what, str):
            if f"attribute {name}" in change.what and name in change.what.replace(":", " ").replace(";", " ").split():
                yield change
        elif own := [each for each in change.what if each.subject == name and each.kind in ATTRIBUTE_KINDS]:
            yield replace(change, what=own)


_ATTRIBUTES = f"{HOME}/projects/{{project}}/attributes"
_ATTRIBUTE = f"{_ATTRIBUTES}/{{name}}"
_NEW = f"{HOME}/projects/{{project}}/new-attribute"

PAGES = (
    PageRoute("GET", _ATTRIBUTES, list_attributes, Scope.READ),
    PageRoute("GET", _NEW, show_new, Scope.SCHEMA),
    PageRoute("POST", _NEW, declare, Scope.SCHEMA),
    PageRoute("GET", _ATTRIBUTE, show_attribute, Scope.READ),
    PageRoute("GET", f"{_ATTRIBUTE}/edit", show_edit, Scope.SCHEMA),
    PageRoute("POST", f"{_ATTRIBUTE}/edit", save, Scope.SCHEMA),
    PageRoute("POST", f"{_ATTRIBUTE}/status", set_status, Scope.SCHEMA),
    PageRoute("GET", f"{_ATTRIBUTE}/history", ask_history, Scope.SCHEMA),
    PageRoute("POST", f"{_ATTRIBUTE}/history", set_history, Scope.SCHEMA),
    PageRoute("GET", f"{_ATTRIBUTE}/delete", ask_delete, Scope.SCHEMA),
    PageRoute("POST", f"{_ATTRIBUTE}/delete", delete, Scope.SCHEMA),
)
