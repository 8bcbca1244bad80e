"""Projects: the list, one of them, its settings, its secret, the record of changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from zoneinfo import available_timezones

from starlette.responses import Response

from usertable.app.projects import DEFAULT_QPS, MAX_QPS
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.edits import SHOWN, UNLIMITED, Edit, as_shown, what_others_did
from usertable.console.results import KEPT_SECONDS
from usertable.console.values import sample, sample_identifier_value
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, REGISTER_PATH
from usertable.domain.errors import ProblemKind, ProjectChanged, Refused, refusal
from usertable.domain.schema import DEFAULT_TIMEZONE, Attribute, Project, Rule
from usertable.domain.schema_change import ChangeKind
from usertable.domain.values import DataType

CHANGES_SHOWN = 500
_FIELDS = {
    ProblemKind.PROJECT_NAME: "name",
    ProblemKind.PROJECT_ID: "id",
    ProblemKind.PROJECT_EXISTS: "id",
    ProblemKind.TIMEZONE: "timezone",
    ProblemKind.QPS: "qps",
}
CUID = 10000001
SECRET_COOKIE = "usertable_secret"
SECRET_DIGITS = 32


def list_projects(context: PageContext) -> Response:
    return context.render("projects.html", projects=context.service.projects())


def show_new(context: PageContext) -> Response:
    return _new_page(context, context.filled({"timezone": DEFAULT_TIMEZONE, "qps": str(DEFAULT_QPS)}))


def create(context: PageContext) -> Response:
    """Create a project, and go to the page with its secret."""
    form, secret = context.form, _secret(context, context.sending)
    chosen = form.get("id", "").strip()
    # The form gives the id and the secret, so that a second sending finds what the first one made, on any host.
    for attempt in itertools.count():
        id = chosen or _project_id(context, attempt)
        try:
            context.service.create_project(
                form.get("name", "").strip(),
                id=id,
                secret=secret,
                timezone=form.get("timezone", "").strip(),
                qps=_qps(context),
                actor=context.actor,
            )
        except Refused as refused:
            is_taken = any(problem.kind is ProblemKind.PROJECT_EXISTS for problem in refused.problems)
            if not is_taken or not context.service.verify(id, secret):
                if is_taken and not chosen:
                    continue
                return _new_page(context, form, refused)
        break
    return _to_secret(context, f"{HOME}/projects/{quote(id, safe='')}/new-secret", "created")


def show(context: PageContext) -> Response:
    """A project at a glance, with snippets to paste."""
    project = context.project()
    return context.render("project.html", project=project, **_snippets(context, project, ""))


def show_settings(context: PageContext) -> Response:
    """The form of a project's settings."""
    project = context.project()
    now = _settings(project)
    return _settings_page(context, project, context.filled({**_in_form(now), SHOWN: as_shown(now)}))


def save(context: PageContext) -> Response:
    """Change the settings that were edited in the form."""
    project, form = context.project(), context.form
    edit = Edit(_settings(project), {**form, "qps": UNLIMITED} if form.get("unlimited") == "on" else form)
    if edit.others:
        others = what_others_did(context, project, edit.others, [ChangeKind.EDIT_PROJECT])
        return _settings_page(context, project, _in_form(edit.merged), others=others)
    changes: dict[str, Any] = edit.changes
    if "qps" in changes:
        changes["qps"] = _qps(context)
        changes["unlimited"] = changes["qps"] is None
    try:
        context.service.edit_project(project.id, **changes, version=project.version, actor=context.actor)
    except ProjectChanged:
        return save(context)
    except Refused as refused:
        return _settings_page(context, project, form, refused)
    return context.redirect(context.project_path("/settings"), "saved")


def ask_rotate(context: PageContext) -> Response:
    """Ask whether the secret shall be replaced."""
    project = context.project()
    return _rotate_page(context, project, context.filled({SHOWN: as_shown(_secret_version(context, project))}))


def rotate(context: PageContext) -> Response:
    """Replace the secret, and go to the page with the new one."""
    project, secret = context.project(), _secret(context, context.sending)
    if context.form.get("confirm") != "on":
        errors = {"confirm": context.text("secret.confirm_missing")}
        return _rotate_page(context, project, context.form, errors=errors)
    if not context.service.verify(project.id, secret):
        edit = Edit(_secret_version(context, project), context.form)
        if edit.others:
            others = what_others_did(context, project, {}, [ChangeKind.ROTATE_SECRET])
            return _rotate_page(context, project, edit.merged, others=others)
        try:
            context.service.rotate_secret(project.id, secret=secret, version=project.version, actor=context.actor)
        except ProjectChanged:
            return rotate(context)
    return _to_secret(context, context.project_path("/new-secret"), "rotated")


def show_secret(context: PageContext) -> Response:
    """A secret that was made a few minutes ago, for the browser that asked for it."""
    project = context.project()
    sending, _, made = context.request.cookies.get(SECRET_COOKIE, "").partition(".")
    secret = _secret(context, sending)
    if not context.service.verify(project.id, secret):
        return context.redirect(context.project_path())
    return context.render(
        "secret.html", project=project, secret=secret, created=made == "created", **_snippets(context, project, secret)
    )


def list_changes(context: PageContext) -> Response:
    """Who changed what, newest first."""
    project = context.project()
    changes = context.service.schema_changes(project.id, CHANGES_SHOWN)
    return context.render("changes.html", project=project, changes=changes, maximum=CHANGES_SHOWN)


