"""The page for a visitor whose role does not have the scope that the requested page needs."""

from __future__ import annotations

from starlette.responses import Response

from usertable.app.people import PROJECT_ROLES
from usertable.console import live
from usertable.console.context import PageContext
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.permissions import Role, Scope, scopes_of

NAMED = 5
"""Maximum number of people named as contacts."""


def not_allowed(context: PageContext) -> Response:
    """Name a role that has the scope, and the people who can assign it. Raises Refused like an unknown project."""
    assert context.page is not None
    needs, project = context.page.needs, None
    assert isinstance(needs, Scope)
    if "text/event-stream" in context.request.headers.get("accept", ""):
        return live.notice(context, "live.not_allowed", "live.reload", context.came_from)
    if "project" in context.path:
        if not context.granted:
            # The same as for a project that does not exist, so that nobody learns which projects others have.
            raise refusal(ProblemKind.PROJECT_UNKNOWN, id=context.path["project"])
        project = context.project()
    role = next(role for role in (*reversed(PROJECT_ROLES), Role.ADMIN) if needs in scopes_of(role))
    names = [
        person.shown_name
        for person in context.service.people()
        if person.can_sign_in and (person.admin or (project and Scope.KEYS in person.scopes(project.number)))
    ]
    if names:
        ask = context.text("error.ask", names=context.text("separator").join(names[:NAMED]))
    else:
        ask = context.text("error.ask_operator")
    needed = context.text("error.needs_role", role=context.text(f"role.{role}"))
    message = f"{needed}{context.sentence_space}{ask}"
    return context.render("error.html", 403, title="error.not_allowed", message=message, project=project)
