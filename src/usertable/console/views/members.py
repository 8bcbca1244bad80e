"""The members of a project and their roles."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from usertable.app.people import PROJECT_ROLES
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.permissions import Scope

_FIELDS = {ProblemKind.EMAIL: "email", ProblemKind.PERSON_UNKNOWN: "email", ProblemKind.ROLE: "role"}


def list_members(context: PageContext) -> Response:
    """List the people with a role in the project."""
    return _page(context, context.filled({}))


def set_role(context: PageContext) -> Response:
    """Set or remove a person's role in the project."""
    form, project = context.form, context.project()
    try:
        context.service.edit_person(form.get("email", ""), roles={project.id: form.get("role") or None}, actor=context.actor)
    except Refused as refused:
        return _page(context, form, refused)
    return context.redirect(context.project_path("/members"), "saved")


def _page(context: PageContext, fields: Mapping[str, str], refused: Refused | None = None) -> Response:
    project = context.project()
    people = context.service.people()
    return context.render(
        "members.html",
        422 if refused else 200,
        project=project,
        fields=fields,
        errors=context.problems(refused, _FIELDS) if refused else {},
        members=[(person, person.roles[project.number]) for person in people if project.number in person.roles],
        admins=[person for person in people if person.admin],
        roles=PROJECT_ROLES,
    )


_MEMBERS = f"{HOME}/projects/{{project}}/members"

PAGES = (
    PageRoute("GET", _MEMBERS, list_members, Scope.READ),
    PageRoute("POST", _MEMBERS, set_role, Scope.KEYS),
)
