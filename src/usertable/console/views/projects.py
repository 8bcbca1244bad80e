"""Projects: the list, the page of each, its settings and its secret."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from usertable.app.projects import DEFAULT_QPS, MAX_QPS, time_zones
from usertable.console.context import HOME, Access, PageContext, PageRoute
from usertable.console.edits import SHOWN, UNLIMITED, Edit, as_shown, what_others_did
from usertable.console.secrets import lead_to_secret, remembered_secret, secret_of_form
from usertable.console.values import sample, sample_identifier_value
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, REGISTER_PATH
from usertable.domain.audit import AuditKind
from usertable.domain.errors import ProblemKind, ProjectChanged, Refused, refusal
from usertable.domain.key import DEFAULT_KEY
from usertable.domain.permissions import Scope, ordered
from usertable.domain.schema import DEFAULT_TIMEZONE, Attribute, Project, Rule
from usertable.domain.values import DataType

_FIELDS = {
    ProblemKind.PROJECT_NAME: "name",
    ProblemKind.PROJECT_ID: "id",
    ProblemKind.PROJECT_EXISTS: "id",
    ProblemKind.TIMEZONE: "timezone",
    ProblemKind.QPS: "qps",
}
OVERLAPS = {
    "0": "secret.overlap_none",
    "3600": "secret.overlap_hour",
    "86400": "secret.overlap_day",
    "604800": "secret.overlap_week",
}
"""Seconds for which the old secret may continue to work, with the text of each."""
_MADE = {"created": "secret.created", "rotated": "secret.rotated"}
CUID = 10000001


def list_projects(context: PageContext) -> Response:
    """List the projects that the visitor may see."""
    seen = [project for project in context.service.projects() if Scope.READ in context.visitor.scopes(project.number)]
    lacks_people = context.may(Scope.INSTALLATION) and not context.console.sessions.has_people()
    return context.render("projects.html", projects=seen, lacks_people=lacks_people)


def show_new(context: PageContext) -> Response:
    return _new_page(context, context.filled({"timezone": DEFAULT_TIMEZONE, "qps": str(DEFAULT_QPS)}))


def create(context: PageContext) -> Response:
    """Create a project, and redirect to the page with its secret."""
    form, secret = context.form, secret_of_form(context)
    chosen = form.get("id", "").strip()
    # The id and the secret are derived from the form, so a repeated submission finds the same project, on any host.
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
    return lead_to_secret(context, f"{context.home}/projects/{quote(id, safe='')}/new-secret", "created")


def show(context: PageContext) -> Response:
    """Show a project, with snippets to copy."""
    project = context.project()
    return context.render("project.html", project=project, **_snippets(context, project, ""))


def show_settings(context: PageContext) -> Response:
    """Show the form of a project's settings."""
    project = context.project()
    now = _settings(project)
    return _settings_page(context, project, context.filled({**_in_form(now), SHOWN: as_shown(now)}))


def save(context: PageContext) -> Response:
    """Change the settings that were edited in the form."""
    project, form = context.project(), context.form
    edit = Edit(_settings(project), {**form, "qps": UNLIMITED} if form.get("unlimited") == "on" else form)
    if edit.others:
        others = what_others_did(context, project, edit.others, [AuditKind.EDIT_PROJECT])
        return _settings_page(context, project, _in_form(edit.merged), others=others)
    changes: dict[str, Any] = edit.changes
    if "qps" in changes and not context.may(Scope.INSTALLATION):
        # The limit protects the server: only its operator can change it, and the form of anybody else does not have it.
        del changes["qps"]
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
    """Ask to confirm replacing the secret."""
    project = context.project()
    shown = {SHOWN: as_shown(_secret_version(context, project)), "overlap": "0"}
    return _rotate_page(context, project, context.filled(shown))


def rotate(context: PageContext) -> Response:
    """Replace the secret, and redirect to the page with the new one."""
    project, secret = context.project(), secret_of_form(context)
    if context.form.get("confirm") != "on":
        errors = {"confirm": context.text("secret.confirm_missing")}
        return _rotate_page(context, project, context.form, errors=errors)
    if not context.service.verify(project.id, secret):
        edit = Edit(_secret_version(context, project), context.form)
        if edit.others:
            others = what_others_did(context, project, {}, [AuditKind.ROTATE_SECRET])
            return _rotate_page(context, project, edit.merged, others=others)
        try:
            context.service.rotate_secret(
                project.id,
                secret=secret,
                overlap_seconds=int(overlap) if (overlap := context.form.get("overlap", "")) in OVERLAPS else 0,
                granted=context.visitor.scopes(project.number),
                version=project.version,
                actor=context.actor,
            )
        except ProjectChanged:
            return rotate(context)
    return lead_to_secret(context, context.project_path("/new-secret"), "rotated")