def _new_page(context: PageContext, fields: object, refused: Refused | None = None) -> Response:
    errors = _errors(context, refused) if refused else {}
    zones = sorted(available_timezones())
    return context.render(
        "project_new.html", 422 if refused else 200, fields=fields, errors=errors, zones=zones, maximum_qps=MAX_QPS
    )


def _settings(project: Project) -> dict[str, str]:
    """What the form of the settings edits."""
    qps = UNLIMITED if project.qps is None else str(project.qps)
    return {"name": project.name, "timezone": project.timezone, "qps": qps}


def _in_form(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as the form's fields: for no QPS limit it has a box of its own."""
    return {**settings, "qps": str(DEFAULT_QPS), "unlimited": "on"} if settings["qps"] == UNLIMITED else {**settings}


def _settings_page(
    context: PageContext,
    project: Project,
    fields: object,
    refused: Refused | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    return context.render(
        "project_settings.html",
        409 if others else 422 if refused else 200,
        others=others,
        project=project,
        fields=fields,
        errors=_errors(context, refused) if refused else {},
        zones=sorted(available_timezones()),
        maximum_qps=MAX_QPS,
    )


def _rotate_page(
    context: PageContext,
    project: Project,
    fields: object,
    errors: Mapping[str, str] | None = None,
    others: Mapping[str, Any] | None = None,
) -> Response:
    status = 409 if others else 422 if errors else 200
    return context.render("secret_rotate.html", status, project=project, fields=fields, errors=errors or {}, others=others)


def _secret(context: PageContext, sending: str) -> str:
    """The secret that a form makes. Nothing of it is kept: the page that shows it is told which form it was."""
    return context.console.sessions.derive("secret", sending)[:SECRET_DIGITS]


def _project_id(context: PageContext, attempt: int) -> str:
    """The id that a form makes, if those of the attempts before it are taken."""
    return str(100_000 + int(context.console.sessions.derive("project", f"{context.sending} {attempt}"), 16) % 900_000)


def _secret_version(context: PageContext, project: Project) -> dict[str, str]:
    """What tells a project's secret from the one before, and nothing about it."""
    return {"secret": context.console.sessions.derive("salt", project.secret_salt.hex())[:16]}


def _to_secret(context: PageContext, address: str, made: str) -> Response:
    """To the page with the secret, which a reload shows again and no other browser sees."""
    response = context.redirect(address)
    context.remember(response, SECRET_COOKIE, f"{context.sending}.{made}", int(KEPT_SECONDS))
    return response


def _qps(context: PageContext) -> int | None:
    """The QPS limit of a form; None for none, and one that is refused for what is no number."""
    if context.form.get("unlimited") == "on":
        return None
    sent = context.form.get("qps", "").strip()
    return int(sent) if sent.isascii() and sent.isdigit() and len(sent) <= 12 else 0


def _errors(context: PageContext, refused: Refused) -> dict[str, str]:
    errors = context.problems(refused, _FIELDS)
    if "qps" in errors:
        # As it was sent, number or not.
        sent = refusal(ProblemKind.QPS, value=context.form.get("qps", ""), maximum=MAX_QPS)
        errors["qps"] = context.problem(sent.problems[0])
    return errors


def _snippets(context: PageContext, project: Project, secret: str) -> dict[str, str]:
    """Requests to paste, with this server's address and the project's own id, identifier and attributes."""
    attributes = [a for a in project.schema.attributes.values() if not a.hidden][:2]
    data = {a.name: sample(a) for a in attributes or [Attribute("level", DataType.NUMBER, Rule.OVERWRITE)]}
    register, put = REGISTER_PATH, ATTRIBUTE_PATH
    first = project.schema.identifiers[0]
    value = sample_identifier_value(first.name)
    identity = {"identityName": first.name, "identityValues": [value]}

    def curl(method: str, path: str, body: object) -> str:
        return (
            f"curl -X {method} '{context.base_url}{path}' \\\n  -u \"{project.id}:{secret or '$SECRET'}\" \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"
        )

    cuid = f"client.register({json.dumps(first.name)}, [{json.dumps(value)}])[{json.dumps(value)}]"
    access = ", ".join(map(json.dumps, (context.base_url, project.id, secret or "$SECRET")))
    python = (
        "from usertable import Client\n\n"
        f"with Client({access}) as client:\n"
        f"    cuid = {cuid if first.unique else CUID}\n"
        f"    client.set(cuid, {json.dumps(data)})\n"
        "    print(client.get(cuid).attributes)"
    )
    return {
        "register": curl("POST", register, identity) if first.unique else "",
        "curl": curl("PUT", put, {"cuid": CUID, "data": data}),
        "python": python,
    }


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    PageRoute("GET", f"{HOME}/projects", list_projects),
    PageRoute("GET", f"{HOME}/new-project", show_new),
    PageRoute("POST", f"{HOME}/new-project", create),
    PageRoute("GET", _PROJECT, show),
    PageRoute("GET", f"{_PROJECT}/settings", show_settings),
    PageRoute("POST", f"{_PROJECT}/settings", save),
    PageRoute("GET", f"{_PROJECT}/secret", ask_rotate),
    PageRoute("POST", f"{_PROJECT}/secret", rotate),
    PageRoute("GET", f"{_PROJECT}/new-secret", show_secret),
    PageRoute("GET", f"{_PROJECT}/changes", list_changes),
)
