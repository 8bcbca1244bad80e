"""Identifiers: the list in its order, a new one, editing, deleting."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from usertable.console.visit import HOME, Page, Visit
from usertable.domain.errors import Kind, Problem, Refused
from usertable.domain.schema import NAME_LENGTH, Identifier, Project

_FIELDS = {
    Kind.NAME_FORM: "name",
    Kind.NAME_PRESET: "name",
    Kind.NAME_TAKEN: "name",
}


def list_identifiers(visit: Visit) -> Response:
    """The identifiers by priority."""
    project = visit.project()
    return visit.render("identifiers.html", project=project, first=project.schema.identifiers[0])


def move(visit: Visit) -> Response:
    """Move an identifier one place up or down."""
    project = visit.project()
    names = [i.name for i in project.schema.identifiers]
    name = project.schema.identifier(visit.form.get("name", "")).name
    place = names.index(name)
    other = place + (1 if visit.form.get("direction") == "down" else -1)
    if 0 <= other < len(names):
        names[place], names[other] = names[other], names[place]
        visit.service.order_identifiers(project.id, names, who=visit.who)
    return visit.redirect(visit.project_path("/identifiers"), "ordered", at=f"identifier-{name}")


def show_new(visit: Visit) -> Response:
    """The form for a new identifier."""
    return _form_page(visit, visit.project(), None, visit.filled({"unique": "on"}))


def declare(visit: Visit) -> Response:
    """Declare an identifier."""
    project, form = visit.project(), visit.form
    identifier = Identifier(
        form.get("name", "").strip(),
        form.get("display_name", "").strip(),
        unique=form.get("unique") == "on",
        masked=form.get("masked") == "on",
    )
    try:
        visit.service.declare_identifier(project.id, identifier, who=visit.who)
    except Refused as refused:
        return _form_page(visit, project, None, form, refused)
    return visit.redirect(visit.project_path("/identifiers"), "identifier_declared")


def show_edit(visit: Visit) -> Response:
    """The form of what may change of an identifier."""
    project = visit.project()
    identifier = project.schema.identifier(visit.path["name"])
    fields = {"display_name": identifier.display_name, **({"masked": "on"} if identifier.masked else {})}
    return _form_page(visit, project, identifier, visit.filled(fields))


def edit(visit: Visit) -> Response:
    """Change display name and masking."""
    project, form = visit.project(), visit.form
    identifier = project.schema.identifier(visit.path["name"])
    try:
        visit.service.edit_identifier(
            project.id,
            identifier.name,
            display_name=form.get("display_name", "").strip(),
            masked=form.get("masked") == "on",
            who=visit.who,
        )
    except Refused as refused:
        return _form_page(visit, project, identifier, form, refused)
    return visit.redirect(visit.project_path("/identifiers"), "saved")


def ask_delete(visit: Visit) -> Response:
    """Ask whether the identifier shall go, or say why it cannot."""
    project = visit.project()
    return _delete_page(visit, project, project.schema.identifier(visit.path["name"]))


def delete(visit: Visit) -> Response:
    """Delete an identifier that no user has a value of."""
    project = visit.project()
    identifier = project.schema.identifier(visit.path["name"])
    try:
        visit.service.delete_identifier(project.id, identifier.name, who=visit.who)
    except Refused as refused:
        return _delete_page(visit, project, identifier, refused)
    return visit.redirect(visit.project_path("/identifiers"), "identifier_deleted")


def _form_page(
    visit: Visit,
    project: Project,
    identifier: Identifier | None,
    fields: Mapping[str, str],
    refused: Refused | None = None,
) -> Response:
    return visit.render(
        "identifier_form.html",
        422 if refused else 200,
        project=project,
        identifier=identifier,
        fields=fields,
        errors=visit.problems(refused, _FIELDS) if refused else {},
        most_name=NAME_LENGTH,
    )


def _delete_page(visit: Visit, project: Project, identifier: Identifier, refused: Refused | None = None) -> Response:
    problem = refused.problems[0] if refused else None
    if problem is None and identifier.preset:
        problem = Problem(Kind.IDENTIFIER_PRESET, identifier.name)
    if problem is None and identifier.name in project.identifying:
        problem = Problem(Kind.IDENTIFIER_IN_USE, identifier.name)
    return visit.render(
        "identifier_delete.html",
        409 if refused else 200,
        project=project,
        identifier=identifier,
        reason=visit.problem(problem) if problem else "",
    )


_IDENTIFIERS = f"{HOME}/projects/{{project}}/identifiers"
_IDENTIFIER = f"{_IDENTIFIERS}/{{name}}"
_NEW = f"{HOME}/projects/{{project}}/new-identifier"

PAGES = (
    Page("GET", _IDENTIFIERS, list_identifiers),
    Page("POST", _IDENTIFIERS, move),
    Page("GET", _NEW, show_new),
    Page("POST", _NEW, declare),
    Page("GET", f"{_IDENTIFIER}/edit", show_edit),
    Page("POST", f"{_IDENTIFIER}/edit", edit),
    Page("GET", f"{_IDENTIFIER}/delete", ask_delete),
    Page("POST", f"{_IDENTIFIER}/delete", delete),
)
