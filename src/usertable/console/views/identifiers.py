"""Identifiers: the list by priority, and forms to create, edit and delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from usertable.app.activity import KEPT_MS
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.edits import SHOWN, Edit, as_shown, what_others_did
from usertable.domain.audit import IDENTIFIER_KINDS
from usertable.domain.errors import Problem, ProblemKind, ProjectChanged, Refused
from usertable.domain.permissions import Scope
from usertable.domain.schema import NAME_LENGTH, Identifier, Project

SEPARATOR = " > "
"""Separator of the names in an order of identifiers, as in the audit log: `login_id > phone`."""
_FIELDS = {
    ProblemKind.NAME_FORM: "name",
    ProblemKind.NAME_PRESET: "name",
    ProblemKind.NAME_TAKEN: "name",
}


@dataclass(frozen=True, slots=True)
class Row:
    """An identifier in the list, and the addresses of the drafts with it one position higher or lower."""

    identifier: Identifier
    up: str
    down: str
    priority: int
    """Its stored priority."""
    has_data: bool
    """Whether any user has a value of it."""
    why_not: str
    """Why it cannot be deleted; empty if it can be."""


def list_identifiers(context: PageContext) -> Response:
    """List the identifiers by priority, or in a draft of another order, which is not saved yet."""
    project = context.project()
    kept = context.filled({"order": context.request.query_params.get("order", "")})
    return _list_page(context, project, _draft(project, kept.get("order", "")), kept.get(SHOWN, ""))


def save_order(context: PageContext) -> Response:
    """Save the order of the draft."""
    project = context.project()
    names = _draft(project, context.form.get("order", ""))
    edit = Edit(_order(project), {**context.form, "order": SEPARATOR.join(names)})
    if edit.others:
        others = what_others_did(context, project, edit.others, IDENTIFIER_KINDS)
        return _list_page(context, project, names, "", others)
    try:
        context.service.order_identifiers(project.id, names, version=project.version, actor=context.actor)
    except ProjectChanged:
        return save_order(context)
    return context.redirect(context.project_path("/identifiers"), "ordered")


def show_new(context: PageContext) -> Response:
    return _form_page(context, context.project(), None, context.filled({"unique": "on"}))


def declare(context: PageContext) -> Response:
    project, form = context.project(), context.form
    identifier = Identifier(
        form.get("name", "").strip(),
        form.get("display_name", "").strip(),
        unique=form.get("unique") == "on",
        masked=form.get("masked") == "on",
    )
    try:
        context.service.declare_identifier(project.id, identifier, actor=context.actor)
    except Refused as refused:
        return _form_page(context, project, None, form, refused)
    return context.redirect(context.project_path("/identifiers"), "identifier_declared")


def show_edit(context: PageContext) -> Response:
    """Show the form for editing an identifier."""
    project = context.project()
    identifier = project.schema.identifier(context.path["name"])
    now = _definition(identifier)
    return _form_page(context, project, identifier, context.filled({**now, SHOWN: as_shown(now)}))


def save(context: PageContext) -> Response:
    """Change the display name and masking, where they were edited in the form."""
    project = context.project()
    identifier = project.schema.identifier(context.path["name"])
    edit = Edit(_definition(identifier), context.form, boxes=["masked"])
    if edit.others:
        others = what_others_did(context, project, edit.others, IDENTIFIER_KINDS, identifier.name)
        return _form_page(context, project, identifier, edit.merged, others=others)
    changes: dict[str, Any] = edit.changes
    if "masked" in changes:
        changes["masked"] = changes["masked"] == "on"
    try:
        context.service.edit_identifier(project.id, identifier.name, **changes, version=project.version, actor=context.actor)
    except ProjectChanged:
        return save(context)
    except Refused as refused:
        return _form_page(context, project, identifier, context.form, refused)
    return context.redirect(context.project_path("/identifiers"), "saved")


def ask_delete(context: PageContext) -> Response:
    """Ask to confirm deleting the identifier, or say why it cannot be deleted."""
    project = context.project()
    return _delete_page(context, project, project.schema.identifier(context.path["name"]))


def delete(context: PageContext) -> Response:
    """Delete an identifier that no user has a value of."""
    project = context.project()
    identifier = project.schema.identifier(context.path["name"])
    edit = Edit(_definition(identifier), context.form)
    if edit.others:
        others = what_others_did(context, project, edit.others, IDENTIFIER_KINDS, identifier.name)
        return _delete_page(context, project, identifier, others=others)
    try:
        context.service.delete_identifier(project.id, identifier.name, version=project.version, actor=context.actor)
    except ProjectChanged:
        return delete(context)
    except Refused as refused:
        return _delete_page(context, project, identifier, refused)
    return context.redirect(context.project_path("/identifiers"), "identifier_deleted")


def _definition(identifier: Identifier) -> dict[str, str]:
    """Return an identifier's form fields. An identifier that was deleted and declared again may differ in the first."""
    return {
        "unique": "on" if identifier.unique else "",
        "display_name": identifier.display_name,
        "masked": "on" if identifier.masked else "",
    }


