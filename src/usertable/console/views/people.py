"""People, for admins: the list, invitations, roles, and signing people out."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote
from zoneinfo import ZoneInfo

from starlette.responses import Response

from usertable.app.people import LINK_HOURS, PASSWORD_PATH, PROJECT_ROLES
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.results import KEPT_SECONDS
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.permissions import Scope
from usertable.domain.person import Person
from usertable.domain.schema import Project

UTC = ZoneInfo("UTC")
LINK_COOKIE = "usertable_link"
SECRET_DIGITS = 32
FIELDS = {ProblemKind.EMAIL: "email", ProblemKind.PERSON_EXISTS: "email", ProblemKind.PERSON_NAME: "name"}
"""Form field by kind of problem."""


def list_people(context: PageContext) -> Response:
    """List all people with their roles."""
    projects = {project.number: project for project in context.service.projects()}
    people = [(person, _roles(person, projects)) for person in context.service.people()]
    return context.render("people.html", people=people, zone=UTC)


def show_new(context: PageContext) -> Response:
    """Show the form for inviting a person."""
    return _new_page(context, context.filled({}))


def create(context: PageContext) -> Response:
    """Create a person, and redirect to the page with their password link."""
    form = context.form
    roles = {form["project"]: form.get("role", "")} if form.get("project") else {}
    try:
        person = context.service.add_person(
            form.get("email", ""),
            name=form.get("name", ""),
            admin=form.get("admin") == "on",
            roles=roles,
            actor=context.actor,
        )
    except Refused as refused:
        return _new_page(context, form, refused)
    return _to_link(context, person)


def show(context: PageContext) -> Response:
    """Show a person: name, roles and sessions."""
    return _person_page(context, _person(context))


def save(context: PageContext) -> Response:
    """Change a person's name, or whether they are an admin."""
    person, form = _person(context), context.form
    try:
        context.service.edit_person(
            person.email, name=form.get("name"), admin=form.get("admin") == "on", actor=context.actor
        )
    except Refused as refused:
        return _person_page(context, person, form, refused)
    return context.redirect(_address(context, person), "saved")


def set_role(context: PageContext) -> Response:
    """Set or remove a person's role in a project."""
    person, form = _person(context), context.form
    try:
        roles = {form.get("project", ""): form.get("role") or None}
        context.service.edit_person(person.email, roles=roles, actor=context.actor)
    except Refused as refused:
        return _person_page(context, person, None, refused)
    return context.redirect(_address(context, person), "saved", at="roles")


def set_disabled(context: PageContext) -> Response:
    """Disable or enable a person."""
    person, disabled = _person(context), context.form.get("disabled") == "1"
    try:
        context.service.edit_person(person.email, disabled=disabled, actor=context.actor)
    except Refused as refused:
        return _person_page(context, person, None, refused)
    return context.redirect(_address(context, person), "person_disabled" if disabled else "person_enabled")


def sign_out(context: PageContext) -> Response:
    """End all sessions of a person."""
    person = _person(context)
    context.service.end_sessions(person, actor=context.actor)
    return context.redirect(_address(context, person), "person_signed_out")


def make_link(context: PageContext) -> Response:
    """Create a link with which a person sets a password, and redirect to the page that shows it."""
    return _to_link(context, _person(context))


def show_link(context: PageContext) -> Response:
    """Show a link that was created a few minutes ago, in the browser that created it."""
    person = _person(context)
    token = f"{person.id}.{_secret(context, context.request.cookies.get(LINK_COOKIE, ''))}"
    try:
        context.service.person_of_link(token)
    except Refused:
        return context.redirect(_address(context, person))
    address = f"{context.base_url}{PASSWORD_PATH}?link={token}"
    return context.render("person_link.html", person=person, address=address, hours=LINK_HOURS)


def ask_remove(context: PageContext) -> Response:
    """Ask to confirm removing the person."""
    return context.render("person_remove.html", person=_person(context))