def show_secret(context: PageContext) -> Response:
    """Show a secret that was generated a few minutes ago, in the browser that requested it."""
    project = context.project()
    secret, made = remembered_secret(context)
    caller = context.service.verify(project.id, secret)
    if caller is None:
        return context.redirect(context.project_path())
    key = project.key(caller.match.key)
    return context.render(
        "secret.html",
        project=project,
        secret=secret,
        title=_MADE.get(made, "secret.created") if key.name == DEFAULT_KEY else "key.is_created",
        key=key,
        until=key.previous_until if made == "rotated" else None,
        scopes=ordered(key.scopes),
        **_snippets(context, project, secret),
    )


def _new_page(context: PageContext, fields: object, refused: Refused | None = None) -> Response:
    errors = _errors(context, refused) if refused else {}
    zones = sorted(time_zones())
    return context.render(
        "project_new.html", 422 if refused else 200, fields=fields, errors=errors, zones=zones, maximum_qps=MAX_QPS
    )


def _settings(project: Project) -> dict[str, str]:
    """Return the values that the form of the settings edits."""
    qps = UNLIMITED if project.qps is None else str(project.qps)
    return {"name": project.name, "timezone": project.timezone, "qps": qps}


def _in_form(settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings as form fields. The form has a separate checkbox for no QPS limit."""
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
        default_is_revoked=project.key(DEFAULT_KEY).revoked_at is not None,
        fields=fields,
        errors=_errors(context, refused) if refused else {},
        zones=sorted(time_zones()),
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
    return context.render(
        "secret_rotate.html",
        status,
        project=project,
        fields=fields,
        errors=errors or {},
        others=others,
        overlaps=OVERLAPS,
    )


def _project_id(context: PageContext, attempt: int) -> str:
    """Return the id that a form generates on this attempt, the earlier attempts' ids being taken."""
    return str(100_000 + int(context.derive("project", f"{context.sending} {attempt}"), 16) % 900_000)


def _secret_version(context: PageContext, project: Project) -> dict[str, str]:
    """Return a value that differs between a project's old and new secret, and reveals nothing about either."""
    return {"secret": context.derive("salt", (project.secret_salt + project.secret_hash).hex())[:16]}


def _qps(context: PageContext) -> int | None:
    """Return the QPS limit of a form; None for no limit, and 0, which is rejected, for an invalid number."""
    if context.form.get("unlimited") == "on":
        return None
    sent = context.form.get("qps", "").strip()
    return int(sent) if sent.isascii() and sent.isdigit() and len(sent) <= 12 else 0


def _errors(context: PageContext, refused: Refused) -> dict[str, str]:
    errors = context.problems(refused, _FIELDS)
    if "qps" in errors:
        # Report the value as it was sent, whether or not it is a number.
        sent = refusal(ProblemKind.QPS, value=context.form.get("qps", ""), maximum=MAX_QPS)
        errors["qps"] = context.problem(sent.problems[0])
    return errors


def _snippets(context: PageContext, project: Project, secret: str) -> dict[str, str]:
    """Return requests to copy, with this server's address and the project's own id, identifier and attributes."""
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
    PageRoute("GET", f"{HOME}/projects", list_projects, Access.SIGNED_IN),
    PageRoute("GET", f"{HOME}/new-project", show_new, Scope.INSTALLATION),
    PageRoute("POST", f"{HOME}/new-project", create, Scope.INSTALLATION),
    PageRoute("GET", _PROJECT, show, Scope.READ),
    PageRoute("GET", f"{_PROJECT}/settings", show_settings, Scope.KEYS),
    PageRoute("POST", f"{_PROJECT}/settings", save, Scope.KEYS),
    PageRoute("GET", f"{_PROJECT}/secret", ask_rotate, Scope.KEYS),
    PageRoute("POST", f"{_PROJECT}/secret", rotate, Scope.KEYS),
    PageRoute("GET", f"{_PROJECT}/new-secret", show_secret, Scope.KEYS),
)
