"""Set a password by a one-time link, and create the first person."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from usertable.app.people import PASSWORD_PATH
from usertable.console.context import HOME, Access, PageContext, PageRoute
from usertable.console.session import Disabled, SignedIn
from usertable.console.views import sign_in
from usertable.console.views.people import FIELDS
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.permissions import Scope
from usertable.domain.person import MAX_PASSWORD_BYTES, MIN_PASSWORD, Person

_FIELDS = {**FIELDS, ProblemKind.PASSWORD: "password"}


def show_link(context: PageContext) -> Response:
    """Show the form for setting a password by a link."""
    link = context.request.query_params.get("link", "")
    try:
        person = context.service.person_of_link(link)
    except Refused as refused:
        return _link_over(context, refused)
    return _link_page(context, person, link, {"name": person.name})


async def set_password(context: PageContext) -> Response:
    """Set a password by a link, and sign in."""
    sessions, form = context.console.sessions, context.form
    link, password = form.get("link", ""), form.get("password", "")

    def work() -> Response:
        try:
            person = context.service.person_of_link(link)
        except Refused as refused:
            return _link_over(context, refused)
        name, caller = form.get("name"), context.anonymous
        try:
            person = context.service.set_password_by_link(link, password, name=name, caller=caller)
            signed_in = sessions.sign_in(person, caller, context.browser)
        except Disabled:
            return _link_over(context, refusal(ProblemKind.LINK_OVER))
        except Refused as refused:
            if any(problem.kind is ProblemKind.LINK_OVER for problem in refused.problems):
                return _link_over(context, refused)
            return _link_page(context, person, link, form, refused)
        return _entered(context, signed_in, "password_set")

    # One at a time, in its own thread, because hashing is slow by design.
    return await sessions.hashing.run(work)


def show_first(context: PageContext) -> Response:
    """Show the form for the first person, who becomes an admin."""
    if context.service.people():
        return context.redirect(f"{context.home}/people")
    return _first_page(context, context.filled({}))


def create_first(context: PageContext) -> Response:
    """Create the first person, and sign in as them."""
    form, sessions = context.form, context.console.sessions
    try:
        person = context.service.add_person(
            form.get("email", ""),
            name=form.get("name", ""),
            admin=True,
            password=form.get("password", ""),
            as_first=True,
            actor=context.actor,
        )
    except Refused as refused:
        return _first_page(context, form, refused)
    sessions.end(context.visitor, context.actor)
    return _entered(context, sessions.sign_in(person, context.anonymous, context.browser), "first_person")


def _entered(context: PageContext, signed_in: SignedIn, done: str) -> Response:
    response = context.redirect(f"{context.home}/projects", done)
    sign_in.keep(context, response, signed_in.token, context.console.sessions.seconds)
    return response


def _link_over(context: PageContext, refused: Refused) -> Response:
    return context.render("error.html", 403, title="password.link_over", message=context.problem(refused.problems[0]))


def _link_page(
    context: PageContext, person: Person, link: str, fields: Mapping[str, str], refused: Refused | None = None
) -> Response:
    return context.render(
        "password.html",
        422 if refused else 200,
        person=person,
        link=link,
        fields=fields,
        errors=context.problems(refused, _FIELDS) if refused else {},
        minimum=MIN_PASSWORD,
        maximum=MAX_PASSWORD_BYTES,
    )


def _first_page(context: PageContext, fields: Mapping[str, str], refused: Refused | None = None) -> Response:
    return context.render(
        "first_person.html",
        422 if refused else 200,
        fields=fields,
        errors=context.problems(refused, _FIELDS) if refused else {},
        minimum=MIN_PASSWORD,
        maximum=MAX_PASSWORD_BYTES,
    )


PAGES = (
    PageRoute("GET", PASSWORD_PATH, show_link, Access.PUBLIC),
    PageRoute("POST", PASSWORD_PATH, set_password, Access.PUBLIC),
    PageRoute("GET", f"{HOME}/first-person", show_first, Scope.INSTALLATION),
    PageRoute("POST", f"{HOME}/first-person", create_first, Scope.INSTALLATION),
)