def _order(project: Project) -> dict[str, str]:
    return {"order": SEPARATOR.join(i.name for i in project.schema.identifiers)}


def _draft(project: Project, order: str) -> list[str]:
    """Return the requested order of the declared identifiers. One that it does not name stays after its neighbor."""
    declared = [i.name for i in project.schema.identifiers]
    names = [name for name in dict.fromkeys(order.split(SEPARATOR)) if name in declared]
    for index, name in enumerate(declared):
        if name not in names:
            names.insert(names.index(declared[index - 1]) + 1 if index else 0, name)
    return names


def _list_page(
    context: PageContext, project: Project, names: Sequence[str], shown: str, others: Mapping[str, Any] | None = None
) -> Response:
    now = [i.name for i in project.schema.identifiers]
    address = context.project_path("/identifiers")

    def moved(index: int, other: int) -> str:
        if not 0 <= other < len(names):
            return ""
        draft = [*names]
        draft[index], draft[other] = draft[other], draft[index]
        query = f"?{urlencode({'order': SEPARATOR.join(draft)})}" if draft != now else ""
        return f"{address}{query}#identifier-{names[index]}"

    first, first_now = project.schema.identifier(names[0]), project.schema.identifiers[0]
    return context.render(
        "identifiers.html",
        409 if others else 200,
        project=project,
        rows=[
            Row(
                project.schema.identifier(name),
                moved(index, index - 1),
                moved(index, index + 1),
                now.index(name) + 1,
                name in project.identifying,
                _why_not(context, project, project.schema.identifier(name)),
            )
            for index, name in enumerate(names)
        ],
        is_draft=[*names] != now,
        fields={"order": SEPARATOR.join(names), SHOWN: shown or as_shown(_order(project))},
        others=others,
        first=first,
        first_now=first_now,
        lately=context.service.registrations(project, first_now.name, since=context.console.clock.now_ms() - KEPT_MS)
        if first.name != first_now.name
        else 0,
    )


def _form_page(
    context: PageContext,
    project: Project,
    identifier: Identifier | None,
    fields: Mapping[str, str],
    refused: Refused | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    return context.render(
        "identifier_form.html",
        409 if others else 422 if refused else 200,
        others=others,
        project=project,
        identifier=identifier,
        fields=fields,
        errors=context.problems(refused, _FIELDS) if refused else {},
        maximum_name=NAME_LENGTH,
    )


def _delete_page(
    context: PageContext,
    project: Project,
    identifier: Identifier,
    refused: Refused | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    why_not = context.problem(refused.problems[0]) if refused else _why_not(context, project, identifier)
    return context.render(
        "identifier_delete.html",
        409 if refused or others else 200,
        project=project,
        identifier=identifier,
        fields={SHOWN: as_shown(_definition(identifier))},
        others=others,
        reason=why_not,
    )


def _why_not(context: PageContext, project: Project, identifier: Identifier) -> str:
    """Return why the identifier cannot be deleted; an empty string if it can be."""
    if identifier.preset:
        return context.problem(Problem(ProblemKind.IDENTIFIER_PRESET, identifier.name))
    if identifier.name in project.identifying:
        return context.problem(Problem(ProblemKind.IDENTIFIER_IN_USE, identifier.name))
    return ""


_IDENTIFIERS = f"{HOME}/projects/{{project}}/identifiers"
_IDENTIFIER = f"{_IDENTIFIERS}/{{name}}"
_NEW = f"{HOME}/projects/{{project}}/new-identifier"

PAGES = (
    PageRoute("GET", _IDENTIFIERS, list_identifiers, Scope.READ),
    PageRoute("POST", _IDENTIFIERS, save_order, Scope.SCHEMA),
    PageRoute("GET", _NEW, show_new, Scope.SCHEMA),
    PageRoute("POST", _NEW, declare, Scope.SCHEMA),
    PageRoute("GET", f"{_IDENTIFIER}/edit", show_edit, Scope.SCHEMA),
    PageRoute("POST", f"{_IDENTIFIER}/edit", save, Scope.SCHEMA),
    PageRoute("GET", f"{_IDENTIFIER}/delete", ask_delete, Scope.SCHEMA),
    PageRoute("POST", f"{_IDENTIFIER}/delete", delete, Scope.SCHEMA),
)
