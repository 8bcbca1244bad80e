"""The visitor's own account: name, password and sessions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import Response

from usertable.console.context import HOME, Access, PageContext, PageRoute
from usertable.console.shared_state import MustWait
from usertable.console.views.people import FIELDS, UTC
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.person import MAX_PASSWORD_BYTES, MIN_PASSWORD, Person

_FIELDS = {**FIELDS, ProblemKind.PASSWORD: "new", ProblemKind.PASSWORD_WRONG: "old"}
_ACCOUNT = f"{HOME}/account"


def show(context: PageContext) -> Response:
    """Show the account of the person who is signed in."""
    person = context.visitor.person
    return _page(context, person, context.filled({"name": person.name if person else ""}))


def save(context: PageContext) -> Response:
    """Change the visitor's own name."""
    person, form = context.visitor.person, context.form
    if person is None:
        return _to_account(context)
    try:
        context.service.edit_person(person.email, name=form.get("name"), actor=context.actor)
    except Refused as refused:
        return _page(context, person, form, context.problems(refused, _FIELDS))
    return _to_account(context, "saved")


async def change_password(context: PageContext) -> Response:
    """Change the visitor's own password, and end all their other sessions."""
    visitor, form, shared = context.visitor, context.form, context.console.sessions.shared

    def work() -> Response:
        person, session = visitor.person, visitor.session
        if person is None or session is None:
            return _to_account(context)
        fields, counted = {"name": person.name}, f"password change {person.id}"
        try:
            # At a browser that was left open, guessing the password must be as slow as at the sign-in.
            shared.begin_attempt(counted)
            context.service.change_password(
                person.id, form.get("old", ""), form.get("new", ""), but=session.digest, caller=context.actor
            )
        except MustWait as wait:
            errors = {"old": context.text("sign_in.wait", seconds=math.ceil(wait.seconds))}
            return _page(context, person, fields, errors, 429)
        except Refused as refused:
            if all(problem.kind is not ProblemKind.PASSWORD_WRONG for problem in refused.problems):
                shared.end_attempt(counted)
            return _page(context, person, fields, context.problems(refused, _FIELDS))
        shared.end_attempt(counted)
        return _to_account(context, "password_changed")

    # One at a time, in its own thread, because hashing is slow by design.
    return await context.console.sessions.hashing.run(work)


def end_session(context: PageContext) -> Response:
    """End one of the visitor's own sessions."""
    person = context.visitor.person
    for session in context.service.sessions(person) if person else []:
        if person and session.id == context.path["session"]:
            context.service.end_session(person, session, actor=context.actor)
    return _to_account(context, "session_ended_there", at="sessions")


def end_others(context: PageContext) -> Response:
    """End all of the visitor's own sessions except this one."""
    person, session = context.visitor.person, context.visitor.session
    if person and session:
        context.service.end_sessions(person, but=session.digest, actor=context.actor)
    return _to_account(context, "others_signed_out", at="sessions")


def _to_account(context: PageContext, done: str = "", *, at: str = "") -> Response:
    return context.redirect(f"{context.home}/account", done, at=at)


def _page(
    context: PageContext,
    person: Person | None,
    fields: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    status: int = 422,
) -> Response:
    here = context.visitor.session
    projects = {project.number: project for project in context.service.projects()} if person else {}
    return context.render(
        "account.html",
        status if errors else 200,
        person=person,
        fields=fields,
        errors=errors or {},
        members=[(projects[number], role) for number, role in person.roles.items() if number in projects] if person else [],
        sessions=context.service.sessions(person) if person else [],
        this_session=here.digest if here else b"",
        minimum=MIN_PASSWORD,
        maximum=MAX_PASSWORD_BYTES,
        zone=UTC,
    )


PAGES = (
    PageRoute("GET", _ACCOUNT, show, Access.SIGNED_IN),
    PageRoute("POST", _ACCOUNT, save, Access.SIGNED_IN),
    PageRoute("POST", f"{_ACCOUNT}/password", change_password, Access.SIGNED_IN),
    PageRoute("POST", f"{_ACCOUNT}/sessions/{{session}}/end", end_session, Access.SIGNED_IN),
    PageRoute("POST", f"{_ACCOUNT}/sign-out-others", end_others, Access.SIGNED_IN),
)