def remove(context: PageContext) -> Response:
    """Remove a person, if it was confirmed."""
    person = _person(context)
    if context.form.get("confirm") != "on":
        errors = {"confirm": context.text("person.remove_missing")}
        return context.render("person_remove.html", 422, person=person, errors=errors)
    try:
        context.service.remove_person(person.email, actor=context.actor)
    except Refused as refused:
        return context.render("person_remove.html", 422, person=person, errors=context.problems(refused))
    return context.redirect(f"{context.home}/people", "person_removed")


def _person(context: PageContext) -> Person:
    return context.service.person_with_id(context.path["person"])


def _address(context: PageContext, person: Person) -> str:
    return f"{context.home}/people/{quote(person.id, safe='')}"


def _roles(person: Person, projects: Mapping[int, Project]) -> list[tuple[Project, str]]:
    """Return the projects in which the person has a role, with the role, ordered by the project's name."""
    found = [(projects[number], str(role)) for number, role in person.roles.items() if number in projects]
    return sorted(found, key=lambda each: each[0].name)


def _new_page(context: PageContext, fields: Mapping[str, str], refused: Refused | None = None) -> Response:
    return context.render(
        "person_new.html",
        422 if refused else 200,
        fields=fields,
        errors=context.problems(refused, FIELDS) if refused else {},
        projects=context.service.projects(),
        roles=PROJECT_ROLES,
    )


def _person_page(
    context: PageContext, person: Person, fields: Mapping[str, str] | None = None, refused: Refused | None = None
) -> Response:
    projects = {project.number: project for project in context.service.projects()}
    if fields is None:
        fields = context.filled({"name": person.name, "admin": "on" if person.admin else ""})
    return context.render(
        "person.html",
        422 if refused else 200,
        person=person,
        fields=fields,
        errors=context.problems(refused, FIELDS) if refused else {},
        members=_roles(person, projects),
        others=[project for number, project in projects.items() if number not in person.roles],
        roles=PROJECT_ROLES,
        sessions=context.service.sessions(person),
        this_session=context.visitor.session.digest if context.visitor.session else b"",
        zone=UTC,
    )


def _to_link(context: PageContext, person: Person) -> Response:
    """Create a link, and redirect to the page that shows it. Reloading shows it again; no other browser can see it."""
    context.service.make_password_link(person.email, secret=_secret(context, context.sending), actor=context.actor)
    response = context.redirect(f"{_address(context, person)}/link")
    context.remember(response, LINK_COOKIE, context.sending, int(KEPT_SECONDS))
    return response


def _secret(context: PageContext, sending: str) -> str:
    """Return the secret of the link that a form creates. It is not stored: the page derives it from the form's name."""
    return context.derive("password link", sending)[:SECRET_DIGITS]


_PEOPLE = f"{HOME}/people"
_PERSON = f"{_PEOPLE}/{{person}}"

PAGES = (
    PageRoute("GET", _PEOPLE, list_people, Scope.INSTALLATION),
    PageRoute("GET", f"{HOME}/new-person", show_new, Scope.INSTALLATION),
    PageRoute("POST", f"{HOME}/new-person", create, Scope.INSTALLATION),
    PageRoute("GET", _PERSON, show, Scope.INSTALLATION),
    PageRoute("POST", _PERSON, save, Scope.INSTALLATION),
    PageRoute("POST", f"{_PERSON}/role", set_role, Scope.INSTALLATION),
    PageRoute("POST", f"{_PERSON}/disabled", set_disabled, Scope.INSTALLATION),
    PageRoute("POST", f"{_PERSON}/sign-out", sign_out, Scope.INSTALLATION),
    PageRoute("POST", f"{_PERSON}/new-link", make_link, Scope.INSTALLATION),
    PageRoute("GET", f"{_PERSON}/link", show_link, Scope.INSTALLATION),
    PageRoute("GET", f"{_PERSON}/remove", ask_remove, Scope.INSTALLATION),
    PageRoute("POST", f"{_PERSON}/remove", remove, Scope.INSTALLATION),
)
